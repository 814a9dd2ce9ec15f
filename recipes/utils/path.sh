# Finds the commands: the virtual environment of this checkout, if there is one, comes first.
if [ -x "$PWD/.venv/bin/msdet" ]; then export PATH="$PWD/.venv/bin:$PATH"; fi
command -v msdet >/dev/null || {
  echo "error: msdet is not installed: run make demo, or pip install -e '.[demo]'" >&2
  exit 2
}
export PYTHONUNBUFFERED=1
