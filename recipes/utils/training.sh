# How models are trained, on CPUs and GPUs; source this after stages.sh.
devices= nodes= precision= compile= workers= batch=
text_options+=" devices precision compile"

training_help() {
  cat <<'HELP'

Of training, on GPUs where there are any:
  --devices N      devices a machine, or auto (auto)
  --nodes N        machines; train_cmd in recipes/utils/cmd.sh starts the command on each (1)
  --precision P    32-true or bf16-mixed (32-true)
  --compile NAME   backend of torch.compile, as a rule inductor (none)
  --workers N      processes that prepare batches (the configuration's)
  --batch N        mixtures a batch on each device (the configuration's)
HELP
}

set_training_options() {
  # sets the array `training_options` to those of `msdet train` that follow from the recipe's options
  training_options=(
    ${devices:+--trainer.devices "$devices"} ${nodes:+--trainer.nodes "$nodes"}
    ${precision:+--trainer.precision "$precision"} ${compile:+--trainer.compile "$compile"}
    ${workers:+--data.workers "$workers"} ${batch:+--data.batch_seconds null --optimizer.batch "$batch"}
  )
}

set_step_options() {
  # sets the array `step_options`: $steps in all, in the proportions of the configuration's stages if it has any
  step_options=(${steps:+--optimizer.steps "$steps"})
  if [ -n "$steps" ] && grep -q '^stages:' "$config"; then
    step_options=(--stages "$(python recipes/utils/scale_stages.py --config "$config" --steps "$steps")") || exit
  fi
}
