"""Each recipe's small run, from its first stage to its table."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]
SMALL = ["--rooms", "3", "--dev-scenes", "2", "--test-scenes", "3", "--steps", "2", "--nj", "2"]
KEYS = (
    "scenes",
    "si_sdr_improvement_db",
    "si_sdr_improvement_db_srp_beam",
    "paired_difference_low_db",
    "doa_accuracy_10deg",
    "doa_accuracy_10deg_srp_beam",
    "doa_mae_deg",
)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, run: Run) -> tuple[Path, str]:
    """The demo's small run: its folder and what it printed."""
    exp = tmp_path_factory.mktemp("demo")
    done = run("demo", "--exp", str(exp), "--speakers", "6", "--utterances", "2", *SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    return exp, done.stdout


def test_demo_ends_with_one_line_of_json_that_it_also_writes(demo: tuple[Path, str]) -> None:
    exp, printed = demo
    summary = json.loads(printed.splitlines()[-1])
    assert summary == json.loads((exp / "summary.json").read_text())
    assert set(summary) == {"minutes", *KEYS, *(f"{key}_all" for key in KEYS)}
    assert summary["scenes_all"] == 3
    assert (exp / "report.html").stat().st_size > 10_000


def test_demo_prints_the_table_with_every_system(demo: tuple[Path, str]) -> None:
    for system in ("unprocessed", "srp_beam", "model"):
        assert f"| {system}" in demo[1]


def test_a_finished_demo_does_nothing_when_run_again(demo: tuple[Path, str], run: Run) -> None:
    exp, _ = demo
    before = {p: p.stat().st_mtime_ns for p in exp.rglob("*") if p.is_file() and p.name != "summary.json"}
    again = run("demo", "--exp", str(exp), "--speakers", "6", "--utterances", "2", *SMALL)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("already done") == 5
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_folder_recipe_writes_results_from_a_folder_of_speech(
    demo: tuple[Path, str], run: Run, tmp_path: Path
) -> None:
    exp, _ = demo
    done = run("folder", "--speech", str(exp / "speech"), "--exp", str(tmp_path / "exp"), *SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    results = (tmp_path / "exp" / "RESULTS.md").read_text()
    assert "srp_beam" in results
    assert "Paired differences" in results


def test_multitask_recipe_compares_its_rows(demo: tuple[Path, str], run: Run, tmp_path: Path) -> None:
    exp, _ = demo
    sizes = ["--train-scenes", "10", "--dev-scenes", "2", "--test-scenes", "3", "--steps", "2", "--nj", "1"]
    done = run("multitask", "--speech", str(exp / "speech"), "--exp", str(tmp_path / "exp"), *sizes)
    assert done.returncode == 0, done.stdout + done.stderr
    results = (tmp_path / "exp" / "RESULTS.md").read_text()
    for row in ("unprocessed", "srp_beam", "tenth", "partial", "all", "transfer"):
        assert f"| {row} " in results
    assert "partial less tenth" in results and "transfer less all" in results


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        ("demo", ["--stages", "1"], "unknown option --stages"),
        ("demo", ["--stage"], "--stage needs a value"),
        ("folder", [], "--speech is missing"),
        ("multitask", [], "--speech is missing"),
        ("folder", ["--speech", "/nowhere"], "/nowhere: no such folder"),
    ],
)
def test_bad_options_are_one_line(
    recipe: str, options: list[str], message: str, run: Run, tmp_path: Path
) -> None:
    done = run(recipe, "--exp", str(tmp_path / "exp"), *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
