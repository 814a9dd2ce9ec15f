# Stages 1 to 5 that recipes share; source this after stages.sh.
# Reads: exp config steps seed nj train_cmd cpu_cmd, and for simulated sets speech corpus rooms dev_scenes test_scenes.
. recipes/utils/training.sh

scene_options=()       # of msdet simulate and bank: what scenes are drawn from
data_options=()        # of msdet train: what is learned from
model_options=()       # of msdet train besides
evaluation_options=()  # of msdet evaluate

simulate_all() {
  local split count
  for split in dev test; do
    count=${split}_scenes
    start_parts python tools/simulate.py --out "$exp/$split" --speech "$speech" --corpus "$corpus" "${scene_options[@]}" \
      --split "$split" --count "${!count}" --seed "$seed" || return
  done
  start_parts msdet bank --out "$exp/bank" "${scene_options[@]}" --rooms "$rooms" --seed "$((seed + 1))"
}

find_drawn_from() {
  # sets the array `drawn_from` to the files among $scenes and $array: who changes one draws other scenes
  local file
  drawn_from=()
  for file in "${scenes:-}" "${array:-}"; do
    if [ -f "$file" ]; then drawn_from+=("$file"); fi
  done
}

list_speech() {
  # what a corpus is made of, names and sizes of its files: $1 is the folder, $2 the list
  mkdir -p "$(dirname "$2")"
  (cd "$1" && find -L . -type f \( -iname '*.wav' -o -iname '*.flac' -o -iname '*.wv1' -o -iname 'speakers.t*' \) \
    -printf '%P %s\n' | sort) >"$2"
}

evaluate_into() {
  # msdet evaluate into the folder $1. A scene that cannot be scored, which the command tells and ends with 1, leaves
  # the others worth their table
  local out=$1 code=0
  shift
  rm -f "$out/summary.json"
  start evaluate_cmd msdet evaluate --out "$out" "$@" || code=$?
  if [ "$code" -eq 1 ] && [ -f "$out/summary.json" ]; then return 0; fi
  return "$code"
}

evaluate_model() { evaluate_into "$exp/evaluation" "$@" --jobs "$nj"; }

run_pipeline() {
  # stages 1 to 4 on simulated scenes; $1: a file that says what the speech is
  find_drawn_from
  output=$exp/bank/bank.json run_stage 1 "simulate: $test_scenes test and $dev_scenes dev scenes, $rooms rooms for training" \
    "$1" "${drawn_from[@]}" -- simulate_all "$dev_scenes" "$test_scenes" "$rooms" "$seed" "${scene_options[@]}"
  data_options=(--data.bank "$exp/bank" --data.speech "$speech" --data.corpus "$corpus" "${scene_options[@]/#--scenes/--data.scenes}")
  train_to_report "$exp/bank/bank.json"
}

train_to_report() {
  # stages 2 to 4 on $exp/dev and $exp/test; $1: a file that says what is learned from
  set_training_options
  set_step_options
  output=$exp/model/training.json run_stage 2 "train" "$config" "$exp/dev/dataset.json" "$1" -- \
    start train_cmd msdet train --config "$config" --out "$exp/model" --data.dev "$exp/dev" "${data_options[@]}" \
    "${model_options[@]}" "${step_options[@]}" --trainer.seed "$seed" "${training_options[@]}"

  output=$exp/evaluation/summary.json run_stage 3 "evaluate on unseen talkers in unseen rooms" \
    "$exp/test/dataset.json" "$exp/model/model.safetensors" -- \
    evaluate_model --data "$exp/test" --model "$exp/model" "${evaluation_options[@]}"

  output=$exp/report.html run_stage 4 "report" "$exp/evaluation/summary.json" -- \
    start cpu_cmd msdet report --evaluation "$exp/evaluation" --data "$exp/test" --run "$exp/model" \
    --out "$exp/report.html" --images "$exp/figures"
}

write_results() {
  # stage 5; $1: the command line, from `given_command`, $2: a sentence on who is in train, dev and test
  local page=${results:-$exp/RESULTS.md}
  output=$page run_stage 5 "results" "$exp/evaluation/summary.json" -- \
    python recipes/utils/results.py --exp "$exp" --out "$page" --command "$1" \
    ${2:+--splits "$2"}
}
