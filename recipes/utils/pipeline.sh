# Stages 1 to 4 that recipes share: simulate, train, evaluate, report; source this after stages.sh.
# Reads: exp speech corpus config steps rooms dev_scenes test_scenes seed nj train_cmd cpu_cmd.

simulate_all() {
  local split count
  for split in dev test; do
    count=${split}_scenes
    $cpu_cmd python tools/simulate.py --out "$exp/$split" --speech "$speech" --corpus "$corpus" \
      --split "$split" --count "${!count}" --seed "$seed" --jobs "$nj" || return
  done
  $cpu_cmd msdet bank --out "$exp/bank" --rooms "$rooms" --seed "$((seed + 1))" --jobs "$nj"
}

run_pipeline() {
  # $1: a file that says what the speech is
  output=$exp/bank/bank.json run_stage 1 "simulate: $test_scenes test and $dev_scenes dev scenes, $rooms rooms for training" "$1" -- \
    simulate_all "$dev_scenes" "$test_scenes" "$rooms" "$seed"

  output=$exp/model/training.json run_stage 2 "train" "$config" "$exp/dev/dataset.json" "$exp/bank/bank.json" -- \
    $train_cmd msdet train --config "$config" --out "$exp/model" --data.dev "$exp/dev" \
    --data.bank "$exp/bank" --data.speech "$speech" --data.corpus "$corpus" \
    ${steps:+--optimiser.steps "$steps"} --optimiser.seed "$seed"

  output=$exp/evaluation/summary.json run_stage 3 "evaluate on unseen talkers in unseen rooms" \
    "$exp/test/dataset.json" "$exp/model/model.safetensors" -- \
    $train_cmd msdet evaluate --data "$exp/test" --model "$exp/model" --out "$exp/evaluation"

  output=$exp/report.html run_stage 4 "report" "$exp/evaluation/summary.json" -- \
    $cpu_cmd msdet report --evaluation "$exp/evaluation" --data "$exp/test" --run "$exp/model" \
    --out "$exp/report.html" --images "$exp/figures"
}
