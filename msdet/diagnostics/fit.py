"""How well the delays between channels are explained by one direction at each moment.

The generalized cross-correlation with phase transform (Knapp and Carter, IEEE Trans. ASSP 24(4), 1976) of a
pair of channels peaks at the delay of the sound that dominates; far-field directions give the delays that
the geometry allows. Summed over pairs this is the steered response power (DiBiase 2000); its maximum over
directions, at each moment, is how well the moment fits, 1 for one sound without echoes.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np

from msdet.conventions import SPEED_OF_SOUND, Array, direction_vector
from msdet.diagnostics.moments import Moments

LAG_STEP_S = 1e-5

MAX_DELAY_S = 0.02
"""Delays between channels are looked for up to this."""

_AZIMUTHS_DEG = np.arange(0.0, 360.0, 5.0)

_ELEVATIONS_DEG = np.arange(-70.0, 71.0, 10.0)

_ALIKE_M = 0.004  # directions whose delays differ by less at all microphones are one

_WIDER = 1.6  # lags are looked at beyond what the array allows

_FINER = 8  # lags of residual correlations in a sample

_TIE = 0.2  # weight of a channel in finding a direction from the others, to part their mirror images


@dataclass(frozen=True)
class Wiring:
    """What channels are thought to carry.

    Attributes:
        order: ``(channel,)`` index of the microphone that each carries.
        sign: ``(channel,)`` 1, or -1 of an inverted one.
        delay_s: ``(channel,)``.
    """

    order: Array
    sign: Array
    delay_s: Array

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
    """Fits directions to moments, for any wiring.

    Args:
        heard: the moments.
        positions: ``(mic, 3)`` in meters.
    """

    def __init__(self, heard: Moments, positions: Array) -> None:
        self._heard = heard
        self.channels = len(positions)
        self.pairs = [(int(a), int(b)) for a, b in zip(*np.triu_indices(self.channels, 1), strict=True)]
        self.directions = _directions(positions)
        lead_s = self.directions @ (positions - positions.mean(axis=0)).T / SPEED_OF_SOUND
        self._lag_s = (lead_s.T[:, None] - lead_s.T[None]).astype(np.float64)  # (mic, mic, direction)
        reach = int(np.ceil(_WIDER * np.abs(self._lag_s).max() / LAG_STEP_S)) + 2
        self._places = np.rint(self._lag_s / LAG_STEP_S).astype(np.int64) + reach
        lags_s = (np.arange(2 * reach + 1) - reach) * LAG_STEP_S
        turns = np.exp(-2j * np.pi * heard.frequency_hz[:, None] * lags_s)
        self._turns = turns.astype(np.complex64) / len(heard.frequency_hz)
        self._correlations = functools.lru_cache(maxsize=4)(self._correlate)

    def quality(self, wiring: Wiring) -> Array:
        """How well each moment ``(moment,)`` fits, at most 1."""
        best: Array = self._response(wiring).max(axis=1)
        return best

    def quality_there(self, wiring: Wiring, places: Array) -> Array:
        """The same with directions given by index ``(moment,)``: at most `quality`, and quick."""
        correlations = self._correlations(wiring.delay_s.tobytes())
        a, b = np.array(self.pairs).T
        lags = self._places[wiring.order[a], wiring.order[b]][:, places].T  # (moment, pair)
        found = np.take_along_axis(correlations, lags[..., None], axis=2)[..., 0]
        mean: Array = (found * wiring.sign[a] * wiring.sign[b]).mean(axis=1)
        return mean

    def places(self, wiring: Wiring) -> Array:
        """Index ``(moment,)`` of the direction that fits best."""
        places: Array = self._response(wiring).argmax(axis=1)
        return places

    def unconstrained(self, wiring: Wiring) -> Array:
        """The same as `quality` ``(moment,)`` if each pair had its own delay, whatever the geometry."""
        peaks: Array = np.abs(self._correlations(wiring.delay_s.tobytes())).max(axis=2).mean(axis=1)
        return peaks

    def residual(self, wiring: Wiring, channel: int) -> tuple[Array, Array]:
        """Correlation of a channel with the others, each moved to where the wiring expects it.

        Directions are those that the others hear. A channel wired as thought has its peak at 0, a late one
        later; an inverted one has a negative peak; a channel on another plug hardly any.

        Returns:
            lags ``(lag,)`` in seconds, and the correlation ``(lag,)``.
        """
        c, order = self._aligned(wiring.delay_s), wiring.order
        others = [m for m in range(self.channels) if m != channel]
        heard_from = self._response(wiring, without=channel).argmax(axis=1)
        spectrum = np.zeros(c.shape[1], dtype=np.complex128)
        for other in others:
            # of two microphones alone any delay is a direction
            lag_s = self._lag_s[order[channel], order[other]][heard_from] * (len(others) > 1)
            turn = np.exp(-2j * np.pi * self._heard.frequency_hz * lag_s[:, None])
            sign = wiring.sign[channel] * wiring.sign[other]
            spectrum += sign * (c[:, :, channel, other] * turn).sum(axis=0)
        spectrum /= len(others) * len(c) * c.shape[1]
        step_hz = float(self._heard.frequency_hz[1] - self._heard.frequency_hz[0])
        first = round(float(self._heard.frequency_hz[0]) / step_hz)
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
        mean: Array = response / total
        return mean

    def _correlate(self, delay_s: bytes) -> Array:
        """Correlations ``(moment, pair, lag)`` of all pairs."""
        a, b = np.array(self.pairs).T
        c = self._aligned(np.frombuffer(delay_s))[:, :, a, b].transpose(0, 2, 1)
        correlations: Array = (c.reshape(-1, c.shape[-1]) @ self._turns).real
        return correlations.reshape(*c.shape[:2], -1)

    def _aligned(self, delay_s: Array) -> Array:
        """Coherence with delays taken away."""
        if not delay_s.any():
            return self._heard.coherence
        turn = np.exp(2j * np.pi * self._heard.frequency_hz[:, None] * delay_s).astype(np.complex64)
        aligned: Array = self._heard.coherence * (turn[:, :, None] * turn[:, None].conj())
        return aligned


def _directions(positions: Array) -> Array:
    """Unit vectors ``(direction, 3)`` on a grid, of those with the same delays only one."""
    azimuths, elevations = np.meshgrid(_AZIMUTHS_DEG, _ELEVATIONS_DEG)
    level_first = np.argsort(np.abs(elevations).ravel(), kind="stable")
    vectors = direction_vector(azimuths.ravel(), elevations.ravel())[level_first]
    paths = np.rint(vectors @ (positions - positions.mean(axis=0)).T / _ALIKE_M)
    first = np.unique(paths, axis=0, return_index=True)[1]
    chosen: Array = vectors[np.sort(first)]
    return chosen
