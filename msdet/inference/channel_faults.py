"""Faults of channels that come and go: dead for a while, slipped by a lost buffer, late or drifting with another clock.

Levels tell what is dead. For the rest, the generalized cross-correlation with phase transform (Knapp and Carter, IEEE
Trans. ASSP 24(4), 1976) of some seconds of a pair of channels peaks at a delay that the distance of the two microphones
allows, wherever talkers are. Channels whose pairs do belong together; one that is apart from most has another clock, or
another start. What stays below the time that sound takes between two microphones is not seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy
from scipy.sparse.csgraph import connected_components

from msdet.arrays import MicrophoneArray
from msdet.conventions import SPEED_OF_SOUND, Array

WINDOW_S = 5.0  # in which delays are looked for, up to half of it
LEVEL_S = 0.5  # in which levels are
DEAD_DB = -30.0  # of a channel against what it has otherwise; gains, turns and distances change less
_LOUD_DB = -25.0  # against the loudest 5 %; in pauses noise may hide what is dead
_BAND_HZ = (150.0, 3800.0)
_LAG_RATE_HZ = 16_000.0
_MIN_S = 2.0  # a shorter window tells nothing
_MARGIN_S = 2e-4  # of the delays that a distance allows
_CLEAR = 7.0  # times the spread of a correlation of noise: from here on a peak is one
_STRONGER = 1.5  # a peak elsewhere, against the highest that the distance allows
_ALL_PAIRS, _NEIGHBORS = 8, 4  # up to so many channels all pairs are looked at; of more, the nearest of each
_MIN_WINDOWS = 6  # that tell a drift
_GOES_ON, _CLOSER = 0.4, 0.8  # of a drift: the usual slope from window to window, and what it leaves unexplained

Kind = Literal["dead", "late", "slipped", "drifting"]


@dataclass(frozen=True)
class ChannelFault:
    """A fault: of which channels, in a line with when; `value` is seconds, of a drift parts per million."""

    kind: Kind
    channels: tuple[int, ...]
    text: str
    value: float | None = None


class ChannelWatch:
    """Takes a recording ``(mic, time)`` of an array in pieces; `faults` tells what was seen.

    In words channels have the `numbers` that they have in the recording, if not all of it are the array's.
    """

    def __init__(self, array: MicrophoneArray, sample_rate: int, numbers: Sequence[int] | None = None) -> None:
        self._numbers = range(array.microphones) if numbers is None else numbers
        self._reference, self._rate = array.reference, sample_rate
        distances_m = array.distances_m
        first, second = np.triu_indices(array.microphones, 1)
        if array.microphones > _ALL_PAIRS:
            nearest = np.argsort(distances_m, axis=1)[:, 1 : _NEIGHBORS + 1]
            near = np.zeros(distances_m.shape, dtype=bool)
            near[np.arange(array.microphones)[:, None], nearest] = True
            near[array.reference] = True
            chosen = (near | near.T)[first, second]
            first, second = first[chosen], second[chosen]
        self._pairs = np.stack([first, second])
        self._reach_s = distances_m[first, second] / SPEED_OF_SOUND + _MARGIN_S
        self._waiting: Array = np.zeros((array.microphones, 0), dtype=np.float32)
        self._starts_s = 0.0
        self._levels: list[Array] = []  # (mic,) dB
        self._late: list[tuple[float, Array, Array]] = []  # center, delay (mic,), and which are apart (mic,)

    def add(self, piece: Array) -> None:
        """Take the next samples."""
        self._waiting = np.concatenate([self._waiting, piece], axis=1)
        size, hop = round(WINDOW_S * self._rate), round(WINDOW_S * self._rate / 2)
        while self._waiting.shape[1] >= size:
            self._look(self._waiting[:, :size], hop)
            self._waiting = self._waiting[:, hop:]
            self._starts_s += hop / self._rate

    def _look(self, window: Array, new: int) -> None:
        """Note levels of so many samples, and delays, in a window ``(mic, time)``."""
        frame = round(LEVEL_S * self._rate)
        frames = window[:, : new // frame * frame].reshape(len(window), -1, frame)
        power = frames.var(axis=-1, dtype=np.float64)
        self._levels.extend(10 * np.log10(np.maximum(power, 1e-20)).T)
        found = self._delays(window)
        if found is not None:
            self._late.append((self._starts_s + window.shape[1] / self._rate / 2, *found))

    def _delays(self, window: Array) -> tuple[Array, Array] | None:
        """Delay ``(mic,)`` against the channels that most belong to, NaN if unknown, and which are apart from them."""
        frequency_hz = np.fft.rfftfreq(window.shape[1], 1 / self._rate)
        band = (frequency_hz >= _BAND_HZ[0]) & (frequency_hz <= min(_BAND_HZ[1], 0.45 * self._rate))
        spectrum = np.fft.rfft(window - window.mean(axis=1, keepdims=True))[:, band]
        size = np.abs(spectrum)
        spectrum = spectrum / np.maximum(size, 1e-12)
        spectrum[size.max(axis=1) < 1e-9] = 0.0
        seconds = window.shape[1] / self._rate
        lags = scipy.fft.next_fast_len(round(_LAG_RATE_HZ * seconds), real=True)
        padded = np.zeros(lags // 2 + 1, dtype=np.complex128)
        inside = slice(int(band.argmax()), int(band.argmax()) + int(band.sum()))
        lag_s = np.fft.fftfreq(lags, 1 / seconds)
        floor = _CLEAR * np.sqrt(0.5 / band.sum())
        late_s = np.full((len(window), len(window)), np.nan)
        together = np.zeros(late_s.shape, dtype=bool)
        for (a, b), reach_s in zip(self._pairs.T.tolist(), self._reach_s, strict=True):
            padded[inside] = spectrum[a] * spectrum[b].conj()
            correlation = np.abs(scipy.fft.irfft(padded, lags)) * (lags / 2 / band.sum())
            near = np.abs(lag_s) <= reach_s
            best_near, best = correlation[near].max(), int(correlation.argmax())
            apart = correlation[best] > _STRONGER * best_near
            if correlation[best] < floor:
                continue
            together[a, b] = not apart
            top = best if apart else int(np.flatnonzero(near)[correlation[near].argmax()])
            left, middle, right = correlation[[top - 1, top, (top + 1) % lags]]
            finer = 0.5 * (left - right) / min(left - 2 * middle + right, -1e-12)  # the top of a parabola
            late_s[a, b] = lag_s[top] + float(np.clip(finer, -0.5, 0.5)) / _LAG_RATE_HZ
            late_s[b, a] = -late_s[a, b]
        return self._majority(together, late_s)

    def _majority(self, together: Array, late_s: Array) -> tuple[Array, Array] | None:
        """Of pairs ``(mic, mic)`` that belong together, and their delays: as of `_delays`; None where nothing does."""
        labels = connected_components(together, directed=False)[1]
        counts = np.bincount(labels)
        own = labels[self._reference]
        main = labels == (own if counts[own] == counts.max() else counts.argmax())
        if main.sum() < 2 and len(labels) > 2:
            return None
        known = np.isfinite(late_s[:, main]).any(axis=1)
        delays = np.full(len(labels), np.nan)
        delays[known] = np.nanmedian(late_s[np.ix_(known, main)], axis=1)
        return delays, known & ~main

    def faults(self) -> tuple[ChannelFault, ...]:
        """What was seen until now, after the last piece."""
        if not self._late and self._waiting.shape[1] >= _MIN_S * self._rate:  # all there is
            self._look(self._waiting, self._waiting.shape[1])
        moved = self._moved()
        told = {channel for fault in moved for channel in fault.channels}  # who begins late is silent until then
        return *(fault for fault in self._dead() if not told.intersection(fault.channels)), *moved

    def _dead(self) -> tuple[ChannelFault, ...]:
        """Channels that are silent for a while."""
        if not self._levels:
            return ()
        level_db = np.array(self._levels)
        middle_db = np.median(level_db, axis=1)
        loud = np.flatnonzero(middle_db > np.quantile(middle_db, 0.95) + _LOUD_DB)
        relative_db = level_db[loud] - middle_db[loud, None]
        silent = relative_db < np.quantile(relative_db, 0.9, axis=0) + DEAD_DB
        runs: dict[tuple[int, int], list[int]] = {}
        for channel in np.flatnonzero(silent.any(axis=0)).tolist():
            edges = np.flatnonzero(np.diff(np.concatenate([[0], silent[:, channel], [0]]).astype(np.int8)))
            start, stop = max(edges.reshape(-1, 2).tolist(), key=lambda run: run[1] - run[0])
            if (stop - start) * LEVEL_S >= 1.0:
                runs.setdefault((start, stop), []).append(channel)
        found = []
        for (start, stop), channels in runs.items():
            until = " on" if stop == len(loud) else f" to {LEVEL_S * loud[stop]:.1f} s"
            text = f"{self._named(channels)} dead from {LEVEL_S * loud[start]:.1f} s{until}"
            found.append(ChannelFault("dead", tuple(channels), text, LEVEL_S * float(loud[start])))
        return tuple(found)

    def _named(self, channels: Iterable[int]) -> str:
        return name_channels(self._numbers[c] for c in channels)

    def _moved(self) -> tuple[ChannelFault, ...]:
        """Channels whose delays no direction explains; those of one clock together."""
        if not self._late:
            return ()
        time_s = np.array([at_s for at_s, *_ in self._late])
        late_s, apart = (np.stack([row[k] for row in self._late], axis=1) for k in (1, 2))
        reach_s = float(self._reach_s.max())
        moved = np.flatnonzero(apart.sum(axis=1) >= min(2, len(time_s))).tolist()
        found = []
        while moved:
            differ_s = np.abs(late_s[moved] - late_s[moved[0]])
            alike = [c for c, by_s in zip(moved, differ_s, strict=True) if np.nanmedian(by_s) <= 2 * reach_s]
            moved = [c for c in moved if c not in alike]
            known = np.isfinite(late_s[alike]).all(axis=0)
            if known.any():
                kind, how, value = _course(time_s[known], late_s[alike][:, known].mean(axis=0), reach_s)
                found.append(ChannelFault(kind, tuple(alike), f"{self._named(alike)} {how}", value))
        return tuple(found)


def _course(time_s: Array, late_s: Array, reach_s: float) -> tuple[Kind, str, float]:
    """What delays ``(window,)`` do over time: kind, in words, and size.

    A drift goes on from each window to the next; a slip is one step, larger than what talkers who change look like.
    """
    constant = float(np.median(late_s))
    slope = float(scipy.stats.theilslopes(late_s, time_s)[0]) if len(time_s) > 1 else 0.0
    going_on = float(np.median(np.diff(late_s) / np.diff(time_s))) if len(time_s) >= _MIN_WINDOWS else 0.0
    line_s = late_s - slope * time_s
    still_s = float(np.abs(late_s - constant).sum())
    drifts = going_on * np.sign(slope) > _GOES_ON * abs(slope)
    if drifts and float(np.abs(line_s - np.median(line_s)).sum()) < _CLOSER * still_s:
        return "drifting", f"drifting by {1e6 * slope:.0f} ppm against the others (another clock)", 1e6 * slope
    steps = {k: (float(np.median(late_s[:k])), float(np.median(late_s[k:]))) for k in range(1, len(late_s))}
    left_s = {
        k: float(np.abs(late_s[:k] - before).sum() + np.abs(late_s[k:] - after).sum())
        for k, (before, after) in steps.items()
    }
    if steps:
        split = min(left_s, key=lambda k: left_s[k])
        by_s = steps[split][1] - steps[split][0]
        if abs(by_s) > reach_s and left_s[split] < 0.5 * still_s:
            at_s = 0.5 * float(time_s[split - 1] + time_s[split])
            return "slipped", f"{_late(by_s)} from about {at_s:.0f} s on (lost samples?)", by_s
    return "late", f"{_late(constant)} against the others (another device?)", constant


def _late(by_s: float) -> str:
    """A delay in words, to two digits.

    >>> _late(0.0102), _late(-1.25)
    ('10 ms late', '1200 ms early')
    """
    return f"{float(f'{1000 * abs(by_s):.2g}'):g} ms {'late' if by_s > 0 else 'early'}"


def name_channels(numbers: Iterable[int]) -> str:
    """Channels as the subject of a sentence.

    >>> name_channels([2]), name_channels([0, 3])
    ('channel 2 is', 'channels 0, 3 are')
    """
    listed = [str(n) for n in numbers]
    return f"channel {listed[0]} is" if len(listed) == 1 else f"channels {', '.join(listed)} are"
