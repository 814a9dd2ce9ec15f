#!/usr/bin/env bash
# The study: does joint training help, and which order of the talkers? Many small trainings, compared in pairs.
set -euo pipefail
start_dir=$PWD
cd "$(dirname "$0")/../.."

stage=1
stop_stage=4
nj=$(nproc)
exp=exp/study
speech=
corpus=folder
train_scenes=2000
dev_scenes=60
test_scenes=300
steps=  # of each training; conf/base.yaml's if empty
runs=  # all if empty
references='[srp_beam,"superdirective,doa=norm_music",auxiva,ilrma,oracle_mvdr,oracle_irm]'
results=  # folder of RESULTS.md and figures of stage 4; $exp/results if empty

help_message() {
  cat <<'HELP'
Usage: recipes/study/run.sh --speech DIR [options]

  --speech DIR     speaker/utterance.{wav,flac}, as for recipes/folder
  --stage N        first stage to run (1)
  --stop-stage N   last stage to run (4)
                   1 simulate   2 train   3 evaluate   4 tables, verdicts and figures
  --runs "A B"     only these rows, such as azimuth_joint, or single trainings, such as azimuth_joint-0 (all);
                   scenes and references are made for all
  --references LIST
                   methods of msdet evaluate that stand beside the rows ([srp_beam, ...])
  --corpus KIND    another kind of corpus, a file name in msdet/corpora (folder)
  --nj N           parallel jobs: of the simulation, and trainings at a time, one thread each (all cores)
  --exp DIR        where everything is written (exp/study)
  --steps N        training steps of each row (those of conf/base.yaml)
  --train-scenes N --dev-scenes N --test-scenes N
                   sizes of the sets, of three talkers and of two
  --results DIR    where tables and figures go in stage 4 (EXP/results)
  --force          simulate again, and evaluate again; trainings are only made again where their folder is gone

A row is a file conf/<group>/<row>.yaml. Rows of `main` are trained with seeds 0, 1 and 2, others with seed 0.
Everything resumes: trainings and evaluations that are finished are not repeated.
HELP
  training_help
}

. recipes/utils/stages.sh
. recipes/utils/pipeline.sh
text_options+=" runs references"
path_options="exp speech results"
parse_options "$@"
. recipes/utils/path.sh
. recipes/utils/cmd.sh
require_folder speech
list_speech "$speech" "$exp/speech.list"
set_training_options

chosen=$(python recipes/study/local/list_runs.py --runs "$runs")

simulate_all() {
  # training scenes are short: more of them in the same time
  local talkers split count
  for talkers in 3 2; do
    for split in train dev test; do
      count=${split}_scenes
      start_parts python tools/simulate.py --out "$exp/$talkers/$split" --speech "$speech" --corpus "$corpus" \
        --scenes.talkers "$talkers" --scenes.duration_s "$([ "$split" = train ] && echo 2 || echo 4)" \
        --split "$split" --count "${!count}" --seed 0 || return
    done
  done
}

train_run() {
  # $1: name, $2: configuration, $3: talkers, $4: seed
  local began=$SECONDS code=0 trained=false
  if [ -e "$exp/runs/$1/training.json" ]; then trained=true; fi
  OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} start train_cmd msdet train --config recipes/study/conf/base.yaml --config "$2" \
    --out "$exp/runs/$1" --data.train "$exp/$3/train" --data.dev "$exp/$3/dev" --trainer.seed "$4" \
    ${steps:+--optimizer.steps "$steps"} "${training_options[@]}" || code=$?
  if [ "$trained" = false ] && [ -d "$exp/runs/$1" ]; then echo $((SECONDS - began)) >>"$exp/logs/$1.seconds"; fi
  return "$code"
}

is_newer() {
  # whether the first file is there and none of the others is newer, without --force
  local file
  if [ "$again" = true ] || [ ! -e "$1" ]; then return 1; fi
  for file in "${@:2}"; do if [ "$file" -nt "$1" ]; then return 1; fi; done
}

evaluate_run() {
  local out=$exp/evaluation/$1
  if is_newer "$out/summary.json" "$exp/runs/$1/model.safetensors" "$exp/$3/test/dataset.json"; then return 0; fi
  OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} evaluate_into "$out" --data "$exp/$3/test" --model "$exp/runs/$1" \
    --methods '[]' --metrics "$metrics" --jobs 1
}

evaluate_all() {
  # the rows, then what is not learned
  local talkers out
  each_run evaluate_run || return
  for talkers in 3 2; do
    out=$exp/evaluation/references-$talkers
    if is_newer "$out/summary.json" "$exp/$talkers/test/dataset.json" && [ "$(cat "$out/asked" 2>/dev/null)" = "$references" ]; then
      continue
    fi
    evaluate_into "$out" --data "$exp/$talkers/test" --methods "$references" --metrics "$metrics" --jobs "$nj" || return
    printf '%s' "$references" >"$out/asked"
  done
}

each_run() {
  # $1 with every chosen run, $nj at a time; what they print is in $exp/logs. The exit code is that of one that failed
  local line pid pids=() failed=0
  mkdir -p "$exp/logs"
  while read -r line; do
    while [ "$(jobs -rp | wc -l)" -ge "$nj" ]; do wait -n || true; done
    # shellcheck disable=SC2086
    run_one "$1" $line &
    pids+=($!)
  done <<<"$chosen"
  for pid in "${pids[@]}"; do wait "$pid" || failed=$?; done
  return "$failed"
}

run_one() {
  # $1: function, $2: name of the run, then the rest of its line
  local code=0 text=$exp/logs/$1-$2.log
  "$@" >"$text" 2>&1 || code=$?
  if [ "$code" -eq 0 ]; then log "$2: done"; else log "$2: failed (exit code $code), see $text"; fi
  return "$code"
}

metrics=si_sdr,sdr,estoi

output=$exp/2/test/dataset.json run_stage 1 "simulate" "$exp/speech.list" -- \
  simulate_all "$train_scenes" "$dev_scenes" "$test_scenes"
# trainings and evaluations know themselves what is finished
again=${force:-false}
force=true run_stage 2 "train: $(wc -l <<<"$chosen") models" "$exp/2/test/dataset.json" -- each_run train_run
force=true run_stage 3 "evaluate" "$exp/2/test/dataset.json" -- evaluate_all
force=true run_stage 4 "tables, verdicts and figures" -- \
  python recipes/study/local/results.py --exp "$exp" --out "${results:-$exp/results}" --runs "$runs" \
  --command "$(given_command "$@")"
