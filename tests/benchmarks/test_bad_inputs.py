"""A few hundred bad inputs, in a box; `benchmarks/bad_inputs.py` runs thousands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from _box import is_possible, run_boxed  # noqa: E402

boxed = pytest.mark.skipif(not is_possible(), reason="no Landlock on this system")


@boxed
def test_a_box_lets_nothing_out(tmp_path: Path) -> None:
    case, canary = tmp_path / "case", tmp_path / "canary"
    case.mkdir()
    canary.write_text("kept")

    def attack() -> int:
        Path("own").write_text("fine")
        refused = 0
        for way in (
            lambda: canary.write_text("changed"),
            lambda: canary.unlink(),
            lambda: os.truncate(canary, 0),
            lambda: canary.rename("stolen"),
            lambda: (tmp_path / "new").mkdir(),
            lambda: os.link("own", tmp_path / "new"),
            lambda: subprocess.run(["touch", tmp_path / "new"], check=True, stderr=subprocess.DEVNULL),
        ):
            try:
                way()
            except (OSError, subprocess.CalledProcessError):
                refused += 1
        os.write(1, b"%d\n" % refused)
        bytearray(4 << 30)
        return 0

    outcome = run_boxed(attack, case)
    assert outcome.stdout == "7\n" and outcome.code == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["canary", "case", "case.stderr", "case.stdout"]
    assert canary.read_text() == "kept" and (case / "own").read_text() == "fine"


@boxed
def test_a_box_ends_what_does_not(tmp_path: Path) -> None:
    def forever() -> int:
        while True:
            pass

    assert run_boxed(forever, tmp_path, cpu_seconds=1).code is None


@boxed
@pytest.mark.slow
def test_no_command_fails_or_reaches_outside_on_bad_input() -> None:
    figures = _figures("bad_inputs.py", "--seed", "5", "--count", "78", "--works")
    assert figures["inputs"] == 78 and figures["commands"] >= 24
    assert figures["outside_changed"] == 0 and figures["faulty"] == 0


@boxed
@pytest.mark.slow
def test_what_killed_commands_write_is_that_of_an_uninterrupted_run() -> None:
    figures = _figures("kills.py", "--seed", "2", "--kills", "1")
    assert figures["kills"] == 7 and figures["differing"] == 0


def _figures(*script: str) -> dict[str, Any]:
    command = [sys.executable, BENCHMARKS / script[0], *script[1:]]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures
