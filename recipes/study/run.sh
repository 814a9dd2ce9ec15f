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
train_scenes=4000
dev_scenes=60
test_scenes=600
other_scenes=300  # of each test set elsewhere
steps=  # of the least budget; list_runs.py's if empty
runs=  # all if empty
references='[srp_beam,"superdirective,doa=norm_music",auxiva,ilrma,oracle_mvdr,oracle_irm]'
scores=  # folder of what is kept of the scores; $exp/scores if empty
results=  # folder of RESULTS.md and figures of stage 4; $exp/results if empty

help_message() {
  cat <<'HELP'
Usage: recipes/study/run.sh --speech DIR [options]

  --speech DIR     speaker/utterance.{wav,flac}, as for recipes/folder
  --stage N        first stage to run (1)
  --stop-stage N   last stage to run (4)
                   1 simulate   2 train   3 evaluate   4 tables, verdicts and figures
  --runs "A B"     only these groups (main, around), rows, such as azimuth_joint, or single trainings, such as
                   azimuth_joint-0 (all)
  --references LIST
                   methods of msdet evaluate that stand beside the rows ([srp_beam, ...])
  --corpus KIND    another kind of corpus, a file name in msdet/corpora (folder)
  --nj N           parallel jobs: of the simulation, and trainings at a time, one thread each (all cores)
  --exp DIR        where everything is written (exp/study)
  --steps N        training steps of the least budget (256)
  --train-scenes N --dev-scenes N --test-scenes N --other-scenes N
                   sizes of the sets; other: of each test set of other rooms, noise and microphones
  --scores DIR     where scores are kept of each training that is evaluated; it is not made again (EXP/scores)
  --results DIR    where tables and figures go in stage 4, of all scores that are kept (EXP/results)
  --force          simulate again, and evaluate again; trainings are only made again where their folder is gone

A row is a file conf/<group>/<row>.yaml. Rows of `main` are trained with seeds 0, 1 and 2 for 16 times the least budget,
those of `around` with 0 and 1 for 4 times as long; each is scored at 1, 2, 4 ... times this budget.
Everything resumes: trainings and evaluations that are finished are not repeated.
HELP
  training_help
}

. recipes/utils/stages.sh
. recipes/utils/pipeline.sh
text_options+=" runs references"
path_options="exp speech scores results"
parse_options "$@"
. recipes/utils/path.sh
. recipes/utils/cmd.sh
require_folder speech
list_speech "$speech" "$exp/speech.list"
set_training_options

# name, configuration, talkers, part of the training scenes, seed, budgets
chosen=$(python recipes/study/local/list_runs.py --runs "$runs" ${steps:+--steps "$steps"})
elsewhere="test_long_t60 test_noise test_misplaced"  # of main rows
scores=${scores:-$exp/scores}

train_set() {
  # $1: talkers, $2: part
  if [ "$2" = all ]; then echo "$1/train"; else echo "$1/train_$2"; fi
}

list_sets() {
  # sets that the chosen runs need
  local talkers
  while read -r _ config talkers part _; do
    echo "$talkers/test" "$talkers/dev" "$(train_set "$talkers" "$part")"
    if [[ $config = */main/* ]]; then echo "${elsewhere//test/$talkers\/test}"; fi
  done <<<"$chosen" | tr ' ' '\n' | sort -u
}

simulate_set() {
  # $1: TALKERS/NAME. Training scenes are short: more of them in the same time
  local name=${1#*/} kind=$corpus count options=(--scenes.talkers "${1%/*}" --scenes.duration_s 4)
  case $name in
    train*) options+=(--scenes.duration_s 2 --split train) count=$train_scenes ;;
    dev) options+=(--split dev) count=$dev_scenes ;;
    test) options+=(--split test) count=$test_scenes ;;
    *) options+=(--split test) count=$other_scenes ;;
  esac
  case $name in
    train_tenth) kind=part_of_corpus:tenth count=$(((count + 9) / 10)) ;;
    train_third) kind=part_of_corpus:third count=$(((count + 2) / 3)) ;;
    test_long_t60) options+=(--scenes.t60_s "[0.6, 0.9]") ;;
    test_noise) options+=(--scenes.diffuse spherical --scenes.diffuse_snr_db "[0, 5]") ;;
    test_misplaced) options+=(--scenes.position_error_m 0.005) ;;
  esac
  PYTHONPATH=recipes/study/local${PYTHONPATH:+:$PYTHONPATH} WHOLE_CORPUS=$corpus start_parts python tools/simulate.py --out "$exp/$1" \
    --speech "$speech" --corpus "$kind" "${options[@]}" --count "$count" --seed 0
}

simulate_all() {
  local set
  for set in "${@:5}"; do simulate_set "$set" || return; done
}

train_run() {
  # $1: name, $2: configuration, $3: talkers, $4: part, $5: seed, $6: budgets
  local began=$SECONDS code=0 trained=false
  if is_kept "$1"; then return 0; fi
  if [ -e "$exp/runs/$1/training.json" ]; then trained=true; fi
  OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} start train_cmd msdet train --config recipes/study/conf/base.yaml --config "$2" \
    --out "$exp/runs/$1" --data.train "$exp/$(train_set "$3" "$4")" --data.dev "$exp/$3/dev" --trainer.seed "$5" \
    --optimizer.steps "${6##*,}" --trainer.validate_every "${6%%,*}" --trainer.keep_steps "[$6]" \
    "${training_options[@]}" || code=$?
  if [ "$trained" = false ] && [ -d "$exp/runs/$1" ]; then used_seconds "$began" "$exp/logs/$1"; fi
  return "$code"
}

used_seconds() {
  # appends to $2.seconds what the commands of this shell took: of a CPU if it started them itself, else since $1
  if [ -n "$train_cmd" ]; then echo $((SECONDS - $1)) >>"$2.seconds"; return; fi
  times >"$2.times"
  awk -F '[ms ]+' 'NR == 2 { printf "%.0f\n", 60 * ($1 + $3) + $2 + $4 }' "$2.times" >>"$2.seconds"
  rm "$2.times"
}

is_kept() {
  # whether the scores of a training, or of references, are kept, without --force
  [ "$again" = false ] && [ -e "$scores/$1.jsonl.xz" ]
}

keep() {
  # $1: name of a training, or references-TALKERS
  python recipes/study/local/kept.py --exp "$exp" --out "$scores" --name "$1"
}

is_newer() {
  # whether the first file is there and none of the others is newer, without --force
  local file
  if [ "$again" = true ] || [ ! -e "$1" ]; then return 1; fi
  for file in "${@:2}"; do if [ "$file" -nt "$1" ]; then return 1; fi; done
}

evaluate_on() {
  # $1: name, $2: steps, $3: test set, $4: folder of scores
  local out=$exp/evaluation/$1/$4 model
  model=$exp/runs/$1/steps/$(printf %06d "$2")
  if is_newer "$out/summary.json" "$model/model.safetensors" "$exp/$3/dataset.json"; then return 0; fi
  OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} evaluate_into "$out" --data "$exp/$3" --model "$model" \
    --methods '[]' --metrics "$metrics" --jobs 1
}

evaluate_run() {
  # at every budget, and of a main row at the last one elsewhere; as for train_run
  local budget set
  if is_kept "$1"; then return 0; fi
  for budget in ${6//,/ }; do evaluate_on "$1" "$budget" "$3/test" "$(printf %06d "$budget")" || return; done
  if [[ $2 = */main/* ]]; then
    for set in $elsewhere; do evaluate_on "$1" "${6##*,}" "$3/$set" "$set" || return; done
  fi
  keep "$1"
}

evaluate_all() {
  # the rows, then what is not learned
  local talkers out
  each_run evaluate_run || return
  for talkers in $(cut -d ' ' -f 3 <<<"$chosen" | sort -u); do
    out=$exp/evaluation/references-$talkers
    if is_kept "references-$talkers"; then continue; fi
    evaluate_into "$out" --data "$exp/$talkers/test" --methods "$references" --metrics "$metrics" --jobs "$nj" || return
    keep "references-$talkers" || return
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

metrics=si_sdr

sets=$(list_sets)
first=$exp/${sets%%[[:space:]]*}/dataset.json
# shellcheck disable=SC2086
output=$first run_stage 1 "simulate" "$exp/speech.list" -- \
  simulate_all "$train_scenes" "$dev_scenes" "$test_scenes" "$other_scenes" $sets
# trainings and evaluations know themselves what is finished
again=${force:-false}
force=true run_stage 2 "train: $(wc -l <<<"$chosen") models" "$first" -- each_run train_run
force=true run_stage 3 "evaluate" "$first" -- evaluate_all
force=true run_stage 4 "tables, verdicts and figures" -- \
  python recipes/study/local/results.py --scores "$scores" --out "${results:-$exp/results}" --runs "$runs" \
  --command "$(given_command "$@")"
