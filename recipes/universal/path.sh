. recipes/utils/path.sh
