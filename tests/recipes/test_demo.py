"""The demo's small run, from speech to its table."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from msdet.io.files import read_jsonl

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]
SIZES = ["--speakers", "6", "--utterances", "2", "--rooms", "2", "--dev-scenes", "1", "--test-scenes", "2"]
CONFIG = """\
model: {encoder_options: {size: tiny}}
optimizer: {batch: 2}
data: {workers: 0}
"""
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
def options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Of the small run."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "tiny.yaml").write_text(CONFIG, encoding="utf-8")
    quick = ["--steps", "2", "--nj", "1", "--config", str(folder / "tiny.yaml")]
    return ["--exp", str(folder / "exp"), *SIZES, *quick]


@pytest.fixture(scope="module")
def demo(options: list[str], run: Run) -> tuple[Path, str]:
    """The small run: its folder and what it printed."""
    done = run("demo", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return Path(options[1]), done.stdout


def test_demo_ends_with_one_line_of_json_that_it_also_writes(demo: tuple[Path, str]) -> None:
    exp, printed = demo
    summary = json.loads(printed.splitlines()[-1])
    assert summary == json.loads((exp / "summary.json").read_text())
    assert set(summary) == {"minutes", *KEYS, *(f"{key}_all" for key in KEYS)}
    assert summary["scenes_all"] == 2
    assert (exp / "report.html").stat().st_size > 10_000


def test_demo_prints_the_table_with_every_system(demo: tuple[Path, str]) -> None:
    for system in ("unprocessed", "srp_beam", "model"):
        assert f"| {system}" in demo[1]


def test_a_finished_demo_does_nothing_when_run_again(demo: tuple[Path, str], options: list[str], run: Run) -> None:
    exp, _ = demo
    before = {p: p.stat().st_mtime_ns for p in exp.rglob("*") if p.is_file() and p.name != "summary.json"}
    again = run("demo", *options)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("already done") == 5
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_figures_that_too_few_scenes_do_not_tell_are_null(demo: tuple[Path, str], tmp_path: Path) -> None:
    exp = Path(shutil.copytree(demo[0], tmp_path / "exp"))
    for scores in exp.glob("evaluation/*/scores.jsonl"):
        rows = [row | {"azimuth_gap_deg": gap} for row, gap in zip(read_jsonl(scores), (5.0, 9.0), strict=True)]
        scores.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    script = ROOT / "recipes" / "utils" / "summarize.py"
    done = subprocess.run([sys.executable, script, exp], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["scenes"] == 0
    assert summary["si_sdr_improvement_db"] is summary["paired_difference_low_db"] is None
    assert summary["scenes_all"] == 2 and summary["doa_mae_deg_all"] is not None
