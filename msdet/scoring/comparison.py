"""Paired differences between systems on the same scenes, with intervals and a paired test."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from msdet.errors import MsdetError, check_known
from msdet.scoring.breakdowns import Bin, find_breakdowns
from msdet.scoring.metrics import METRICS, Row, aligned_rows, assignment_notes, metric_values, optimal_assignments
from msdet.scoring.statistics import CONFIDENCE, SWAPS, bootstrap, percentile_interval, randomization_test
from msdet.scoring.tables import Table, blank_repeats, csv_text, number

COMPARED = tuple(key for key, metric in METRICS.items() if metric.compared)
"""Metrics that are compared unless some are named, as far as both systems have them."""

COMPARED_BY_BIN = ("si_sdr_improvement_db", "stoi", "doa_mae_deg", "accuracy_10deg")

TEST = (
    f"p: two-sided paired randomization test over scenes ({SWAPS} swaps); * < 0.05, ** < 0.01, *** < 0.001; "
    "not corrected for the number of tests."
)


class Difference(NamedTuple):
    """One metric of two systems over the n scenes that both score; `value` is the first less the second.

    Ends of its bootstrap interval, and p of the randomization test, are None for fewer than two scenes.
    """

    first: float
    second: float
    value: float
    low: float | None
    high: float | None
    p: float | None
    n: int

    @property
    def mark(self) -> str:
        """Asterisks for how unlikely the difference is by chance."""
        return "" if self.p is None else "*" * sum(self.p < limit for limit in (0.05, 0.01, 0.001))


@dataclass(frozen=True)
class Comparison:
    """Two systems, by name, on the same scenes; the second's values are subtracted."""

    first: str
    second: str
    overall: dict[str, Difference]  # by metric
    breakdowns: dict[str, dict[str, dict[str, Difference]]]  # by title, cell and metric; an empty cell has none
    scenes: int  # that both are scored on
    optimal_assignment: dict[str, int]  # as of `msdet.scoring.metrics.optimal_assignments`


def compare(
    systems: dict[str, list[Row]], metrics: Iterable[str] = (), by: Iterable[str] = (), seed: int = 0
) -> Comparison:
    """Compare two systems, over all scenes and by bin.

    `metrics` are names in `METRICS`, overall and by bin, each of which some scene has of both; `COMPARED` and
    `COMPARED_BY_BIN` if empty. For breakdowns see `msdet.scoring.breakdowns.find_breakdowns`.
    """
    named = tuple(dict.fromkeys(metrics))
    (first, rows_a), (second, rows_b) = aligned_rows(systems).items()
    overall = differences(rows_a, rows_b, named or COMPARED, seed)
    for name in named:
        if name not in overall:
            raise MsdetError(f"no scene in which both '{first}' and '{second}' have a value of {name}")
    if not overall:
        raise MsdetError(f"'{first}' and '{second}' have no metric in common")
    breakdowns = {
        breakdown.title: {
            cell: differences(rows_a, rows_b, named or COMPARED_BY_BIN, seed, bins)
            for cell, bins in breakdown.cells.items()
        }
        for breakdown in find_breakdowns(by)
    }
    return Comparison(first, second, overall, breakdowns, len(rows_a), optimal_assignments(systems, overall))


def differences(
    rows_a: list[Row],
    rows_b: list[Row],
    metrics: Iterable[str],
    seed: int = 0,
    bins: tuple[Bin, ...] = (),
    tested: bool = True,
) -> dict[str, Difference]:
    """System a less system b by metric, over what is in the bins; without metrics that no scene has of both.

    Untested ones have no p-value, which takes as long as the rest.
    """
    rows_a, rows_b = aligned_rows({"a": rows_a, "b": rows_b}).values()
    by_metric = {}
    for name in metrics:
        check_known("metric", METRICS, name)
        values = ((metric_values(row, METRICS[name], bins) for row in rows) for rows in (rows_a, rows_b))
        pairs = [(a, b) for a, b in zip(*values, strict=True) if a is not None and b is not None]
        if not pairs:
            continue
        first, second = [a for a, _ in pairs], [b for _, b in pairs]
        statistic = METRICS[name].statistic
        value, resampled = bootstrap([first, second], statistic, seed)
        if not np.isfinite(value).all():
            continue
        a, b = map(float, value)
        paired = percentile_interval(a - b, resampled[0] - resampled[1], len(pairs))
        p = randomization_test(first, second, statistic, seed) if tested and len(pairs) > 1 else None
        by_metric[name] = Difference(a, b, *paired[:3], p, len(pairs))
    return by_metric


def all_differences(rows: dict[str, list[Row]], of: str) -> dict[str, dict[str, Difference]]:
    """`differences` in `COMPARED` of one system to each of the others."""
    return {other: differences(rows[of], rows[other], COMPARED) for other in rows if other != of}


def differences_tables(by_system: dict[str, dict[str, Difference]], of: str) -> tuple[list[Table], list[str]]:
    """A table of `all_differences`, and notes."""
    lines = [(other, *line) for other, metrics in by_system.items() for line in metrics.items()]
    if not lines:
        return [], []
    labels, _, _, *columns = _columns([line[1:] for line in lines])
    header = ["against", "metric", "difference", "p", "n"]
    columns = [blank_repeats([other for other, _, _ in lines]), labels, *columns]
    return [Table(f"Paired differences: {of} less another system", header, columns, 2)], [TEST]


def comparison_tables(comparison: Comparison) -> tuple[list[Table], list[str]]:
    """Tables of a comparison, and notes."""
    title = f"{comparison.first} less {comparison.second}"
    header = ["metric", comparison.first, comparison.second, "difference", "p", "n"]
    tables = [Table(title, header, _columns(list(comparison.overall.items())), 1)]
    for breakdown, cells in comparison.breakdowns.items():
        lines = [(cell, *line) for cell, metrics in cells.items() for line in metrics.items()]
        if lines:
            names = blank_repeats([cell for cell, _, _ in lines])
            columns = [names, *_columns([line[1:] for line in lines])]
            tables.append(Table(f"{breakdown}: {title}", ["", *header], columns, 2))
    interval = f"in brackets: {CONFIDENCE:.0%} paired bootstrap interval over n scenes."
    return tables, [interval, TEST, *assignment_notes(comparison.optimal_assignment, comparison.scenes)]


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """A comparison as JSON can express it, accuracies as fractions."""
    return {
        "first": comparison.first,
        "second": comparison.second,
        "confidence": CONFIDENCE,
        "swaps": SWAPS,
        "own_assignment": list(comparison.optimal_assignment),
        "overall": differences_json(comparison.overall),
        "breakdowns": {
            breakdown: {cell: differences_json(metrics) for cell, metrics in cells.items()}
            for breakdown, cells in comparison.breakdowns.items()
        },
    }


def differences_json(by_metric: dict[str, Difference]) -> dict[str, Any]:
    """Differences as JSON can express them."""
    return {key: difference._asdict() for key, difference in by_metric.items()}


def comparison_csv(comparisons: Iterable[Comparison]) -> str:
    """Comparisons as one long table of comma-separated values."""
    rows = [
        (c.first, c.second, breakdown, cell, key, *difference)
        for c in comparisons
        for breakdown, cells in ({"": {"": c.overall}} | c.breakdowns).items()
        for cell, metrics in cells.items()
        for key, difference in metrics.items()
    ]
    header = ("system", "against", "breakdown", "cell", "metric", *Difference._fields)
    return csv_text(header, rows)


def _columns(lines: list[tuple[str, Difference]]) -> list[list[str]]:
    """Labels, values of both systems, differences with intervals and marks, p and numbers of scenes."""
    rows = []
    for m, d in [(METRICS[key], d) for key, d in lines]:
        first, second = (number(x, m.decimals, m.scale) for x in (d.first, d.second))
        value, low, high = (number(x, m.decimals, m.scale, signed=True) for x in (d.value, d.low, d.high))
        rows.append([m.label, first, second, f"{value} [{low}, {high}] {d.mark:<3}", number(d.p, 4), str(d.n)])
    return [list(column) for column in zip(*rows, strict=True)]
