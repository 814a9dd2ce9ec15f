"""`msdet separate` on files, good and bad; `msdet evaluate` and `msdet score` on a small set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from msdet.arrays import load_array
from msdet.cli import main
from msdet.data.scene_set import SceneSet
from msdet.inference.estimates import write_estimates
from msdet.io import audio
from msdet.io.files import read_jsonl
from msdet.methods import build_method
from msdet.methods.trained import model_separator
from msdet.models.checkpoint import save_model
from msdet.models.config import ModelConfig
from msdet.models.joint import JointModel
from msdet.scoring.separation_metrics import si_sdr

ARRAY = "circular4_5cm"
RATE = 8000


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained default model, which is the classical chain."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    save_model(folder, JointModel(ModelConfig(window_s=0.032), load_array(ARRAY), RATE), {"step": 0})
    return folder


@pytest.fixture
def recording(dev_set: SceneSet, tmp_path: Path) -> Path:
    """A mixture of the small set as a file of its own."""
    path = tmp_path / "recording.wav"
    audio.write(path, dev_set.mixture(dev_set.scenes[0]), RATE)
    return path


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of a command that fails."""
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.strip().splitlines()) == 1
    return printed.err


def test_a_model_writes_a_voice_a_talker_and_directions(
    model_folder: Path, recording: Path, dev_set: SceneSet, tmp_path: Path
) -> None:
    out = tmp_path / "voices"
    options = ["--model", str(model_folder), "--highpass_hz", "0"]
    assert main(["separate", str(recording), *options, "--out", str(out)]) == 0
    described = json.loads((out / "doa.json").read_text())
    assert [t["file"] for t in described["talkers"]] == ["talker1.wav", "talker2.wav"]
    assert described["array"]["name"] == ARRAY
    voices = np.concatenate([audio.read(out / t["file"])[0] for t in described["talkers"]])
    assert voices.shape == (2, dev_set.scenes[0].samples)
    expected = model_separator(JointModel(ModelConfig(window_s=0.032), load_array(ARRAY), RATE))(
        audio.read(recording)[0]
    )
    assert np.abs(voices - expected.estimates).max() < 1e-3
    assert [t["azimuth_deg"] for t in described["talkers"]] == pytest.approx(expected.azimuth_deg, abs=0.01)


def test_the_untrained_model_and_srp_beam_give_the_same(model_folder: Path, dev_set: SceneSet) -> None:
    """At step 0 the default model equals the classical baseline, scene by scene."""
    from msdet.models.checkpoint import load_model

    model = model_separator(load_model(model_folder))
    baseline = build_method("srp_beam", dev_set.array, RATE, 2)
    for scene in dev_set.scenes:
        a, b = model(dev_set.mixture(scene)), baseline(dev_set.mixture(scene))
        np.testing.assert_allclose(a.azimuth_deg, b.azimuth_deg, atol=0.01)
        similarity = si_sdr(b.estimates, a.estimates)
        assert similarity.min() > 50


def test_a_recording_at_a_higher_rate_is_resampled(model_folder: Path, dev_set: SceneSet, tmp_path: Path) -> None:
    mixture = dev_set.mixture(dev_set.scenes[0])
    audio.write(tmp_path / "fast.wav", audio.resample(mixture, RATE, 16000) * 0.5, 16000)
    arguments = ["--model", str(model_folder), "--out", str(tmp_path / "out")]
    assert main(["separate", str(tmp_path / "fast.wav"), *arguments]) == 0
    assert audio.info(tmp_path / "out" / "talker1.wav").sample_rate == RATE


def spoiled(kind: str, mixture: npt.NDArray[np.float32], path: Path) -> None:
    """Write a file that cannot be separated."""
    if kind == "text":
        path.write_text("not audio")
    elif kind == "nan":
        import soundfile

        soundfile.write(str(path), np.where(np.arange(mixture.shape[1]) == 7, np.nan, mixture).T, RATE, "FLOAT")
    else:
        silent = np.zeros_like(mixture)
        changed = {"mono": (mixture[:1], RATE), "silent": (silent, RATE), "short": (mixture[:, :100], RATE)}[kind]
        audio.write(path, *changed)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("text", "not readable as audio"),
        ("nan", "holds NaN"),
        ("mono", "has 1 channel, the array 'circular4_5cm' has 4"),
        ("silent", "is silent"),
        ("short", "expected at least 0.1 s"),
    ],
)
def test_bad_recordings_are_one_line_and_leave_nothing(
    kind: str, message: str, model_folder: Path, dev_set: SceneSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "bad.wav", tmp_path / "out"
    spoiled(kind, dev_set.mixture(dev_set.scenes[0]), path)
    line = error_of(capsys, "separate", str(path), "--model", str(model_folder), "--out", str(out))
    assert message in line
    assert str(path) in line
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "circular6_8k", "--method", "srp_beam"], "give either --model"),
        (["--array", "circular8_10cm"], "the array 'circular8_10cm' has 8"),
        (["--method", "srp_beam"], "give --array"),
        (["--method", "srp_bean", "--array", ARRAY], "did you mean 'srp_beam'?"),
        (["--method", "srp_beam", "--array", "circular4_5"], "did you mean 'circular4_5cm'?"),
        (["--method", "srp_beam", "--array", ARRAY, "--talkers", "0"], "talkers is 0, expected 1 to 8"),
        (["--model", "/nowhere"], "/nowhere: no such checkpoint directory"),
        (["--method", "srp_beam", "--array", ARRAY, "--threads", "0"], "threads is 0, expected 1 to 1024"),
    ],
)
def test_bad_options_are_one_line(
    options: list[str], message: str, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = error_of(capsys, "separate", str(recording), "--out", str(tmp_path / "out"), *options)
    assert message in line
    assert not (tmp_path / "out").exists()


def test_evaluate_and_score_agree(model_folder: Path, dev_set: SceneSet, tmp_path: Path) -> None:
    data, evaluation = str(dev_set.root), tmp_path / "evaluation"
    options = ["--jobs", "1", "--model", str(model_folder)]
    assert main(["evaluate", "--data", data, "--out", str(evaluation), *options]) == 0
    summary = json.loads((evaluation / "summary.json").read_text())
    assert set(summary["paired_differences"]["model"]) == {"unprocessed", "srp_beam"}
    estimates = evaluation / "model" / "estimates"
    arguments = ["score", "--data", data, "--estimates", str(estimates), "--name", "mine", "--jobs", "1"]
    assert main([*arguments, "--out", str(tmp_path / "scores"), "--compare", str(evaluation)]) == 0
    again = read_jsonl(tmp_path / "scores" / "mine" / "scores.jsonl")
    for row, expected in zip(again, read_jsonl(evaluation / "model" / "scores.jsonl"), strict=True):
        assert row.keys() == expected.keys()
        for field, value in row.items():
            last_digit = {"abs": 1.1e-4} if "improvement" in field else {"abs": 0.0, "rel": 0.0}
            is_score = isinstance(value, list) and field.endswith(("_db", "improvement"))
            assert value == (pytest.approx(expected[field], **last_digit) if is_score else expected[field])


def test_scenes_that_cannot_be_scored_are_told_and_change_the_exit_code(
    model_folder: Path, dev_set: SceneSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    estimates = tmp_path / "estimates"
    scene = dev_set.scenes[0]
    for talker, reference in enumerate(dev_set.references(scene), start=1):
        audio.write(estimates / scene.id / f"talker{talker}.wav", reference, RATE)
    arguments = ["score", "--data", str(dev_set.root), "--estimates", str(estimates), "--jobs", "1"]
    assert main([*arguments, "--out", str(tmp_path / "scores")]) == 1
    assert f"not scored: {dev_set.scenes[1].id}" in capsys.readouterr().out


def scored(arguments: list[str], tmp_path: Path) -> int:
    """Exit code of scoring into a folder of its own."""
    return main(["score", *arguments, "--jobs", "1", "--out", str(tmp_path / "scores")])


def test_estimates_of_another_data_set_are_refused(
    dev_set: SceneSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    estimates = tmp_path / "estimates"
    write_estimates(dev_set, {2: build_method("srp_beam", dev_set.array, RATE, 2)}, estimates)
    arguments = ["--data", str(dev_set.root), "--estimates", str(estimates)]
    assert scored(arguments, tmp_path) == 0
    (estimates / "data.json").write_text('{"hash": "another"}')
    assert scored(arguments, tmp_path) == 2
    assert "was made for a data set with hash another" in capsys.readouterr().err


def test_a_silent_estimate_changes_the_exit_code(
    dev_set: SceneSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    estimates = tmp_path / "estimates"
    write_estimates(dev_set, {2: build_method("srp_beam", dev_set.array, RATE, 2)}, estimates)
    first = dev_set.scenes[0]
    audio.write(estimates / first.id / "talker1.wav", np.zeros(first.samples, dtype=np.float32), RATE)
    assert scored(["--data", str(dev_set.root), "--estimates", str(estimates)], tmp_path) == 1
    assert f"not scored: {first.id}" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["..", "unprocessed", "a/b"])
def test_a_name_that_is_no_folder_is_refused(
    name: str, dev_set: SceneSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert scored(["--data", str(dev_set.root), "--estimates", "x", "--name", name], tmp_path) == 2
    assert f"name is '{name}'" in capsys.readouterr().err


def test_comparing_with_nothing_is_refused(
    dev_set: SceneSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--data", str(dev_set.root), "--estimates", "x", "--compare", str(tmp_path)]
    assert scored(arguments, tmp_path) == 2
    assert "holds no <system>/scores.jsonl to compare with" in capsys.readouterr().err


def test_voices_of_an_earlier_separation_do_not_stay(recording: Path, tmp_path: Path) -> None:
    arguments = ["separate", str(recording), "--out", str(tmp_path / "out"), "--method", "srp_beam"]
    for talkers in ("3", "2"):
        assert main([*arguments, "--array", ARRAY, "--talkers", talkers]) == 0
    names = ["doa.json", "talker1.wav", "talker2.wav", "talkers.rttm"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == names
