"""The benchmark of training runs, and batches mixed on the device are the scenes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "training.py"


def test_quick_run_prints_a_table_and_one_line_of_json() -> None:
    options = ("--quick", "--seconds", "0.5", "--batch", "2", "--items_per_s", "20", "--workers", "1")
    done = subprocess.run([sys.executable, SCRIPT, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert [row["model"] for row in figures["rows"]] == ["default", "default, GRU"]
    for row in figures["rows"]:
        assert row["items_per_s"] > 0.1 and row["peak_mb"] > 100
    assert figures["default_items_per_s"] == figures["rows"][0]["items_per_s"]
    assert figures["default_items_per_s_ratio_before"] > 0.1
    assert 0 < figures["device_mixing_error"] <= 1e-5
    assert figures["worker_items_per_s_dry"] > 0 and 0 <= figures["waiting_share"] < 1


def test_what_cannot_be_run_is_said_in_a_line() -> None:
    for options, message in (
        (("--device", "tpu"), "device is 'tpu', expected cpu or cuda"),
        (("--quick", "--before", "/nowhere"), "/nowhere: holds no msdet, expected a checkout that does"),
    ):
        done = subprocess.run([sys.executable, SCRIPT, *options], capture_output=True, text=True, check=False)
        assert done.returncode == 2 and message in done.stderr.splitlines()[-1]
