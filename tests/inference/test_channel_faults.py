"""Channels that die, slip or have another clock are found with when, left out, and another reference chosen."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from msdet.arrays import MicrophoneArray, load_array
from msdet.cli import main
from msdet.conventions import SPEED_OF_SOUND, Array, angular_distance_deg, direction_vector
from msdet.diagnostics.check import check_array
from msdet.inference.channel_faults import ChannelFault, ChannelWatch
from msdet.inference.sources import MemorySource, scan
from msdet.io import audio

RATE = 8000
HEXAGON = load_array("circular6_10cm")
TURNS = ((60.0, 200.0), (200.0, 60.0), (60.0, 60.0), (200.0, 200.0))


def delayed(signals: Array, delay_s: Array) -> Array:
    """Signals ``(channel, time)``, each later by its own time."""
    size = 2 * signals.shape[1]
    turn = np.exp(-2j * np.pi * np.fft.rfftfreq(size, 1 / RATE) * delay_s[:, None])
    return np.fft.irfft(np.fft.rfft(signals, size) * turn)[:, : signals.shape[1]]


def recording(array: MicrophoneArray = HEXAGON, seconds: float = 28.0, seed: int = 0) -> Array:
    """Two who take turns of bursts of noise, ``(mic, time)``, some echoes, and noise of each microphone."""
    rng = np.random.default_rng(seed)
    size = round(seconds / len(TURNS) * RATE)
    heard = []
    for places in TURNS:
        bursts = rng.standard_normal(size) * np.repeat(rng.uniform(0.02, 1.0, size // 800 + 1), 800)[:size]
        turn = np.zeros((array.microphones, size))
        for azimuth_deg, later_s, gain in ((places[0], 0.01, 1.0), (places[1] + 77.0, 0.023, 0.4)):
            lead_s = array.positions @ direction_vector(azimuth_deg) / SPEED_OF_SOUND
            turn += gain * delayed(np.tile(bursts, (array.microphones, 1)), later_s - lead_s)
        heard.append(turn)
    mixture = np.concatenate(heard, axis=1)
    return (0.1 * (mixture + 0.03 * rng.standard_normal(mixture.shape))).astype(np.float32)


def faults(mixture: Array, piece: int = 4 * RATE, array: MicrophoneArray = HEXAGON) -> tuple[ChannelFault, ...]:
    watch = ChannelWatch(array, RATE)
    for start in range(0, mixture.shape[1], piece):
        watch.add(mixture[:, start : start + piece])
    return watch.faults()


def clock(mixture: Array, channels: list[int], ppm: float, late_s: float) -> Array:
    """The mixture, some channels by a clock that is slower by so much, and late."""
    samples = np.arange(mixture.shape[1])
    other = mixture.copy()
    for c in channels:
        other[c] = np.interp(samples * (1 - 1e-6 * ppm) - late_s * RATE, samples, mixture[c], left=0.0)
    return other


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("circular6_10cm", 1.5),
        ("circular6_10cm", 28.0),
        ("linear4_5cm", 28.0),
        ("chime_tablet", 4.0),
        ("eigenmike32", 8),
    ],
)
def test_nothing_is_found_where_nothing_is_wrong(name: str, seconds: float) -> None:
    array = load_array(name)
    assert faults(recording(array, seconds), array=array) == ()
    noise = 0.1 * np.random.default_rng(0).standard_normal((array.microphones, round(seconds * RATE)))
    assert faults(noise.astype(np.float32), array=array) == ()


@pytest.mark.parametrize("residue", [0.0, 1e-3])
def test_a_channel_that_dies_is_told_with_when(residue: float) -> None:
    mixture = recording()
    mixture[2, 14 * RATE :] *= residue
    mixture[4, 7 * RATE : 10 * RATE] *= residue
    found = {fault.channels: fault for fault in faults(mixture)}
    assert found.keys() == {(2,), (4,)} and {fault.kind for fault in found.values()} == {"dead"}
    assert found[2,].text == "channel 2 is dead from 14.0 s on"
    assert found[4,].text == "channel 4 is dead from 7.0 s to 10.0 s"


@pytest.mark.parametrize("piece", [333, 4 * RATE, 10**6])
def test_samples_that_are_lost_are_told_with_how_many_and_when(piece: int) -> None:
    mixture = recording()
    mixture[[1, 2], 14 * RATE :] = mixture[[1, 2], 14 * RATE - 80 : -80]
    (fault,) = faults(mixture, piece)
    assert (fault.kind, fault.channels) == ("slipped", (1, 2))
    assert fault.value == pytest.approx(0.01, abs=5e-4)
    assert re.fullmatch(r"channels 1, 2 are (9\.\d|10) ms late from about 14 s on \(lost samples\?\)", fault.text)


@pytest.mark.parametrize("late_s", [0.003, 0.2, 1.9])
def test_a_second_device_is_told_by_how_late_it_is(late_s: float) -> None:
    (fault,) = faults(clock(recording(), [3, 4, 5], 0.0, late_s))
    assert (fault.kind, fault.channels) == ("late", (3, 4, 5))
    assert fault.value == pytest.approx(late_s, abs=6e-4)


@pytest.mark.parametrize(("ppm", "late_s"), [(100.0, 0.0), (-100.0, 0.001), (60.0, 1.0)])
def test_another_clock_is_told_by_its_rate(ppm: float, late_s: float) -> None:
    (fault,) = faults(clock(recording(seconds=56.0), [3, 4], ppm, late_s))
    assert (fault.kind, fault.channels) == ("drifting", (3, 4))
    assert fault.value == pytest.approx(ppm, abs=15.0)


def test_a_scan_chooses_another_reference_and_its_levels() -> None:
    mixture = recording()
    mixture[0, 14 * RATE :] = 0.0
    found = scan(MemorySource(mixture, RATE), HEXAGON, RATE)
    assert (found.dead, found.left_out, found.reference) == ((), (0,), 1)
    whole = scan(MemorySource(recording(), RATE), HEXAGON, RATE)
    assert abs(found.levels.quantile_db(0.3) - whole.levels.quantile_db(0.3)) < 2.0
    assert whole.left_out == () and whole.reference == 0


def dies(mixture: Array) -> Array:
    mixture = mixture.copy()
    mixture[0, 14 * RATE :] = 0.0
    return mixture


def slips(mixture: Array) -> Array:
    mixture = mixture.copy()
    mixture[3:, 14 * RATE :] = mixture[3:, 14 * RATE - 80 : -80]
    return mixture


@pytest.mark.parametrize(("spoil", "kept"), [(dies, "1, 2, 3, 4, 5"), (slips, "0, 1, 2")])
def test_the_others_localize_and_separate(
    spoil: Callable[[Array], Array], kept: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    audio.write(tmp_path / "bad.wav", spoil(recording()), RATE)
    options = ["--method", "srp_beam", "--array", HEXAGON.name]
    assert main(["separate", str(tmp_path / "bad.wav"), *options, "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().err
    assert f"goes on with channels {kept} alone, voices as at channel {kept[0]}" in told
    described = json.loads((tmp_path / "out" / "doa.json").read_text())
    assert described["array"]["reference"] == int(kept[0])
    assert described["array"]["positions_m"] == [list(row) for row in HEXAGON.positions_m]
    azimuth_deg = [talker["azimuth_deg"] for talker in described["talkers"]]
    assert angular_distance_deg(np.sort(azimuth_deg), [60.0, 200.0]).max() < 15.0
    assert audio.read(tmp_path / "out" / "talker1.wav")[0][:, 20 * RATE :].any()
    assert main(["localize", str(tmp_path / "bad.wav"), *options]) == 0
    assert "goes on with channels" in capsys.readouterr().err


def test_a_model_bound_to_its_microphones_says_that_it_cannot_go_on_without(
    write_causal_model: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    array = load_array("circular4_5cm")
    mixture = recording(array)
    mixture[0, 14 * RATE :] = 0.0
    audio.write(tmp_path / "half.wav", mixture, RATE)
    mixture[0] = 0.0
    audio.write(tmp_path / "dead.wav", mixture, RATE)
    model = write_causal_model(tmp_path / "model")
    assert main(["localize", str(tmp_path / "half.wav"), "--model", str(model)]) == 0
    told = capsys.readouterr().err
    assert "channel 0 is dead from 14.0 s on" in told and "are used all the same" in told
    assert main(["localize", str(tmp_path / "dead.wav"), "--model", str(model)]) == 2
    told = capsys.readouterr().err
    assert "the reference microphone (channel 0) is dead, and no other can stand in" in told


def test_a_stream_tells_at_its_end(causal_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mixture = recording(load_array("circular4_5cm"))
    mixture[2, 14 * RATE :] = 0.0
    audio.write(tmp_path / "in.wav", mixture, RATE)
    live = ["live", "--model", str(causal_model), "--file", str(tmp_path / "in.wav"), "--fast"]
    assert main([*live, "--out", str(tmp_path / "out")]) == 0
    assert "channel 2 is dead from 14.0 s on" in capsys.readouterr().err


def test_the_check_of_an_array_tells_them_too() -> None:
    for spoil, kind in ((dies, "dead"), (slips, "slipped")):
        report = check_array([MemorySource(spoil(recording()), RATE)], HEXAGON)
        assert [finding.kind for finding in report.findings] == [kind]
    late = clock(recording(), [3, 4, 5], 0.0, 0.3)
    (finding,) = check_array([MemorySource(late, RATE)], HEXAGON).findings
    assert (finding.kind, finding.channels) == ("late", (3, 4, 5))
