"""`msdet separate` and `msdet localize` on long recordings, several at once, and what comes with them."""

from __future__ import annotations

import io
import json
import re
import resource
import signal
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from msdet.arrays import load_array
from msdet.cli import main
from msdet.conventions import angular_distance_deg
from msdet.data.scene_set import SceneSet
from msdet.io import audio
from msdet.methods.trained import model_separator
from msdet.models.checkpoint import save_model
from msdet.models.config import ModelConfig
from msdet.models.joint import JointModel

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


@pytest.fixture
def long_recording(dev_set: SceneSet, tmp_path: Path) -> Path:
    """Mixtures one after another, 9 s, as a file at twice their rate."""
    mixtures = [dev_set.mixture(scene) for scene in dev_set.scenes] * 2
    path = tmp_path / "long.wav"
    audio.write(path, 0.5 * audio.resample(np.concatenate(mixtures, axis=-1), RATE, 2 * RATE), 2 * RATE)
    return path


SMALL_BLOCKS = ["--block_s", "3", "--overlap_s", "1"]


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of a command that fails."""
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.strip().splitlines()) == 1
    return printed.err


def test_a_long_recording_is_separated_in_blocks(
    model_folder: Path, long_recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["separate", str(long_recording), "--model", str(model_folder), *SMALL_BLOCKS]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    described = json.loads((tmp_path / "out" / "doa.json").read_text())
    options = {"block_s": 3.0, "overlap_s": 1.0, "match": "both", "gate": True, "highpass_hz": 60.0}
    assert described["blocks"] == options
    assert described["sample_rate"] == RATE
    assert len(described["track"]["time_s"]) == 90
    assert audio.info(tmp_path / "out" / "talker1.wav").frames == 9 * RATE
    assert "9.0 s in" in capsys.readouterr().out


@pytest.mark.parametrize("subtype", ["PCM_24", "FLOAT"])
def test_voices_may_keep_the_rate_and_have_another_sample_format(
    subtype: str, model_folder: Path, long_recording: Path, tmp_path: Path
) -> None:
    arguments = ["separate", str(long_recording), "--model", str(model_folder), *SMALL_BLOCKS, "--keep_rate"]
    assert main([*arguments, "--subtype", subtype, "--out", str(tmp_path / "out")]) == 0
    header = soundfile.info(str(tmp_path / "out" / "talker2.wav"))
    assert (header.samplerate, header.frames, header.subtype) == (2 * RATE, 18 * RATE, subtype)


def test_an_unknown_sample_format_is_refused(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--method", "srp_beam", "--array", ARRAY, "--out", str(tmp_path / "out")]
    line = error_of(capsys, "separate", str(recording), *options, "--subtype", "PCM16")
    assert "unknown subtype 'PCM16'; did you mean 'PCM_16'?" in line


class Tags(HTMLParser):
    """Collects a page's tags and their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))


def test_the_page_opens_offline_and_holds_every_voice(model_folder: Path, long_recording: Path, tmp_path: Path) -> None:
    arguments = ["separate", str(long_recording), "--model", str(model_folder), *SMALL_BLOCKS, "--page"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "index.html").read_text()
    tags = Tags()
    tags.feed(page)
    players = [found for tag, found in tags.found if tag == "audio"]
    assert [p["aria-label"] for p in players] == ["Mixture", "Talker 1", "Talker 2"]
    assert all(p["src"].startswith("data:audio/") for p in players)
    assert sum(tag == "figure" for tag, _ in tags.found) == 2
    links = {found["href"] for tag, found in tags.found if tag == "a"}
    assert {"talker1.wav", "talker2.wav"} <= links
    assert "://" not in re.sub(r"xmlns(:\w+)?=\"[^\"]*\"", "", page)


def test_mvdr_gives_other_voices_in_the_same_directions(model_folder: Path, recording: Path, tmp_path: Path) -> None:
    arguments = ["separate", str(recording), "--model", str(model_folder)]
    assert main([*arguments, "--out", str(tmp_path / "a")]) == 0
    assert main([*arguments, "--out", str(tmp_path / "b"), "--beamform", "mvdr"]) == 0
    one, other = (json.loads((tmp_path / name / "doa.json").read_text()) for name in "ab")
    assert [t["azimuth_deg"] for t in one["talkers"]] == [t["azimuth_deg"] for t in other["talkers"]]
    assert (one["beamform"], other["beamform"]) == (None, "mvdr")
    voices = [audio.read(tmp_path / name / "talker1.wav")[0] for name in "ab"]
    assert np.abs(voices[0] - voices[1]).max() > 1e-3


def test_several_recordings_go_on_after_a_bad_one(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wav.scp").write_text(f"first {recording}\nbad {tmp_path / 'none.wav'}\nlast {recording}\n")
    options = ["--method", "srp_beam", "--array", ARRAY, "--out", str(tmp_path / "out")]
    assert main(["separate", str(tmp_path / "wav.scp"), *options]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert errors == [
        f"error: {tmp_path / 'none.wav'}: no such file",
        f"1 of 3 recordings failed: {tmp_path / 'none.wav'}",
    ]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["first", "last"]
    assert (tmp_path / "out" / "last" / "talker2.wav").is_file()


def test_a_recording_comes_from_standard_input(
    recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--method", "srp_beam", "--array", ARRAY]
    assert main(["separate", str(recording), *options, "--out", str(tmp_path / "file")]) == 0
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(recording.read_bytes())))
    assert main(["separate", "-", *options, "--out", str(tmp_path / "piped")]) == 0
    for name in ("talker1.wav", "talker2.wav"):
        assert (tmp_path / "file" / name).read_bytes() == (tmp_path / "piped" / name).read_bytes()
    assert json.loads((tmp_path / "piped" / "doa.json").read_text())["recording"] == "standard input"


def test_a_dead_channel_is_told_and_the_others_separate(
    recording: Path, dev_set: SceneSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixture = dev_set.mixture(dev_set.scenes[0])
    mixture[2] = 0.0
    audio.write(tmp_path / "dead.wav", mixture, RATE)
    options = ["--method", "srp_beam", "--array", ARRAY]
    assert main(["separate", str(tmp_path / "dead.wav"), *options, "--out", str(tmp_path / "dead")]) == 0
    assert "warning: " in (told := capsys.readouterr().err) and "channel 2 is dead" in told
    assert main(["separate", str(recording), *options, "--out", str(tmp_path / "all")]) == 0
    dead, whole = (json.loads((tmp_path / name / "doa.json").read_text()) for name in ("dead", "all"))
    assert dead["warnings"] == [told.strip().removeprefix("warning: ")]
    azimuths = [[t["azimuth_deg"] for t in value["talkers"]] for value in (dead, whole)]
    assert angular_distance_deg(*azimuths).max() < 15.0


def test_a_disk_that_fills_leaves_no_voice(recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where files cannot grow to the length of the voices: a clear line, and nothing that looks complete."""
    options = ["--method", "srp_beam", "--array", ARRAY, "--out", str(tmp_path / "out")]
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (15_000, hard))
    try:
        line = error_of(capsys, "separate", str(recording), *options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert line.startswith(f"error: {tmp_path / 'out'}: cannot be written (")
    assert list((tmp_path / "out").iterdir()) == []


USB = "respeaker_usb_4mic_square"


@pytest.fixture
def six(dev_set: SceneSet, tmp_path: Path) -> Path:
    """A file of six channels as a device records them: one processed, four microphones, silent playback."""
    mixture = np.concatenate([dev_set.mixture(scene) for scene in dev_set.scenes] * 2, axis=-1)[:, : 6 * RATE]
    level = np.sqrt(np.convolve(mixture[0] ** 2, np.ones(RATE // 5) / (RATE // 5), "same"))
    beam = np.roll(0.05 * mixture.mean(axis=0) / (0.01 + level), RATE // 50)
    audio.write(tmp_path / "six.wav", np.concatenate([beam[None], mixture, 0 * mixture[:1]]), RATE)
    return tmp_path / "six.wav"


def test_an_array_that_nobody_named_is_told(
    model_folder: Path, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["localize", str(recording), "--model", str(model_folder)]) == 0
    told = f"{recording}: taken as of the array '{ARRAY}', which {model_folder} was trained on; give --array"
    assert capsys.readouterr().err.startswith(told)
    assert main(["localize", str(recording), "--model", str(model_folder), "--array", ARRAY]) == 0
    assert capsys.readouterr().err == ""


def test_a_recording_that_is_not_of_the_array_nobody_named_is_refused(
    six: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = error_of(capsys, "localize", str(six))  # six channels, as the shipped models' circle has
    assert "is not taken as of the array 'circular6_10cm', which circular6_8k was trained on" in line
    assert "channel 0 is processed (" in line and line.endswith("give --array, and perhaps --channels 1-4\n")
    line = error_of(capsys, "localize", str(six), "--channels", "1-4")
    assert "4 channels are chosen, the array 'circular6_10cm' has 6; give the array of those channels" in line
    line = error_of(capsys, "localize", str(six), "--model", "universal_16k")
    assert "universal_16k: serves any array and knows none; give the array" in line
    line = error_of(capsys, "localize", str(six), "--array", "circular8_10cm", "--method", "srp_beam")
    assert "has 6 channels, the array 'circular8_10cm' has 8" in line


def test_channels_are_those_of_the_device_or_chosen(six: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["localize", str(six), "--method", "srp_beam", "--json"]
    found = []
    for more in (["--array", USB], ["--array", USB, "--channels", "1-4"]):
        assert main([*options, *more]) == 0
        printed = capsys.readouterr()
        found.append(printed.out)
        assert printed.err == (f"{six}: channels 1-4 of 6 (0 processed, 5 playback) are taken for the array '{USB}'\n")
    assert found[0] == found[1]
    assert main([*options, "--array", USB, "--channels", "1,2,4"]) == 0
    assert len(json.loads(capsys.readouterr().out)["array"]["positions_m"]) == 3
    line = error_of(capsys, *options, "--array", ARRAY)
    assert line.endswith("by --channels, perhaps 1-4 (0,5 are no microphones like those)\n")


def test_an_odd_channel_is_told_with_the_channels_to_take(six: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["localize", str(six), "--method", "srp_beam", "--array", "circular6_10cm", "--json"]) == 0
    printed = capsys.readouterr()
    warnings = json.loads(printed.out)["warnings"]
    assert printed.err.splitlines() == [f"warning: {warning}" for warning in warnings]
    assert [w.removeprefix(f"{six}: ").split(" (")[0] for w in warnings] == [
        "channel 5 is dead",
        "channel 0 is 20 ms late against the others",
        "goes on with channels 1, 2, 3, 4 alone, voices as at channel 1",
        "channel 0 is processed",
        "--channels 1-4 leaves out what is no microphone of its own",
    ]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_standard_output_on_a_full_disk_is_one_line(
    recording: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["localize", str(recording), "--method", "norm_music", "--array", ARRAY]) == 2
        monkeypatch.undo()
    assert capsys.readouterr().err == ("error: standard output: cannot be written (No space left on device)\n")


def test_localize_prints_lines_or_json(
    model_folder: Path, recording: Path, long_recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["localize", str(recording), str(long_recording), "--model", str(model_folder), *SMALL_BLOCKS]
    assert main([*arguments, "--json"]) == 0
    short, long = map(json.loads, capsys.readouterr().out.splitlines())
    assert (short["recording"], long["recording"]) == ("recording.wav", "long.wav")
    expected = model_separator(JointModel(ModelConfig(window_s=0.032), load_array(ARRAY), RATE))(
        audio.read(recording)[0]
    )
    assert [t["azimuth_deg"] for t in short["talkers"]] == pytest.approx(expected.azimuth_deg, abs=0.01)
    assert "file" not in short["talkers"][0]
    assert len(long["activity"][0]) == 90
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        f"{name}: talker {n}" for name in ("recording", "long") for n in (1, 2)
    ]


def test_localize_writes_tables(recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also with a method that gives directions alone."""
    options = ["--method", "norm_music", "--array", ARRAY, "--out", str(tmp_path / "out")]
    assert main(["localize", str(recording), *options]) == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["doa.json", "talkers.rttm"]
    assert (tmp_path / "out" / "talkers.rttm").read_text().startswith("SPEAKER recording 1 ")
    assert "azimuth" in capsys.readouterr().out


def test_localize_needs_a_system_with_directions(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = error_of(capsys, "localize", str(recording), "--method", "unprocessed", "--array", ARRAY)
    assert "'unprocessed' finds voices, no directions" in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "gpu"], "device is 'gpu', expected cpu, cuda or cuda:N"),
        (["--device", "cuda:99"], "device is 'cuda:99', which cannot be used ("),
        (["--method", "srp_beam", "--array", ARRAY, "--device", "cuda"], "--device cuda is for models"),
    ],
)
def test_a_device_that_is_none_is_named(
    options: list[str], message: str, model_folder: Path, recording: Path, tmp_path: Path, capsys
) -> None:
    model = [] if "--method" in options else ["--model", str(model_folder)]
    for command in (["separate", "--out", str(tmp_path / "out")], ["localize"]):
        assert message in error_of(capsys, command[0], str(recording), *command[1:], *model, *options)
    assert not (tmp_path / "out").exists()
