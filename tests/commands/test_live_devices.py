"""`msdet live` on devices: those of a made-up sounddevice."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from msdet.arrays import load_array
from msdet.cli import main
from msdet.inference.live import Microphone
from msdet.io import audio


@pytest.fixture
def model(causal_model: Path) -> Path:
    return causal_model


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
        samples = np.tile(np.arange(self.options["channels"], dtype=np.float32), (self.options["blocksize"], 1))
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
    assert main(["live", "--inputs"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "1: Array UAC2, 8 channels, 16000 Hz",
        "2: Array UAC1, 8 channels, 16000 Hz",
        "3: Headset, 1 channels, 16000 Hz",
    ]


@pytest.mark.usefixtures("devices")
@pytest.mark.parametrize("device", ["1", "uac2"])
def test_chosen_channels_of_a_device_are_heard(device: str) -> None:
    microphone = Microphone(device, 0.032, load_array("circular4_5cm"), [2, 5, 7, 1])
    assert microphone.name == "1: Array UAC2"
    chunks = microphone.chunks()
    for _ in range(6):
        chunk = next(chunk for chunk in chunks if chunk.shape[1])
        assert chunk.shape == (4, 512)
        np.testing.assert_array_equal(chunk[:, 0], [2, 5, 7, 1])
    chunks.close()  # type: ignore[attr-defined]
    assert microphone.overruns >= 1


@pytest.mark.usefixtures("devices")
def test_what_waits_too_long_is_dropped_and_counted() -> None:
    microphone = Microphone("1", 0.5, load_array("circular4_5cm"))  # holds 4 chunks
    chunks = microphone.chunks()
    next(chunks)
    deadline = time.monotonic() + 20
    while microphone.overruns < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    chunks.close()  # type: ignore[attr-defined]
    assert microphone.overruns >= 3


class Unplugged(InputStream):
    """Gives a little, then is gone."""

    def work(self) -> None:
        samples = np.full((self.options["blocksize"], self.options["channels"]), 0.1, dtype=np.float32)
        for _ in range(20):
            self.options["callback"](samples, len(samples), None, SimpleNamespace(input_overflow=False))
        self.active = False


@pytest.mark.usefixtures("devices")
def test_a_device_that_is_unplugged_leaves_what_was_heard(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.modules["sounddevice"], "InputStream", Unplugged)
    out = tmp_path / "out"
    assert main(["live", str(model), "--input", "1", "--record", "--out", str(out)]) == 2
    assert "device 1: Array UAC2 stopped; " in capsys.readouterr().err
    assert audio.info(out / "input.wav").frames == 20 * 256
    assert (out / "doa.json").is_file() and (out / "talker1.wav").is_file()


class Stuck(InputStream):
    """Is open, and gives nothing."""

    def work(self) -> None:
        self.stop.wait()


@pytest.mark.usefixtures("devices")
def test_a_device_that_gives_nothing_can_be_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["sounddevice"], "InputStream", Stuck)
    chunks = Microphone("1", 0.032, load_array("circular4_5cm")).chunks()
    assert next(chunks).shape == (4, 0)
    chunks.close()  # type: ignore[attr-defined]


@pytest.mark.usefixtures("devices")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--input", "Array"], "device 'Array' is one of several: 1: Array UAC2, 2: Array UAC1; give its number"),
        (["--input", "Headsett"], "unknown input device 'Headsett'; did you mean 'Headset'?"),
        (["--fast"], "--fast is for --file"),
        (["--input", "0"], "unknown input device '0'"),
        ([], "device 3: Headset: has 1 channel, the array"),
        (["--input", "1", "--rate", "11025"], "cannot be used at 11025 Hz (Invalid sample rate)"),
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
    for arguments in (["live", "--inputs"], ["live", str(model), "--out", str(tmp_path / "out")]):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
