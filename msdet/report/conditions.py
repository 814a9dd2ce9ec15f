"""By which conditions the scenes of an evaluation vary, and a metric by any two of them."""

from __future__ import annotations

import html
import itertools
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from msdet.conventions import Array
from msdet.plots.theme import degrees
from msdet.report import tables
from msdet.report.content import Evaluation
from msdet.scoring.breakdowns import BREAKDOWNS, Bin
from msdet.scoring.metrics import METRICS, Metric, Row

SHOWN = ("si_sdr_improvement_db", "doa_mae_deg")
"""Metrics that are broken down."""


class Condition(NamedTuple):
    """A breakdown of which at least two bins hold scenes.

    Attributes:
        name: in `BREAKDOWNS`.
        title: of the breakdown.
        bins: those that hold scenes and none of an earlier one's.
        overlapping: those that hold scenes but overlap an earlier one.
    """

    name: str
    title: str
    bins: tuple[Bin, ...]
    overlapping: tuple[Bin, ...]


def varying(rows: Iterable[Row]) -> list[Condition]:
    """The breakdowns by which scenes differ."""
    labels = list(rows)
    found = []
    for name, (title, bins) in BREAKDOWNS.items():
        held = [b for b in bins if any(b.members(row).any() for row in labels)]
        later = [b for k, b in enumerate(held) if any(_overlap(b, early) for early in held[:k])]
        apart = [b for b in held if b not in later]
        if len(apart) > 1:
            found.append(Condition(name, degrees(title), tuple(apart), tuple(later)))
    return found


def short(bin_name: str) -> str:
    """A bin's name for little room.

    >>> short(">= 90 deg"), short("15 to 45 deg")
    ('≥ 90°', '15–45°')
    """
    return degrees(bin_name).replace(">=", "≥").replace(" to ", "–")


def crossings(evaluation: Evaluation, conditions: list[Condition]) -> str:
    """Tables of the chosen system's metrics by any two conditions, and what chooses among them; as HTML."""
    metrics = [key for key in SHOWN if evaluation.chosen.mean(METRICS[key].field) is not None]
    if len(conditions) < 2 or not metrics:
        return ""
    pairs = list(itertools.permutations(conditions, 2))
    shown = f"{metrics[0]} {pairs[0][0].name} {pairs[0][1].name}"
    parts = [_choice(conditions, metrics)]
    rows = list(evaluation.chosen.rows.values())
    inside = {b: [b.members(row) for row in rows] for c in conditions for b in c.bins}
    for key, (first, second) in itertools.product(metrics, pairs):
        crossing = f"{key} {first.name} {second.name}"
        hidden = "" if crossing == shown else " hidden"
        values = [row.get(METRICS[key].field) for row in rows]
        cells = {
            (a, b): _cell(values, inside[a], inside[b]) for a, b in itertools.product(first.bins, second.bins)
        }
        title = f"{evaluation.chosen.name}: {degrees(METRICS[key].label)}"
        table = _table(title, METRICS[key], first, second, cells)
        parts.append(f'<div data-crossing="{crossing}"{hidden}>{table}</div>')
    return f"<div>{''.join(parts)}</div>"


def _overlap(a: Bin, b: Bin) -> bool:
    """Whether two bins of a breakdown may hold the same scene."""
    if a.values or b.values:
        return bool(set(a.values) & set(b.values))
    return max(a.low, b.low) < min(a.high, b.high)


def _choice(conditions: list[Condition], metrics: list[str]) -> str:
    names = {condition.name: condition.title for condition in conditions}
    labels = {key: degrees(METRICS[key].label) for key in metrics}
    return (
        '<form id="crossing-choice" class="choices" hidden>'
        f"{tables.select('metric', 'Metric', labels)}{tables.select('first', 'Down', names)}"
        f"{tables.select('second', 'Across', names, list(names)[1])}</form>"
    )


def _table(
    title: str,
    metric: Metric,
    first: Condition,
    second: Condition,
    cells: dict[tuple[Bin, Bin], tuple[float | None, int]],
) -> str:
    values = [value for value, _ in cells.values() if value is not None]
    low, high = min(values, default=0.0), max(values, default=0.0)
    rows = []
    for a in first.bins:
        row = f'<th scope="row" class="text">{html.escape(short(a.name))}</th>'
        for b in second.bins:
            value, scenes = cells[a, b]
            if value is None:
                row += "<td>–</td>"
                continue
            share = (value - low) / (high - low) if high > low else 0.0
            text = tables.number(value * metric.scale, metric.decimals)
            shown = f"<span>{text}<small>n = {scenes}</small></span>"
            row += f'<td class="heat" style="--share: {share:.2f}">{shown}</td>'
        rows.append(f"<tr>{row}</tr>")
    head = tables.column(first.title, kind="text") + "".join(
        tables.column(short(b.name)) for b in second.bins
    )
    by = " and ".join(_inside(condition.title) for condition in (first, second))
    return tables.table(f"{title} by {by}", head, rows, "crossed")


def _inside(title: str) -> str:
    """A title inside a sentence: without its capital, unless it is an abbreviation."""
    return title if title[1:2].isdigit() or title[1:2].isupper() else title[0].lower() + title[1:]


def _cell(values: list[Any], first: list[Array], second: list[Array]) -> tuple[float | None, int]:
    """The mean of a metric over scenes and those of their talkers in two bins, and the number of scenes.

    Args:
        values: by scene, a list over talkers, or None.
        first: by scene, which talkers ``(talker,)`` are in a bin.
        second: the same for the other bin.
    """
    means = []
    for of_scene, a, b in zip(values, first, second, strict=True):
        inside = a & b
        if isinstance(of_scene, list) and None not in of_scene and inside.any():
            means.append(np.array(of_scene, dtype=np.float64)[inside].mean())
    return (float(np.mean(means)), len(means)) if means else (None, 0)
