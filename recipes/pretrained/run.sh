#!/usr/bin/env bash
# The models that msdet ships: trained, tried in conditions that they were not trained for, and packaged.
set -euo pipefail
start_dir=$PWD
cd "$(dirname "$0")/../.."

stage=1
stop_stage=5
nj=$(nproc)
exp=exp/pretrained
speech=
noise=
corpus=folder
rooms=1000
dev_scenes=100
test_scenes=300
condition_scenes=150
steps=  # of training; the configurations' if empty
packages=  # folder of the packages; $exp/packages if empty

help_message() {
  cat <<'HELP'
Usage: recipes/pretrained/run.sh --speech DIR [options]

  --speech DIR     speaker/utterance.{wav,flac}, as for recipes/folder
  --noise DIR      recordings of noise for one of the test sets (babble of other talkers)
  --stage N        first stage to run (1)
  --stop-stage N   last stage to run (5)
                   1 train at 8 kHz (recipes/folder)   2 train at 16 kHz (recipes/libri_spatial)
                   3 simulate other conditions   4 evaluate in them   5 package
  --corpus KIND    another kind of corpus, a file name in msdet/corpora (folder)
  --nj N           parallel jobs of simulation and scoring (all cores)
  --exp DIR        where everything is written (exp/pretrained)
  --steps N        training steps of each model (the configurations')
  --rooms N --dev-scenes N --test-scenes N
                   sizes of RIR bank and sets of each model
  --condition-scenes N
                   size of each other test set (150)
  --packages DIR   where the packages go (EXP/packages); those that msdet ships are in msdet/pretrained
  --force          run stages again that are already done
HELP
}

. recipes/utils/stages.sh
path_options="exp speech noise packages"
parse_options "$@"
. recipes/utils/path.sh
. recipes/utils/cmd.sh
require_folder speech
if [ -n "$noise" ]; then require_folder noise; fi
mkdir -p "$exp"

models="circular6_8k circular6_16k"
declare -A rate=([circular6_8k]=8000 [circular6_16k]=16000)
declare -A title=([longer_reverberation]="longer reverberation" [noise]="noise" [other_array]="another array")
conditions="longer_reverberation noise other_array"
sizes=(--rooms "$rooms" --dev-scenes "$dev_scenes" --test-scenes "$test_scenes" --nj "$nj" ${steps:+--steps "$steps"})

simulate_conditions() {
  local model condition recordings
  for model in $models; do
    for condition in $conditions; do
      if [ "$condition" = noise ]; then recordings=$noise; else recordings=; fi
      $cpu_cmd msdet simulate --out "$exp/sets/$condition-${rate[$model]}" --speech "$speech" --corpus "$corpus" \
        --split test --count "$condition_scenes" --seed 7 --jobs "$nj" ${recordings:+--noise "$recordings"} \
        --scenes "recipes/pretrained/conf/conditions/$condition.yaml" --scenes.sample_rate "${rate[$model]}" || return
    done
  done
}

evaluate_conditions() {
  local model condition
  for model in $models; do
    for condition in $conditions; do
      $cpu_cmd msdet evaluate --data "$exp/sets/$condition-${rate[$model]}" --model "$exp/$model/model" --jobs "$nj" \
        --out "$exp/evaluation/$model-$condition" || [ $? -eq 1 ] || return  # 1: a scene could not be scored, and is told
    done
  done
}

package_models() {
  local model condition evaluations sets
  mkdir -p "$packages"
  for model in $models; do
    evaluations=("as in training=$exp/$model/evaluation") sets=("$exp/$model/test")
    for condition in $conditions; do
      evaluations+=("${title[$condition]}=$exp/evaluation/$model-$condition")
      sets+=("$exp/sets/$condition-${rate[$model]}")
    done
    rm -rf "${packages:?}/$model"
    msdet package "$exp/$model/model" --out "$packages/$model" --licence "CC BY 4.0" \
      --data_notes recipes/pretrained/data.md --evaluation "$(as_list "${evaluations[@]}")" \
      --data "$(as_list "${sets[@]}")" || return
  done
}

as_list() {
  local text
  printf -v text '"%s", ' "$@"
  echo "[${text%, }]"
}

packages=${packages:-$exp/packages}
run_stage 1 "train at 8 kHz" -- \
  bash recipes/folder/run.sh --speech "$speech" --corpus "$corpus" --exp "$exp/circular6_8k" "${sizes[@]}"
run_stage 2 "train at 16 kHz" recipes/pretrained/conf/circular6_16k.yaml -- \
  bash recipes/libri_spatial/run.sh --speech "$speech" --corpus "$corpus" --exp "$exp/circular6_16k" \
  --scenes varied_16k --config "$PWD/recipes/pretrained/conf/circular6_16k.yaml" "${sizes[@]}"
run_stage 3 "simulate other conditions" recipes/pretrained/conf/conditions/*.yaml -- \
  simulate_conditions "$condition_scenes" "$noise"
weights=(); for model in $models; do weights+=("$exp/$model/model/model.safetensors"); done
run_stage 4 "evaluate in them" "${weights[@]}" "$exp/sets/other_array-16000/dataset.json" -- evaluate_conditions
run_stage 5 "package" "${weights[@]}" "$exp/evaluation/circular6_16k-other_array/summary.json" -- package_models "$packages"
