"""The benchmark of memorization runs, and names the pairs that cannot be."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "memorization.py"


def test_quick_run_prints_a_table_and_one_line_of_json() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "--quick"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert (figures["pairs"], figures["left_out"]) == (3, 1)
    assert "left out: conv_tasnet with hierarchical: " in done.stdout
    assert figures["worst_separation_left"] < 0.9 and figures["worst_doa_left"] < 0.9
