#!/usr/bin/env bash
# The model for any array: arrays drawn at random, a bank of rooms for each, training, scores on arrays that it never
# saw, a package.
set -euo pipefail
start_dir=$PWD
cd "$(dirname "$0")/../.."

stage=1
stop_stage=7
nj=$(nproc)
exp=exp/universal
speech=
noise=
corpus=folder
arrays=200
rooms=8
dev_scenes=60
test_scenes=150
config=recipes/universal/conf/train.yaml
kinds=recipes/universal/conf/rooms
conditions=recipes/universal/conf/scenes
tested="circular4_5cm circular6_10cm circular8_10cm respeaker_4mic_square respeaker_usb_4mic_square respeaker_6mic_ring \
chime_tablet linear4_5cm linear8_3cm"
calibrated=10
init=
steps=  # of training; the configuration's if empty
seed=0
license="CC BY 4.0"
data_notes=recipes/universal/data.md

help_message() {
  cat <<'HELP'
Usage: recipes/universal/run.sh --speech DIR [options]

  --speech DIR     speaker/utterance.{wav,flac}, as for recipes/folder
  --noise DIR      recordings of noise for training and tests (babble of other talkers)
  --stage N        first stage to run (1)
  --stop-stage N   last stage to run (7)
                   1 draw arrays   2 make a bank of rooms for each   3 simulate sets   4 train
                   5 calibrate     6 evaluate      7 package
  --corpus KIND    another kind of corpus, a file name in msdet/corpora (folder)
  --nj N           parallel jobs of simulation and scoring (all cores)
  --exp DIR        where everything is written (exp/universal)
  --arrays N       that are learned from (200)
  --rooms N        of each of them (8)
  --kinds DIR      of rooms, a scene distribution each, for the arrays in turn (recipes/universal/conf/rooms)
  --conditions DIR of tests, a scene distribution each, NAME.yaml; two.yaml is also that of each tested array
                   (recipes/universal/conf/scenes)
  --tested "A B"   arrays that the model is tested with (nine that msdet ships, of which it learned from none)
  --calibrated N   arrays that confidences are calibrated on, besides (10)
  --dev-scenes N --test-scenes N
                   sizes of the set for validation and of each test set
  --config NAME    training settings: a YAML file, or a name in conf or msdet/configs (train)
  --init MODEL     weights to start from: a model's folder, or the name of one that ships, as universal_16k (random)
  --steps N        training steps, of all stages together (the configuration's)
  --seed N         of everything (0)
  --license TEXT   of the weights, which follows from that of the speech (CC BY 4.0)
  --data-notes FILE
                   what the model card says of the speech (recipes/universal/data.md: excerpts of LibriSpeech)
  --force          run stages again that are already done
HELP
  training_help
  cat <<'HELP'

A stage that already finished with the same settings and inputs is skipped; a killed run goes on.
HELP
}

. recipes/utils/stages.sh
. recipes/utils/pipeline.sh
path_options="exp speech noise kinds conditions data_notes"
text_options+=" license tested init"
parse_options "$@"
. recipes/universal/path.sh
. recipes/universal/cmd.sh
require_folder speech
if [ -n "$noise" ]; then require_folder noise; fi
require_folder kinds
require_folder conditions
if [ ! -f "$data_notes" ]; then echo "error: $data_notes: no such file; --data-notes names another" >&2; exit 2; fi
list_speech "$speech" "$exp/speech.list"

if [ -n "$init" ] && [ -e "$start_dir/$init" ]; then init=$(realpath "$start_dir/$init"); fi

files=("$conditions"/*.yaml)
for file in "${files[@]}" "$conditions/two.yaml"; do
  [ -e "$file" ] || { echo "error: $file: no such file" >&2; exit 2; }
done
sets=()
for array in $tested; do sets+=("$array"); done
for file in "${files[@]}"; do
  if [ "$(basename "$file")" != two.yaml ]; then sets+=("$(basename "$file" .yaml)"); fi
done

# confidences are calibrated on talkers, rooms and arrays that the model did not learn from, each as in a test's condition
standing=()
for file in "${files[@]}"; do
  if ! grep -q '^moving:' "$file"; then standing+=("$file"); fi
done
scenes_of=$(((dev_scenes + 1) / 2))  # of each of these arrays

simulate_calibration() {
  local n array file options common=(--speech "$speech" --corpus "$corpus")
  python recipes/universal/local/draw_arrays.py --out "$exp/calibration/arrays" --count "$calibrated" \
    --seed "$((seed + 2))" || return
  for ((n = 0; n < calibrated; n++)); do
    array=$(printf '%04d' "$n") file=${standing[n % ${#standing[@]}]} options=()
    if [ -n "$noise" ] && grep -qE '^(diffuse|point_noises):' "$file"; then options+=(--noise "$noise"); fi
    start_parts msdet simulate --out "$exp/calibration/$array" --split dev --count "$scenes_of" --seed "$((seed + n))" \
      "${common[@]}" --scenes "$file" --scenes.array "$exp/calibration/arrays/$array.toml" "${options[@]}" || return
  done
}

calibrate_model() {
  local n sets=()
  for ((n = 0; n < calibrated; n++)); do sets+=("$exp/calibration/$(printf '%04d' "$n")"); done
  start cpu_cmd python recipes/universal/local/calibrate.py --model "$exp/model" --data "${sets[@]}" \
    --out "$exp/calibrated"
}

simulate_sets() {
  local name file options common=(--speech "$speech" --corpus "$corpus")
  start_parts msdet simulate --out "$exp/dev" --split dev --count "$dev_scenes" --seed "$seed" "${common[@]}" \
    --scenes "$conditions/count.yaml" || return
  simulate_calibration || return
  for name in "${sets[@]}"; do
    file=$conditions/$name.yaml options=()
    if [ ! -e "$file" ]; then file=$conditions/two.yaml options=(--scenes.array "$name"); fi
    if [ -n "$noise" ] && grep -qE '^(diffuse|point_noises):' "$file"; then options+=(--noise "$noise"); fi
    start_parts msdet simulate --out "$exp/sets/$name" --split test --count "$test_scenes" --seed "$((seed + 7))" \
      "${common[@]}" --scenes "$file" "${options[@]}" || return
  done
}

evaluate_sets() {
  local name
  for name in "${sets[@]}"; do
    evaluate_into "$exp/evaluation/$name" --data "$exp/sets/$name" --model "$exp/calibrated" --jobs "$nj" || return
  done
}

package_model() {
  local name evaluations=() data=()
  for name in "${sets[@]}"; do
    evaluations+=("\"${name//_/ }=$exp/evaluation/$name\"") data+=("\"$exp/sets/$name\"")
  done
  python recipes/utils/remove_package.py --folder "$exp/package/universal_16k" || return
  msdet package "$exp/calibrated" --out "$exp/package/universal_16k" --license "$license" --data_notes "$data_notes" \
    --evaluation "[$(IFS=,; echo "${evaluations[*]}")]" --data "[$(IFS=,; echo "${data[*]}")]"
}

last=$(printf '%04d' "$((arrays - 1))")
output=$exp/arrays/$last.toml run_stage 1 "draw $arrays arrays" -- \
  python recipes/universal/local/draw_arrays.py --out "$exp/arrays" --count "$arrays" --seed "$seed"
output=$exp/banks/$last/bank.json run_stage 2 "make a bank of $rooms rooms for each" "$exp/arrays/$last.toml" "$kinds"/*.yaml -- \
  start cpu_cmd python recipes/universal/local/make_banks.py --arrays "$exp/arrays" --kinds "$kinds" --out "$exp/banks" \
  --rooms "$rooms" --seed "$((seed + 1))" --jobs "$nj"
output=$exp/sets/${sets[-1]}/dataset.json run_stage 3 "simulate dev and test sets" "${files[@]}" "$exp/speech.list" -- \
  simulate_sets "$dev_scenes" "$test_scenes" "$tested" "$calibrated" "$seed"
set_training_options
set_step_options
if ! grep -qE '^moving:' "$kinds"/*.yaml; then step_options+=(--data.scenes.moving 0); fi
output=$exp/model/training.json run_stage 4 "train" "$config" "$exp/dev/dataset.json" "$exp/banks/$last/bank.json" -- \
  start train_cmd msdet train --config "$config" --out "$exp/model" --data.dev "$exp/dev" --data.bank "$exp/banks" \
  --data.speech "$speech" --data.corpus "$corpus" ${noise:+--data.noise "$noise"} ${init:+--init "$init"} \
  "${step_options[@]}" \
  --trainer.seed "$seed" "${training_options[@]}"
output=$exp/calibrated/model.json run_stage 5 "calibrate confidences" "$exp/model/model.safetensors" \
  "$exp/calibration/$(printf '%04d' "$((calibrated - 1))")/dataset.json" -- calibrate_model "$calibrated" "$dev_scenes"
output=$exp/evaluation/${sets[-1]}/summary.json run_stage 6 "evaluate on arrays, rooms and talkers that it never saw" \
  "$exp/calibrated/model.json" "$exp/calibrated/model.safetensors" "$exp/sets/${sets[-1]}/dataset.json" -- evaluate_sets "$tested"
output=$exp/package/universal_16k run_stage 7 "package" "$exp/calibrated/model.json" \
  "$exp/evaluation/${sets[-1]}/summary.json" "$data_notes" -- package_model "$license"
