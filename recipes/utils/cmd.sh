# How commands are started: train_cmd for training, evaluate_cmd for scoring a model, cpu_cmd for the rest, of which
# evaluate_cmd is a kind. Nothing starts them here; a prefix goes before them, and one of Kaldi's scripts gets a log first:
#   train_cmd="srun --gres=gpu:1 --cpus-per-task=8"
#   train_cmd="slurm.pl --gpu 1" cpu_cmd="queue.pl --mem 4G"
train_cmd=${train_cmd:-}
cpu_cmd=${cpu_cmd:-}
evaluate_cmd=${evaluate_cmd:-$cpu_cmd}

start() {
  # starts a command as $1 says: train_cmd, evaluate_cmd or cpu_cmd
  local starter=${!1} name log
  shift
  case ${starter%% *} in
    run.pl | queue.pl | slurm.pl | */run.pl | */queue.pl | */slurm.pl)
      name=${2##*/}  # of msdet COMMAND or python SCRIPT
      name=${name%.py}
      log=$exp/log/$name.log
      while [ -e "$log" ]; do log=${log%.log}+.log; done
      mkdir -p "$exp/log"
      $starter "$log" "$@"
      ;;
    *) $starter "$@" ;;
  esac
}
