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
  --runs "A B"     only these rows, such as azimuth_joint, or single trainings, such as azimuth_joint-0 (all)
  --references LIST
                   methods of msdet evaluate that stand beside the rows ([srp_beam, ...])
  --corpus KIND    another kind of corpus, a file name in msdet/corpora (folder)
  --nj N           parallel jobs: of the simulation, and trainings at a time, one thread each (all cores)
  --exp DIR        where everything is written (exp/study)
  --steps N        training steps of each row (those of conf/base.yaml)
  --train-scenes N --dev-scenes N --test-scenes N
                   sizes of the sets, of three talkers and of two
  --results DIR    where tables and figures go in stage 4 (EXP/results)

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

python recipes/study/local/list_runs.py --runs "$runs" >"$exp/runs.list"

simulate_all() {
  # training scenes are short: more of them in the same time
  local talkers split count
  for talkers in 3 2; do
    for split in train dev test; do
      count=${split}_scenes
      $cpu_cmd python tools/simulate.py --out "$exp/$talkers/$split" --speech "$speech" --corpus "$corpus" \
        --scenes.talkers "$talkers" --scenes.duration_s "$([ "$split" = train ] && echo 2 || echo 4)" \
        --split "$split" --count "${!count}" --seed 0 --jobs "$nj" || return
    done
  done
}

train_run() {
  # $1: name, $2: configuration, $3: talkers, $4: seed
  local began=$SECONDS
  OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} $train_cmd msdet train --config recipes/study/conf/base.yaml --config "$2" \
    --out "$exp/runs/$1" --data.train "$exp/$3/train" --data.dev "$exp/$3/dev" --optimiser.seed "$4" \
    ${steps:+--optimiser.steps "$steps"} "${training_options[@]}" || return
  echo $((SECONDS - began)) >>"$exp/logs/$1.seconds"
}

evaluate_run() {
  local out=$exp/evaluation/$1
  if [ "$out/summary.json" -nt "$exp/runs/$1/model.safetensors" ]; then return 0; fi
  OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} evaluate_into "$out" --data "$exp/$3/test" --model "$exp/runs/$1" \
    --methods '[]' --metrics "$metrics" --jobs 1
}

evaluate_references() {
  local talkers
  for talkers in 3 2; do
    evaluate_into "$exp/evaluation/references-$talkers" --data "$exp/$talkers/test" --methods "$references" \
      --metrics "$metrics" --jobs "$nj" || return
  done
}

each_run() {
  # $1 with every line of runs.list, $nj at a time; what they print is in $exp/logs
  local line failed=0
  mkdir -p "$exp/logs"
  while read -r line; do
    while [ "$(jobs -rp | wc -l)" -ge "$nj" ]; do wait -n || failed=1; done
    # shellcheck disable=SC2086
    { "$1" $line >"$exp/logs/$1-${line%% *}.log" 2>&1 && log "${line%% *}: done" ||
      { log "${line%% *}: failed, see $exp/logs/$1-${line%% *}.log"; false; }; } &
  done <"$exp/runs.list"
  while [ -n "$(jobs -rp)" ]; do wait -n || failed=1; done
  return $failed
}

metrics=si_sdr,sdr,estoi

output=$exp/2/test/dataset.json run_stage 1 "simulate" "$exp/speech.list" -- \
  simulate_all "$train_scenes" "$dev_scenes" "$test_scenes"
# trainings and evaluations know themselves what is finished
force=true run_stage 2 "train: $(wc -l <"$exp/runs.list") models" "$exp/2/test/dataset.json" -- each_run train_run
force=true run_stage 3 "evaluate" "$exp/2/test/dataset.json" -- each_run evaluate_run
output=$exp/evaluation/references-2/summary.json run_stage 3 "evaluate what is not learned" \
  "$exp/3/test/dataset.json" "$exp/2/test/dataset.json" -- evaluate_references "$references" "$metrics"
force=true run_stage 4 "tables, verdicts and figures" -- \
  python recipes/study/local/results.py --exp "$exp" --out "${results:-$exp/results}" \
  --command "$(given_command "$@")"
