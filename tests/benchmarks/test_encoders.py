"""The encoders' benchmark runs, and counts SpatialNet's parameters as its paper does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "encoders.py"


def test_quick_run_prints_a_table_and_one_line_of_json() -> None:
    options = ("--quick", "--models", '["default", "ft_gru"]')
    done = subprocess.run([sys.executable, SCRIPT, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *table, last = done.stdout.splitlines()
    figures = json.loads(last)
    assert [row["model"] for row in figures["rows"]] == ["default", "ft_gru"]
    assert len([line for line in table if not line.startswith("encoders:")]) == 3
    for row in figures["rows"]:
        assert row["parameters"] > 1e5 and row["gmac_per_s"] > 0.1 and row["peak_mb"] > 1.0
        assert row["rtf"] > 0 and figures[f"train_utts_per_s_{row['model']}"] > 0
    assert figures["params_spatialnet_small"] == pytest.approx(1.2e6, rel=0.05)
    assert figures["params_spatialnet_large"] == pytest.approx(6.5e6, rel=0.05)
    assert "speedup_default_over_fasnet_tac" not in figures, "it was not asked to run FasNetTAC"
