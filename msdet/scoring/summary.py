"""Summaries of scored systems: means with bootstrap intervals over the same scenes, and breakdowns.

A metric is averaged over the talkers of a scene first and over scenes then; intervals come from
resampling scenes, since the talkers of one scene are not independent.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from msdet.conventions import Array
from msdet.errors import MsdetError
from msdet.scoring.breakdowns import DEFAULT_BREAKDOWNS, Bin, find_breakdowns, members
from msdet.scoring.doa_scores import NO_DOA
from msdet.scoring.metrics import FIELDS_OF_KIND, METRICS, Group, Metric, name_fields
from msdet.scoring.score import NOT_GIVEN
from msdet.scoring.statistics import CONFIDENCE, RESAMPLES, ConfidenceInterval, bootstrap, percentile_interval
from msdet.scoring.tables import Table, aligned, number
from msdet.scoring.values import (
    ABSENT,
    Row,
    aligned_rows,
    metric_values,
    own_assignment_notes,
    own_assignments,
    paired_values,
    why_not,
)

_TITLES: dict[Group, str] = {
    "separation": "Separation",
    "words": "Word errors",
    "doa": "Direction of arrival",
    "accuracy": "Direction of arrival: talkers within a limit",
    "own": "Direction of arrival, azimuths under their own best assignment",
    "detection": "Talkers found within 20 deg, whatever their number",
    "track": "Moving talkers, frame by frame",
}

_MAX_COLUMNS = 4  # of metrics that fit beside each other

_MAX_REASONS = 6  # in the notes of a system, a line each

_IN_BREAKDOWNS = (("si_sdr_improvement_db",), ("doa_mae_deg", "accuracy_5deg"))


@dataclass(frozen=True)
class Score:
    """One metric of one system.

    Attributes:
        interval: over the scenes compared; None where there are none.
        scored: number of scenes in which the metric has a value for every talker.
        not_scored: number of the others.
        reasons: how many of the others for which reason.
    """

    interval: ConfidenceInterval | None
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
        breakdowns: by title of the breakdown, cell, system and metric; an empty cell has no metrics.
        own_assignment: in how many scenes azimuths are assigned by themselves, for want of audio, by system.
        doubts: by system, in how many scenes something looks wrong that was scored all the same.
    """

    scenes: int
    compared: dict[str, int]
    scores: dict[str, dict[str, Score]]
    breakdowns: dict[str, dict[str, dict[str, dict[str, ConfidenceInterval]]]]
    own_assignment: dict[str, int]
    doubts: dict[str, dict[str, int]]


def summarize(
    systems: dict[str, list[Row]], seed: int = 0, by: Iterable[str] = DEFAULT_BREAKDOWNS
) -> Summary:
    """Means, 95 % bootstrap intervals and breakdowns of systems scored on the same scenes.

    Only scenes in which every system has a value for a metric enter that metric; a system without a value
    of it in any scene (no audio, no DoA) has no part in that.

    Args:
        systems: rows of `score_set` by name of the system, in any order.
        seed: of the bootstrap; each resample of scenes serves all systems.
        by: breakdowns, see `msdet.scoring.breakdowns.find_breakdowns`.

    Raises:
        MsdetError: no system or no scene, systems scored on different scenes, or an unknown breakdown.
    """
    chosen = find_breakdowns(by)
    rows = aligned_rows(systems)
    places = range(len(next(iter(rows.values()))))
    values = {
        key: {name: [metric_values(row, metric) for row in of] for name, of in rows.items()}
        for key, metric in METRICS.items()
    }
    overall = {key: _intervals(values[key], METRICS[key], seed) for key in METRICS}
    scores = {
        name: {key: _score(of, values[key][name], METRICS[key], overall[key].get(name)) for key in METRICS}
        for name, of in rows.items()
    }
    compared = {key: len(_common(values[key])) for key in METRICS}
    scored = [key for key in METRICS if compared[key]]
    breakdowns = {
        breakdown.title: {
            cell: _cell_intervals(rows, bins, scored, seed) for cell, bins in breakdown.cells.items()
        }
        for breakdown in chosen
    }
    doubts = {
        name: dict(Counter(_kind(doubt) for row in of for doubt in row.get("doubts", ())).most_common())
        for name, of in rows.items()
    }
    return Summary(len(places), compared, scores, breakdowns, own_assignments(rows), doubts)


def paired_difference(rows_a: list[Row], rows_b: list[Row], metric: str, seed: int = 0) -> ConfidenceInterval:
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
    first, second = paired_values(rows_a, rows_b, metric)
    if first:
        value, resampled = bootstrap([first, second], METRICS[metric].statistic, seed)
        if np.isfinite(value).all():
            return percentile_interval(value[0] - value[1], resampled[0] - resampled[1], len(first))
    raise MsdetError(f"no scene in which both systems have a value of {metric}")


def to_json(summary: Summary) -> dict[str, Any]:
    """The summary as JSON can express it: objects by system and metric, accuracies as fractions."""
    systems = {
        name: {
            key: {
                **(score.interval._asdict() if score.interval else dict.fromkeys(ConfidenceInterval._fields)),
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
            cell: {n: {k: i._asdict() for k, i in found.items()} for n, found in by_system.items()}
            for cell, by_system in cells.items()
        }
        for breakdown, cells in summary.breakdowns.items()
    }
    return {
        "scenes": summary.scenes,
        "resamples": RESAMPLES,
        "confidence": CONFIDENCE,
        "compared": summary.compared,
        "own_assignment": list(summary.own_assignment),
        "doubts": summary.doubts,
        "systems": systems,
        "breakdowns": breakdowns,
    }


def to_csv(summary: Summary) -> str:
    """The summary as one long table of comma-separated values: a line for each number and its interval."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("breakdown", "cell", "system", "metric", *ConfidenceInterval._fields))
    for name, scores in summary.scores.items():
        for key, score in scores.items():
            if score.interval:
                writer.writerow(("", "", name, key, *score.interval))
    for breakdown, cells in summary.breakdowns.items():
        for cell, by_system in cells.items():
            for name, found in by_system.items():
                writer.writerows((breakdown, cell, name, key, *interval) for key, interval in found.items())
    return stream.getvalue()


def summary_tables(summary: Summary) -> tuple[list[Table], list[str]]:
    """The summary as tables for `msdet.scoring.tables`, and notes."""
    return _tables(summary), _notes(summary)


def _score(
    rows: list[Row], values: list[Array | None], metric: Metric, interval: ConfidenceInterval | None
) -> Score:
    missing = [row for row, v in zip(rows, values, strict=True) if v is None]
    reasons = Counter(why_not(row, metric) for row in missing)
    return Score(interval, len(rows) - len(missing), len(missing), dict(reasons.most_common()))


def _common(values: dict[str, list[Array | None]]) -> list[int]:
    """Places of the scenes in which every system has a value that has any."""
    taking_part = [v for v in values.values() if any(x is not None for x in v)]
    scenes = zip(*taking_part, strict=True)
    return [i for i, of in enumerate(scenes) if all(x is not None for x in of)]


def _intervals(
    values: dict[str, list[Array | None]], metric: Metric, seed: int
) -> dict[str, ConfidenceInterval]:
    """The interval of each system that takes part, over the scenes in common; none without scenes."""
    common = _common(values)
    taking_part = {name: v for name, v in values.items() if common and any(x is not None for x in v)}
    groups = [[x for x in (v[i] for i in common) if x is not None] for v in taking_part.values()]
    if not groups:
        return {}
    value, resampled = bootstrap(groups, metric.statistic, seed)
    return {
        name: percentile_interval(v, r, len(common))
        for name, v, r in zip(taking_part, value, resampled, strict=True)
        if np.isfinite(v)
    }


def _cell_intervals(
    rows: dict[str, list[Row]], bins: tuple[Bin, ...], keys: list[str], seed: int
) -> dict[str, dict[str, ConfidenceInterval]]:
    """Intervals by system and metric over the scenes, or their talkers, that are in all bins."""
    places = [i for i, row in enumerate(next(iter(rows.values()))) if members(bins, row).any()]
    found: dict[str, dict[str, ConfidenceInterval]] = {name: {} for name in rows}
    for key in keys if places else ():
        values = {
            name: [metric_values(of[i], METRICS[key], bins) for i in places] for name, of in rows.items()
        }
        for name, interval in _intervals(values, METRICS[key], seed).items():
            found[name][key] = interval
    return found


def _kind(doubt: str) -> str:
    """A doubt without the scene's particulars, so that equal ones count together."""
    return doubt.partition(" (")[0]


def _tables(summary: Summary) -> list[Table]:
    tables = []
    for group, title in _TITLES.items():
        keys = [key for key, metric in METRICS.items() if metric.group == group and summary.compared[key]]
        if group == "detection" and _counts_are_right(summary):
            continue
        for start in range(0, len(keys), _MAX_COLUMNS):
            part = keys[start : start + _MAX_COLUMNS]
            header = ["system", *(f"{METRICS[key].label}\nn = {summary.compared[key]}" for key in part)]
            cells = [_cells([s[key].interval for s in summary.scores.values()], METRICS[key]) for key in part]
            columns = [list(summary.scores), *cells]
            tables.append(Table(f"{title} (continued)" if start else title, header, columns, 1))
    return tables + [_breakdown_table(title, cells) for title, cells in summary.breakdowns.items()]


def _counts_are_right(summary: Summary) -> bool:
    """Whether every system always gives as many directions as there are talkers."""
    counts = [s["count_accuracy"].interval for s in summary.scores.values()]
    return all(interval is None or interval.value == 1.0 for interval in counts)


def _breakdown_table(title: str, cells: dict[str, dict[str, dict[str, ConfidenceInterval]]]) -> Table:
    lines = [(cell, *line) for cell, by_system in cells.items() for line in by_system.items()]
    names = [cell if n == 0 or lines[n - 1][0] != cell else "" for n, (cell, _, _) in enumerate(lines)]
    header, columns = ["", "system"], [names, [system for _, system, _ in lines]]
    for keys in _IN_BREAKDOWNS:
        found = [[intervals.get(key) for _, _, intervals in lines] for key in keys]
        if any(found[0]):
            header += ["n", *(METRICS[key].label for key in keys)]
            columns.append([str(i.n) if i else "0" for i in found[0]])
            columns += [_cells(column, METRICS[key]) for column, key in zip(found, keys, strict=True)]
    return Table(title, header, columns, 2)


def _cells(column: list[ConfidenceInterval | None], metric: Metric) -> list[str]:
    """Intervals as text, in which the numbers of a column stand below each other."""
    texts = [[number(x, metric.decimals, metric.scale) for x in i[:3]] if i else [] for i in column]
    return aligned(texts, "{} [{}, {}]")


def _notes(summary: Summary) -> list[str]:
    notes = [
        f"{summary.scenes} scenes; n: scenes compared, those that every system scores; "
        f"in brackets: {CONFIDENCE:.0%} bootstrap interval ({RESAMPLES} resamples of scenes)."
    ]
    if summary.compared["doa_false_alarm_rate"] and not _counts_are_right(summary):
        notes.append("False alarms: estimates of nobody over true talkers, not per second.")
    for name in summary.scores:
        notes += _not_scored(summary, name)
    notes += [
        f"{name}: in {count} of {summary.scenes} scenes {doubt}."
        for name, doubts in summary.doubts.items()
        for doubt, count in doubts.items()
    ]
    return notes + own_assignment_notes(summary.own_assignment, summary.scenes)


def _not_scored(summary: Summary, name: str) -> list[str]:
    """What of the metrics that were asked for a system has no scores for, and why."""
    asked = {
        METRICS[key].field: score
        for key, score in summary.scores[name].items()
        if any(of[key].reasons.keys() != {ABSENT} for of in summary.scores.values())
    }
    kinds: dict[str, list[str]] = {}
    causes: dict[tuple[int, str], list[str]] = {}
    for field, score in asked.items():
        for reason, count in score.reasons.items():
            if count == summary.scenes and reason in (*NOT_GIVEN, ABSENT):
                kinds.setdefault(reason, []).append(field)
            else:
                causes.setdefault((count, reason), []).append(field)
    absent = [
        f for f in kinds.pop(ABSENT, []) if NO_DOA not in kinds or f not in FIELDS_OF_KIND["directions"]
    ]
    shown = sorted(causes.items(), key=lambda cause: -cause[0][0])
    more = len(shown) - _MAX_REASONS
    return [
        *(f"{name}: {kind}." for kind in kinds),
        *([f"{name}: {name_fields(absent, asked)} {ABSENT}."] if absent else []),
        *(
            f"{name}: {name_fields(fields, asked)} not scored in {count} of {summary.scenes} scenes ({why})."
            for (count, why), fields in shown[:_MAX_REASONS]
        ),
        *([f"{name}: not scored for {more} more reasons, see summary.json."] if more > 0 else []),
    ]
