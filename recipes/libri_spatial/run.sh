#!/usr/bin/env bash
# LibriSpeech at 16 kHz in simulated rooms: mixed on the fly, trained, scored, a report, RESULTS.md.
set -euo pipefail
start_dir=$PWD
cd "$(dirname "$0")/../.."

stage=0
stop_stage=5
nj=$(nproc)
exp=exp/libri_spatial
speech=
corpus=librispeech
train_subsets=train-clean-100
dev_subsets=dev-clean
test_subsets=test-clean
talkers=2
array=  # the one of the scenes if empty
scenes=recipes/libri_spatial/conf/scenes/sms_wsj_16k.yaml
rooms=2000
dev_scenes=200
test_scenes=500
config=recipes/libri_spatial/conf/steered.yaml
steps=  # of training; the configuration's if empty
seed=0
results=  # RESULTS.md to write in stage 5; $exp/RESULTS.md if empty

help_message() {
  cat <<'HELP'
Usage: recipes/libri_spatial/run.sh --speech DIR [options]

  --speech DIR     LibriSpeech, the folder with train-clean-100 and so on, or an excerpt of it
  --corpus KIND    another kind of corpus, such as folder: speaker/utterance.{wav,flac} (librispeech)
  --train-subsets A,B --dev-subsets A,B --test-subsets A,B
                   of LibriSpeech (train-clean-100, dev-clean, test-clean); talkers must not be shared
  --stage N        first stage to run (0)
  --stop-stage N   last stage to run (5)
                   0 choose subsets   1 simulate   2 train   3 evaluate   4 report   5 RESULTS.md
  --nj N           parallel jobs of simulation and scoring (all cores)
  --exp DIR        where everything is written (exp/libri_spatial)
  --talkers N      in every mixture (2)
  --array NAME     a shipped array or a TOML file (that of the scenes: circular6_10cm)
  --scenes NAME    what scenes are drawn from: a YAML file, or a name in conf/scenes or msdet/configs/scenes
                   (sms_wsj_16k)
  --config NAME    training settings: a YAML file, or a name in conf, recipes/utils/conf or msdet/configs, such
                   as msdet, lbt, pit, spatialnet_small, or msdet_stages for separation, DoA, both (steered)
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
text_options+=" array train_subsets dev_subsets test_subsets"
config_options+=" scenes"
parse_options "$@"
. recipes/libri_spatial/path.sh
. recipes/libri_spatial/cmd.sh
require_folder speech

if [ "$corpus" = librispeech ]; then
  run_stage 0 "choose subsets" -- \
    python recipes/libri_spatial/local/choose_subsets.py --speech "$speech" --out "$exp/speech" \
    --train "$train_subsets" --dev "$dev_subsets" --test "$test_subsets"
  speech=$exp/speech
fi
if [ -d "$speech" ]; then list_speech "$speech" "$exp/speech.list"; fi

if [ -f "$start_dir/$array" ]; then array=$start_dir/$array; fi
scene_options=(--scenes "$scenes" --scenes.talkers "$talkers" ${array:+--scenes.array "$array"})
model_options=(--model.talkers "$talkers")
run_pipeline "$exp/speech.list"
write_results "$(given_command "$@")" "Talkers and rooms of training, dev and test are disjoint."
