#!/usr/bin/env bash
# Any folder of speech, speaker/utterance.{wav,flac}: simulated rooms, training, scores, a report, RESULTS.md.
set -euo pipefail
start_dir=$PWD
cd "$(dirname "$0")/../.."

stage=1
stop_stage=5
nj=$(nproc)
exp=exp/folder
speech=
corpus=folder
scenes=  # the rules of SMS-WSJ if empty
rooms=1000
dev_scenes=100
test_scenes=300
config=recipes/folder/conf/train.yaml
steps=  # of training; the configuration's if empty
seed=0
results=  # RESULTS.md to write in stage 5; $exp/RESULTS.md if empty

help_message() {
  cat <<'HELP'
Usage: recipes/folder/run.sh --speech DIR [options]

  --speech DIR     speaker/utterance.{wav,flac}; speakers.tsv with columns speaker and split, if there is
                   one, says who is in train, dev and test
  --stage N        first stage to run (1)
  --stop-stage N   last stage to run (5)
                   1 simulate   2 train   3 evaluate   4 report   5 RESULTS.md
  --corpus KIND    another kind of corpus, a file name in msdet/corpora (folder)
  --nj N           parallel jobs of simulation and scoring (all cores)
  --exp DIR        where everything is written (exp/folder)
  --scenes NAME    what scenes are drawn from, of two talkers at 8 kHz: a YAML file, or a name in
                   msdet/configs/scenes (the rules of SMS-WSJ)
  --config NAME    training settings: a YAML file, or a name in conf or msdet/configs, such as
                   msdet_stages for separation, DoA, both (train)
  --steps N        training steps, of all stages together (the configuration's)
  --rooms N --dev-scenes N --test-scenes N
                   sizes of RIR bank and sets
  --results FILE   table to write in stage 5 (EXP/RESULTS.md)
  --seed N         of everything (0)
  --force          run stages again that are already done
HELP
  training_help
  cat <<'HELP'

A stage that already finished with the same settings and inputs is skipped; a killed run goes on.
HELP
}

. recipes/utils/stages.sh
. recipes/utils/pipeline.sh
config_options+=" scenes"
parse_options "$@"
. recipes/folder/path.sh
. recipes/folder/cmd.sh
require_folder speech
list_speech "$speech" "$exp/speech.list"

scene_options=(${scenes:+--scenes "$scenes"})
run_pipeline "$exp/speech.list"
write_results "$(given_command "$@")" "Talkers and rooms of training, dev and test are disjoint."
