"""Moments of a recording in which the direct sound of somebody is heard: what delays are measured from."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from msdet.conventions import Array
from msdet.inference.sources import RecordingSource, resampled

MAX_RATE = 16_000
"""Recordings are looked at up to this sample rate, hertz."""

LENGTH_S = 0.5
"""Length of a moment: long against delays and syllables, short against a talker's turn."""

LOWEST_HZ, MAX_HZ = 150.0, 7000.0

_FRAME_S = 0.064

_LOUDEST = 4  # moments of a stretch of the recording that are looked at, the clearest is kept

_MAX_BYTES = 64_000_000

_MOST, _FEWEST = 64, 16

_DECAY_S = 0.6  # T60 by which reverberation is thought to fade

_REVERBERANT = 0.05  # weight of what may be reverberation alone

_QUIETEST_DB = -40.0  # against the loudest moment


@dataclass(frozen=True)
class Moments:
    """Moments of a recording.

    Attributes:
        coherence: ``(moment, freq, mic, mic)`` complex64: mean over frames of the cross-spectra's phases.
        frequency_hz: ``(freq,)``, evenly spaced.
    """

    coherence: Array
    frequency_hz: Array

    def of(self, channels: Sequence[int]) -> Moments:
        """Some channels alone."""
        chosen = list(channels)
        return Moments(self.coherence[:, :, chosen][..., chosen], self.frequency_hz)


def moments(sources: Sequence[RecordingSource], samples: Sequence[int]) -> Moments:
    """The clearest moments of recordings, spread evenly over their length, in memory that does not grow.

    Args:
        sources: recordings of the same channels.
        samples: length of each.
    """
    rate = min(MAX_RATE, *(source.sample_rate for source in sources))
    spectra = _Spectra(rate)
    most = _MAX_BYTES // (8 * len(spectra.frequency_hz) * sources[0].channels ** 2)
    count = min(_MOST, max(_FEWEST, most))
    seconds = sum(n / source.sample_rate for n, source in zip(samples, sources, strict=True))
    # a whole number of moments a stretch, so that short recordings are used to the full
    stretch = max(1, math.ceil(seconds / LENGTH_S / count))
    found: list[tuple[float, Array]] = []
    for source in sources:
        kept: list[tuple[float, int, Array]] = []
        for number, signal in enumerate(_cut(source, rate)):
            heapq.heappush(kept, (float(np.square(signal).sum()), number, signal))
            if len(kept) > _LOUDEST:
                heapq.heappop(kept)
            if (number + 1) % stretch == 0:
                found.append(spectra.clearest(kept))
                kept = []
        if kept:
            found.append(spectra.clearest(kept))
    loudest = max((energy for energy, _ in found), default=0.0)
    used = [c for energy, c in found if energy > loudest * 10 ** (_QUIETEST_DB / 10)]
    shape = (0, len(spectra.frequency_hz), sources[0].channels, sources[0].channels)
    return Moments(np.stack(used) if used else np.zeros(shape, np.complex64), spectra.frequency_hz)


def _cut(source: RecordingSource, rate: int) -> Iterator[Array]:
    """Pieces ``(mic, time)`` of `LENGTH_S` at a rate; what is left at the end is dropped."""
    samples = round(LENGTH_S * rate)
    rest = np.zeros((source.channels, 0), dtype=np.float32)
    for piece in resampled(source.pieces(), source.sample_rate, rate):
        signal = np.concatenate([rest, piece], axis=-1)
        whole = signal.shape[-1] // samples
        for k in range(whole):
            yield signal[:, k * samples : (k + 1) * samples]
        rest = signal[:, whole * samples :]


class _Spectra:
    """Coherence of moments at a sample rate."""

    def __init__(self, rate: int) -> None:
        self._size = 2 ** round(math.log2(_FRAME_S * rate))
        self._hop = self._size // 4
        self._window = np.hanning(self._size + 1)[:-1].astype(np.float32)
        frequency_hz = np.fft.rfftfreq(self._size, 1 / rate)
        self._band = (frequency_hz >= LOWEST_HZ) & (frequency_hz <= min(MAX_HZ, 0.45 * rate))
        self.frequency_hz = frequency_hz[self._band]
        self._fading = 10 ** (-6 * self._hop / rate / _DECAY_S)

    def clearest(self, signals: Sequence[tuple[float, int, Array]]) -> tuple[float, Array]:
        """Of moments ``(energy, number, (mic, time))`` the most coherent one: energy and coherence."""
        found = [(energy, self._coherence(signal)) for energy, _, signal in signals]
        return max(found, key=lambda of: float(np.square(np.abs(of[1])).mean()))

    def _coherence(self, signal: Array) -> Array:
        """Mean phases ``(freq, mic, mic)`` of cross-spectra, chiefly where sound rises above what fades.

        What is louder than the reverberation of what went before comes straight from a source.
        """
        frames = np.lib.stride_tricks.sliding_window_view(signal, self._size, axis=-1)[:, :: self._hop]
        spectra = np.fft.rfft(frames * self._window)[..., self._band].astype(np.complex64)
        power = np.square(np.abs(spectra)).mean(axis=0)
        weight = np.empty_like(power)
        fading = np.zeros_like(power[0])
        for frame, now in enumerate(power):
            weight[frame] = np.where(now > fading, 1.0, _REVERBERANT)
            fading = np.maximum(fading * self._fading, now)
        phases = spectra / np.maximum(np.abs(spectra), 1e-12)
        by_frequency = phases.transpose(2, 0, 1) * np.sqrt(weight / weight.sum(axis=0)).T[:, None]
        coherence: Array = by_frequency @ by_frequency.conj().transpose(0, 2, 1)
        return coherence
