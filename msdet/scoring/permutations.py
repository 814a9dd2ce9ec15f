"""Which estimate belongs to which reference, by a matrix of scores: the best permutation, and its ties."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from msdet.conventions import Array
from msdet.errors import MsdetError

AMBIGUOUS = "SI-SDR does not tell whose estimate it is"  # of estimates that have none, or are copies of each other

# Permutations tie if their sums of SI-SDR differ by less: a copy of an estimate at another gain differs from it
# by rounding, in 16-bit files by thousandths of a decibel down to `MIN_RATIO_DB`.
SAME_SUM_DB = 0.01
MIN_RATIO_DB = -40.0  # energy ratios below count as this one in ties, which rounding of 16 bits may decide
MAX_PERMUTED = 7  # up to so many references all permutations are compared (5040 of them)
_SAME_SUM = 1e-10  # sums of scores that differ by less do so by the arithmetic's rounding


def best_permutation(matrix: npt.ArrayLike) -> Array:
    """The assignment that maximizes the sum of scores ``(N, M)``, ``M >= N``, in which NaN is worse than all others.

    Returns ``(N,)`` integers: estimate ``permutation[n]`` belongs to reference ``n``; an `MsdetError` says that
    there are fewer estimates than references.
    """
    from scipy.optimize import linear_sum_assignment

    return np.asarray(linear_sum_assignment(_scores(matrix), maximize=True)[1])


def tied_permutations(matrix: npt.ArrayLike, permutation: Array, tolerance: float = _SAME_SUM) -> list[Array]:
    """Other permutations whose sum of scores is that of one, but for a tolerance (of SI-SDR, `SAME_SUM_DB`).

    Of more than `MAX_PERMUTED` references not all are found, but for every reference that could have another
    estimate at least one, and those in which two estimates change places.
    """
    score = _scores(matrix)
    rows = np.arange(len(score))
    if len(rows) > MAX_PERMUTED:
        orders = _nearby_permutations(score, permutation)
    else:
        orders = np.array(list(itertools.permutations(range(score.shape[1]), len(rows))))
    same = abs(score[rows, permutation].sum() - score[rows, orders].sum(axis=1)) < tolerance
    return [order for order in orders[same] if (order != permutation).any()]


def ambiguous_references(permutation: Array, tied: Sequence[Array]) -> Array:
    """Which references ``(N,)`` could as well have another estimate.

    >>> best, matrix = np.array([0, 1]), [[9.0, 1.0, 1.0], [2.0, 3.0, 3.0]]
    >>> ambiguous_references(best, tied_permutations(matrix, best)).tolist()
    [False, True]
    """
    return np.asarray(np.any([permutation != other for other in (permutation, *tied)], axis=0))


def _nearby_permutations(score: Array, permutation: Array) -> Array:
    """The best permutations in which one reference has another estimate, and those in which two swap."""
    from scipy.optimize import linear_sum_assignment

    orders = []
    for n, m in enumerate(permutation):
        without = score.copy()
        without[n, m] = _beyond(score, len(score))
        orders.append(linear_sum_assignment(without, maximize=True)[1])
    for pair in itertools.combinations(range(len(score)), 2):
        swapped = permutation.copy()
        swapped[list(pair)] = permutation[list(pair[::-1])]
        orders.append(swapped)
    return np.unique(orders, axis=0)


def _scores(matrix: npt.ArrayLike) -> Array:
    """Scores to assign by; NaN becomes worse than every other."""
    score = np.asarray(matrix, dtype=np.float64)
    if score.ndim != 2 or score.shape[0] > score.shape[1]:
        raise MsdetError(f"cannot assign estimates to references, scores have shape {score.shape}")
    return np.where(np.isnan(score), _beyond(score[np.isfinite(score)], len(score)), score)


def _beyond(scores: Array, pairs: int) -> float:
    """A score so low that no gain in the other pairs makes up for it."""
    span = np.ptp(scores) if scores.size else 0.0
    return float(scores.min(initial=0.0) - (span + 1.0) * pairs)
