"""The coherence benchmark runs, ends with its figures, and meets them in its quick form."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from msdet.io import audio

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "coherence.py"


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *options], capture_output=True, text=True, check=False)


def test_quick_run_prints_a_table_and_one_line_of_json() -> None:
    done = run("--quick")
    assert done.returncode == 0, done.stderr
    *table, last = done.stdout.splitlines()
    figures = json.loads(last)
    assert figures["mean_error"] == max(row["mean_error"] for row in figures["rows"]) < 0.05
    assert {(row["source"], row["field"]) for row in figures["rows"]} == {
        (source, field) for source in ("white", "babble") for field in ("spherical", "cylindrical")
    }
    assert [line.split()[:2] for line in table] == [
        ["field", "source"],
        *([row["field"], row["source"]] for row in figures["rows"]),
    ]


def test_recordings_are_measured_as_well(tmp_path: Path) -> None:
    for n in range(2):
        audio.write(tmp_path / f"{n}.wav", np.random.default_rng(n).uniform(-0.5, 0.5, 80_000), 8000)
    done = run("--noise", str(tmp_path), "--seconds", "2", "--array", "circular4_5cm")
    assert done.returncode == 0, done.stderr
    assert [row["source"] for row in json.loads(done.stdout.splitlines()[-1])["rows"]][-1] == "recordings"


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--second", "3"], "did you mean 'seconds'"), (["--seconds", "0"], "seconds is 0.0, expected")],
)
def test_bad_options_are_one_line(options: list[str], message: str) -> None:
    done = run(*options)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
