. recipes/utils/cmd.sh
