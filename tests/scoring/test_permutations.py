"""Permutations of estimates: the best one, and those that are as good."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from msdet.errors import MsdetError
from msdet.scoring.permutations import ambiguous_references, best_permutation, tied_permutations


def test_best_permutation_maximizes_the_sum():
    assert best_permutation([[10.0, 9.0], [8.0, 1.0]]).tolist() == [1, 0]  # 17 against 11
    assert best_permutation([[0.0, 5.0, 1.0], [0.0, 9.0, 2.0]]).tolist() == [2, 1]
    nan = np.nan
    assert best_permutation([[nan, -90.0], [nan, -80.0]]).tolist() == [0, 1]  # -80 is kept
    assert best_permutation(np.full((2, 2), nan)).tolist() == [0, 1]
    with pytest.raises(MsdetError, match="cannot assign"):
        best_permutation([[1.0], [2.0]])


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ([[9.0, 1.0], [2.0, 3.0]], [False, False]),
        ([[9.0, 9.0], [2.0, 2.0]], [True, True]),
        ([[np.nan, 1.0], [np.nan, 3.0]], [False, False]),  # one voice is left for one talker
        ([[9.0, np.nan, np.nan], [1.0, np.nan, np.nan], [2.0, np.nan, np.nan]], [False, True, True]),
        ([[0.0, 1.0, 2.0], [2.0, 0.0, 1.0], [1.0, 2.0, 0.0]], [False] * 3),
        ([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]], [True] * 3),  # either turn of all three
        ([[5.0]], [False]),
        (np.full((2, 2), np.nan), [True, True]),
    ],
)
def test_a_permutation_is_undecided_where_another_has_the_same_sum(matrix, expected):
    best = best_permutation(matrix)
    assert ambiguous_references(best, tied_permutations(matrix, best)).tolist() == expected


def test_sums_within_a_tolerance_tie():
    matrix = [[9.0, 1.0, 1.004], [2.0, 3.0, 3.0], [5.0, 4.0, 3.999]]
    best = best_permutation(matrix)
    assert best.tolist() == [0, 2, 1] and tied_permutations(matrix, best) == []
    assert [other.tolist() for other in tied_permutations(matrix, best, 0.01)] == [[0, 1, 2]]


def test_all_ties_are_found_whatever_the_order_of_the_estimates():
    matrix = np.array([[0.0, 1.0, 2.0], [1.0, 2.0, 3.0], [5.0, 6.0, 7.0]])  # all sums are the same
    found = tied_permutations(matrix, best_permutation(matrix), 0.01)
    assert len({tuple(order) for order in found}) == 5
    matrix[0, 0] = -1.0
    for order in itertools.permutations(range(3)):
        turned = matrix[:, order]
        best = best_permutation(turned)
        whole = {tuple(np.array(order)[p]) for p in (best, *tied_permutations(turned, best, 0.01))}
        assert whole == {(1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)}


def test_a_permutation_that_is_better_does_not_tie():
    assert tied_permutations([[0.0, 5.0], [5.0, 0.0]], np.array([0, 1]), 0.01) == []


@pytest.mark.parametrize("talkers", [7, 8, 9])
def test_ties_of_many_talkers(talkers):
    matrix = 10.0 * np.eye(talkers)
    best = np.arange(talkers)
    assert tied_permutations(matrix, best, 0.01) == []
    matrix[:2, :2] = 10.0
    assert [order.tolist() for order in tied_permutations(matrix, best, 0.01)] == [[1, 0, *range(2, talkers)]]
