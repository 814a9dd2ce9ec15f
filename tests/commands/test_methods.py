"""`msdet evaluate --methods` and `msdet separate --method`: every baseline, options, oracles, folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from msdet.cli import main
from msdet.commands.evaluate import split_methods
from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError
from msdet.inference.estimates import write_estimates
from msdet.io import audio
from msdet.io.files import read_json, read_jsonl
from msdet.methods import build_method, methods_without_options
from msdet.methods.base import Separation

RATE = 8000
DOA_METHODS = ("cssm", "frida", "music", "norm_music", "srp_phat", "tops", "waves")
BEAMS = ("delay_and_sum", "lcmv", "mvdr", "superdirective")
OWN_SYSTEM = """
import numpy as np
from msdet.methods.base import Separation

def halved(array, sample_rate, talkers, gain: float):
    return lambda mixture: Separation(np.repeat(gain * mixture[array.reference][None], talkers, axis=0))
"""

Signals = npt.NDArray[Any]
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command; gives its exit code and what it printed, errors as one line."""

    def call(*arguments: object) -> tuple[int, str]:
        code = main([str(a) for a in arguments])
        captured = capsys.readouterr()
        if code == 2:
            lines = captured.err.splitlines()
            assert len(lines) == 1 and lines[0].startswith("error: "), captured.err
            return code, lines[0]
        return code, captured.out + captured.err

    return call


def test_every_baseline_in_one_table_and_oracles_gain(
    dev_set: SceneSet, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with options, and a system of one's own in the working directory."""
    (tmp_path / "own_system.py").write_text(OWN_SYSTEM)
    monkeypatch.chdir(tmp_path)
    extra = ("lcmv,doa=oracle", "auxiva,iterations=5", "own_system:halved,gain=0.5")
    code, printed = run("evaluate", dev_set.root, "--out", tmp_path, "--jobs", "1", "--methods", "all", *extra)
    assert code == 0, printed
    summary = json.loads((tmp_path / "summary.json").read_text())
    names = {*methods_without_options(), *extra}
    assert set(summary["systems"]) == names
    assert all(name in printed for name in names)
    for name in ("oracle_irm", "oracle_mvdr"):
        gain = summary["systems"][name]["si_sdr_improvement_db"]
        assert gain["low"] > 0.0, gain
    written = {name: read_json(tmp_path / name / "system.json") for name in names}
    assert {name for name in names if written[name]["oracle"]} == {
        "oracle_irm", "oracle_mvdr", "lcmv,doa=oracle",
    }  # fmt: skip
    assert all(of["data"] == dev_set.identity for of in written.values())
    for name in names:
        rows = read_jsonl(tmp_path / name / "scores.jsonl")
        assert [row["error"] for row in rows] == [None] * 3, name
        has_audio, has_doa = name not in DOA_METHODS, name in {*DOA_METHODS, *BEAMS, "mask_mvdr", "srp_beam"}
        assert all((row["si_sdr_db"] is not None) == has_audio for row in rows), name
        assert all((row["doa_error_deg"] is not None) == has_doa for row in rows), name
    halved = read_jsonl(tmp_path / extra[2] / "scores.jsonl")
    unprocessed = read_jsonl(tmp_path / "unprocessed" / "scores.jsonl")
    assert [row["si_sdr_db"] for row in halved] == [row["si_sdr_db"] for row in unprocessed]


def test_a_first_stage_that_does_not_give_what_is_needed_is_told(
    dev_set: SceneSet, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A baseline before any work, a system of one's own at the first scene."""
    (tmp_path / "voices_alone.py").write_text(OWN_SYSTEM.replace("gain: float", "gain: float = 1.0"))
    monkeypatch.syspath_prepend(str(tmp_path))
    arguments = ("evaluate", dev_set.root, "--out", tmp_path / "out", "--jobs", "1", "--methods")
    code, line = run(*arguments, "lcmv,doa=auxiva")
    assert code == 2 and "doa 'auxiva' finds no azimuths by itself; expected one of: oracle, cssm" in line
    assert not (tmp_path / "out").exists()
    code, line = run(*arguments, "lcmv,doa=voices_alone:halved")
    assert code == 2 and "doa 'voices_alone:halved' gives no azimuths" in line
    assert dev_set.scenes[0].id in line or "nothing separated" in line


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["all,srp_beam"], ["all", "srp_beam"]),
        (["all", "srp_beam", "all"], ["all", "srp_beam"]),
        (["srp_beam,srp_beam"], ["srp_beam"]),
        (["lcmv,doa=[10,100],mvdr,loading=0.2", "auxiva"], ["lcmv,doa=[10,100]", "mvdr,loading=0.2", "auxiva"]),
        (["my.module:system,label=a,b,srp_phat"], ["my.module:system,label=a,b", "srp_phat"]),
        (["exp/a,b", "all,srp_bea"], ["exp/a,b", "all", "srp_bea"]),
    ],
)
def test_methods_may_have_commas_between_and_count_once(given: list[str], expected: list[str]) -> None:
    assert split_methods(given) == expected


def test_methods_with_commas_are_scored_one_by_one(dev_set: SceneSet, tmp_path: Path, run: Run) -> None:
    arguments = ("evaluate", dev_set.root, "--out", tmp_path / "out", "--jobs", "1", "--methods")
    code, line = run(*arguments, "srp_beam,srp_bea")
    assert code == 2 and "unknown method 'srp_bea'; did you mean 'srp_beam'?" in line
    code, _ = run(*arguments, "srp_phat,srp_beam", "srp_phat")
    assert code == 0
    assert list(read_json(tmp_path / "out" / "summary.json")["systems"]) == [
        "unprocessed", "srp_phat", "srp_beam",
    ]  # fmt: skip


def test_a_scene_that_cannot_be_separated_does_not_stop_the_others(
    dev_set: SceneSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []

    def moody(mixture: Signals) -> Separation:
        calls.append(len(calls))
        if len(calls) == 2:
            raise MsdetError("not today")
        return Separation(mixture[:2], np.array([1.0, 2.0]))

    write_estimates(dev_set, {2: moody}, tmp_path / "estimates")
    rows = read_jsonl(tmp_path / "estimates" / "doa.jsonl")
    assert [row.get("azimuth_deg") for row in rows] == [[1.0, 2.0], None, [1.0, 2.0]]
    assert rows[1]["error"] == "not today" and "1 scenes could not be separated" in caplog.text
    assert not (tmp_path / "estimates" / dev_set.scenes[1].id).exists()


def test_a_folder_of_estimates_is_a_method(dev_set: SceneSet, tmp_path: Path, run: Run) -> None:
    mine = tmp_path / "mine" / "estimates"
    write_estimates(dev_set, {2: build_method("unprocessed", dev_set.array, RATE, 2)}, mine)
    arguments = ("evaluate", dev_set.root, "--out", tmp_path / "out", "--jobs", "1", "--methods")
    code, _ = run(*arguments, mine)
    assert code == 0
    assert not (tmp_path / "out" / "mine" / "estimates").exists()  # scored where it is
    assert len(read_jsonl(tmp_path / "out" / "mine" / "scores.jsonl")) == 3
    written = read_json(tmp_path / "out" / "mine" / "system.json")
    assert written == {"data": dev_set.identity, "estimates": "../../mine/estimates", "oracle": None}
    code, line = run(*arguments, mine, tmp_path / "mine")
    assert code == 2 and "would both be called 'mine'" in line
    code, line = run(*arguments, "srp_phat", tmp_path / "nobodys")
    assert code == 2 and "nobodys: no such folder of estimates" in line
    assert not (tmp_path / "out" / "srp_phat").exists()


@pytest.mark.parametrize("method", ["unprocessed", "norm_music", "auxiva,iterations=3", "lcmv,doa=[10,100]"])
def test_separate_writes_what_there_is(method: str, dev_set: SceneSet, tmp_path: Path, run: Run) -> None:
    recording, out = tmp_path / "recording.wav", tmp_path / "out"
    audio.write(recording, dev_set.mixture(dev_set.scenes[0]), RATE)
    arguments = ("separate", recording, "--out", out, "--array", dev_set.array.name, "--method")
    assert run(*arguments, "srp_beam")[0] == 0
    code, printed = run(*arguments, method)
    assert code == 0 and sum("talker" in line for line in printed.splitlines()) == 2
    talkers = json.loads((out / "doa.json").read_text())["talkers"]
    has_voices, has_azimuths = method != "norm_music", method.split(",")[0] in ("norm_music", "lcmv")
    assert len(talkers) == 2
    assert all(("file" in t) == has_voices and ("azimuth_deg" in t) == has_azimuths for t in talkers)
    assert len(list(out.glob("*.wav"))) == (2 if has_voices else 0)
    assert ("azimuth" in printed) == has_azimuths and ("talker1.wav" in printed) == has_voices


@pytest.mark.parametrize("method", ["oracle_irm", "oracle_mvdr", "lcmv,doa=oracle"])
def test_separate_refuses_oracles(method: str, dev_set: SceneSet, tmp_path: Path, run: Run) -> None:
    recording = tmp_path / "recording.wav"
    audio.write(recording, dev_set.mixture(dev_set.scenes[0]), RATE)
    code, line = run(
        "separate", recording, "--out", tmp_path / "out", "--array", dev_set.array.name, "--method", method
    )
    assert code == 2 and f"method '{method}' is an oracle" in line
    assert not (tmp_path / "out").exists()


def test_one_failing_method_leaves_the_others_their_tables(
    run: Run, dev_set: SceneSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(
        "def boom(array, sample_rate, talkers):\n    return lambda mixture: 1 / 0\n"
        "def table(array, sample_rate, talkers):\n    return lambda mixture: {}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    arguments = ("evaluate", dev_set.root, "--out", tmp_path / "out", "--jobs", "1", "--methods")
    code, _ = run(*arguments, "mine:boom", "srp_phat")
    assert code == 1
    assert "srp_phat" in json.dumps(read_json(tmp_path / "out" / "summary.json"))
    code, line = run(*arguments, "mine:boom")
    assert code == 2 and "method 'mine:boom' failed (ZeroDivisionError: division by zero)" in line
    code, line = run(*arguments, "mine:table")
    assert code == 2 and "method 'mine:table' gives dict, expected Separation" in line
