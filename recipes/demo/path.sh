# Finds the commands: the virtual environment of this checkout, if there is one, comes first.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
if [ -x "$root/.venv/bin/msdet" ]; then export PATH="$root/.venv/bin:$PATH"; fi
command -v msdet >/dev/null || { echo "error: msdet is not installed: run make demo, or pip install -e '.[demo]'" >&2; exit 2; }
export PYTHONUNBUFFERED=1
