#!/usr/bin/env bash
# SMS-WSJ, from its tree and its JSON: import, training, scores, a report, RESULTS.md.
set -euo pipefail
start_dir=$PWD
cd "$(dirname "$0")/../.."

stage=0
stop_stage=5
nj=$(nproc)
exp=exp/sms_wsj
sms_wsj=
json=  # $sms_wsj/sms_wsj.json if empty
train_set=train_si284
dev_set=cv_dev93
test_set=test_eval92
target=direct
config=recipes/sms_wsj/conf/steered.yaml
steps=  # of training; the configuration's if empty
seed=0
results=  # RESULTS.md to write in stage 5; $exp/RESULTS.md if empty

help_message() {
  cat <<'HELP'
Usage: recipes/sms_wsj/run.sh --sms-wsj DIR [options]

  --sms-wsj DIR    the database with all its signals written to files: early, observation, rirs, ...
  --json FILE      its description (DIR/sms_wsj.json); files that it names elsewhere are looked for in DIR
  --stage N        first stage to run (0)
  --stop-stage N   last stage to run (5)
                   0 check the tree   1 import   2 train   3 evaluate   4 report   5 RESULTS.md
  --nj N           parallel jobs of import and scoring (all cores)
  --exp DIR        where everything is written (exp/sms_wsj)
  --config NAME    training settings: a YAML file, or a name in conf or msdet/configs: steered, msdet, lbt,
                   msdet_stages, spatialnet_small, spatialnet_large (steered)
  --steps N        training steps, of all stages together (the configuration's)
  --train-set NAME --dev-set NAME --test-set NAME
                   of the database (train_si284, cv_dev93, test_eval92)
  --target KIND    what is to be estimated: direct, early or image (direct)
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
path_options+=" sms_wsj json"
text_options+=" train_set dev_set test_set target"
parse_options "$@"
. recipes/sms_wsj/path.sh
. recipes/sms_wsj/cmd.sh
require_folder sms_wsj
json=${json:-$sms_wsj/sms_wsj.json}

import_all() {
  local split name
  for split in train dev test; do
    name=${split}_set
    start cpu_cmd msdet import-set --source "$json" --out "$exp/$split" --dataset "${!name}" --target "$target" \
      --audio_root "$sms_wsj" --jobs "$nj" || return
  done
}

if [ ! -f "$json" ]; then echo "error: $json: no such file; --json names another" >&2; exit 2; fi
run_stage 0 "check the tree" "$json" -- \
  python recipes/sms_wsj/local/check_tree.py --json "$json" --root "$sms_wsj" --target "$target" \
  --sets "$train_set,$dev_set,$test_set"
output=$exp/test/dataset.json run_stage 1 "import $train_set, $dev_set and $test_set" "$json" -- \
  import_all "$target" "$train_set" "$dev_set" "$test_set"
data_options=(--data.train "$exp/train")
train_to_report "$exp/train/dataset.json"
write_results "$(given_command "$@")" "Talkers and rooms of $train_set, $dev_set and $test_set are disjoint."
