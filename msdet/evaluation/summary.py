"""Summaries of scored systems: means with bootstrap intervals over the same scenes, and breakdowns.

A metric is averaged over the talkers of a scene first and over scenes then; intervals come from
resampling scenes, since the talkers of one scene are not independent.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from msdet.conventions import Array
from msdet.errors import MsdetError, UnknownNameError
from msdet.evaluation.bootstrap import CONFIDENCE, RESAMPLES, Interval, bootstrap, percentile_interval
from msdet.evaluation.scoring import Row

if TYPE_CHECKING:
    from rich.console import Console


class Metric(NamedTuple):
    """How a metric is had from the rows, and how it is shown.

    Attributes:
        field: the field of a row, a list over talkers.
        label: name and unit in tables.
        decimals: shown.
        within_deg: turn each error into whether it is at most this; None leaves the values.
        median: over all talkers, instead of the mean over scenes.
        scale: factor for showing.
    """

    field: str
    label: str
    decimals: int
    within_deg: float | None = None
    median: bool = False
    scale: float = 1.0


METRICS = {
    "si_sdr_db": Metric("si_sdr_db", "SI-SDR (dB)", 2),
    "si_sdr_improvement_db": Metric("si_sdr_improvement_db", "SI-SDR gain (dB)", 2),
    "sdr_db": Metric("sdr_db", "SDR (dB)", 2),
    "stoi": Metric("stoi", "STOI", 3),
    "doa_mae_deg": Metric("doa_error_deg", "DoA MAE (deg)", 1),
    "doa_median_deg": Metric("doa_error_deg", "DoA median (deg)", 1, median=True),
    "accuracy_5deg": Metric("doa_error_deg", "within 5 deg (%)", 1, within_deg=5.0, scale=100.0),
    "accuracy_10deg": Metric("doa_error_deg", "within 10 deg (%)", 1, within_deg=10.0, scale=100.0),
}
"""Metrics of a summary by name; accuracies are fractions of talkers."""

_SEPARATION = ("si_sdr_db", "si_sdr_improvement_db", "sdr_db", "stoi")
_DOA = ("doa_mae_deg", "doa_median_deg", "accuracy_5deg", "accuracy_10deg")
_IN_BREAKDOWNS = (("si_sdr_improvement_db",), ("doa_mae_deg", "accuracy_5deg"))


class Bin(NamedTuple):
    """Scenes whose label ``field`` is in ``[low, high)``."""

    name: str
    field: str
    low: float = -math.inf
    high: float = math.inf

    def holds(self, row: Row) -> bool:
        """Whether a row is in the bin; never where its label is null (the gap of a single talker)."""
        label = row[self.field]
        return label is not None and self.low <= float(label) < self.high


BINS = {
    "Azimuth gap": (
        Bin("< 15 deg", "azimuth_gap_deg", high=15.0),
        Bin("15 to 45 deg", "azimuth_gap_deg", 15.0, 45.0),
        Bin("45 to 90 deg", "azimuth_gap_deg", 45.0, 90.0),
        Bin(">= 90 deg", "azimuth_gap_deg", 90.0),
        Bin(">= 20 deg", "azimuth_gap_deg", 20.0),
    ),
    "T60": (
        Bin("< 0.3 s", "t60_s", high=0.3),
        Bin("0.3 to 0.4 s", "t60_s", 0.3, 0.4),
        Bin(">= 0.4 s", "t60_s", 0.4),
    ),
    "Closest talkers straddle 0 deg": (
        Bin("yes", "straddles", low=1.0),
        Bin("no", "straddles", high=1.0),
    ),
}
"""Breakdowns by name; a bin includes its lower edge. The last bin of the gap overlaps the others."""


@dataclass(frozen=True)
class Score:
    """One metric of one system.

    Attributes:
        interval: over the scenes compared; None where there are none.
        scored: number of scenes in which the metric has a value for every talker.
        not_scored: number of the others.
        reasons: how many of the others for which reason.
    """

    interval: Interval | None
    scored: int
    not_scored: int
    reasons: dict[str, int]


@dataclass(frozen=True)
class Summary:
    """Scores of several systems on the same scenes.

    Attributes:
        scenes: number of scenes in the rows.
        compared: by metric, the number of scenes scored by every system that scores any.
        scores: by system, by metric.
        breakdowns: by breakdown of `BINS`, bin, system and metric; an empty bin has no metrics.
        own_assignment: systems whose azimuths are assigned by themselves, for want of audio.
    """

    scenes: int
    compared: dict[str, int]
    scores: dict[str, dict[str, Score]]
    breakdowns: dict[str, dict[str, dict[str, dict[str, Interval]]]]
    own_assignment: tuple[str, ...]


def summarise(systems: dict[str, list[Row]], seed: int = 0) -> Summary:
    """Means, 95 % bootstrap intervals and breakdowns of systems scored on the same scenes.

    Only scenes in which every system has a value for a metric enter that metric; a system without a value
    of it in any scene (no audio, no DoA) has no part in that.

    Args:
        systems: rows of `score_set` by name of the system, in any order.
        seed: of the bootstrap; each resample of scenes serves all systems.

    Raises:
        MsdetError: no system or no scene, or systems scored on different scenes.
    """
    aligned = _aligned(systems)
    labels = next(iter(aligned.values()))
    compared: dict[str, int] = {}
    scores: dict[str, dict[str, Score]] = {name: {} for name in aligned}
    breakdowns: dict[str, dict[str, dict[str, dict[str, Interval]]]] = {
        breakdown: {b.name: {name: {} for name in aligned} for b in bins} for breakdown, bins in BINS.items()
    }
    for key, metric in METRICS.items():
        values = {name: [_talker_values(row, metric) for row in rows] for name, rows in aligned.items()}
        taking_part = {name: v for name, v in values.items() if any(x is not None for x in v)}
        common = [
            i
            for i in range(len(labels))
            if taking_part and all(v[i] is not None for v in taking_part.values())
        ]
        compared[key] = len(common)
        intervals = _intervals(taking_part, common, metric, seed)
        for name, rows in aligned.items():
            scores[name][key] = _score(rows, values[name], metric, intervals.get(name))
        for breakdown, bins in BINS.items():
            for b in bins:
                inside = [i for i in common if b.holds(labels[i])]
                for name, interval in _intervals(taking_part, inside, metric, seed).items():
                    breakdowns[breakdown][b.name][name][key] = interval
    own = tuple(n for n, rows in aligned.items() if any(row.get("permutation_from") == "doa" for row in rows))
    return Summary(len(labels), compared, scores, breakdowns, own)


def paired_difference(rows_a: list[Row], rows_b: list[Row], metric: str, seed: int = 0) -> Interval:
    """Value of a metric for system a less that for system b, with a paired bootstrap interval.

    Args:
        rows_a: rows of system a.
        rows_b: rows of system b, on the same scenes.
        metric: one of `METRICS`.
        seed: of the bootstrap.

    Returns:
        ``(value, low, high, n)`` over the scenes that both score; accuracies are fractions.

    Raises:
        MsdetError: different scenes, an unknown metric, or no scene that both score.
    """
    if metric not in METRICS:
        raise UnknownNameError("metric", metric, METRICS)
    a, b = (
        [_talker_values(row, METRICS[metric]) for row in rows]
        for rows in _aligned({"a": rows_a, "b": rows_b}).values()
    )
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    if not pairs:
        raise MsdetError(f"no scene in which both systems have a value of {metric}")
    by_system = [[x for x, _ in pairs], [y for _, y in pairs]]
    value, resampled = bootstrap(by_system, METRICS[metric].median, seed)
    return percentile_interval(value[0] - value[1], resampled[0] - resampled[1], len(pairs))


def to_json(summary: Summary) -> dict[str, Any]:
    """The summary as JSON can express it: objects by system and metric, accuracies as fractions."""
    systems = {
        name: {
            key: {
                **(score.interval._asdict() if score.interval else dict.fromkeys(Interval._fields)),
                "scored": score.scored,
                "not_scored": score.not_scored,
                "reasons": score.reasons,
            }
            for key, score in scores.items()
        }
        for name, scores in summary.scores.items()
    }
    breakdowns = {
        breakdown: {
            b: {n: {k: i._asdict() for k, i in found.items()} for n, found in by_system.items()}
            for b, by_system in bins.items()
        }
        for breakdown, bins in summary.breakdowns.items()
    }
    return {
        "scenes": summary.scenes,
        "resamples": RESAMPLES,
        "confidence": CONFIDENCE,
        "compared": summary.compared,
        "own_assignment": list(summary.own_assignment),
        "systems": systems,
        "breakdowns": breakdowns,
    }


def to_markdown(summary: Summary) -> str:
    """The summary as Markdown tables, aligned in plain text as well."""
    parts = []
    for table in _tables(summary):
        columns = []
        for c, (name, cells) in enumerate(zip(table.header, table.columns, strict=True)):
            texts = [x.replace("\n", ", ").replace("|", "\\|") for x in (name, *cells)]
            width = max(3, *map(len, texts))
            left = c < table.left
            rule = "-" * width if left else "-" * (width - 1) + ":"
            head, *rest = (x.ljust(width) if left else x.rjust(width) for x in texts)
            columns.append([head, rule, *rest])
        body = "\n".join(f"| {' | '.join(line)} |" for line in zip(*columns, strict=True))
        parts.append(f"### {table.title}\n\n{body}\n")
    parts.append("".join(f"- {note}\n" for note in _notes(summary)))
    return "\n".join(parts)


def print_summary(summary: Summary, console: Console) -> None:
    """Print the summary as tables; made for 110 columns."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    for table in _tables(summary):
        shown = Table(
            title=Text(table.title),
            title_justify="left",
            box=box.SIMPLE_HEAD,
            show_edge=False,
            pad_edge=False,
            padding=(0, 1, 0, 0),
        )
        for c, name in enumerate(table.header):
            if c < table.left:
                shown.add_column(Text(name), overflow="fold", vertical="top")
            else:
                shown.add_column(Text(name), justify="right", no_wrap=True, vertical="top")
        for row in zip(*table.columns, strict=True):
            shown.add_row(*(Text(cell) for cell in row))
        console.print(shown)
        console.print()
    for note in _notes(summary):
        console.print(Text(note))


def _aligned(systems: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """The rows of every system in the scenes' order of the first one."""
    by_id = {name: {row["id"]: row for row in rows} for name, rows in systems.items()}
    if not by_id or not all(by_id.values()):
        raise MsdetError("nothing to summarise: no system, or one without scenes")
    first_name, first = next(iter(by_id.items()))
    for name, rows in by_id.items():
        if len(rows) != len(systems[name]):
            raise MsdetError(f"scores of '{name}': a scene occurs twice")
        if rows.keys() != first.keys() or any(
            row["azimuth_deg"] != first[i]["azimuth_deg"] for i, row in rows.items()
        ):
            raise MsdetError(f"'{first_name}' and '{name}' are not scored on the same scenes")
    return {name: [rows[i] for i in first] for name, rows in by_id.items()}


def _talker_values(row: Row, metric: Metric) -> Array | None:
    """Values ``(talker,)`` of a scene; None unless every talker has one."""
    values = row.get(metric.field)
    if not values or any(v is None for v in values):
        return None
    array = np.array(values, dtype=np.float64)
    return array if metric.within_deg is None else (array <= metric.within_deg).astype(np.float64)


def _score(rows: list[Row], values: list[Array | None], metric: Metric, interval: Interval | None) -> Score:
    missing = [row for row, v in zip(rows, values, strict=True) if v is None]
    reasons = Counter(_reason(row, metric) for row in missing)
    return Score(interval, len(rows) - len(missing), len(missing), dict(reasons.most_common()))


def _reason(row: Row, metric: Metric) -> str:
    if row.get("error"):
        return str(row["error"]).replace(row["id"], "SCENE")  # so that equal errors count together
    return str(row.get("undefined", {}).get(metric.field, "not in the scores"))


def _intervals(
    values: dict[str, list[Array | None]], scenes: list[int], metric: Metric, seed: int
) -> dict[str, Interval]:
    """The interval of each system over the scenes at these places; none without scenes."""
    if not scenes:
        return {}
    groups = [[x for x in (v[i] for i in scenes) if x is not None] for v in values.values()]
    value, resampled = bootstrap(groups, metric.median, seed)
    return {
        name: percentile_interval(v, r, len(scenes))
        for name, v, r in zip(values, value, resampled, strict=True)
    }


class _Table(NamedTuple):
    """A table of text by columns; the first `left` of them are aligned to the left."""

    title: str
    header: list[str]
    columns: list[list[str]]
    left: int


def _tables(summary: Summary) -> list[_Table]:
    tables = []
    for title, keys in (("Separation", _SEPARATION), ("Direction of arrival", _DOA)):
        if not any(summary.compared[key] for key in keys):
            continue
        header = ["system", *(f"{METRICS[key].label}\nn = {summary.compared[key]}" for key in keys)]
        cells = [_cells([s[key].interval for s in summary.scores.values()], METRICS[key]) for key in keys]
        tables.append(_Table(title, header, [list(summary.scores), *cells], 1))
    return tables + [_breakdown_table(title, bins) for title, bins in summary.breakdowns.items()]


def _breakdown_table(title: str, bins: dict[str, dict[str, dict[str, Interval]]]) -> _Table:
    lines = [(b, *line) for b, by_system in bins.items() for line in by_system.items()]
    names = [b if n == 0 or lines[n - 1][0] != b else "" for n, (b, _, _) in enumerate(lines)]
    header, columns = ["", "system"], [names, [system for _, system, _ in lines]]
    for keys in _IN_BREAKDOWNS:
        found = [[intervals.get(key) for _, _, intervals in lines] for key in keys]
        if any(found[0]):
            header += ["n", *(METRICS[key].label for key in keys)]
            columns.append([str(i.n) if i else "0" for i in found[0]])
            columns += [_cells(column, METRICS[key]) for column, key in zip(found, keys, strict=True)]
    return _Table(title, header, columns, 2)


def _cells(column: list[Interval | None], metric: Metric) -> list[str]:
    """Intervals as text, in which the numbers of a column stand below each other."""

    def text(number: float | None) -> str:
        return "-" if number is None else f"{number * metric.scale:.{metric.decimals}f}"

    texts = [(text(i.value), text(i.low), text(i.high)) if i else ("", "", "") for i in column]
    v, lo, hi = (max(map(len, place)) for place in zip(*texts, strict=True))
    return [f"{x:>{v}} [{y:>{lo}}, {z:>{hi}}]" if x else "-" for x, y, z in texts]


def _notes(summary: Summary) -> list[str]:
    notes = [
        f"{summary.scenes} scenes; n: scenes compared, those that every system scores; "
        f"in brackets: {CONFIDENCE:.0%} bootstrap interval ({RESAMPLES} resamples of scenes)."
    ]
    for name, scores in summary.scores.items():
        causes: dict[tuple[int, str], list[str]] = {}
        for key, score in scores.items():
            if score.not_scored:
                reasons = [f"{count} x {reason}" for reason, count in score.reasons.items()]
                why = "; ".join(reasons[:3]) + ("; ..." if len(reasons) > 3 else "")
                causes.setdefault((score.not_scored, why), []).append(METRICS[key].label.split(" (")[0])
        notes += [
            f"{name}: {', '.join(labels)} not scored in {count} of {summary.scenes} scenes ({why})."
            for (count, why), labels in causes.items()
        ]
    notes += [
        f"{name}: without audio, azimuths are assigned to talkers with the smallest total error."
        for name in summary.own_assignment
    ]
    return notes
