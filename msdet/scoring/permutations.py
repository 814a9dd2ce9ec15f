"""Whose estimate is whose, by a matrix of scores: the best permutation, and those that are as good."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from msdet.conventions import Array
from msdet.errors import MsdetError

UNTOLD = "SI-SDR does not tell whose voice it is"
"""Why what follows the voices' permutation has no value: voices that are undefined, or alike."""

SAME_SUM_DB = 0.01
"""Permutations are as good as each other if their sums of SI-SDR differ by less.

A copy of a voice at another gain differs from it by rounding, in 16-bit files by thousandths of a decibel
down to `NOTHING_DB`: what decides by so little decides nothing.
"""

NOTHING_DB = -40.0
"""An energy ratio below is as good as any other below: rounding of 16 bits alone may make the difference."""

MAX_PERMUTED = 7
"""Talkers of whom all permutations are looked at for ties: 5040 of them."""

_SAME_SUM = 1e-10  # sums of scores that differ by less do so by the arithmetic's rounding


def best_permutation(matrix: npt.ArrayLike) -> Array:
    """The assignment of estimates to references that maximizes the sum of a score (Hungarian algorithm).

    Args:
        matrix: ``(N, M)`` scores, ``M >= N``; NaN counts as worse than every other score.

    Returns:
        ``(N,)`` integers: estimate ``permutation[n]`` belongs to reference ``n``.

    Raises:
        MsdetError: fewer estimates than references.
    """
    from scipy.optimize import linear_sum_assignment

    permutation: Array = linear_sum_assignment(_scores(matrix), maximize=True)[1]
    return permutation


def tied_best_permutations(
    matrix: npt.ArrayLike, permutation: Array, tolerance: float = _SAME_SUM
) -> list[Array]:
    """Other permutations whose sum of scores is as good as the best one's.

    Estimates that are alike tie, and so do those of which every score is NaN. Of many permutations not all
    are found, but for every reference that could have another estimate at least one, and those in which two
    estimates change places.

    Args:
        matrix: as `best_permutation` takes.
        permutation: what it gives.
        tolerance: sums that differ by less are the same; for SI-SDR, `SAME_SUM_DB`.

    Returns:
        Permutations ``(N,)``; none if the matrix tells whose estimate each is.
    """
    from scipy.optimize import linear_sum_assignment

    score = _scores(matrix)
    rows = np.arange(len(score))
    others = []
    for n, m in enumerate(permutation):
        without = score.copy()
        without[n, m] = _beyond(score, len(score))
        others.append(linear_sum_assignment(without, maximize=True)[1])
    for pair in itertools.combinations(rows, 2):
        swapped = permutation.copy()
        swapped[list(pair)] = permutation[list(pair[::-1])]
        others.append(swapped)
    best = score[rows, permutation].sum()
    tied = [o for o in others if (o != permutation).any() and best - score[rows, o].sum() < tolerance]
    return [np.array(other) for other in dict.fromkeys(tuple(o.tolist()) for o in tied)]


def tied_permutations(matrix: npt.ArrayLike, permutation: Array, tolerance: float) -> list[Array]:
    """Other permutations whose sum of scores is the same as that of one, which need not be the best.

    For up to `MAX_PERMUTED` references it is all of them, whatever the order of the estimates; of more, what
    `tied_best_permutations` finds.

    Args:
        matrix: as `best_permutation` takes.
        permutation: ``(N,)``.
        tolerance: sums that differ by less are the same.
    """
    score = _scores(matrix)
    rows = np.arange(len(score))
    if len(rows) > MAX_PERMUTED:
        orders = np.array(tied_best_permutations(matrix, permutation, tolerance), dtype=np.int64).reshape(
            -1, len(rows)
        )
    else:
        orders = np.array(list(itertools.permutations(range(score.shape[1]), len(rows))))
    same = abs(score[rows, permutation].sum() - score[rows, orders].sum(axis=1)) < tolerance
    return [order for order in orders[same] if (order != permutation).any()]


def ambiguous_references(permutation: Array, others: Sequence[Array]) -> Array:
    """Which references ``(N,)`` could as well have another estimate, by what `tied_best_permutations` gives.

    >>> best, matrix = np.array([0, 1]), [[9.0, 1.0, 1.0], [2.0, 3.0, 3.0]]
    >>> undecided(best, ties(matrix, best)).tolist()
    [False, True]
    """
    moved: Array = np.any([permutation != other for other in (permutation, *others)], axis=0)
    return moved


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
