"""The study's small run, and how it answers."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from msdet.errors import MsdetError
from msdet.io.files import read_jsonl
from msdet.scoring.comparison import Difference

Run = Callable[..., CompletedProcess[str]]
LOCAL = Path(__file__).resolve().parents[2] / "recipes" / "study" / "local"
SIZES = ["--train-scenes", "4", "--dev-scenes", "1", "--test-scenes", "2", "--steps", "2", "--nj", "1"]
SIZES += ["--runs", "azimuth_joint-0 azimuth_separation-0", "--references", "[srp_beam]"]


@pytest.fixture(scope="module")
def exp(tmp_path_factory: pytest.TempPathFactory, run: Run, talkers: Path) -> Path:
    """Two trainings of two steps, scored."""
    folder = tmp_path_factory.mktemp("study")
    done = run("study", "--speech", str(talkers), "--exp", str(folder), *SIZES)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def results() -> Iterator[ModuleType]:
    """The recipe's script."""
    sys.path.insert(0, str(LOCAL))
    try:
        spec = importlib.util.spec_from_file_location("study_results", LOCAL / "results.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["study_results"] = module
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(LOCAL))


def read_settings(results: ModuleType) -> Callable[[Path], dict[str, Any]]:
    """What reads a row's file."""
    reads: Callable[[Path], dict[str, Any]] = results.all_runs.__globals__["_settings"]
    return reads


def test_every_row_has_its_scores_and_its_training(exp: Path) -> None:
    page = (exp / "results" / "RESULTS.md").read_text()
    for row in ("unprocessed", "srp_beam", "azimuth_joint", "azimuth_separation"):
        assert f"| {row} " in page
    for training in ("azimuth_joint-0", "azimuth_separation-0"):
        assert f"| `{training}` " in page
    assert (exp / "results" / "claims.png").stat().st_size > 5000
    assert (exp / "results" / "curves.png").stat().st_size > 5000


def test_differences_are_those_of_the_rows(exp: Path) -> None:
    def mean(run: str) -> float:
        rows = read_jsonl(exp / "evaluation" / run / "model" / "scores.jsonl")
        return float(np.mean([np.mean(row["si_sdr_improvement_db"]) for row in rows]))

    page = (exp / "results" / "RESULTS.md").read_text()
    difference = mean("azimuth_joint-0") - mean("azimuth_separation-0")
    line = next(x for x in page.splitlines() if "less `azimuth_separation`" in x and "SI-SDR" in x)
    assert float(line.split("|")[4].split("[")[0]) == pytest.approx(difference, abs=0.006)


def test_a_head_that_was_not_taught_has_no_scores(exp: Path) -> None:
    table = (exp / "results" / "RESULTS.md").read_text().partition("Scores, 3 talkers")[2]
    line = next(x for x in table.splitlines() if x.startswith("| azimuth_separation "))
    assert [cell.strip() for cell in line.strip("|").split("|")[5:]] == ["-"] * 3


def test_what_is_finished_is_not_repeated(exp: Path, run: Run, talkers: Path) -> None:
    done = [*exp.glob("runs/*/model.safetensors"), *exp.glob("logs/*.seconds")]
    done += exp.glob("evaluation/*/summary.json")
    before = [path.stat().st_mtime_ns for path in done]
    again = run("study", "--speech", str(talkers), "--exp", str(exp), *SIZES, "--stop-stage", "3")
    assert again.returncode == 0, again.stdout + again.stderr
    assert len(done) == 2 + 2 + 4
    assert before == [path.stat().st_mtime_ns for path in done]


def test_other_test_scenes_are_evaluated(exp: Path, run: Run, talkers: Path) -> None:
    done = [*exp.glob("evaluation/*-0/summary.json"), exp / "evaluation" / "references-3" / "summary.json"]
    before = [path.stat().st_mtime_ns for path in done]
    (exp / "3" / "test" / "dataset.json").touch()
    again = run("study", "--speech", str(talkers), "--exp", str(exp), *SIZES, "--stage", "3", "--stop-stage", "3")
    assert again.returncode == 0, again.stdout + again.stderr
    assert len(done) == 3
    assert all(path.stat().st_mtime_ns > then for path, then in zip(done, before, strict=True))


@pytest.mark.parametrize("text", ["", "# Only words.", "model: {talkers: 2}"])
def test_a_row_changes_what_it_names(results: ModuleType, tmp_path: Path, text: str) -> None:
    (tmp_path / "row.yaml").write_text(text)
    base = read_settings(results)(results.all_runs.__globals__["BASE"])
    own = read_settings(results)(tmp_path / "row.yaml")
    assert own["model"]["talkers"] == (2 if "talkers" in text else 3)
    assert own["objective"] == base["objective"]


@pytest.mark.parametrize("text", ["- a\n- b\n", "model: [1]\n", "model: {a: [}\n"])
def test_a_row_that_is_no_settings_is_one_line(results: ModuleType, tmp_path: Path, text: str) -> None:
    (tmp_path / "row.yaml").write_text(text)
    with pytest.raises(MsdetError, match=r"row.yaml: expected sections of settings, as in .*base.yaml$"):
        read_settings(results)(tmp_path / "row.yaml")


def test_a_bad_option_of_training_ends_with_its_code(exp: Path, run: Run, talkers: Path) -> None:
    done = run("study", "--speech", str(talkers), "--exp", str(exp), *SIZES, "--precision", "foo")
    assert done.returncode == 2
    assert "azimuth_joint-0: failed (exit code 2), see" in done.stdout


def test_a_row_alone_has_a_page_without_claims(
    exp: Path, results: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(LOCAL.parents[2])
    (tmp_path / "claims.png").write_bytes(b"of an earlier run")
    page = results.results(exp, tmp_path, "command", ["azimuth_joint"])
    assert "| azimuth_joint " in page and "azimuth_separation" not in page
    assert "claims.png" not in page and not (tmp_path / "claims.png").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("cut", r"scores.jsonl, line 1: not JSON"),
        ("gone", r"holds no scores of the study's rows"),
        ("another seed has other scenes", r"are not scored on the same scenes: 1 are in one alone"),
    ],
)
def test_scores_that_do_not_serve_are_one_line(
    exp: Path, results: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str, message: str
) -> None:
    monkeypatch.chdir(LOCAL.parents[2])
    for name in ("azimuth_joint-0", "azimuth_joint-1"):
        shutil.copytree(exp / "evaluation" / "azimuth_joint-0", tmp_path / "evaluation" / name)
    for name in ("3", "runs", "logs"):
        (tmp_path / name).symlink_to(exp / name)
    scores = tmp_path / "evaluation" / "azimuth_joint-1" / "model" / "scores.jsonl"
    rows = scores.read_text()
    if damage == "cut":
        scores.write_text(rows[: len(rows) // 3])
    elif damage == "gone":
        shutil.rmtree(tmp_path / "evaluation")
    else:
        scores.write_text(rows.splitlines()[0] + "\n")
    with pytest.raises(MsdetError, match=message):
        results.results(tmp_path, tmp_path, "command", [])


def test_rows_are_what_their_configurations_say(results: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(LOCAL.parents[2])
    runs = {run.row: run for run in results.all_runs()}
    assert {run.row for run in runs.values() if run.talkers == 2} == {r for r in runs if r.startswith("two_")}
    assert runs["azimuth_doa"].tasks == ("directions",)
    assert runs["pit_separation"].tasks == ("separation",)
    assert runs["steered_separation"].tasks == runs["azimuth_joint"].tasks == ("separation", "directions")


def test_an_unknown_row_is_one_line(run: Run, talkers: Path, tmp_path: Path) -> None:
    options = ["--speech", str(talkers), "--exp", str(tmp_path), "--runs", "azimuth_joined"]
    done = run("study", *options)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: unknown row of the study 'azimuth_joined'; did you mean 'azimuth_joint'?"
    ]


@pytest.mark.parametrize(
    ("low", "high", "seeds", "verdict"),
    [
        (0.1, 0.3, [0.2, 0.3, 0.1], "better"),
        (-0.3, -0.1, [-0.2, -0.3, -0.1], "worse"),
        (-0.1, 0.3, [0.2, 0.3, 0.1], "not shown"),
        (0.1, 0.3, [0.5, 0.3, -0.2], "not shown"),
        (-0.3, -0.1, [0.0, -0.3, -0.1], "not shown"),
        (-0.3, -0.1, [-1e-17, -0.3, -0.1], "not shown"),
        (0.1, 0.3, [0.2, 0.3], ""),
    ],
)
def test_a_verdict_needs_the_interval_and_every_seed(
    results: ModuleType, low: float, high: float, seeds: list[float], verdict: str
) -> None:
    difference = Difference(1.0, 0.8, (low + high) / 2, low, high, 0.01, 300)
    claim = results.MAIN[0]
    assert results.Answer(claim, "si_sdr_improvement_db", difference, seeds).verdict == verdict


def test_seeds_are_pooled_within_a_scene(results: ModuleType) -> None:
    runs = [
        [{"id": "a", "azimuth_deg": [10.0, 90.0], "si_sdr_db": [1.0, 2.0], "t60_s": 0.3}],
        [{"id": "a", "azimuth_deg": [10.0, 90.0], "si_sdr_db": [3.0, 4.0], "t60_s": 0.3}],
    ]
    expected = {"id": "a", "azimuth_deg": [10.0, 90.0], "si_sdr_db": [1.0, 2.0, 3.0, 4.0], "t60_s": 0.3}
    assert results.pooled(runs) == [expected]
