#!/usr/bin/env bash
# A GPU that is there for minutes: how fast training is on it, and two of the models that ship, trained for as long as
# there is.
set -euo pipefail
start_dir=$PWD
cd "$(dirname "$0")/../.."

stage=1
stop_stage=3
nj=$(nproc)
exp=exp/gpu
speech=
noise=
minutes=12
device=cuda
rooms=3000
arrays=160
array_rooms=10
dev_scenes=100
batch=32
text_options=

help_message() {
  cat <<'HELP'
Usage: recipes/pretrained/gpu.sh --speech DIR [options]

  --speech DIR     speaker/utterance.{wav,flac}, as for recipes/folder
  --noise DIR      recordings of noise for universal_16k (babble of other talkers)
  --minutes N      that the machine is there (12): each training takes half of what is left, or all
  --stage N        first stage to run (1)
  --stop-stage N   last stage to run (3)
                   1 benchmark   2 circular6_8k   3 universal_16k
  --device NAME    cuda, or cpu to rehearse (cuda)
  --exp DIR        where everything is written (exp/gpu): benchmark.txt, and below each model's name its folder model
  --rooms N --arrays N --array-rooms N --dev-scenes N
                   sizes of the banks and of the sets for validation (3000, 160, 10, 100)
  --batch N        mixtures a batch (32)
  --nj N           parallel jobs of simulation, and workers of training (all cores)

How many steps a training takes follows from a try of two, so that the learning rate has fallen when the time is over. One
that is stopped, or not done when it is, goes on when the script runs again.
HELP
}

. recipes/utils/stages.sh
. recipes/utils/pipeline.sh
path_options="exp speech noise"
text_options="device"
parse_options "$@"
. recipes/utils/path.sh
. recipes/utils/cmd.sh
require_folder speech
if [ -n "$noise" ]; then require_folder noise; fi
case $device in
  cuda) accelerator=gpu precision=bf16-mixed ;;
  cpu) accelerator=cpu precision=32-true ;;
  *) echo "error: --device is '$device', expected cuda or cpu" >&2; exit 2 ;;
esac
deadline=$(($(date +%s) + 60 * minutes))
workers=$((nj > 1 ? nj - 1 : 1))
mkdir -p "$exp"

left() { echo $((deadline - $(date +%s))); }

train_for() {
  # trains for a share of what is left, $1 percent of it, in folder $2 by configuration $3; the rest is of msdet train
  local percent=$1 folder=$2 config=$3 tried seconds steps code=0
  shift 3
  local options=(--config "$config" --out "$folder/model" --data.dev "$folder/dev" --data.speech "$speech"
    --data.workers "$workers" --optimizer.batch "$batch" --trainer.accelerator "$accelerator"
    --trainer.precision "$precision" "$@")
  if [ ! -f "$folder/steps" ]; then
    tried=$($train_cmd msdet train --dry_run true "${options[@]}") || return
    echo "$tried"
    seconds=$(($(left) * percent / 100))
    awk -v seconds="$seconds" '/^step:/ { step = $2 > step ? $2 : step } END { print int(0.8 * seconds / step) }' \
      <<<"$tried" >"$folder/steps" || return
  fi
  steps=$(<"$folder/steps")
  seconds=$(($(left) * percent / 100))
  if [ "$steps" -lt 1 ] || [ "$seconds" -lt 1 ]; then
    rm -f "$folder/steps"
    echo "error: no time is left to train in" >&2
    return 2
  fi
  set_step_options
  timeout --foreground --signal TERM "$seconds" $train_cmd msdet train "${options[@]}" "${step_options[@]}" \
    --trainer.validate_every "$((steps > 8 ? steps / 8 : 1))" || code=$?
  case $code in
    0) ;;
    124 | 143) log "time is over; run again, it goes on" ;;
    *) return "$code" ;;
  esac
}

circular6_8k() {
  bash recipes/folder/run.sh --speech "$speech" --exp "$exp/circular6_8k" --nj "$nj" --stop-stage 1 --rooms "$rooms" \
    --dev-scenes "$dev_scenes" --test-scenes 1 || return
  train_for "$((stop_stage > 2 ? 50 : 100))" "$exp/circular6_8k" recipes/pretrained/conf/circular6_8k.yaml \
    --data.bank "$exp/circular6_8k/bank"
}

universal_16k() {
  bash recipes/universal/run.sh --speech "$speech" ${noise:+--noise "$noise"} --exp "$exp/universal_16k" --nj "$nj" \
    --stop-stage 3 --arrays "$arrays" --rooms "$array_rooms" --dev-scenes "$dev_scenes" --test-scenes 1 \
    --tested circular6_10cm || return
  train_for 100 "$exp/universal_16k" recipes/universal/conf/train.yaml --data.bank "$exp/universal_16k/banks" \
    ${noise:+--data.noise "$noise"}
}

how=()
if [ "$device" = cpu ]; then how=(--quick --seconds 1); fi
list_speech "$speech" "$exp/speech.list"
output=$exp/benchmark.txt run_stage 1 "benchmark" -- \
  bash -o pipefail -c '"$@" | tee "$0.new" && mv "$0.new" "$0"' "$exp/benchmark.txt" \
  python benchmarks/training.py --device "$device" --workers "$workers" "${how[@]}"
output=$exp/circular6_8k/model/training.json run_stage 2 "circular6_8k" "$exp/speech.list" -- \
  circular6_8k "$rooms" "$dev_scenes" "$batch"
output=$exp/universal_16k/model/training.json run_stage 3 "universal_16k" "$exp/speech.list" -- \
  universal_16k "$arrays" "$array_rooms" "$dev_scenes" "$batch" "$noise"
