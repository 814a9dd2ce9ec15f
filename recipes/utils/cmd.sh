# How commands are started: train_cmd for training, evaluate_cmd for scoring a model, cpu_cmd for the rest, of which
# evaluate_cmd is a kind. Nothing starts them here; a prefix goes before them, and one of Kaldi's scripts gets a log first,
# and a range of jobs where a set or a bank can be made in parts:
#   train_cmd="srun --gres=gpu:1 --cpus-per-task=8"
#   train_cmd="slurm.pl --gpu 1" cpu_cmd="queue.pl --mem 4G"
train_cmd=${train_cmd:-}
cpu_cmd=${cpu_cmd:-}
evaluate_cmd=${evaluate_cmd:-$cpu_cmd}

by_kaldi() {
  # whether a starter is one of Kaldi's scripts
  case ${1%% *} in run.pl | queue.pl | slurm.pl | */run.pl | */queue.pl | */slurm.pl) return 0 ;; esac
  return 1
}

new_log() {
  # sets `log` to a file of its own for msdet COMMAND or python SCRIPT, $1; $2 comes before its ending
  local name=${1##*/}
  name=${name%.py}
  while log=$exp/log/$name${2:-}.log; [ -e "${log/JOB/1}" ]; do name+=+; done
  mkdir -p "$exp/log"
}

start() {
  # starts a command as $1 says: train_cmd, evaluate_cmd or cpu_cmd
  local starter=${!1} log
  shift
  if by_kaldi "$starter"; then
    new_log "$2"
    $starter "$log" "$@"
  else
    $starter "$@"
  fi
}

start_parts() {
  # starts, as cpu_cmd says, a command that takes --jobs and --shard: by Kaldi's scripts as $nj jobs of an array, then
  # once more, which finishes what they made
  local log
  if by_kaldi "$cpu_cmd"; then
    new_log "$2" .JOB
    $cpu_cmd JOB=1:"$nj" "$log" "$@" --jobs 1 --shard "JOB/$nj" || return
  fi
  start cpu_cmd "$@" --jobs "$nj"
}
