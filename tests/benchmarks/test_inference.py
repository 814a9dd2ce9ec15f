"""The inference benchmark runs and ends with its figures; and it counts swaps as what they are."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "inference.py"


def test_a_short_run_prints_a_table_and_one_line_of_json() -> None:
    options = ["--conversations", "1", "--seconds", "8", "--minutes", "0.1", "--stream_minutes", "0.1"]
    options += ["--onnx", "false"]  # its parts have tests of their own
    done = subprocess.run([sys.executable, SCRIPT, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["rtf_two_cores"] > 0
    assert 100 < figures["peak_mb_30min"] < 2000
    for name in ("", "_overlap_only", "_direction_only"):
        assert 0 <= figures[f"wrong_slot_share{name}"] <= 0.5
    assert figures["streaming_latency_ms"] == 32.0
    assert figures["streaming_rtf_one_core"] > 0
    assert abs(figures["streaming_growth_mb_per_hour"]) < 1e5
    assert [row["conversation"] for row in figures["rows"]] == [0]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("inference_benchmark", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("swapped", [0, 3, 10])
def test_speech_in_the_wrong_slot_is_counted(swapped: int, benchmark: ModuleType) -> None:
    """Of 20 seconds in which both speak or one does, some are swapped; slots may have any names."""
    rng = np.random.default_rng(0)
    references = rng.standard_normal((2, 20, 1000))
    references[1, :6] = references[0, 15:] = 0.0
    voices = references[::-1] + 0.3 * references
    voices[:, 5 : 5 + swapped] = voices[::-1, 5 : 5 + swapped]
    flat = (x.reshape(2, -1) for x in (voices, references))
    wrong = sum(references[t, w].any() for t in range(2) for w in range(5, 5 + swapped))
    spoken = sum(references[t, w].any() for t in range(2) for w in range(20))
    assert benchmark.wrong_windows(*flat, 1000) == pytest.approx(min(wrong, spoken - wrong) / spoken)
