"""By which conditions the scenes of an evaluation vary, and a metric by any two of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from msdet.conventions import Array
from msdet.plots.scores import BreakdownPanel
from msdet.plots.theme import degrees
from msdet.report.content import ScoredSystem
from msdet.scoring.breakdowns import BREAKDOWNS, Bin
from msdet.scoring.metrics import METRICS, Metric, Row
from msdet.scoring.summary import Summary

BROKEN_DOWN = ("si_sdr_improvement_db", "doa_mae_deg")  # metrics


class Condition(NamedTuple):
    """One of the `BREAKDOWNS` of which at least two bins hold scenes; some of these overlap an earlier one."""

    name: str
    title: str
    disjoint: tuple[Bin, ...]
    overlapping: tuple[Bin, ...]

    @property
    def bins(self) -> tuple[Bin, ...]:
        """All bins that hold scenes."""
        return self.disjoint + self.overlapping


class Cell(NamedTuple):
    """The mean of a metric, scaled as it is shown, over the scenes that two bins share.

    The share is 0 for the table's smallest value to 1 for its largest.
    """

    value: float
    scenes: int
    share: float


class Crossing(NamedTuple):
    """A table of a metric by the conditions of its rows and columns; None where no scene is in both bins."""

    metric: str
    down: Condition
    across: Condition
    cells: list[list[Cell | None]]


def varying(rows: Iterable[Row]) -> list[Condition]:
    """The breakdowns by which scenes differ."""
    labels = list(rows)
    conditions = []
    for name, (title, bins) in BREAKDOWNS.items():
        filled = [b for b in bins if any(b.members(row).any() for row in labels)]
        overlapping = [b for k, b in enumerate(filled) if any(_overlap(b, early) for early in filled[:k])]
        disjoint = [b for b in filled if b not in overlapping]
        if len(disjoint) > 1:
            conditions.append(Condition(name, degrees(title), tuple(disjoint), tuple(overlapping)))
    return conditions


def short(bin_name: str) -> str:
    """A bin's name where space is little.

    >>> short(">= 90 deg"), short("15 to 45 deg")
    ('≥ 90°', '15–45°')
    """
    return degrees(bin_name).replace(">=", "≥").replace(" to ", "–")


def breakdown_panels(
    summary: Summary, conditions: list[Condition], metric: str, systems: Iterable[str]
) -> list[BreakdownPanel]:
    """What `msdet.plots.scores.breakdown_figure` draws of a summary that is broken down by the conditions."""
    panels = []
    for condition in conditions:
        by_bin = summary.breakdowns[BREAKDOWNS[condition.name][0]]
        intervals = {system: [by_bin[b.name][system].get(metric) for b in condition.bins] for system in systems}
        labels = [short(b.name) for b in condition.bins]
        panels.append(BreakdownPanel(condition.title, labels, len(condition.disjoint), intervals))
    return panels


def crossings(system: ScoredSystem, conditions: list[Condition]) -> list[Crossing]:
    """Tables of a system's metrics by any two conditions."""
    metrics = [key for key in BROKEN_DOWN if system.mean(METRICS[key].field) is not None]
    rows = list(system.rows.values())
    members = {b: [b.members(row) for row in rows] for c in conditions for b in c.disjoint}
    tables = []
    for key, (down, across) in itertools.product(metrics, itertools.permutations(conditions, 2)):
        values = [row.get(METRICS[key].field) for row in rows]
        means = [[_mean(values, members[a], members[b], METRICS[key]) for b in across.disjoint] for a in down.disjoint]
        numbers = [mean[0] for row in means for mean in row if mean is not None]
        low, span = min(numbers, default=0.0), float(np.ptp(numbers)) if numbers else 0.0
        cells = [[mean and Cell(*mean, (mean[0] - low) / span if span else 0.0) for mean in row] for row in means]
        tables.append(Crossing(key, down, across, cells))
    return tables


def _overlap(a: Bin, b: Bin) -> bool:
    """Whether two bins of a breakdown may hold the same scene."""
    if a.values or b.values:
        return bool(set(a.values) & set(b.values))
    return max(a.low, b.low) < min(a.high, b.high)


def _mean(values: list[Any], first: list[Array], second: list[Array], metric: Metric) -> tuple[float, int] | None:
    """The mean of a metric over scenes and those of their talkers in two bins, and the number of scenes."""
    means = []
    for of_scene, a, b in zip(values, first, second, strict=True):
        inside = a & b
        if isinstance(of_scene, list) and None not in of_scene and inside.any():
            means.append(np.array(of_scene, dtype=np.float64)[inside].mean())
    return (metric.scale * float(np.mean(means)), len(means)) if means else None
