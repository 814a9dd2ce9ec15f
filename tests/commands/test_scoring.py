"""What `msdet score`, `evaluate` and `report` know of each other's systems; `msdet wer` of missing files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from msdet.cli import main
from msdet.data.scene_set import SceneSet
from msdet.inference.estimates import write_estimates
from msdet.io.files import read_json, write_json
from msdet.methods import build_method

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command: exit code, what it printed, and its error, which is one line."""

    def call(*arguments: object) -> tuple[int, str, str]:
        code = main([str(a) for a in arguments])
        captured = capsys.readouterr()
        lines = captured.err.splitlines()
        assert code != 2 or (len(lines) == 1 and lines[0].startswith("error: ")), captured.err
        return code, captured.out, captured.err

    return call


@pytest.fixture
def theirs(dev_set: SceneSet, tmp_path: Path) -> Path:
    """Somebody's folder of estimates, outside any evaluation."""
    folder = tmp_path / "somewhere" / "theirs"
    array, rate = dev_set.array, dev_set.sample_rate
    write_estimates(dev_set, {2: build_method("delay_and_sum", array, rate, 2)}, folder)
    return folder


def scored(dev_set: SceneSet, estimates: Path, out: Path, *more: object) -> list[object]:
    where = ["--data", dev_set.root, "--estimates", estimates, "--out", out]
    return ["score", *where, "--jobs", 1, "--metrics", "si_sdr", *more]


def test_a_report_finds_the_estimates_of_scored_folders_without_being_told(
    dev_set: SceneSet, theirs: Path, tmp_path: Path, run: Run
) -> None:
    out, page = tmp_path / "out", tmp_path / "report.html"
    assert run(*scored(dev_set, theirs, out, "--name", "mine"))[0] == 0
    assert read_json(out / "mine" / "system.json") == {
        "data": dev_set.identity, "estimates": "../../somewhere/theirs", "oracle": None,
    }  # fmt: skip
    assert read_json(out / "unprocessed" / "system.json")["estimates"] is None
    methods = ("--methods", theirs, "oracle_irm", "--metrics", "si_sdr", "--jobs", 1)
    assert run("evaluate", "--data", dev_set.root, "--out", out, *methods)[0] == 0
    code, text, _ = run("report", out, "--data", dev_set.root, "--out", page)
    assert code == 0
    assert {*text.partition(": ")[2].partition(";")[0].split(", ")[:2]} == {"mine", "theirs"}  # no oracle
    html = page.read_text(encoding="utf-8")
    assert str(tmp_path) not in html
    for name in ("mine", "theirs", "oracle_irm"):
        assert html.count(f'{name}, talker 1" src="data:audio') == 3
    theirs.rename(tmp_path / "gone")
    code, _, err = run("report", out, "--data", dev_set.root, "--out", page)
    assert code == 2 and "somewhere/theirs: no such folder; say where by --estimates mine=FOLDER" in err
    given = [f"{name}={tmp_path / 'gone'}" for name in ("mine", "theirs")]
    assert run("report", out, "--data", dev_set.root, "--out", page, "--estimates", *given)[0] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "gpu"], "device is 'gpu', expected cpu, cuda or cuda:N"),
        (["--device", "cuda"], "--device cuda is for models: methods compute on the CPU"),
    ],
)
def test_a_device_that_nothing_computes_on_is_refused(
    options: list[str], message: str, dev_set: SceneSet, tmp_path: Path, run: Run
) -> None:
    code, _, err = run("evaluate", "--data", dev_set.root, "--out", tmp_path / "out", *options)
    assert (code, err) == (2, f"error: {message}\n")
    assert not (tmp_path / "out").exists()


def test_scores_of_another_data_set_are_not_compared_with(
    dev_set: SceneSet, theirs: Path, tmp_path: Path, run: Run
) -> None:
    earlier = tmp_path / "earlier"
    assert run(*scored(dev_set, theirs, earlier, "--name", "first"))[0] == 0
    code, text, _ = run(*scored(dev_set, theirs, tmp_path / "a", "--compare", earlier))
    assert code == 0 and "first" in text
    other = SceneSet.open(shutil.copytree(dev_set.root, tmp_path / "other"))
    write_json(other.root / "dataset.json", read_json(other.root / "dataset.json") | {"hash": "fedcba"})
    other = SceneSet.open(other.root)
    (theirs / "data.json").unlink()
    compared = scored(other, theirs, tmp_path / "b", "--compare", earlier)
    code, _, err = run(*compared)
    expected = f"was scored on a data set with hash {dev_set.identity}, {other.root} has fedcba"
    assert code == 2 and expected in err
    assert not (tmp_path / "b").exists()
    for folder in ("first", "unprocessed"):  # scores of before this was written down: the summary says it
        (earlier / folder / "system.json").unlink()
    code, _, err = run(*compared)
    assert code == 2 and expected in err
    (earlier / "summary.json").unlink()
    assert run(*compared)[0] == 0  # nobody knows, and the scenes are the same


def test_word_errors_of_files_that_are_not_there(tmp_path: Path, run: Run) -> None:
    lists, heard = tmp_path / "lists", tmp_path / "heard"
    heard.write_text("u one\n", encoding="utf-8")
    for missing, message in (
        ("wer-lists", "lists: holds no text, expected the folder that msdet wer-lists wrote"),
        ("recognizer", "heard: no such file"),
    ):
        if missing == "recognizer":
            lists.mkdir()
            (lists / "text").write_text("u one\n", encoding="utf-8")
            heard.unlink()
        code, text, err = run("wer", "--lists", lists, "--hypotheses", heard)
        assert (code, text) == (2, "")
        assert message in err and "Errno" not in err
