"""`msdet live`, where a file stands in for the microphone."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest

from msdet.arrays import load_array
from msdet.cli import main
from msdet.commands._live_display import Shown, lines
from msdet.inference.live import FileInput
from msdet.io import audio

RATE = 8000
SECONDS = 1.3


@pytest.fixture
def model(causal_model: Path) -> Path:
    return causal_model


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
    options = ["--model", str(model), "--subtype", "FLOAT", "--highpass_hz", "0"]
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


def test_another_rate_and_chosen_channels(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = np.concatenate([np.zeros((1, round(SECONDS * 16000)), np.float32), sound(4, 16000)])
    audio.write(tmp_path / "six.wav", samples, 16000)
    options = ["--file", str(tmp_path / "six.wav"), "--fast", "--channels", "1,2,3,4"]
    assert main(["live", str(model), *options, "--out", str(tmp_path / "out"), "--seconds", "0.9"]) == 0
    assert "algorithmic latency 74.4 ms" in capsys.readouterr().out  # 32 ms, the resampler's and the high-pass's
    assert heard(tmp_path / "out" / "talker1.wav").shape == (1, 8000)  # whole chunks of 0.5 s


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_with_complete_files(
    number: signal.Signals, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C, a service that is stopped, a terminal that is closed."""
    audio.write(tmp_path / "long.wav", np.tile(sound(), (1, 8)), RATE)
    before = signal.getsignal(number)
    ended = threading.Event()

    def end() -> None:
        while not ended.wait(0.05):
            if signal.getsignal(number) is not before:
                time.sleep(0.3)
                os.kill(os.getpid(), number)
                return

    thread = threading.Thread(target=end)
    thread.start()
    try:
        assert main(["live", str(model), "--file", str(tmp_path / "long.wav"), "--out", str(tmp_path / "out")]) == 0
    finally:
        ended.set()
        thread.join()
    assert signal.getsignal(number) is before
    assert "real-time factor" in capsys.readouterr().out
    described = json.loads((tmp_path / "out" / "doa.json").read_text())
    lengths = {audio.info(tmp_path / "out" / talker["file"]).frames for talker in described["talkers"]}
    assert len(lengths) == 1
    assert 0 < lengths.pop() < 8 * SECONDS * RATE


def test_a_source_that_fails_leaves_what_was_heard_and_says_so(
    model: Path, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = recording.read_bytes()
    recording.write_bytes(content[: len(content) // 2])
    out = tmp_path / "out"
    assert main(["live", str(model), "--file", str(recording), "--fast", "--out", str(out)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {recording}: is truncated")
    assert error.endswith(f"{out} holds what was heard until then")
    described = json.loads((out / "doa.json").read_text())
    assert "ends early" in described["warnings"][-1]
    assert heard(out / "talker1.wav").shape[1] == pytest.approx(SECONDS * RATE / 2, abs=5)


def test_a_source_that_gives_nothing_leaves_nothing(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    audio.write(tmp_path / "in.wav", sound()[:, :0], RATE)
    options = ["--file", str(tmp_path / "in.wav"), "--out", str(tmp_path / "out")]
    assert main(["live", str(model), *options]) == 2
    assert "in.wav: has no samples" in capsys.readouterr().err
    assert not list(tmp_path.glob("out/*"))


def test_dead_and_offset_channels_are_told(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = sound()
    samples[0] = 0.0
    samples[3] += 0.2
    audio.write(tmp_path / "in.wav", samples, RATE)
    options = ["--file", str(tmp_path / "in.wav"), "--fast", "--out", str(tmp_path / "out")]
    assert main(["live", str(model), *options]) == 0
    told = capsys.readouterr().err
    assert "in.wav: channel 0 is dead, and channel 0 is the reference microphone" in told
    assert "in.wav: channel 3 is offset by up to 0.2" in told
    described = json.loads((tmp_path / "out" / "doa.json").read_text())
    assert len(described["warnings"]) == 2


def test_a_recording_of_earlier_is_not_written_over(
    model: Path, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    options = ["live", str(model), "--file", str(recording), "--fast", "--out", str(out)]
    assert main([*options, "--record"]) == 0
    before = (out / "input.wav").read_bytes()
    capsys.readouterr()
    assert main([*options, "--record", "--seconds", "0.5"]) == 2
    assert capsys.readouterr().err == (f"error: {out}: holds input.wav of an earlier recording; give another folder\n")
    assert main(["live", str(model), "--out", str(out)]) == 2  # of a device, which nobody can hear again
    assert "holds doa.json of an earlier recording" in capsys.readouterr().err
    assert main(options) == 0
    assert (out / "input.wav").read_bytes() == before


def test_clipping_is_told(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = sound()
    samples[2, 500] = 1.0
    audio.write(tmp_path / "in.wav", samples, RATE, "FLOAT")
    options = ["--file", str(tmp_path / "in.wav"), "--fast", "--out", str(tmp_path / "out")]
    assert main(["live", str(model), *options]) == 0
    assert "channel 2 is clipped" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--channels", "1,2"], "channels names 2, the array 'circular4_5cm' has 4"),
        (["--channels", "0,1,2,9"], "has no channel 9: it has 4, counted from 0"),
        (["--channels", "0,1,2,b"], "channels is '0,1,2,b', expected numbers"),
        (["--channels", "0,1,2,2"], "names one twice"),
        (["--channels", "0,1,2,02"], "names one twice"),
        (["--input", "1"], "give either --file or --input"),
        (["--rate", "16000"], "give either --file or --rate"),
        (["--device", "UAC2"], "device is 'UAC2', expected cpu, cuda or cuda:N; a microphone is chosen by --input"),
        (["--device", "cuda:99"], "device is 'cuda:99', which cannot be used ("),
        (["--devices"], "option 'devices' is now 'inputs'"),
        (["--seconds", "-1"], "seconds is -1, expected above 0"),
        (["--subtype", "PCM_17"], "unknown subtype 'PCM_17'"),
        (["--file", "nowhere.wav"], "nowhere.wav: no such file"),
    ],
)
def test_bad_options_are_one_line(
    options: list[str], message: str, model: Path, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [] if "--file" in options else ["--file", str(recording)]
    arguments = ["live", str(model), *given, *options, "--fast", "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("out/*"))


def test_a_model_that_cannot_stream_is_refused(
    write_causal_model: Callable[..., Path], recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_causal_model(tmp_path / "model", encoder_options={"hidden": 8})
    assert main(["live", str(model), "--file", str(recording), "--out", str(tmp_path / "out")]) == 2
    assert "the model cannot stream: encoder 'ft_mingru' is not causal" in capsys.readouterr().err
    assert main(["info", str(model)]) == 0
    assert "does not stream: encoder 'ft_mingru' is not causal" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        (5, "has 5 channels, the array 'circular4_5cm' has 4; give the recording's own by --array as a TOML file; "
         "or choose the array's channels by --channels"),
        (1, "has 1 channel, the array 'circular4_5cm' has 4: one microphone has no directions"),
    ],
)  # fmt: skip
def test_a_file_of_other_channels_is_refused_before_anything_is_made(
    channels: int, message: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "in.wav"
    audio.write(path, sound(channels), RATE)
    assert main(["live", str(model), "--file", str(path), "--out", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", f"error: {path}: {message}\n")
    assert not (tmp_path / "out").exists()


def test_info_tells_the_latency(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(model)]) == 0
    assert "streams, algorithmic latency 32 ms" in capsys.readouterr().out


def test_a_file_is_paced_like_a_microphone(recording: Path) -> None:
    paced, fast = (FileInput(recording, 0.1, fast=fast, array=load_array("circular4_5cm")) for fast in (False, True))
    took_s = []
    for source in (paced, fast):
        start_s = time.monotonic()
        joined = np.concatenate(list(source.chunks()), axis=1)
        took_s.append(time.monotonic() - start_s)
        np.testing.assert_array_equal(joined, sound())
    assert took_s[0] >= SECONDS - 0.01


def test_the_display_shows_levels_directions_and_overruns() -> None:
    shown = Shown(12.3, np.array([1.0, 0.001]), [40.0, 200.0], [0.9, 0.2], [True, False], 1, 0.25)
    text = lines(shown)
    assert "CLIP" in text[0] and "CLIP" not in text[1]
    circle = next(line for line in text if line.startswith("0° "))
    assert circle[3:].index("1") == 8 and circle[3:].index("·") == 40
    assert "slot 1   40.0°  confidence 0.90  speaks" in text
    assert "1 overrun  busy 25 %" in text[-1]


def test_disk_that_fills_keeps_what_was_heard(
    model: Path, recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    free = iter([10**9, 10**9, 0])
    monkeypatch.setattr("msdet.commands.live.shutil.disk_usage", lambda out: SimpleNamespace(free=next(free)))
    out = tmp_path / "out"
    assert main(["live", "--model", str(model), "--file", str(recording), "--fast", "--record", "--out", str(out)]) == 2
    told = capsys.readouterr().err
    assert told.endswith(f"error: the disk is full; {out} holds what was heard until then\n")
    kept, whole = heard(out / "input.wav"), heard(recording)
    assert kept.shape[1] == round(2 * 0.5 * RATE)
    assert np.abs(kept - whole[:, : kept.shape[1]]).max() < 1e-4
