"""Statistics over scenes for several systems at once: percentile bootstrap, and a paired randomization test.

Efron and Tibshirani, "An introduction to the bootstrap", Chapman & Hall, 1993, chapter 13; Noreen,
"Computer-intensive methods for testing hypotheses", Wiley, 1989, chapter 2.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np

from msdet.conventions import Array

Statistic = Literal["mean", "median", "rms", "ratio"]
"""Mean over scenes of the mean over talkers; median over all talkers; root of the mean square, averaged as
the mean; or the sum over all scenes of one number divided by that of another."""

RESAMPLES = 2000  # of the bootstrap
SWAPS = 10_000  # ways to swap two systems' scenes that the randomization test draws
CONFIDENCE = 0.95  # coverage that the intervals aim at
_BLOCK = 200  # resamples held in memory at a time; divides RESAMPLES and SWAPS


class ConfidenceInterval(NamedTuple):
    """A value with its bootstrap interval over `n` scenes; no interval for fewer than two."""

    value: float
    low: float | None
    high: float | None
    n: int


def percentile_interval(value: float, resampled: Array, n: int) -> ConfidenceInterval:
    """The percentile interval of a value over `n` scenes from its resamples ``(resample,)``."""
    defined = resampled[np.isfinite(resampled)]  # a ratio may have nothing to divide by
    if n < 2 or not defined.size:
        return ConfidenceInterval(float(value), None, None, n)
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return ConfidenceInterval(float(value), float(low), float(high), n)


def bootstrap(groups: list[list[Array]], statistic: Statistic, seed: int) -> tuple[Array, Array]:
    """A statistic of several systems ``(system,)``, and on resamples of the scenes ``(system, RESAMPLES)``.

    The groups are, by system and scene (the same for all systems), values ``(talker,)``; of a ratio, its numerator and
    denominator. Each resample serves all systems, so that their differences are paired. NaN for a ratio of nothing.
    """
    n = len(groups[0])
    functions = [_statistic(scenes, statistic) for scenes in groups]
    value = np.concatenate([function(np.ones((1, n), dtype=np.int32)) for function in functions])
    blocks = [
        np.stack([function(counts) for function in functions])
        for counts in np.split(_drawn_counts(n, seed), RESAMPLES // _BLOCK)
    ]
    return value, np.concatenate(blocks, axis=1)


def randomization_test(first: list[Array], second: list[Array], statistic: Statistic, seed: int) -> float:
    """Two-sided p-value of the difference of a statistic between two systems on the same scenes.

    Under the hypothesis that the systems are alike, which of a scene's two results is whose is a coin's toss:
    the difference is compared with those after `SWAPS` such tosses. For means this is the sign-flip test.
    Values by scene are those of `bootstrap`.
    """
    n = len(first)
    function = _statistic([*first, *second], statistic)

    def difference(swapped: Array) -> Array:
        kept = 1 - swapped
        return function(np.hstack([kept, swapped])) - function(np.hstack([swapped, kept]))

    observed = abs(float(difference(np.zeros((1, n), dtype=np.int32))[0]))
    if not np.isfinite(observed):
        return float("nan")
    rng = np.random.default_rng(seed)
    as_large = 0
    for _ in range(SWAPS // _BLOCK):
        drawn = np.abs(difference(rng.integers(2, size=(_BLOCK, n), dtype=np.int32)))
        as_large += int((drawn >= observed * (1 - 1e-9) - 1e-12).sum())  # ties are not decided by rounding
    return (as_large + 1) / (SWAPS + 1)


@lru_cache(maxsize=2)
def _drawn_counts(n: int, seed: int) -> Array:
    """How often ``(RESAMPLES, n)`` each of n scenes is in each resample; kept, for many metrics share it."""
    rng = np.random.default_rng(seed)
    blocks = []
    for _ in range(RESAMPLES // _BLOCK):
        drawn = rng.integers(n, size=(_BLOCK, n)) + n * np.arange(_BLOCK)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=_BLOCK * n).reshape(_BLOCK, n)
        blocks.append(counts.astype(np.uint16))
    return np.concatenate(blocks)


def _statistic(scenes: list[Array], statistic: Statistic) -> Callable[[Array], Array]:
    """The statistic as a function of how often ``(resample, scene)`` each scene was drawn."""
    if statistic == "median":
        return _median(scenes)
    if statistic == "ratio":
        parts, wholes = np.array(scenes, dtype=np.float64).T
    else:
        power = 2 if statistic == "rms" else 1
        parts = np.array([(talkers**power).mean() for talkers in scenes])
        wholes = np.ones(len(scenes))

    def quotient(counts: Array) -> Array:
        drawn = counts.astype(np.float64)
        part, whole = (np.einsum("rs,s->r", drawn, x) for x in (parts, wholes))
        value: Array = np.divide(part, whole, out=np.full(len(drawn), np.nan), where=whole > 0)
        return np.sqrt(value) if statistic == "rms" else value

    return quotient


def _median(scenes: list[Array]) -> Callable[[Array], Array]:
    values = np.concatenate(scenes)
    scene = np.repeat(np.arange(len(scenes)), [len(talkers) for talkers in scenes])
    order = np.argsort(values, kind="stable")
    values, scene = values[order], scene[order]

    def median_of(counts: Array) -> Array:
        place = np.cumsum(counts.take(scene, axis=1), axis=1, dtype=np.int32)  # of each value, from 1
        middle = ((place[:, -1:] - 1) // 2, place[:, -1:] // 2)
        lower, upper = (values[(place > m).argmax(axis=1)] for m in middle)
        return np.asarray((lower + upper) / 2)

    return median_of
