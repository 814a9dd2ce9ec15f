#!/usr/bin/env bash
# A GPU that is there for minutes: how fast training is on it, and the models that ship, trained for as long as there is.
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
  --exp DIR        where everything is written (exp/gpu): benchmark.txt, and model and scores below each model's name
  --rooms N --arrays N --array-rooms N --dev-scenes N
                   sizes of the banks and of the sets for validation (3000, 160, 10, 100)
  --batch N        mixtures a batch (32)
  --nj N           parallel jobs of simulation and scoring, and workers (all cores)

How many steps a training takes follows from a try of two: the rate has fallen when the time is over. What a stage has
written stays when it is stopped, and is gone on with when it is run again.
HELP
}

. recipes/utils/stages.sh
path_options="exp speech noise"
text_options="device"
parse_options "$@"
. recipes/utils/path.sh
. recipes/utils/cmd.sh
require_folder speech
if [ -n "$noise" ]; then require_folder noise; fi
case $device in cuda) accelerator=gpu ;; cpu) accelerator=cpu ;; *) echo "error: --device is '$device', expected cuda or cpu" >&2; exit 2 ;; esac
deadline=$(($(date +%s) + 60 * minutes))
workers=$((nj > 1 ? nj - 1 : 1))
precision=32-true
if [ "$device" = cuda ]; then precision=bf16-mixed; fi
mkdir -p "$exp"

fitting_steps() {
  # sets `steps` to those that fit into $1 seconds; the rest is the options of msdet train. The slowest stage counts.
  local seconds=$1 tried
  shift
  tried=$(msdet train --dry_run true "$@") || return
  echo "$tried"
  steps=$(awk -v seconds="$seconds" '/^step:/ { step = $2 > step ? $2 : step } END { print int(0.9 * seconds / step) }' <<<"$tried")
  if [ "$steps" -lt 1 ]; then echo "error: not one step fits into $seconds s" >&2; return 2; fi
}

train_for() {
  # trains a recipe's model for $1 seconds: $2 recipe, $3 its folder, $4 number of its stage of training, $5 its
  # configuration; the rest is its options
  local seconds=$1 recipe=$2 folder=$3 number=$4 config=$5 steps
  shift 5
  local bank=$folder/bank
  [ -e "$bank" ] || bank=$folder/banks
  fitting_steps "$seconds" --config "$config" --out "$folder/try" --data.dev "$folder/dev" --data.bank "$bank" \
    --data.speech "$speech" --optimizer.batch "$batch" --trainer.accelerator "$accelerator" --trainer.precision "$precision" \
    --data.workers "$workers" || return
  timeout --signal TERM --kill-after 30 "$((seconds + 60))" bash "recipes/$recipe/run.sh" --speech "$speech" --exp "$folder" \
    --config "$config" --steps "$steps" --batch "$batch" --precision "$precision" --workers "$workers" --nj "$nj" \
    --stage "$number" --stop-stage "$number" "$@"
}

left() { echo $((deadline - $(date +%s))); }

circular6_8k() {
  local common=(--rooms "$rooms" --dev-scenes "$dev_scenes" --test-scenes 1)
  bash recipes/folder/run.sh --speech "$speech" --exp "$exp/circular6_8k" --nj "$nj" --stop-stage 1 "${common[@]}" || return
  local seconds
  seconds=$(left)
  if [ "$stop_stage" -gt 2 ]; then seconds=$((seconds / 2)); fi
  train_for "$seconds" folder "$exp/circular6_8k" 2 recipes/pretrained/conf/circular6_8k.yaml "${common[@]}"
}

universal_16k() {
  local common=(--arrays "$arrays" --rooms "$array_rooms" --dev-scenes "$dev_scenes" --test-scenes 1 --tested circular6_10cm)
  if [ -n "$noise" ]; then common+=(--noise "$noise"); fi
  bash recipes/universal/run.sh --speech "$speech" --exp "$exp/universal_16k" --nj "$nj" --stop-stage 3 "${common[@]}" || return
  train_for "$(left)" universal "$exp/universal_16k" 4 recipes/universal/conf/train.yaml "${common[@]}"
}

how=()
if [ "$device" = cpu ]; then how=(--quick --seconds 1); fi
output=$exp/benchmark.txt run_stage 1 "benchmark" -- bash -c '"$@" | tee "$0.new" && mv "$0.new" "$0"' "$exp/benchmark.txt" \
  python benchmarks/training.py --device "$device" --workers "$workers" "${how[@]}"
output=$exp/circular6_8k/model/model.safetensors run_stage 2 "circular6_8k" -- circular6_8k
output=$exp/universal_16k/model/model.safetensors run_stage 3 "universal_16k" -- universal_16k
