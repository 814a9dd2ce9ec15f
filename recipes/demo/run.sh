#!/usr/bin/env bash
# From nothing to separated, located talkers: synthetic speech, simulated rooms, training, scores, a report.
set -euo pipefail
start_dir=$PWD
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
                   0 speech   1 simulate   2 train   3 evaluate   4 report
  --nj N           parallel jobs of simulation and scoring (all cores)
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
. recipes/utils/pipeline.sh
parse_options "$@"
. recipes/demo/path.sh
. recipes/demo/cmd.sh
speech=$exp/speech corpus=espeak

output=$speech/corpus.json run_stage 0 "speech: $speakers eSpeak NG voices" -- \
  start cpu_cmd python tools/synthesize_speech.py --out "$speech" --speakers "$speakers" \
  --utterances "$utterances" --sample-rate 8000 --seed "$seed"
run_pipeline "$speech/corpus.json"

if [ "$stop_stage" -ge 4 ]; then
  echo
  python recipes/utils/summarize.py "$exp"
fi
