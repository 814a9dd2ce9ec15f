#!/usr/bin/env bash
# WSJ0 mixtures of two or three talkers in simulated rooms: training, scores, a report, RESULTS.md.
set -euo pipefail
start_dir=$PWD
cd "$(dirname "$0")/../.."

stage=0
stop_stage=5
nj=$(nproc)
exp=exp/spatial_wsj0_mix
wsj0=
lists=
tree=
talkers=2
array=circular8_10cm
scenes=  # spatial_wsj0_2mix or spatial_wsj0_3mix if empty
conditions=reverb
target=direct
rooms=4000
dev_scenes=300
test_scenes=1000
config=  # steered if empty, separation for a tree
steps=  # of training; the configuration's if empty
seed=0
results=  # RESULTS.md to write in stage 5; $exp/RESULTS.md if empty

help_message() {
  cat <<'HELP'
Usage: recipes/spatial_wsj0_mix/run.sh --wsj0 DIR [--lists DIR] [options]
       recipes/spatial_wsj0_mix/run.sh --tree DIR [options]

  --wsj0 DIR       WSJ0 (LDC93S6A), shorten undone, or converted to WAV or FLAC: si_tr_s, si_dt_05, si_et_05
  --lists DIR      mix_2_spk_tr.txt, mix_2_spk_cv.txt and mix_2_spk_tt.txt of wsj0-2mix, or those of 3 talkers;
                   without them, mixtures are drawn, for training on the fly
  --tree DIR       the spatialized corpus itself: 2speakers_reverb, 2speakers_anechoic; separation only, as its
                   directions are not known
  --talkers N      2 or 3 (2)
  --stage N        first stage to run (0)
  --stop-stage N   last stage to run (5)
                   0 check the data   1 simulate, or import   2 train   3 evaluate   4 report   5 RESULTS.md
  --nj N           parallel jobs of simulation and scoring (all cores)
  --exp DIR        where everything is written (exp/spatial_wsj0_mix)
  --array NAME     a shipped array or a TOML file; not of a tree (circular8_10cm)
  --scenes NAME    what scenes are drawn from: a YAML file or a name in msdet/configs/scenes; not of a tree
                   (spatial_wsj0_2mix or spatial_wsj0_3mix)
  --conditions C   of a tree: reverb or anechoic (reverb)
  --target KIND    what is to be estimated: direct or image (direct)
  --config NAME    training settings: a YAML file, or a name in conf or msdet/configs
                   (steered; separation for a tree)
  --steps N        training steps, of all stages together (the configuration's)
  --rooms N --dev-scenes N --test-scenes N
                   sizes of RIR bank and sets, where mixtures are drawn
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
path_options+=" wsj0 lists tree"
text_options+=" array conditions target"
config_options+=" scenes"
parse_options "$@"
. recipes/spatial_wsj0_mix/path.sh
. recipes/spatial_wsj0_mix/cmd.sh
fail() { echo "error: $*" >&2; exit 2; }
case $talkers in 2 | 3) ;; *) fail "--talkers is $talkers, expected 2 or 3" ;; esac
if [ -n "$tree" ]; then
  [ -z "$wsj0$lists" ] || fail "--tree is a corpus of its own: leave out --wsj0 and --lists"
  require_folder tree
  config=${config:-recipes/spatial_wsj0_mix/conf/separation.yaml}
else
  require_folder wsj0
  if [ -n "$lists" ]; then require_folder lists; fi
  config=${config:-recipes/spatial_wsj0_mix/conf/steered.yaml}
fi
if [ -f "$start_dir/$array" ]; then array=$start_dir/$array; fi
scenes=${scenes:-msdet/configs/scenes/spatial_wsj0_${talkers}mix.yaml}
scene_options=(--scenes "$scenes" --scenes.talkers "$talkers" --scenes.array "$array" --scenes.target "$target")
model_options=(--model.talkers "$talkers")
shared="Talkers of dev are among those of training, as in wsj0-mix; those of test are not."
here=recipes/spatial_wsj0_mix/local

import_all() {
  local split
  for split in train dev test; do
    start cpu_cmd msdet import-set --source "$exp/tables/$split" --out "$exp/$split" --array "$exp/tables/array.toml" \
      --target "$target" --jobs "$nj" || return
  done
}

run_tree() {
  local tables=("$exp"/tables/{train,dev,test}/wav.scp)
  output=${tables[2]} run_stage 0 "check the tree" -- python "$here/list_tree.py" --tree "$tree" --out "$exp/tables" \
    --talkers "$talkers" --rooms "$conditions" --target "$target"
  output=$exp/test/dataset.json run_stage 1 "import" "${tables[@]}" -- import_all "$target"
  data_options=(--data.train "$exp/train")
  evaluation_options=(--methods '[]')
  train_to_report "$exp/train/dataset.json"
}

run_lists() {
  local files=("$lists"/mix_"$talkers"_spk_{tr,cv,tt}.txt)
  local mixing=("$here/mix_lists.py" --lists "$lists" --wsj0 "$wsj0" "${scene_options[@]}")
  run_stage 0 "check lists and corpus" "${files[@]}" -- python "${mixing[@]}"
  find_drawn_from
  output=$exp/test/dataset.json run_stage 1 "simulate the mixtures of the lists" "${files[@]}" "${drawn_from[@]}" -- \
    start cpu_cmd python "${mixing[@]}" --out "$exp" --seed "$seed" --jobs "$nj"
  data_options=(--data.train "$exp/train")
  train_to_report "$exp/train/dataset.json"
}

run_drawn() {
  list_speech "$wsj0" "$exp/speech.list"
  speech=$wsj0 corpus=wsj0
  run_stage 0 "check the corpus" "$exp/speech.list" -- \
    python recipes/utils/check_corpus.py --speech "$speech" --corpus "$corpus"
  run_pipeline "$exp/speech.list"
  shared="Talkers and rooms of training (si_tr_s), dev (si_dt_05) and test (si_et_05) are disjoint."
}

if [ -n "$tree" ]; then run_tree; elif [ -n "$lists" ]; then run_lists; else run_drawn; fi
write_results "$(given_command "$@")" "$shared"
