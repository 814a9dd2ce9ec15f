"""The benchmark of assignment runs; what permutations ask for is not kept for the backward pass."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "assignment.py"


def test_quick_run_prints_a_table_and_one_line_of_json() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "--quick"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert {"azimuth_8_over_2", "pit_8_over_2", "azimuth_share_of_step"} <= figures.keys()
    kept = {(row["rule"], row["talkers"]): row["kept_mb"] for row in figures["rows"]}
    assert kept["azimuth", 8] == pytest.approx(4 * kept["azimuth", 2], rel=0.05)
    assert kept["pit", 8] == pytest.approx(kept["azimuth", 8], rel=0.05), "N² losses choose, N are kept"
