"""How well the delays between channels are explained by one direction at each moment of a recording.

Moments are those in which direct sound arrives (`moments`). The generalized
cross-correlation with phase transform (Knapp and Carter, IEEE Trans. ASSP 24(4), 1976) of a pair of channels
peaks at the delay of the sound that dominates; far-field directions give the delays that the geometry allows.
Summed over pairs this is the steered response power (DiBiase 2000); its maximum over directions, at each
moment, is how well the moment fits, 1 for one sound without echoes.
"""

from __future__ import annotations

import functools
import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from msdet.conventions import SPEED_OF_SOUND, Array, direction_vector
from msdet.inference.sources import RecordingSource, in_chunks, resampled

MAX_RATE = 16_000  # recordings are looked at up to this sample rate, hertz
MIN_MOMENTS = 6  # three seconds of sound
LENGTH_S = 0.5  # length of a moment: long against delays and syllables, short against a talker's turn
LOWEST_HZ, MAX_HZ = 150.0, 7000.0
_FRAME_S = 0.064
_LOUDEST = 4  # moments of a stretch of the recording that are looked at, the clearest is kept
_MAX_BYTES = 64_000_000
_MOST, _FEWEST = 64, 16
_DECAY_S = 0.6  # T60 by which reverberation is thought to fade
_REVERBERANT = 0.05  # weight of what may be reverberation alone
_QUIETEST_DB = -40.0  # against the loudest moment
LAG_STEP_S = 1e-5
MAX_DELAY_S = 0.02  # delays between channels are looked for up to this
_AZIMUTHS_DEG = np.arange(0.0, 360.0, 5.0)
_ELEVATIONS_DEG = np.arange(-70.0, 71.0, 10.0)
_ALIKE_M = 0.004  # directions whose delays differ by less at all microphones are one
_WIDER = 1.6  # lags are looked at beyond what the array allows
_FINER = 8  # lags of residual correlations in a sample
_TIE = 0.2  # weight of a channel in finding a direction from the others, to part their mirror images


@dataclass(frozen=True)
class Moments:
    """Moments of a recording."""

    coherence: Array  # (moment, freq, mic, mic) complex64: mean over frames of the cross-spectra's phases
    frequency_hz: Array  # (freq,), evenly spaced

    def of(self, channels: list[int]) -> Moments:
        """Some channels alone."""
        return Moments(self.coherence[:, :, channels][..., channels], self.frequency_hz)


def moments(sources: Sequence[RecordingSource], samples: Sequence[int]) -> Moments:
    """The clearest moments of recordings of so many samples, spread evenly, in memory that does not grow."""
    rate = min(MAX_RATE, *(source.sample_rate for source in sources))
    spectra = _Spectra(rate)
    most = _MAX_BYTES // (8 * len(spectra.frequency_hz) * sources[0].channels ** 2)
    count = min(_MOST, max(_FEWEST, most))
    seconds = sum(n / source.sample_rate for n, source in zip(samples, sources, strict=True))
    # a whole number of moments a stretch, so that short recordings are used to the full
    stretch = max(1, math.ceil(seconds / LENGTH_S / count))
    size = round(LENGTH_S * rate)
    found: list[tuple[float, Array]] = []
    for source in sources:
        kept: list[tuple[float, int, Array]] = []
        for number, signal in enumerate(in_chunks(resampled(source.pieces(), source.sample_rate, rate), size)):
            if signal.shape[-1] < size:  # the end
                break
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
        return np.asarray(by_frequency @ by_frequency.conj().transpose(0, 2, 1))


@dataclass(frozen=True)
class Wiring:
    """What channels are thought to carry."""

    order: Array  # (channel,) index of the microphone that each carries
    sign: Array  # (channel,) 1, or -1 of an inverted one
    delay_s: Array  # (channel,)

    @classmethod
    def as_described(cls, channels: int) -> Wiring:
        """Each channel carries its own microphone."""
        return cls(np.arange(channels), np.ones(channels), np.zeros(channels))

    @property
    def key(self) -> tuple[bytes, ...]:
        """The same for wirings that are the same but for a few microseconds."""
        return self.order.tobytes(), self.sign.tobytes(), np.rint(self.delay_s * 1e5).tobytes()

    def swapped(self, first: int, second: int) -> Wiring:
        """With two channels exchanged."""
        order = self.order.copy()
        order[[first, second]] = order[[second, first]]
        return replace(self, order=order)

    def inverted(self, channel: int) -> Wiring:
        """With a channel inverted."""
        sign = self.sign.copy()
        sign[channel] *= -1
        return replace(self, sign=sign)

    def delayed(self, channel: int, by_s: float) -> Wiring:
        """With a channel later by so much."""
        delay_s = self.delay_s.copy()
        delay_s[channel] += by_s
        return replace(self, delay_s=delay_s)


class Fit:
    """Fits directions to moments, for any wiring of microphones at `positions` ``(mic, 3)`` in meters."""

    def __init__(self, observed: Moments, positions: Array) -> None:
        self._observed = observed
        self.channels = len(positions)
        self.pairs = [(int(a), int(b)) for a, b in zip(*np.triu_indices(self.channels, 1), strict=True)]
        self.directions = _directions(positions)
        lead_s = self.directions @ (positions - positions.mean(axis=0)).T / SPEED_OF_SOUND
        self._lag_s = (lead_s.T[:, None] - lead_s.T[None]).astype(np.float64)  # (mic, mic, direction)
        reach = int(np.ceil(_WIDER * np.abs(self._lag_s).max() / LAG_STEP_S)) + 2
        self._places = np.rint(self._lag_s / LAG_STEP_S).astype(np.int64) + reach
        lags_s = (np.arange(2 * reach + 1) - reach) * LAG_STEP_S
        turns = np.exp(-2j * np.pi * observed.frequency_hz[:, None] * lags_s)
        self._turns = turns.astype(np.complex64) / len(observed.frequency_hz)
        self._correlations = functools.lru_cache(maxsize=4)(self._correlate)

    def quality(self, wiring: Wiring) -> Array:
        """How well each moment ``(moment,)`` fits, at most 1."""
        return np.asarray(self._response(wiring).max(axis=1))

    def quality_there(self, wiring: Wiring, places: Array) -> Array:
        """The same with directions given by index ``(moment,)``: at most `quality`, and quick."""
        correlations = self._correlations(wiring.delay_s.tobytes())
        a, b = np.array(self.pairs).T
        lags = self._places[wiring.order[a], wiring.order[b]][:, places].T  # (moment, pair)
        found = np.take_along_axis(correlations, lags[..., None], axis=2)[..., 0]
        return np.asarray((found * wiring.sign[a] * wiring.sign[b]).mean(axis=1))

    def places(self, wiring: Wiring) -> Array:
        """Index ``(moment,)`` of the direction that fits best."""
        return np.asarray(self._response(wiring).argmax(axis=1))

    def unconstrained(self, wiring: Wiring) -> Array:
        """The same as `quality` ``(moment,)`` if each pair had its own delay, whatever the geometry."""
        return np.asarray(np.abs(self._correlations(wiring.delay_s.tobytes())).max(axis=2).mean(axis=1))

    def residual(self, wiring: Wiring, channel: int) -> tuple[Array, Array]:
        """Lags in seconds, and correlation ``(lag,)`` of a channel with the others, each moved to where it is expected.

        Directions are those that the others hear. A channel wired as thought has its peak at 0, a late one later; an
        inverted one has a negative peak; a channel on another plug hardly any.
        """
        c, order = self._aligned(wiring.delay_s), wiring.order
        others = [m for m in range(self.channels) if m != channel]
        direction_of = self._response(wiring, without=channel).argmax(axis=1)
        spectrum = np.zeros(c.shape[1], dtype=np.complex128)
        for other in others:
            # of two microphones alone any delay is a direction
            lag_s = self._lag_s[order[channel], order[other]][direction_of] * (len(others) > 1)
            turn = np.exp(-2j * np.pi * self._observed.frequency_hz * lag_s[:, None])
            sign = wiring.sign[channel] * wiring.sign[other]
            spectrum += sign * (c[:, :, channel, other] * turn).sum(axis=0)
        spectrum /= len(others) * len(c) * c.shape[1]
        step_hz = float(self._observed.frequency_hz[1] - self._observed.frequency_hz[0])
        first = round(float(self._observed.frequency_hz[0]) / step_hz)
        size = _FINER * 2 ** int(np.ceil(np.log2(2 * (first + len(spectrum)))))
        padded = np.zeros(size // 2 + 1, dtype=np.complex128)
        padded[first : first + len(spectrum)] = spectrum
        correlation = np.fft.fftshift(np.fft.irfft(padded, size)) * (size / 2)
        lags_s = (np.arange(size) - size // 2) / (size * step_hz)
        near = np.abs(lags_s) <= MAX_DELAY_S
        return lags_s[near], correlation[near]

    def _response(self, wiring: Wiring, without: int | None = None) -> Array:
        """Steered response ``(moment, direction)``; `without` one channel, but for ties."""
        correlations = self._correlations(wiring.delay_s.tobytes())
        response = np.zeros((len(correlations), len(self.directions)), dtype=np.float32)
        total = 0.0
        for pair, (a, b) in enumerate(self.pairs):
            weight = _TIE if without in (a, b) else 1.0
            places = self._places[wiring.order[a], wiring.order[b]]
            response += (weight * wiring.sign[a] * wiring.sign[b]) * correlations[:, pair, places]
            total += weight
        return response / total

    def _correlate(self, delay_s: bytes) -> Array:
        """Correlations ``(moment, pair, lag)`` of all pairs."""
        a, b = np.array(self.pairs).T
        c = self._aligned(np.frombuffer(delay_s))[:, :, a, b].transpose(0, 2, 1)
        correlations: Array = (c.reshape(-1, c.shape[-1]) @ self._turns).real
        return correlations.reshape(*c.shape[:2], -1)

    def _aligned(self, delay_s: Array) -> Array:
        """Coherence with delays taken away."""
        if not delay_s.any():
            return self._observed.coherence
        turn = np.exp(2j * np.pi * self._observed.frequency_hz[:, None] * delay_s).astype(np.complex64)
        return np.asarray(self._observed.coherence * (turn[:, :, None] * turn[:, None].conj()))


def _directions(positions: Array) -> Array:
    """Unit vectors ``(direction, 3)`` on a grid, of those with the same delays only one."""
    azimuths, elevations = np.meshgrid(_AZIMUTHS_DEG, _ELEVATIONS_DEG)
    level_first = np.argsort(np.abs(elevations).ravel(), kind="stable")
    vectors = direction_vector(azimuths.ravel(), elevations.ravel())[level_first]
    paths = np.rint(vectors @ (positions - positions.mean(axis=0)).T / _ALIKE_M)
    first = np.unique(paths, axis=0, return_index=True)[1]
    return vectors[np.sort(first)]
