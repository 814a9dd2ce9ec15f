# How commands are run. `run.pl`-style queues go here: for Slurm, for example,
#   train_cmd="srun --gres=gpu:1 --cpus-per-task=8"
train_cmd=${train_cmd:-}
cpu_cmd=${cpu_cmd:-}
