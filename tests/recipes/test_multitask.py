"""The multitask recipe's small run."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_multitask_recipe_compares_its_rows(
    run: Run, talkers: Path, tiny: Callable[..., str], small_rooms: Callable[..., str], quick: list[str], tmp_path: Path
) -> None:
    sizes = ["--train-scenes", "10", "--dev-scenes", "1", "--test-scenes", "2"]
    files = ["--speech", str(talkers), "--config", tiny(), "--scenes", small_rooms()]
    done = run("multitask", "--exp", str(tmp_path / "exp"), *files, *sizes, *quick)
    assert done.returncode == 0, done.stdout + done.stderr
    results = (tmp_path / "exp" / "RESULTS.md").read_text()
    for row in ("unprocessed", "srp_beam", "tenth", "partial", "all", "transfer"):
        assert f"| {row} " in results
    assert "partial less tenth" in results and "transfer less all" in results


def test_a_step_alone_does_not_make_two_stages(run: Run, talkers: Path, tmp_path: Path) -> None:
    done = run("multitask", "--speech", str(talkers), "--exp", str(tmp_path), "--steps", "1")
    assert done.returncode == 2
    assert done.stderr == "error: --steps is 1, expected at least 2: one training has two stages\n"
