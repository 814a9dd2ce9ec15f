#!/usr/bin/env bash
# From nothing to separated, located talkers: synthetic speech, simulated rooms, training, scores, figures.
set -euo pipefail
cd "$(dirname "$0")/../.."

stage=0
stop_stage=4
nj=$(nproc)
exp=exp/demo
speakers=100
utterances=12
rooms=240
dev_scenes=40
test_scenes=240
config=recipes/demo/conf/train.yaml
steps=  # of training; the configuration's if empty
seed=0

help_message() {
  cat <<'HELP'
Usage: recipes/demo/run.sh [options]

  --stage N        first stage to run (0)
  --stop-stage N   last stage to run (4)
                   0 speech   1 simulate   2 train   3 evaluate   4 figures
  --nj N           parallel jobs (all cores)
  --exp DIR        where everything is written (exp/demo)
  --config FILE    training settings (recipes/demo/conf/train.yaml)
  --steps N        training steps (the configuration's)
  --speakers N --utterances N --rooms N --dev-scenes N --test-scenes N
                   sizes of corpus, RIR bank and sets
  --seed N         of everything (0)
  --force          run stages again that are already done

A stage that already finished with the same settings and inputs is skipped; a killed run goes on.
HELP
}

. recipes/utils/stages.sh
parse_options "$@"
. recipes/demo/path.sh
. recipes/demo/cmd.sh
started=$(date +%s)

run_stage 0 "speech: $speakers eSpeak NG voices" -- \
  $cpu_cmd python tools/synthesize_speech.py --out "$exp/speech" --speakers "$speakers" \
  --utterances "$utterances" --sample-rate 8000 --seed "$seed"

simulate_all() {
  local split
  for split in dev test; do
    local count=${split}_scenes
    $cpu_cmd python tools/simulate.py --out "$exp/$split" --speech "$exp/speech" --split "$split" \
      --count "${!count}" --seed "$seed" --jobs "$nj" || return
  done
  $cpu_cmd msdet bank --out "$exp/bank" --rooms "$rooms" --seed "$((seed + 1))" --jobs "$nj"
}
run_stage 1 "simulate: $test_scenes test and $dev_scenes dev scenes, $rooms rooms for training" \
  "$exp/speech/corpus.json" -- simulate_all "$dev_scenes" "$test_scenes" "$rooms" "$seed"

run_stage 2 "train" "$config" "$exp/dev/dataset.json" "$exp/bank/bank.json" -- \
  $train_cmd msdet train --config "$config" --out "$exp/model" --data.dev "$exp/dev" --data.bank "$exp/bank" \
  --data.speech "$exp/speech" ${steps:+--optimiser.steps "$steps"} --optimiser.seed "$seed"

run_stage 3 "evaluate on unseen talkers in unseen rooms" \
  "$exp/test/dataset.json" "$exp/model/model.safetensors" -- \
  $train_cmd msdet evaluate --data "$exp/test" --model "$exp/model" --out "$exp/evaluation" --jobs "$nj"

run_stage 4 "figures" "$exp/evaluation/summary.json" -- \
  $cpu_cmd msdet figures --evaluation "$exp/evaluation" --data "$exp/test" --run "$exp/model" \
  --out "$exp/figures.html"

if [ "$stop_stage" -ge 4 ]; then
  echo
  cat "$exp/evaluation/summary.md"
  echo
  echo "figures: $exp/figures.html"
  python recipes/demo/local/summarise.py "$exp" "$(($(date +%s) - started))"
fi
