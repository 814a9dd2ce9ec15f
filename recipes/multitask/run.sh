#!/usr/bin/env bash
# Two questions of multitask learning: what is a scene without references worth, and is DoA first better?
set -euo pipefail
start_dir=$PWD
cd "$(dirname "$0")/../.."

stage=1
stop_stage=4
nj=$(nproc)
exp=exp/multitask
speech=
corpus=folder
scenes=  # the rules of SMS-WSJ if empty
config=  # the default model if empty
train_scenes=1000
dev_scenes=60
test_scenes=200
steps=600
seed=0
results=  # RESULTS.md to write in stage 4; $exp/RESULTS.md if empty
rows="tenth partial all transfer"

help_message() {
  cat <<'HELP'
Usage: recipes/multitask/run.sh --speech DIR [options]

  --speech DIR     speaker/utterance.{wav,flac}, as for recipes/folder
  --stage N        first stage to run (1)
  --stop-stage N   last stage to run (4)
                   1 simulate   2 train, a model a row   3 evaluate   4 compare, RESULTS.md
  --corpus KIND    another kind of corpus, a file name in msdet/corpora (folder)
  --nj N           parallel jobs of simulation and scoring (all cores)
  --exp DIR        where everything is written (exp/multitask)
  --scenes NAME    what scenes are drawn from: a YAML file, or a name in msdet/configs/scenes
                   (the rules of SMS-WSJ)
  --config NAME    settings that all rows share: a YAML file, or a name in msdet/configs, such as sibling
                   (the default model); what differs in a row is in conf
  --steps N        training steps of each row (600)
  --train-scenes N --dev-scenes N --test-scenes N
                   sizes of the sets
  --results FILE   table to write in stage 4 (EXP/RESULTS.md)
  --seed N         of everything (0)
  --force          run stages again that are already done
HELP
  training_help
  cat <<'HELP'

Rows: tenth (a tenth of the scenes, fully labeled), partial (all scenes with directions, a tenth with references),
all (all scenes, fully labeled), transfer (as all, but the DoA alone for the first half of the steps).
HELP
}

. recipes/utils/stages.sh
. recipes/utils/pipeline.sh
config_options+=" scenes"
parse_options "$@"
. recipes/utils/path.sh
. recipes/utils/cmd.sh
require_folder speech
if [ "$steps" -lt 2 ]; then echo "error: --steps is $steps, expected at least 2: one training has two stages" >&2; exit 2; fi
list_speech "$speech" "$exp/speech.list"

simulate_all() {
  local split count
  for split in train dev test; do
    count=${split}_scenes
    start_parts python tools/simulate.py --out "$exp/$split" --speech "$speech" --corpus "$corpus" \
      ${scenes:+--scenes "$scenes"} --split "$split" --count "${!count}" --seed "$seed" || return
  done
}

train_row() {
  local options=()
  if [ "$1" = transfer ]; then
    local half=$((steps / 2))
    options=(--stages "[{name: doa, objective: {doa_weight: 1.0}, optimizer: {steps: $half}},
      {name: both, optimizer: {steps: $((steps - half))}}]")
  fi
  start train_cmd msdet train ${config:+--config "$config"} --config "recipes/multitask/conf/$1.yaml" --out "$exp/$1" \
    --data.train "$exp/train" --data.dev "$exp/dev" --optimizer.steps "$steps" --trainer.seed "$seed" \
    "${options[@]}" "${training_options[@]}"
}

evaluate_row() {
  local methods='[]'
  if [ "$1" = all ]; then methods='[srp_beam]'; fi
  evaluate_into "$exp/evaluation/$1" --data "$exp/test" --model "$exp/$1" --methods "$methods" --jobs "$nj"
}

each() {
  local row
  for row in $rows; do "$1" "$row" || return; done
}

output=$exp/test/dataset.json run_stage 1 "simulate: $train_scenes, $dev_scenes and $test_scenes scenes" \
  "$exp/speech.list" ${scenes:+"$scenes"} -- simulate_all "$train_scenes" "$dev_scenes" "$test_scenes" "$seed" "$scenes"
set_training_options
configs=(${config:+"$config"}); for row in $rows; do configs+=("recipes/multitask/conf/$row.yaml"); done
output=$exp/transfer/model.safetensors run_stage 2 "train: $rows" "$exp/train/dataset.json" "${configs[@]}" -- \
  each train_row "$steps" "$seed" "${training_options[@]}"
weights=(); for row in $rows; do weights+=("$exp/$row/model.safetensors"); done
output=$exp/evaluation/transfer/summary.json run_stage 3 "evaluate" "$exp/test/dataset.json" "${weights[@]}" -- \
  each evaluate_row
results=${results:-$exp/RESULTS.md}
output=$results run_stage 4 "compare" "$exp/evaluation/transfer/summary.json" -- \
  python recipes/multitask/local/results.py --exp "$exp" --out "$results" \
  --command "$(given_command "$@")"
