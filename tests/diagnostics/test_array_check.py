"""The check of an array finds each fault by itself, and says what a recording cannot tell."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msdet.arrays import MicrophoneArray, load_array
from msdet.cli import main
from msdet.conventions import SPEED_OF_SOUND, Array, direction_vector
from msdet.diagnostics.check import ArrayReport, check_array
from msdet.errors import MsdetError
from msdet.inference.sources import MemorySource
from msdet.io import audio

RATE = 16_000
AROUND = (20.0, 85.0, 130.0, 215.0, 260.0, 330.0)
SQUARE = load_array("circular4_5cm")
HEXAGON = load_array("circular6_10cm")
LINE = load_array("linear4_5cm")


def delayed(signal: Array, delay_s: float) -> Array:
    """A signal ``(time,)`` later by any time."""
    spectrum = np.fft.rfft(signal, 2 * signal.size)
    turn = np.exp(-2j * np.pi * np.fft.rfftfreq(2 * signal.size, 1 / RATE) * delay_s)
    return np.asarray(np.fft.irfft(spectrum * turn)[: signal.size])


def recording(
    array: MicrophoneArray, azimuths_deg: Sequence[float] = AROUND, seed: int = 0, noise: float = 0.02
) -> Array:
    """A second of bursts of noise from each direction, ``(mic, time)``, and noise of each microphone."""
    rng = np.random.default_rng(seed)
    heard = []
    for azimuth_deg in azimuths_deg:
        bursts = rng.standard_normal(RATE) * np.repeat(rng.uniform(0.05, 1.0, 10), RATE // 10)
        lead_s = array.positions @ direction_vector(azimuth_deg) / SPEED_OF_SOUND
        heard.append([delayed(bursts, 0.01 - float(lead)) for lead in lead_s])
    mixture = np.concatenate(heard, axis=-1)
    mixture += noise * rng.standard_normal(mixture.shape)
    return np.asarray(0.1 * mixture, dtype=np.float32)


def check(mixture: Array, array: MicrophoneArray) -> ArrayReport:
    return check_array([MemorySource(np.asarray(mixture, np.float32), RATE)], array)


def swap(first: int, second: int) -> Callable[[Array], None]:
    def work(mixture: Array) -> None:
        mixture[[first, second]] = mixture[[second, first]]

    return work


def late(channel: int, delay_s: float) -> Callable[[Array], None]:
    def work(mixture: Array) -> None:
        mixture[channel] = delayed(mixture[channel], delay_s)

    return work


def invert(channel: int) -> Callable[[Array], None]:
    def work(mixture: Array) -> None:
        mixture[channel] *= -1

    return work


def other_sound(channel: int) -> Callable[[Array], None]:
    def work(mixture: Array) -> None:
        mixture[channel] = 0.05 * np.random.default_rng(9).standard_normal(mixture.shape[1])

    return work


def scale(channel: int, gain: float) -> Callable[[Array], None]:
    def work(mixture: Array) -> None:
        mixture[channel] *= gain

    return work


def copy(channel: int, of: int) -> Callable[[Array], None]:
    def work(mixture: Array) -> None:
        mixture[channel] = 0.9 * mixture[of]

    return work


def offset(channel: int) -> Callable[[Array], None]:
    def work(mixture: Array) -> None:
        mixture[channel] += 0.1

    return work


def clip(channel: int) -> Callable[[Array], None]:
    def work(mixture: Array) -> None:
        mixture[channel] = np.clip(mixture[channel], -0.05, 0.05)

    return work


@pytest.mark.parametrize("array", [HEXAGON, LINE, load_array("chime_tablet")], ids=lambda a: a.name)
def test_nothing_is_found_where_nothing_is_wrong(array: MicrophoneArray) -> None:
    report = check(recording(array), array)
    assert report.findings == ()
    assert report.enough
    assert report.fit is not None and report.fit > 0.8


@pytest.mark.parametrize(
    ("array", "faults", "expected"),
    [
        (HEXAGON, [swap(1, 2)], [("swapped", (1, 2))]),
        (LINE, [swap(0, 2)], [("swapped", (0, 2))]),
        (HEXAGON, [invert(4)], [("inverted", (4,))]),
        (LINE, [invert(0)], [("inverted", (0,))]),
        (HEXAGON, [late(3, 0.0012)], [("delayed", (3,))]),
        (LINE, [late(2, -0.0002)], [("delayed", (2,))]),
        (HEXAGON, [other_sound(5)], [("dead", (5,))]),
        (HEXAGON, [scale(0, 0.0)], [("dead", (0,))]),
        (HEXAGON, [scale(2, 0.1)], [("gain", (2,))]),
        (HEXAGON, [copy(4, 1)], [("copy", (1, 4))]),
        (HEXAGON, [copy(4, 1), copy(2, 1), copy(3, 0)], [("copy", (0, 3)), ("copy", (1, 2, 4))]),
        (HEXAGON, [scale(c, 0.0) for c in (1, 2, 3, 5)], [("dead", (c,)) for c in (1, 2, 3, 5)]),
        (HEXAGON, [scale(c, 0.0) for c in range(1, 6)], [("dead", (c,)) for c in range(1, 6)]),
        (HEXAGON, [scale(c, 0.0) for c in range(6)], [("dead", (0, 1, 2, 3, 4, 5))]),
        (HEXAGON, [offset(3)], [("offset", (3,))]),
        (HEXAGON, [clip(1)], [("clipped", (1,))]),
        (HEXAGON, [swap(0, 1), invert(3), late(5, 0.003)],
         [("swapped", (0, 1)), ("inverted", (3,)), ("delayed", (5,))]),
        (HEXAGON, [swap(0, 1), swap(1, 3)], [("reordered", (0, 1, 3))]),
    ],
)  # fmt: skip
def test_each_fault_is_found_and_nothing_else(
    array: MicrophoneArray, faults: list[Callable[[Array], None]], expected: list[tuple[str, tuple[int, ...]]]
) -> None:
    mixture = recording(array)
    for fault in faults:
        fault(mixture)
    found = check(mixture, array).findings
    assert [(f.kind, tuple(sorted(f.channels))) for f in found] == expected
    assert all("\n" not in f.text and str(f.channels[0]) in f.text for f in found)


@pytest.mark.parametrize("delay_s", [0.00035, -0.008])
def test_the_size_of_a_delay_is_found(delay_s: float) -> None:
    mixture = recording(HEXAGON)
    late(2, delay_s)(mixture)
    (found,) = check(mixture, HEXAGON).findings
    assert found.value == pytest.approx(delay_s, abs=2e-5)
    assert ("late" in found.text) == (delay_s > 0)


def test_swaps_that_sound_the_same_are_named_together() -> None:
    """Of a square, to swap two neighbors is to swap the two others and mirror it."""
    mixture = recording(SQUARE)
    swap(0, 1)(mixture)
    (found,) = check(mixture, SQUARE).findings
    assert {found.channels, *found.alternatives} == {(0, 1), (2, 3)}
    assert "0 and 1, or 2 and 3" in found.text


def test_mirror_images_are_told_to_be_hidden() -> None:
    report = check(recording(SQUARE), SQUARE)
    assert report.hidden is not None
    assert report.hidden.swapped == ((0, 2), (1, 3))
    assert any("0 and 2, 1 and 3" in text for text in report.doubts)
    assert report.symmetric
    assert any("rotated or mirrored" in text for text in report.doubts)


def test_swaps_that_one_direction_hides_are_told() -> None:
    """A talker on the axis of channel 0: what is level with it on both sides hears it at once."""
    report = check(recording(HEXAGON, (0.0,) * 6), HEXAGON)
    assert report.hidden is not None
    assert {(1, 5), (2, 4)} <= set(report.hidden.swapped)
    assert report.azimuths_deg == (0.0,)
    assert not {(1, 5), (2, 4)} & set((check(recording(HEXAGON), HEXAGON).hidden or report.hidden).swapped)


def test_noise_of_the_microphones_alone_is_not_enough_to_tell() -> None:
    rng = np.random.default_rng(0)
    report = check(0.1 * rng.standard_normal((6, 4 * RATE)), HEXAGON)
    assert not report.enough
    assert report.findings == ()
    assert "not enough speech" in report.doubts[0]


def test_another_array_does_not_fit() -> None:
    wide = MicrophoneArray("wide", tuple((2.5 * x, 2.5 * y, z) for x, y, z in HEXAGON.positions_m))
    found = check(recording(wide), HEXAGON).findings
    assert "unexplained" in [f.kind for f in found]
    assert "do not fit the array 'circular6_10cm'" in found[-1].text


@pytest.mark.parametrize(
    ("mixture", "message"),
    [
        (np.zeros((4, RATE)), "has 4 channels, the array 'circular6_10cm' has 6"),
        (np.zeros((1, RATE)), "has 1 channel, the array 'circular6_10cm' has 6: one microphone has no"),
        (np.zeros((6, 10)), "is 0.001 s long"),
        (np.full((6, RATE), np.nan), "holds NaN"),
    ],
)
def test_what_cannot_be_checked_is_refused(mixture: Array, message: str) -> None:
    with pytest.raises(MsdetError, match=message):
        check(mixture, HEXAGON)


def test_more_microphones_than_pairs_can_be_compared_of_are_refused() -> None:
    angles = np.arange(65) * 2 * np.pi / 65
    ring = np.stack([np.cos(angles), np.sin(angles), np.zeros(65)], axis=-1)
    array = MicrophoneArray("ring", tuple(map(tuple, ring.tolist())), 0)
    with pytest.raises(MsdetError, match="'ring' has 65 microphones; all pairs are compared, expected at most 64"):
        check(np.zeros((65, RATE)), array)


def test_two_microphones_are_checked_for_polarity() -> None:
    pair = MicrophoneArray("pair", ((-0.05, 0.0, 0.0), (0.05, 0.0, 0.0)))
    mixture = recording(pair)
    assert check(mixture, pair).findings == ()
    invert(1)(mixture)
    assert [(f.kind, f.channels) for f in check(mixture, pair).findings] == [("inverted", (1,))]


def written(path: Path, mixture: Array) -> str:
    audio.write(path, mixture, RATE)
    return str(path)


def test_the_command_says_which_and_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mixture = recording(HEXAGON)
    good = written(tmp_path / "good.wav", mixture)
    invert(2)(mixture)
    halves = [written(tmp_path / f"{n}.wav", half) for n, half in enumerate(np.array_split(mixture, 2, axis=-1))]
    assert main(["array", "check", "--array", "circular6_10cm", good]) == 0
    assert capsys.readouterr().out.startswith("no fault found  (6.0 s, 6 channels as 'circular6_10cm'")
    out = tmp_path / "report.json"
    assert main(["array", "check", *halves, "--array", "circular6_10cm", "--json", str(out)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("channel 2 is inverted against the others: directions explain")
    assert lines[1].startswith("faults: 1  (6.0 s")
    content: dict[str, Any] = json.loads(out.read_text())
    assert [(f["kind"], f["channels"]) for f in content["findings"]] == [("inverted", [2])]
    assert content["enough_speech"]


def test_an_offset_of_a_step_is_no_fault_and_a_large_one_is() -> None:
    mixture = np.round(0.02 * 32768 * recording(HEXAGON)) / 32768  # quiet: a step stands out
    mixture[2] += 1 / 32768
    assert check(mixture, HEXAGON).findings == ()
    mixture[2] += 0.01
    assert [f.kind for f in check(mixture, HEXAGON).findings] == ["offset"]


@pytest.mark.parametrize("sound", ["noise of each microphone", "hum"])
def test_the_command_ends_with_2_where_it_can_tell_nothing(
    sound: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = 1e-3 * np.random.default_rng(0).standard_normal((6, 5 * RATE))
    if sound == "hum":
        noise += 0.1 * np.sin(2 * np.pi * 50 * np.arange(5 * RATE) / RATE)
    assert main(["array", "check", written(tmp_path / "n.wav", noise), "--array", "circular6_10cm"]) == 2
    printed = capsys.readouterr()
    assert printed.out.startswith("not enough to tell  (5.0 s")
    assert printed.err == f"error: {tmp_path}/n.wav: not enough speech to tell anything sure\n"


def test_channels_of_a_device_are_called_by_their_numbers_in_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    array = load_array("respeaker_usb_4mic_square")
    mixture = recording(array)
    mixture[1] *= -1
    zeros = np.zeros((1, mixture.shape[1]), dtype=np.float32)
    six = written(tmp_path / "six.wav", np.concatenate([zeros, mixture, zeros]))
    for chosen in ([], ["--channels", "1-4"]):
        assert main(["array", "check", six, "--array", array.name, *chosen]) == 1
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == f"array '{array.name}', channels 1-4 of 6 (0 processed, 5 playback)"
        assert lines[1].startswith("channel 2 is inverted")
    assert main(["array", "check", six, "--array", array.name, "--channels", "0-3"]) == 1
    assert capsys.readouterr().out.splitlines()[1].startswith("channel 0 is dead")


def test_the_command_refuses_bad_input_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["array", "check", str(tmp_path / "none.wav"), "--array", "circular6_10cm"]) == 2
    captured = capsys.readouterr()
    assert captured.err == f"error: {tmp_path}/none.wav: no such file\n"
    assert captured.out == ""
