"""The benchmark of the check of arrays runs and ends with its figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "array_check.py"


def test_a_short_run_prints_a_table_and_one_line_of_json() -> None:
    options = ["--scenes", "2", "--seconds", "6"]
    done = subprocess.run([sys.executable, SCRIPT, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    for name in ("swapped", "inverted", "delayed", "dead"):
        assert 0.5 <= figures[f"detection_{name}"] <= 1.0
    assert figures["false_alarms"] == 0.0
    assert figures["scenes"] == figures["rows"][0]["scenes"] == 2
