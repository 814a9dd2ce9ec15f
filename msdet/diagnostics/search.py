"""Which wiring explains the delays best: from the described one, one change after the other while it pays."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from msdet.conventions import Array
from msdet.diagnostics.fit import Fit, Wiring

MIN_GAIN = 0.15
"""Relative gain in fit, of the pairs of channels that a change concerns, from which on a swap or an inversion
is believed."""

MIN_DELAY_GAIN = 0.06
MIN_DELAY_S = 6e-5  # a channel late by less is taken to be a misplaced microphone: it is 2 cm of the way of sound
MIN_T = 4.0  # the mean gain must be so many times its standard error over moments
ALIKE = 0.06  # wirings whose fit differs by less, relatively and of the pairs concerned, cannot be told apart
_MAX_CHANNELS = 8  # among which every swap is tried; of larger arrays, those that fit worst
_MAX_ORDERED = 6  # channels of which every order is tried, if no chain of swaps explains the delays
_WIDTH = 4  # of the search for several faults at once
_EXPLAINED = 0.8  # of the fit without geometry; one that reaches this leaves nothing to look for


@dataclass(frozen=True)
class Evidence:
    """How much better one wiring fits than another."""

    gain: float  # relative, of the pairs of channels concerned
    t: float  # mean gain over its standard error
    agree: float  # share of the moments that fit better

    def convinces(self, least_gain: float) -> bool:
        """Whether it is enough to believe in."""
        return self.gain > least_gain and self.t > MIN_T


def compare(fit: Fit, better: Wiring, worse: Wiring) -> Evidence:
    """The evidence for one wiring against another."""
    concerned = (better.order != worse.order) | (better.sign != worse.sign) | (better.delay_s != worse.delay_s)
    return _evidence(fit.quality(better), fit.quality(worse), _share(fit, int(concerned.sum())))


def find_wiring(fit: Fit) -> Wiring:
    """The wiring that explains the delays best, the described one if nothing is clearly better; see `_normalized`."""
    wiring = _climb(fit, 1)
    unconstrained = float(fit.unconstrained(wiring).mean())
    if fit.channels <= _MAX_CHANNELS and not _explained(fit, wiring, unconstrained):
        wiring = max(wiring, _climb(fit, _WIDTH), key=lambda found: float(fit.quality(found).mean()))
    if fit.channels <= _MAX_ORDERED and not _explained(fit, wiring, unconstrained):
        wiring = _best_order(fit, wiring)
    wiring = _normalized(wiring)
    for channel in np.flatnonzero(wiring.delay_s).tolist():
        undone = wiring.delayed(channel, -float(wiring.delay_s[channel]))
        if not compare(fit, wiring, undone).convinces(MIN_DELAY_GAIN):  # any more, after what came later
            wiring = undone
    return wiring


def alternatives(fit: Fit, wiring: Wiring, first: int, second: int) -> list[tuple[int, int]]:
    """Other swaps that explain the delays as well as one that is part of a wiring."""
    undone = wiring.swapped(first, second)
    least = (1.0 - ALIKE * _share(fit, 2)) * float(fit.quality(wiring).mean())
    return [
        pair
        for pair in fit.pairs
        if not {first, second} & set(pair) and float(fit.quality(undone.swapped(*pair)).mean()) >= least
    ]


@dataclass(frozen=True)
class Hidden:
    """Faults that a recording would not show, since it fits them nearly as well."""

    inverted: tuple[int, ...]  # channels
    delayed: tuple[int, ...]  # channels, of delays about twice `MIN_DELAY_S`; only of small arrays
    swapped: tuple[tuple[int, int], ...]  # pairs of channels

    def named(self, channels: Sequence[int]) -> Hidden:
        """The same with other numbers of channels: `channels` ``(channel,)``."""
        return Hidden(
            tuple(channels[c] for c in self.inverted),
            tuple(channels[c] for c in self.delayed),
            tuple((channels[a], channels[b]) for a, b in self.swapped),
        )


def hidden_faults(fit: Fit, wiring: Wiring) -> Hidden:
    """What could be wrong without a sign of it."""
    channels = range(fit.channels)
    small = fit.channels <= _MAX_CHANNELS
    places, now = fit.places(wiring), fit.quality(wiring)

    def shows(other: Wiring, concerned: int, least_gain: float) -> bool:
        worse = fit.quality(other) if small else fit.quality_there(other, places)
        return _evidence(now, worse, _share(fit, concerned)).convinces(least_gain)

    def late_shows(channel: int) -> bool:
        changed = (wiring.delayed(channel, by_s) for by_s in (-2 * MIN_DELAY_S, 2 * MIN_DELAY_S))
        return all(shows(other, 1, MIN_DELAY_GAIN) for other in changed)

    return Hidden(
        tuple(c for c in channels if not shows(wiring.inverted(c), 1, MIN_GAIN)),
        tuple(c for c in channels if small and not late_shows(c)),
        tuple(p for p in fit.pairs if not shows(wiring.swapped(*p), 2, MIN_GAIN)),
    )


def _climb(fit: Fit, width: int) -> Wiring:
    """The best wiring on the way of changes that pay most, the best few wirings kept at each step."""
    kept = [Wiring.as_described(fit.channels)]
    best, best_mean = kept[0], float(fit.quality(kept[0]).mean())
    for _ in range(2 * fit.channels):
        found: dict[tuple[bytes, ...], tuple[float, Wiring]] = {}
        for wiring in kept:
            now = fit.quality(wiring)
            for changed, concerned, least in _changes(fit, wiring):
                better = fit.quality(changed)
                if _evidence(better, now, _share(fit, concerned)).convinces(least):
                    found[changed.key] = (float(better.mean()), changed)
        if not found:
            break
        ranked = sorted(found.values(), key=lambda of: -of[0])[:width]
        kept = [wiring for _, wiring in ranked]
        if ranked[0][0] > best_mean:
            best_mean, best = ranked[0]
    return best


def _explained(fit: Fit, wiring: Wiring, unconstrained: float) -> bool:
    return float(fit.quality(wiring).mean()) >= _EXPLAINED * unconstrained


def _changes(fit: Fit, wiring: Wiring) -> Iterator[tuple[Wiring, int, float]]:
    """Wirings one change away: each with how many channels it concerns, and the gain to be believed."""
    supports = np.zeros(fit.channels)
    for channel in range(fit.channels):
        lags_s, correlation = fit.residual(wiring, channel)
        peak = int(np.abs(correlation).argmax())
        supports[channel] = correlation[int(np.abs(lags_s).argmin())]
        if abs(lags_s[peak]) > MIN_DELAY_S:
            late = wiring.delayed(channel, float(lags_s[peak]))
            yield ((late, 1, MIN_DELAY_GAIN) if correlation[peak] > 0 else (late.inverted(channel), 1, MIN_GAIN))
        if supports[channel] < 0 or fit.channels <= _MAX_CHANNELS:
            yield wiring.inverted(channel), 1, MIN_GAIN
    worst = sorted(int(c) for c in np.argsort(supports)[:_MAX_CHANNELS])
    if fit.channels > 2:
        for first, second in itertools.combinations(worst, 2):
            yield wiring.swapped(first, second), 2, MIN_GAIN


def _best_order(fit: Fit, wiring: Wiring) -> Wiring:
    """The best of all orders; of those that fit alike, one that moves the fewest channels."""
    now = fit.quality(wiring)
    orders = [np.array(order) for order in itertools.permutations(range(fit.channels))]
    means = np.array([fit.quality(replace(wiring, order=order)).mean() for order in orders])
    alike = [order for order, mean in zip(orders, means, strict=True) if mean >= (1 - ALIKE) * means.max()]
    fewest = min(alike, key=lambda order: int((order != np.arange(fit.channels)).sum()))
    chosen = replace(wiring, order=fewest)
    moved = int((chosen.order != wiring.order).sum())
    found = _evidence(fit.quality(chosen), now, _share(fit, moved))
    return chosen if found.convinces(MIN_GAIN) else wiring


def _share(fit: Fit, concerned: int) -> float:
    """Share of the pairs of channels whose delay changes when so many channels change together."""
    untouched = fit.channels - concerned
    # two that change places keep the size of the delay between them
    untouched_pairs = untouched * (untouched - 1) / 2 + (concerned == 2)
    return max(1.0 - untouched_pairs / len(fit.pairs), 1.0 / len(fit.pairs))


def _evidence(better: Array, worse: Array, share: float) -> Evidence:
    gains = better - worse
    error = float(gains.std()) / np.sqrt(len(gains)) if len(gains) > 1 else np.inf
    mean = float(gains.mean())
    relative = mean / max(float(better.mean()), 1e-6) / share
    return Evidence(relative, mean / (error + 1e-9), float((gains > 0).mean()))


def _normalized(wiring: Wiring) -> Wiring:
    """The same with most channels the right way up and without delay; the first one of two."""
    total = wiring.sign.sum()
    sign = wiring.sign * (np.sign(total) if total else wiring.sign[0])
    delay_s = wiring.delay_s - np.sort(wiring.delay_s)[(len(wiring.delay_s) - 1) // 2]
    return replace(wiring, sign=sign, delay_s=np.where(np.abs(delay_s) < MIN_DELAY_S, 0.0, delay_s))
