"""Percentile bootstrap over scenes of a mean or a median, for several systems at once.

Efron and Tibshirani, "An introduction to the bootstrap", Chapman & Hall, 1993, chapter 13.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from msdet.conventions import Array

RESAMPLES = 2000
"""Number of bootstrap resamples."""

CONFIDENCE = 0.95
"""Coverage that the intervals aim at."""

_BLOCK = 200  # resamples held in memory at a time; divides RESAMPLES


class Interval(NamedTuple):
    """A value with its bootstrap interval over `n` scenes; no interval for fewer than two."""

    value: float
    low: float | None
    high: float | None
    n: int


def percentile_interval(value: float, resampled: Array, n: int) -> Interval:
    """The percentile interval of a value over `n` scenes from its resamples ``(resample,)``."""
    if n < 2:
        return Interval(float(value), None, None, n)
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(value), float(low), float(high), n)


def bootstrap(groups: list[list[Array]], median: bool, seed: int) -> tuple[Array, Array]:
    """A statistic of several systems, on the scenes and on resamples of them.

    Args:
        groups: by system and scene (at least one, the same for all systems), the values ``(talker,)``.
        median: the median over talkers, else the mean over scenes of the mean over talkers.
        seed: of the resampling; each resample serves all systems, so that their differences are paired.

    Returns:
        The statistic ``(system,)``, and ``(system, RESAMPLES)``.
    """
    n = len(groups[0])
    statistics = [_statistic(scenes, median) for scenes in groups]
    value = np.concatenate([statistic(np.ones((1, n), dtype=np.int32)) for statistic in statistics])
    rng = np.random.default_rng(seed)
    blocks = []
    for _ in range(RESAMPLES // _BLOCK):
        drawn = rng.integers(n, size=(_BLOCK, n)) + n * np.arange(_BLOCK)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=_BLOCK * n).reshape(_BLOCK, n).astype(np.int32)
        blocks.append(np.stack([statistic(counts) for statistic in statistics]))
    return value, np.concatenate(blocks, axis=1)


def _statistic(scenes: list[Array], median: bool) -> Callable[[Array], Array]:
    """The statistic as a function of how often ``(resample, scene)`` each scene was drawn."""
    if not median:
        means = np.array([talkers.mean() for talkers in scenes])

        def mean_of(counts: Array) -> Array:
            mean: Array = np.einsum("rs,s->r", counts.astype(np.float64), means) / len(means)
            return mean

        return mean_of
    values = np.concatenate(scenes)
    scene = np.repeat(np.arange(len(scenes)), [len(talkers) for talkers in scenes])
    order = np.argsort(values, kind="stable")
    values, scene = values[order], scene[order]

    def median_of(counts: Array) -> Array:
        place = np.cumsum(counts.take(scene, axis=1), axis=1, dtype=np.int32)  # of each value, from 1
        middle = ((place[:, -1:] - 1) // 2, place[:, -1:] // 2)
        lower, upper = (values[(place > m).argmax(axis=1)] for m in middle)
        medians: Array = (lower + upper) / 2
        return medians

    return median_of
