"""Channels that are no microphones like the others are found without an array, and nothing where nothing is odd."""

from __future__ import annotations

import numpy as np
import pytest

from msdet.arrays import load_array
from msdet.conventions import SPEED_OF_SOUND, Array, direction_vector
from msdet.diagnostics.odd import LOOKED_AT_S, odd_channels
from msdet.inference.sources import MemorySource

RATE = 16_000
SQUARE = load_array("circular4_5cm")


def speech(seed: int, seconds: int = 6) -> Array:
    """Noise in syllables with pauses ``(time,)``."""
    rng = np.random.default_rng(seed)
    envelope = np.repeat(rng.choice([0.02, 0.3, 1.0], 10 * seconds), RATE // 10)
    return 0.1 * envelope * rng.standard_normal(RATE * seconds)


def recording(seconds: int = 6) -> Array:
    """Two talkers and faint noise at four microphones."""
    heard = np.zeros((4, RATE * seconds))
    for seed, azimuth_deg in enumerate((30.0, 160.0)):
        spectrum = np.fft.rfft(speech(seed, seconds))
        lead_s = SQUARE.positions @ direction_vector(azimuth_deg) / SPEED_OF_SOUND
        turn = np.exp(2j * np.pi * np.fft.rfftfreq(RATE * seconds, 1 / RATE) * lead_s[:, None])
        heard += np.fft.irfft(spectrum * turn)
    return heard + 0.002 * np.random.default_rng(9).standard_normal(heard.shape)


def processed(mixture: Array, delay: int) -> Array:
    """A sum of the microphones with gain control, late."""
    beam = mixture.mean(axis=0)
    level = np.sqrt(np.convolve(beam**2, np.ones(RATE // 5) / (RATE // 5), "same"))
    return np.roll(0.05 * beam / (0.01 + level), delay)


def found(mixture: Array) -> tuple[list[tuple[str, tuple[int, ...]]], list[int]]:
    findings, keep = odd_channels(MemorySource(mixture.astype(np.float32), RATE))
    return [(finding.kind, finding.channels) for finding in findings], keep


def test_nothing_is_odd_about_microphones() -> None:
    assert found(recording()) == ([], [0, 1, 2, 3])


@pytest.mark.parametrize("delay", [0, 320])
def test_the_processed_channel_of_a_device_is_found(delay: int) -> None:
    mixture = recording()
    device = np.concatenate([processed(mixture, delay)[None], mixture, np.zeros((1, mixture.shape[1]))])
    assert found(device) == ([("processed", (0,))], [1, 2, 3, 4])
    (finding,), _ = odd_channels(MemorySource(device.astype(np.float32), RATE).taking([5, 4, 3, 2, 1, 0]))
    assert ("20.0 ms late" in finding.text) == (delay == 320)


def test_playback_and_copies_are_found() -> None:
    mixture = recording()
    assert found(np.concatenate([mixture, speech(7)[None]])) == ([("dead", (4,))], [0, 1, 2, 3])
    assert found(np.concatenate([0.5 * mixture[2:3], mixture])) == ([("copy", (0, 3))], [0, 1, 2, 4])


def test_b_format_is_at_one_place() -> None:
    kinds = []
    for azimuths_deg in ((40.0, 200.0), (120.0, 250.0)):
        parts = []
        for seed, azimuth_deg in enumerate(azimuths_deg):
            x, y, _ = direction_vector(azimuth_deg)
            parts.append(np.array([0.7, x, y, 0.05])[:, None] * speech(seed, 4))
        mixture = np.concatenate(parts, axis=-1)
        kinds += found(mixture + 1e-3 * np.random.default_rng(1).standard_normal(mixture.shape))[0]
    assert kinds == [("coincident", ())] * 2


def test_only_the_beginning_of_a_long_recording_is_looked_at() -> None:
    source = MemorySource(np.zeros((2, round(LOOKED_AT_S + 1) * 1000), dtype=np.float32), 1000)
    assert sum(piece.shape[1] for piece in source.beginning(LOOKED_AT_S).pieces()) == LOOKED_AT_S * 1000
