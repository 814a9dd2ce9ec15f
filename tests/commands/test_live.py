"""`msdet live`: a file stands in for the microphone; devices are those of a made-up sounddevice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from msdet import audio
from msdet.arrays import load_array
from msdet.cli import main
from msdet.commands._live_display import Shown, lines
from msdet.inference.streaming_sources import FileInput, Microphone
from msdet.models.config import ModelConfig
from msdet.models.joint import JointModel
from msdet.training.checkpoint import save_model

RATE = 8000
SECONDS = 1.3
CAUSAL = {"causal": True}


def write_model(folder: Path, **changes: Any) -> Path:
    """A small causal model for four microphones."""
    settings: dict[str, Any] = {
        "window_s": 0.032,
        "front_end": "real_imaginary",
        "front_end_options": CAUSAL,
        "encoder_options": {"hidden": 8, "group": 16, "causal": True},
        "doa_head": "pooled",
        "doa_options": CAUSAL,
        "separation_head": "reference_mask",
    }
    torch.manual_seed(0)
    config = ModelConfig(**{**settings, **changes})
    save_model(folder, JointModel(config, load_array("circular4_5cm"), RATE), {})
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("causal"))


def sound(channels: int = 4, rate: int = RATE) -> npt.NDArray[np.float32]:
    """A hum in bursts and noise ``(mic, time)``."""
    rng = np.random.default_rng(0)
    t = np.arange(round(SECONDS * rate)) / rate
    hum = np.sin(2 * np.pi * 200 * t) * (np.sin(2 * np.pi * 1.5 * t) > 0)
    return (0.1 * hum + 0.01 * rng.standard_normal((channels, t.size))).astype(np.float32)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    audio.write(tmp_path / "in.wav", sound(), RATE, "FLOAT")
    return tmp_path / "in.wav"


def heard(path: Path) -> npt.NDArray[np.float32]:
    samples, rate = audio.read(path)
    assert rate == RATE
    return samples


def test_a_file_gives_the_voices_that_separate_gives(model: Path, recording: Path, tmp_path: Path) -> None:
    live, whole = tmp_path / "live", tmp_path / "whole"
    options = ["--model", str(model), "--subtype", "FLOAT"]
    assert main(["live", *options, "--file", str(recording), "--fast", "--record", "--out", str(live)]) == 0
    assert main(["separate", str(recording), *options, "--out", str(whole)]) == 0
    found, expected = (json.loads((folder / "doa.json").read_text()) for folder in (live, whole))
    voices = {
        folder: np.concatenate([heard(folder / talker["file"]) for talker in described["talkers"]])
        for folder, described in ((live, found), (whole, expected))
    }
    assert voices[live].shape == (2, round(SECONDS * RATE))
    best = min(
        float(np.abs(voices[live][order] - voices[whole]).max()) for order in ([0, 1], [1, 0])
    )  # slots ascend in azimuth overall
    assert best <= 1e-4 * np.abs(voices[whole]).max()
    np.testing.assert_array_equal(heard(live / "input.wav"), sound())
    assert found["overruns"] == 0
    assert found["latency_s"] == 0.032
    assert len(found["track"]["time_s"]) == len(expected["track"]["time_s"]) == 13
    assert (live / "talkers.rttm").is_file()
    assert sorted(p.name for p in live.iterdir()) == sorted(
        ["doa.json", "input.wav", "talker1.wav", "talker2.wav", "talkers.rttm"]
    )


def test_another_rate_and_chosen_channels(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = np.concatenate([np.zeros((1, round(SECONDS * 16000)), np.float32), sound(4, 16000)])
    audio.write(tmp_path / "six.wav", samples, 16000)
    options = ["--file", str(tmp_path / "six.wav"), "--fast", "--channels", "1,2,3,4"]
    assert main(["live", str(model), *options, "--out", str(tmp_path / "out"), "--seconds", "0.9"]) == 0
    assert "algorithmic latency 33.1 ms" in capsys.readouterr().out  # 32 ms, and the resampler's
    assert heard(tmp_path / "out" / "talker1.wav").shape == (1, 8000)  # whole chunks of 0.5 s


def test_ctrl_c_ends_with_complete_files(model: Path, tmp_path: Path) -> None:
    audio.write(tmp_path / "long.wav", np.tile(sound(), (1, 60)), RATE)
    command = [sys.executable, "-m", "msdet.cli", "live", str(model), "--file", str(tmp_path / "long.wav")]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [*command, "--out", str(tmp_path / "out")], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert "algorithmic latency" in process.stdout.readline()
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert process.returncode == 0
    assert "real-time factor" in rest
    described = json.loads((tmp_path / "out" / "doa.json").read_text())
    lengths = {audio.info(tmp_path / "out" / talker["file"]).frames for talker in described["talkers"]}
    assert len(lengths) == 1
    assert 0 < lengths.pop() < 60 * SECONDS * RATE


def test_clipping_is_told(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = sound()
    samples[2, 500] = 1.0
    audio.write(tmp_path / "in.wav", samples, RATE, "FLOAT")
    options = ["--file", str(tmp_path / "in.wav"), "--fast", "--out", str(tmp_path / "out")]
    assert main(["live", str(model), *options]) == 0
    assert "clipped on channels 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--channels", "1,2"], "channels names 2, the array 'circular4_5cm' has 4"),
        (["--channels", "0,1,2,9"], "has no channel 9: it has 4, counted from 0"),
        (["--channels", "0,1,2,b"], "channels is '0,1,2,b', expected numbers"),
        (["--channels", "0,1,2,2"], "names one twice"),
        (["--seconds", "-1"], "seconds is -1, expected above 0"),
        (["--subtype", "PCM_17"], "unknown subtype 'PCM_17'"),
        (["--file", "nowhere.wav"], "nowhere.wav: no such file"),
    ],
)
def test_bad_options_are_one_line(
    options: list[str],
    message: str,
    model: Path,
    recording: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [] if "--file" in options else ["--file", str(recording)]
    arguments = ["live", str(model), *given, *options, "--fast", "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("out/*"))


def test_a_model_that_cannot_stream_is_refused(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_model(tmp_path / "model", encoder_options={"hidden": 8})
    assert main(["live", str(model), "--file", str(recording), "--out", str(tmp_path / "out")]) == 2
    assert "the model cannot stream: encoder 'ft_gru' is not causal" in capsys.readouterr().err
    assert main(["info", str(model)]) == 0
    assert "does not stream: encoder 'ft_gru' is not causal" in capsys.readouterr().out


def test_info_tells_the_latency(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(model)]) == 0
    assert "streams, algorithmic latency 32 ms" in capsys.readouterr().out


def test_a_file_is_paced_like_a_microphone(recording: Path) -> None:
    paced, fast = (FileInput(recording, 0.1, fast=fast) for fast in (False, True))
    took_s = []
    for source in (paced, fast):
        start_s = time.monotonic()
        joined = np.concatenate(list(source.chunks()), axis=1)
        took_s.append(time.monotonic() - start_s)
        np.testing.assert_array_equal(joined, sound())
    assert took_s[0] >= SECONDS - 0.01


class PortAudioError(Exception):
    pass


class InputStream:
    """Calls back from a thread, as PortAudio does, with channel numbers as samples; one overflow."""

    active = True

    def __init__(self, **options: Any) -> None:
        if options["samplerate"] == 11025:
            raise PortAudioError("Invalid sample rate")
        self.options = options
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.work)

    def __enter__(self) -> InputStream:
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop.set()
        self.thread.join()

    def work(self) -> None:
        samples = np.tile(
            np.arange(self.options["channels"], dtype=np.float32), (self.options["blocksize"], 1)
        )
        count = 0
        while not self.stop.wait(0.001):
            self.options["callback"](samples, len(samples), None, SimpleNamespace(input_overflow=count == 3))
            count += 1


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["Speaker", "Array UAC2", "Array UAC1", "Headset"]
    inputs = [0, 8, 8, 1]
    found = [
        {"index": n, "name": name, "max_input_channels": count, "default_samplerate": 16000.0}
        for n, (name, count) in enumerate(zip(names, inputs, strict=True))
    ]
    package = ModuleType("sounddevice")
    vars(package).update(
        query_devices=lambda: found,
        default=SimpleNamespace(device=(3, 0)),
        InputStream=InputStream,
        PortAudioError=PortAudioError,
    )
    monkeypatch.setitem(sys.modules, "sounddevice", package)


@pytest.mark.usefixtures("devices")
def test_devices_are_listed_by_number_and_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["live", "--devices"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "1: Array UAC2, 8 channels, 16000 Hz",
        "2: Array UAC1, 8 channels, 16000 Hz",
        "3: Headset, 1 channels, 16000 Hz",
    ]


@pytest.mark.usefixtures("devices")
@pytest.mark.parametrize("device", ["1", "uac2"])
def test_chosen_channels_of_a_device_are_heard(device: str) -> None:
    microphone = Microphone(device, 0.032, 4, [2, 5, 7, 1])
    assert microphone.name == "1: Array UAC2"
    chunks = microphone.chunks()
    for _ in range(6):
        chunk = next(chunks)
        assert chunk.shape == (4, 512)
        np.testing.assert_array_equal(chunk[:, 0], [2, 5, 7, 1])
    chunks.close()  # type: ignore[attr-defined]
    assert microphone.overruns >= 1


@pytest.mark.usefixtures("devices")
def test_what_waits_too_long_is_dropped_and_counted() -> None:
    microphone = Microphone("1", 0.5, 4)  # holds 4 chunks
    chunks = microphone.chunks()
    next(chunks)
    deadline = time.monotonic() + 20
    while microphone.overruns < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    chunks.close()  # type: ignore[attr-defined]
    assert microphone.overruns >= 3


@pytest.mark.usefixtures("devices")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--device", "Array"],
            "device 'Array' is one of several: 1: Array UAC2, 2: Array UAC1; give its number",
        ),
        (["--device", "Headsett"], "unknown input device 'Headsett'; did you mean 'Headset'?"),
        (["--device", "0"], "unknown input device '0'"),
        ([], "device 3: Headset has no channel 1: it has 1"),
        (["--device", "1", "--rate", "11025"], "cannot be used at 11025 Hz (Invalid sample rate)"),
    ],
)
def test_a_wrong_device_is_named(
    options: list[str], message: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["live", str(model), *options, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (ModuleNotFoundError("No module named 'sounddevice'"), "pip install 'msdet[live]'"),
        (OSError("PortAudio library not found"), "needs PortAudio (PortAudio library not found): install it"),
    ],
)
def test_what_is_missing_is_one_line(
    failure: Exception,
    message: str,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Missing:
        def find_spec(self, name: str, *rest: object) -> None:
            if name == "sounddevice":
                raise failure

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    for arguments in (["live", "--devices"], ["live", str(model), "--out", str(tmp_path / "out")]):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_the_display_shows_levels_directions_and_overruns() -> None:
    shown = Shown(12.3, np.array([1.0, 0.001]), [40.0, 200.0], [0.9, 0.2], [True, False], 1, 0.25)
    text = lines(shown)
    assert "CLIP" in text[0] and "CLIP" not in text[1]
    circle = next(line for line in text if line.startswith("0° "))
    assert circle[3:].index("1") == 8 and circle[3:].index("·") == 40
    assert "slot 1   40.0°  confidence 0.90  speaks" in text
    assert "1 overrun  busy 25 %" in text[-1]
