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
conditions=recipes/pretrained/conf/conditions
config=  # each rate's own if empty
steps=  # of training; the configurations' if empty
license="CC BY 4.0"
data_notes=recipes/pretrained/data.md
packages=  # folder of the packages; $exp/packages if empty
results=  # folder of the learning curves; $exp/results if empty

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
  --conditions DIR other conditions: a scene distribution each, NAME.yaml; recordings go into the one called noise
                   (recipes/pretrained/conf/conditions)
  --condition-scenes N
                   size of each other test set (150)
  --config NAME    training settings of both models: a YAML file, or a name in conf or msdet/configs (of each model
                   its own in conf)
  --license TEXT   of the weights, which follows from that of the speech (CC BY 4.0)
  --data-notes FILE
                   what the model card says of the speech (recipes/pretrained/data.md: excerpts of LibriSpeech)
  --packages DIR   where the packages go (EXP/packages); those that msdet ships are in msdet/pretrained
  --results DIR    where the models' learning curves go (EXP/results)
  --force          run stages again that are already done

A stage that already finished with the same settings and inputs is skipped; a killed run goes on.
HELP
}

. recipes/utils/stages.sh
. recipes/utils/pipeline.sh
path_options="exp speech noise packages results conditions data_notes"
text_options+=" license"
parse_options "$@"
. recipes/utils/path.sh
. recipes/utils/cmd.sh
require_folder speech
if [ -n "$noise" ]; then require_folder noise; fi
require_folder conditions
if [ ! -f "$data_notes" ]; then echo "error: $data_notes: no such file; --data-notes names another" >&2; exit 2; fi
list_speech "$speech" "$exp/speech.list"

own=$PWD/recipes/pretrained/conf  # settings of each model
models="circular6_8k circular6_16k"
declare -A rate=([circular6_8k]=8000 [circular6_16k]=16000)
declare -A heading=([other_array]="another array")  # of others: their name
files=("$conditions"/*.yaml)
[ -e "${files[0]}" ] || { echo "error: $conditions: holds no .yaml files" >&2; exit 2; }
sizes=(--rooms "$rooms" --dev-scenes "$dev_scenes" --test-scenes "$test_scenes" --nj "$nj" ${steps:+--steps "$steps"}
  ${force:+--force})

simulate_conditions() {
  local model file condition recordings
  for model in $models; do
    for file in "${files[@]}"; do
      condition=$(basename "$file" .yaml)
      if [ "$condition" = noise ]; then recordings=$noise; else recordings=; fi
      start_parts msdet simulate --out "$exp/sets/$condition-${rate[$model]}" --speech "$speech" --corpus "$corpus" \
        --split test --count "$condition_scenes" --seed 7 ${recordings:+--noise "$recordings"} \
        --scenes "$file" --scenes.sample_rate "${rate[$model]}" || return
    done
  done
}

evaluate_conditions() {
  local model file condition
  for model in $models; do
    for file in "${files[@]}"; do
      condition=$(basename "$file" .yaml)
      evaluate_into "$exp/evaluation/$model-$condition" --data "$exp/sets/$condition-${rate[$model]}" \
        --model "$exp/$model/model" --jobs "$nj" || return
    done
  done
}

package_models() {
  local model file condition evaluations sets
  mkdir -p "$packages" "$results"
  for model in $models; do
    evaluations=("as in training=$exp/$model/evaluation") sets=("$exp/$model/test")
    for file in "${files[@]}"; do
      condition=$(basename "$file" .yaml)
      evaluations+=("${heading[$condition]:-${condition//_/ }}=$exp/evaluation/$model-$condition")
      sets+=("$exp/sets/$condition-${rate[$model]}")
    done
    remove_package "$exp/new/$model" || return
    msdet package "$exp/$model/model" --out "$exp/new/$model" --license "$license" --data_notes "$data_notes" \
      --evaluation "$(as_list "${evaluations[@]}")" --data "$(as_list "${sets[@]}")" || return
    remove_package "$packages/$model" && mv "$exp/new/$model" "$packages/$model" || return
    cp "$exp/$model/figures/learning_curves.png" "$results/$model.png" || return
  done
}

remove_package() {
  # an earlier package, and nothing else that may be there
  python recipes/utils/remove_package.py --folder "$1"
}

as_list() {
  local text
  printf -v text '"%s", ' "$@"
  echo "[${text%, }]"
}

packages=${packages:-$exp/packages}
results=${results:-$exp/results}
weights=() sets=() summaries=()
for model in $models; do
  weights+=("$exp/$model/model/model.safetensors")
  for file in "${files[@]}"; do
    condition=$(basename "$file" .yaml)
    sets+=("$exp/sets/$condition-${rate[$model]}/dataset.json")
    summaries+=("$exp/evaluation/$model-$condition/summary.json")
  done
done

output=${weights[0]} run_stage 1 "train at 8 kHz" "$exp/speech.list" "${config:-$own/circular6_8k.yaml}" -- \
  bash recipes/folder/run.sh --speech "$speech" --corpus "$corpus" --exp "$exp/circular6_8k" \
  --config "${config:-$own/circular6_8k.yaml}" "${sizes[@]}"
output=${weights[1]} run_stage 2 "train at 16 kHz" "$exp/speech.list" "${config:-$own/circular6_16k.yaml}" -- \
  bash recipes/libri_spatial/run.sh --speech "$speech" --corpus "$corpus" --exp "$exp/circular6_16k" \
  --scenes varied_16k --config "${config:-$own/circular6_16k.yaml}" "${sizes[@]}"
output=${sets[-1]} run_stage 3 "simulate other conditions" "${files[@]}" "$exp/speech.list" -- \
  simulate_conditions "$condition_scenes" "$noise"
output=${summaries[-1]} run_stage 4 "evaluate in them" "${weights[@]}" "${sets[@]}" -- evaluate_conditions
output=$packages/circular6_16k run_stage 5 "package" "${weights[@]}" "${summaries[@]}" "$data_notes" -- \
  package_models "$packages" "$results" "$license"
