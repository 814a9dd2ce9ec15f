"""Paired differences between systems on the same scenes, with intervals and a paired test."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from msdet.errors import MsdetError
from msdet.scoring.breakdowns import Bin, find_breakdowns
from msdet.scoring.metrics import FIELDS_OF_KIND, METRICS
from msdet.scoring.statistics import CONFIDENCE, SWAPS, bootstrap, percentile_interval, randomization_test
from msdet.scoring.tables import Table, number
from msdet.scoring.values import Row, aligned_rows, own_assignment_notes, own_assignments, paired_values

COMPARED = (
    "si_sdr_improvement_db", "sdr_db", "sir_db", "sar_db", "snr_db", "stoi", "estoi", "pesq", "wer",
    "doa_mae_deg", "doa_median_deg", "accuracy_5deg", "accuracy_10deg", "doa_great_circle_deg",
    "assignment_accuracy", "doa_f1", "track_mae_deg", "track_accuracy_10deg",
)  # fmt: skip
"""What is compared unless metrics are named: as far as both systems have it."""

IN_BREAKDOWNS = ("si_sdr_improvement_db", "stoi", "doa_mae_deg", "accuracy_10deg")
"""Of that, what is compared by bin."""

TEST = (
    f"p: two-sided paired randomization test over scenes ({SWAPS} swaps); * < 0.05, ** < 0.01, *** < 0.001; "
    "not corrected for the number of tests."
)


class Difference(NamedTuple):
    """One metric of two systems over the scenes that both score.

    Attributes:
        first: value of the first system.
        second: of the second.
        value: the first less the second.
        low: end of its bootstrap interval; None for fewer than two scenes.
        high: the other end.
        p: of the randomization test; None for fewer than two scenes.
        n: number of scenes.
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
    """Two systems on the same scenes.

    Attributes:
        first: name of a system.
        second: name of the other, whose values are taken off.
        overall: by metric.
        breakdowns: by title of the breakdown, cell and metric; an empty cell has no metrics.
        scenes: how many both are scored on.
        own_assignment: in how many of them azimuths are assigned by themselves, for want of audio, by system.
    """

    first: str
    second: str
    overall: dict[str, Difference]
    breakdowns: dict[str, dict[str, dict[str, Difference]]]
    scenes: int
    own_assignment: dict[str, int]


def compare(
    systems: dict[str, list[Row]], metrics: Iterable[str] = (), by: Iterable[str] = (), seed: int = 0
) -> Comparison:
    """Compare two systems, over all scenes and by bin.

    Args:
        systems: rows of the two by name.
        metrics: names in `METRICS`, overall and by bin; `COMPARED` and `IN_BREAKDOWNS` if empty.
        by: breakdowns, see `msdet.scoring.breakdowns.find_breakdowns`.
        seed: of bootstrap and test.

    Raises:
        MsdetError: other scenes, an unknown metric or breakdown, a metric that was asked for and that no
            scene has of both, or nothing that both have.
    """
    asked = tuple(dict.fromkeys(metrics))
    (first, rows_a), (second, rows_b) = aligned_rows(systems).items()
    overall = differences(rows_a, rows_b, asked or COMPARED, seed)
    for name in asked:
        if name not in overall:
            raise MsdetError(f"no scene in which both '{first}' and '{second}' have a value of {name}")
    if not overall:
        raise MsdetError(f"'{first}' and '{second}' have no metric in common")
    breakdowns = {
        breakdown.title: {
            cell: differences(rows_a, rows_b, asked or IN_BREAKDOWNS, seed, bins)
            for cell, bins in breakdown.cells.items()
        }
        for breakdown in find_breakdowns(by)
    }
    has_doa = any(METRICS[key].field in FIELDS_OF_KIND["directions"] for key in overall)
    own = own_assignments(systems) if has_doa else {}
    return Comparison(first, second, overall, breakdowns, len(rows_a), own)


def differences(
    rows_a: list[Row], rows_b: list[Row], metrics: Iterable[str], seed: int = 0, bins: tuple[Bin, ...] = ()
) -> dict[str, Difference]:
    """System a less system b by metric, over what is in the bins; metrics that nothing has are left out.

    Raises:
        MsdetError: other scenes, or an unknown metric.
    """
    found = {}
    for name in metrics:
        a, b = paired_values(rows_a, rows_b, name, bins)
        if not a:
            continue
        statistic = METRICS[name].statistic
        value, resampled = bootstrap([a, b], statistic, seed)
        if not np.isfinite(value).all():
            continue
        first, second = map(float, value)
        paired = percentile_interval(first - second, resampled[0] - resampled[1], len(a))
        p = randomization_test(a, b, statistic, seed) if len(a) > 1 else None
        found[name] = Difference(first, second, paired.value, paired.low, paired.high, p, len(a))
    return found


def all_differences(rows: dict[str, list[Row]], of: str) -> dict[str, dict[str, Any]]:
    """`differences` of one system to each of the others in `COMPARED`, as JSON can express them."""
    return {
        other: {k: d._asdict() for k, d in differences(rows[of], rows[other], COMPARED).items()}
        for other in rows
        if other != of
    }


def differences_tables(found: dict[str, dict[str, Any]], of: str) -> tuple[list[Table], list[str]]:
    """A table of `all_differences`, and notes."""
    lines = [(other, key, Difference(**d)) for other, metrics in found.items() for key, d in metrics.items()]
    if not lines:
        return [], []
    names = [other if n == 0 or lines[n - 1][0] != other else "" for n, (other, _, _) in enumerate(lines)]
    columns = [
        names,
        [METRICS[key].label for _, key, _ in lines],
        *_columns([line[1:] for line in lines])[2:],
    ]
    header = ["against", "metric", "difference", "p", "n"]
    return [Table(f"Paired differences: {of} less another system", header, columns, 2)], [TEST]


def comparison_tables(comparison: Comparison) -> tuple[list[Table], list[str]]:
    """Tables of a comparison, and notes."""
    title = f"{comparison.first} less {comparison.second}"
    metrics = {METRICS[key].label: (key, d) for key, d in comparison.overall.items()}
    header = ["metric", comparison.first, comparison.second, "difference", "p", "n"]
    tables = [Table(title, header, [list(metrics), *_columns(list(metrics.values()))], 1)]
    for breakdown, cells in comparison.breakdowns.items():
        lines = [(cell, key, d) for cell, found in cells.items() for key, d in found.items()]
        if not lines:
            continue
        names = [cell if n == 0 or lines[n - 1][0] != cell else "" for n, (cell, _, _) in enumerate(lines)]
        labels = [METRICS[key].label for _, key, _ in lines]
        columns = [names, labels, *_columns([line[1:] for line in lines])]
        tables.append(Table(f"{breakdown}: {title}", ["", *header], columns, 2))
    interval = f"in brackets: {CONFIDENCE:.0%} paired bootstrap interval over n scenes."
    return tables, [interval, TEST, *own_assignment_notes(comparison.own_assignment, comparison.scenes)]


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """A comparison as JSON can express it, accuracies as fractions."""
    return {
        "first": comparison.first,
        "second": comparison.second,
        "confidence": CONFIDENCE,
        "swaps": SWAPS,
        "own_assignment": list(comparison.own_assignment),
        "overall": {key: d._asdict() for key, d in comparison.overall.items()},
        "breakdowns": {
            breakdown: {cell: {k: d._asdict() for k, d in found.items()} for cell, found in cells.items()}
            for breakdown, cells in comparison.breakdowns.items()
        },
    }


def comparison_csv(comparison: Comparison) -> str:
    """A comparison as one long table of comma-separated values."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("breakdown", "cell", "metric", *Difference._fields))
    writer.writerows(("", "", key, *d) for key, d in comparison.overall.items())
    for breakdown, cells in comparison.breakdowns.items():
        for cell, found in cells.items():
            writer.writerows((breakdown, cell, key, *d) for key, d in found.items())
    return stream.getvalue()


def _columns(found: list[tuple[str, Difference]]) -> list[list[str]]:
    """Values of both systems, differences with their intervals and marks, p and numbers of scenes."""
    shown = [(METRICS[key], d) for key, d in found]
    differences = []
    for m, d in shown:
        value, low, high = (number(x, m.decimals, m.scale, signed=True) for x in (d.value, d.low, d.high))
        differences.append(f"{value} [{low}, {high}] {d.mark:<3}")
    return [
        [number(d.first, m.decimals, m.scale) for m, d in shown],
        [number(d.second, m.decimals, m.scale) for m, d in shown],
        differences,
        [number(d.p, 4) for _, d in shown],
        [str(d.n) for _, d in shown],
    ]
