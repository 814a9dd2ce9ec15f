"""The scoring benchmark runs, ends with its figures, and both ways agree."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "scoring.py"


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *options], capture_output=True, text=True, check=False)


def test_quick_run_prints_a_table_and_one_line_of_json() -> None:
    done = run("--quick", "--scenes", "2")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    figures = json.loads(lines[-1])
    assert figures["max_si_sdr_difference_db"] < 0.01
    assert figures["max_sdr_difference_db"] < 0.01
    assert figures["max_stoi_difference"] < 1e-4
    assert figures["ratio"] == min(figures["ratio_with_mixture"], figures["ratio_without_mixture"]) > 0
    assert [row["way"] for row in figures["rows"]] == ["asteroid loop", "score_set"] * 2
    assert "way            mixture  scenes_per_s  ratio" in lines


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--scene", "3"], "did you mean 'scenes'"), (["--data", "x"], "give both --data and --estimates")],
)
def test_bad_options_are_one_line(options: list[str], message: str) -> None:
    done = run(*options)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
