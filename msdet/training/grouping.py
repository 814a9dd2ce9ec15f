"""Which tasks to train together: the partition of tasks whose members help each other most.

After C. Fifty et al., "Efficiently identifying task groupings for multi-task learning", NeurIPS 2021: what a
task gets from its group is the mean of the affinities onto it from the group's other tasks. A task alone gets
nothing, and loses nothing. Here every task is in one group, and all partitions are tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from msdet.conventions import Array
from msdet.errors import MsdetError

MAX_TASKS = 10
"""Tasks whose partitions can all be tried: 115 975 of them."""


class Grouping(NamedTuple):
    """A partition of tasks.

    Attributes:
        groups: names of the tasks of each group.
        onto: what each task gets from its group, by name.
        mean: of `onto`.
    """

    groups: list[list[str]]
    onto: dict[str, float]
    mean: float


def best_grouping(tasks: Sequence[str], affinity: npt.ArrayLike, most: int) -> Grouping:
    """The partition into at most so many groups with the largest mean affinity onto each task.

    Of equally good ones that with fewer groups.

    Args:
        tasks: names.
        affinity: ``(task, task)``, of the one (row) onto the other (column); the diagonal is not looked at.
        most: number of groups at most.

    Raises:
        MsdetError: too many tasks, or no group.

    >>> best_grouping(["a", "b", "c"], [[0, 2, -1], [2, 0, -1], [-1, -1, 0]], 2).groups
    [['a', 'b'], ['c']]
    """
    if len(tasks) > MAX_TASKS:
        raise MsdetError(f"{len(tasks)} tasks, expected at most {MAX_TASKS} to try all groupings of")
    if most < 1:
        raise MsdetError(f"groups is {most}, expected at least 1")
    matrix = np.array(affinity, dtype=np.float64)
    found = sorted(partitions(len(tasks), most), key=len)
    gains = np.array([_onto(matrix, groups).mean() for groups in found])
    best = found[int(np.argmax(gains > gains.max() - 1e-12))]
    onto = _onto(matrix, best)
    return Grouping(
        [[tasks[k] for k in group] for group in best],
        dict(zip(tasks, onto.tolist(), strict=True)),
        float(onto.mean()),
    )


def partitions(count: int, most: int) -> Iterator[list[list[int]]]:
    """All partitions of numbers from 0 on into at most so many groups.

    >>> sorted(partitions(3, 2))
    [[[0], [1, 2]], [[0, 1], [2]], [[0, 1, 2]], [[0, 2], [1]]]
    """
    if count == 0:
        yield []
        return
    for groups in partitions(count - 1, most):
        for k in range(len(groups)):
            yield [[*group, count - 1] if n == k else group for n, group in enumerate(groups)]
        if len(groups) < most:
            yield [*groups, [count - 1]]


def _onto(affinity: Array, groups: Sequence[Sequence[int]]) -> Array:
    """What each task gets from its group, ``(task,)``."""
    onto = np.zeros(len(affinity))
    for group in groups:
        for task in group:
            others = [other for other in group if other != task]
            if others:
                onto[task] = affinity[others, task].mean()
    return onto
