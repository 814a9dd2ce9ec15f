"""Talkers made by hand, and systems that know them: what is tested here is what happens around a system."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from msdet.arrays import MicrophoneArray, load_array
from msdet.inference.blocks import BlockOptions
from msdet.inference.offline import OfflineSeparation, RecordingSystem
from msdet.inference.sources import MemorySource, RecordingSource, scan
from msdet.methods.base import Separation

RATE = 8000
AZIMUTHS_DEG = (40.0, 200.0)
Array = npt.NDArray[Any]
Outcome = tuple[Array, Separation]


def syllables(seed: int, seconds: float) -> Array:
    """Speech-like ``(time,)``: harmonics in syllables; RMS 0.1."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    pitch_rad = 2 * np.pi * rng.uniform(100, 220) * t
    voiced = sum(np.sin(h * pitch_rad + rng.uniform(0, 6)) / h for h in range(1, 12))
    signal = voiced * np.clip(np.sin(2 * np.pi * rng.uniform(2, 4) * t + rng.uniform(0, 6)), 0.05, None)
    return (0.1 * signal / signal.std()).astype(np.float32)


@functools.cache
def syllables_of(seed: int, seconds: float) -> Array:
    """The same, made once."""
    return syllables(seed, seconds)


def talking(turns: list[tuple[int, float, float]], seconds: float) -> Array:
    """Two talkers ``(2, time)`` who speak in turns of talker, start and end in seconds."""
    talkers = np.zeros((2, round(seconds * RATE)), dtype=np.float32)
    for talker, start_s, end_s in turns:
        start, end = round(start_s * RATE), round(end_s * RATE)
        talkers[talker, start:end] = syllables_of(talker, seconds)[start:end]
    return talkers


@pytest.fixture(scope="session")
def array() -> MicrophoneArray:
    """Four microphones; hand-made mixtures hold a talker alone on channels 1 and 2."""
    return load_array("circular4_5cm")


@pytest.fixture
def say() -> Callable[..., Array]:
    """Makes talkers ``(2, time)`` from turns."""
    return talking


@pytest.fixture
def mixture_of() -> Callable[[Array], Array]:
    """Makes a mixture of hand-made talkers ``(2, time)``: the sum, each alone, and noise."""

    def make(talkers: Array) -> Array:
        noise = np.random.default_rng(0).standard_normal((4, talkers.shape[1]), dtype=np.float32)
        return np.stack([talkers.sum(0), talkers[0], talkers[1], 0 * talkers[0]]) + 1e-4 * noise

    return make


@dataclass
class Knowing:
    """A system that reads the talkers from channels 1 and 2, and mixes them up as real ones do.

    Voices come in the order of their azimuths in the block; that of somebody who is silent there is anywhere
    else, and his voice is a faint residue of the other's.
    """

    seed: int = 0

    def __call__(self, mixture: Array) -> Separation:
        rng = np.random.default_rng([self.seed, round(1e6 * float(np.abs(mixture).sum())) % 2**31])
        voices = mixture[1:3].copy()
        loud = np.sqrt(np.mean(voices**2, axis=1)) > 1e-3
        azimuth_deg = np.array(AZIMUTHS_DEG) + rng.uniform(-3, 3, 2)
        azimuth_deg[~loud] = (azimuth_deg[loud][:1].sum() + rng.uniform(30, 330)) % 360
        for silent in np.flatnonzero(~loud):
            voices[silent] += 0.2 * voices[1 - silent]
        order = np.argsort(azimuth_deg)
        return Separation(voices[order], azimuth_deg[order], np.full(2, 0.9))


@pytest.fixture
def knowing() -> Knowing:
    """The system."""
    return Knowing()


@pytest.fixture
def run(array: MicrophoneArray) -> Callable[..., Outcome]:
    """Runs a system over a mixture or source; gives voices in the talkers' order, and the talkers."""

    def call(separator: Any, given: Array | RecordingSource, slots: int = 2, **options: Any) -> Outcome:
        source = MemorySource(given, RATE) if isinstance(given, np.ndarray) else given
        found = scan(source, array, RATE)
        system = RecordingSystem(separator, array, RATE, slots, "test")
        inference = OfflineSeparation(system, source, found, BlockOptions(**{"highpass_hz": 0.0, **options}))
        voices = [piece.estimates for piece in inference.pieces() if piece.estimates is not None]
        slots, talkers = inference.talkers()
        joined = np.concatenate(voices, axis=-1)[slots] if voices else np.zeros((0, 0))
        return joined, talkers

    return call


@dataclass(frozen=True)
class Endless:
    """A source that makes its samples as they are read; nobody ever holds all of them."""

    seconds: float
    name: str = "endless"
    sample_rate: int = RATE
    channels: int = 4
    numbers: tuple[int, ...] = (0, 1, 2, 3)

    def pieces(self) -> Iterator[Array]:
        noise = 0.1 * np.random.default_rng(0).standard_normal((4, RATE), dtype=np.float32)
        for second in range(round(self.seconds)):
            yield noise * np.float32(1.0 + second % 3)


@pytest.fixture
def endless() -> type[Endless]:
    """A source of any length."""
    return Endless
