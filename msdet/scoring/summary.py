"""Summaries of scored systems: means with bootstrap intervals over the same scenes, and breakdowns.

A metric is averaged over the talkers of a scene first and over scenes then; intervals come from resampling
scenes, since the talkers of one scene are not independent.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from msdet.conventions import Array
from msdet.scoring import metrics
from msdet.scoring.breakdowns import DEFAULT_BREAKDOWNS, Bin, find_breakdowns, members
from msdet.scoring.comparison import Difference, all_differences, differences_json, differences_tables
from msdet.scoring.doa_scores import NO_AUDIO, NO_DOA, NO_REFERENCES, NO_TRUE_DOA, STATIC_TALKERS, TIED
from msdet.scoring.metrics import METRICS, NOT_IN_SCORES, Group, Metric, Row
from msdet.scoring.statistics import CONFIDENCE, RESAMPLES, ConfidenceInterval, bootstrap, percentile_interval
from msdet.scoring.tables import Table, blank_repeats, csv_text, interval_cells, latex, markdown, plain, print_tables

if TYPE_CHECKING:
    from rich.console import Console

# reasons for missing scores that come with the kind of system or scene, and those that need no mending
NOT_GIVEN = (NO_AUDIO, NO_DOA, STATIC_TALKERS, NO_REFERENCES, NO_TRUE_DOA)
NO_FAILURE = (*NOT_GIVEN, TIED)

_TITLES: dict[Group, str] = {
    "separation": "Separation",
    "words": "Word errors",
    "doa": "Direction of arrival",
    "accuracy": "Direction of arrival: talkers within a limit",
    "optimal": "Direction of arrival, optimal assignment",
    "detection": "Talkers detected within 20 deg, whatever their number",
    "track": "Moving talkers, frame by frame",
}

_MAX_COLUMNS = 4  # of metrics that fit beside each other
_MAX_REASONS = 6  # in the notes of a system, a line each
_IN_BREAKDOWNS = (("si_sdr_improvement_db",), ("doa_mae_deg", "accuracy_5deg"))


@dataclass(frozen=True)
class Score:
    """One metric of one system, over the scenes compared; the interval is None where there are none.

    It is `scored` in scenes that have a value for every talker; `reasons` counts why the others have none.
    """

    interval: ConfidenceInterval | None
    scored: int
    not_scored: int
    reasons: dict[str, int]


@dataclass(frozen=True)
class Summary:
    """Scores of several systems on the same scenes."""

    scenes: int  # in the rows
    compared: dict[str, int]  # by metric, the number of scenes scored by every system that scores any
    scores: dict[str, dict[str, Score]]  # by system and metric
    # by title of the breakdown, cell, system and metric; an empty cell has no metrics
    breakdowns: dict[str, dict[str, dict[str, dict[str, ConfidenceInterval]]]]
    # by system, in how many scenes azimuths have their optimal assignment, for want of audio
    optimal_assignment: dict[str, int]
    doubts: dict[str, dict[str, int]]  # by system, in how many scenes something looks wrong that was scored

    @property
    def counts_are_right(self) -> bool:
        """Whether every system always gives as many directions as there are talkers."""
        counts = [s["count_accuracy"].interval for s in self.scores.values()]
        return all(interval is None or interval.value == 1.0 for interval in counts)


@dataclass(frozen=True)
class ScoreTable:
    """Rows of scores by system on one data set, and their summary to print, paste or write.

    Paired differences are those of `system` to the others; `remarks` stand below the tables, `notes` are more
    entries of the JSON.
    """

    rows: dict[str, list[Row]]
    system: str
    breakdowns: tuple[str, ...] = DEFAULT_BREAKDOWNS
    remarks: Sequence[str] = ()
    notes: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def summary(self) -> Summary:
        """Means, intervals and breakdowns."""
        return summarize(self.rows, by=self.breakdowns)

    @cached_property
    def differences(self) -> dict[str, dict[str, Difference]]:
        """Paired differences of `system` to each of the others."""
        return all_differences(self.rows, self.system)

    def tables(self) -> tuple[list[Table], list[str]]:
        """Tables, and notes below them."""
        tables, notes = summary_tables(self.summary)
        more_tables, more_notes = differences_tables(self.differences, self.system)
        return [*tables, *more_tables], [*notes, *more_notes, *self.remarks]

    def to_markdown(self) -> str:
        """The tables as Markdown."""
        return markdown(*self.tables())

    def to_latex(self) -> str:
        """The tables as LaTeX."""
        return latex(*self.tables())

    def to_csv(self) -> str:
        """All numbers as comma-separated values."""
        return to_csv(self.summary)

    def to_json(self) -> dict[str, Any]:
        """All numbers, as ``summary.json`` holds them."""
        differences = {name: differences_json(of) for name, of in self.differences.items()}
        paired = {"paired_differences": {self.system: differences}}
        return {**to_json(self.summary), **paired, "remarks": list(self.remarks), **self.notes}

    def print(self, console: Console) -> None:
        """Print the tables."""
        print_tables(*self.tables(), console)

    def __str__(self) -> str:
        return plain(*self.tables())


def summarize(systems: dict[str, list[Row]], seed: int = 0, by: Iterable[str] = DEFAULT_BREAKDOWNS) -> Summary:
    """Means, 95 % bootstrap intervals and breakdowns of systems scored on the same scenes.

    Only scenes in which every system has a value for a metric enter that metric; a system without a value
    of it in any scene (no audio, no DoA) has no part in that. Rows are those of `msdet.scoring.score.score_set`; each
    resample of scenes serves all systems; for breakdowns see `msdet.scoring.breakdowns.find_breakdowns`.
    """
    chosen = find_breakdowns(by)
    rows = metrics.aligned_rows(systems)
    scores: dict[str, dict[str, Score]] = {name: {} for name in rows}
    compared = {}
    for key, metric in METRICS.items():
        values = {name: [metrics.metric_values(row, metric) for row in of] for name, of in rows.items()}
        intervals, compared[key] = _intervals(values, metric, seed)
        for name, of in rows.items():
            missing = Counter(
                metrics.why_not(row, metric) for row, v in zip(of, values[name], strict=True) if v is None
            )
            count, reasons = missing.total(), dict(missing.most_common())
            scores[name][key] = Score(intervals.get(name), len(of) - count, count, reasons)
    scored = [key for key in METRICS if compared[key]]
    breakdowns = {
        breakdown.title: {cell: _cell_intervals(rows, bins, scored, seed) for cell, bins in breakdown.cells.items()}
        for breakdown in chosen
    }
    doubts = {  # without the scenes' particulars, so that equal ones count together
        name: dict(Counter(d.partition(" (")[0] for row in of for d in row.get("doubts", ())).most_common())
        for name, of in rows.items()
    }
    scenes = len(next(iter(rows.values())))
    return Summary(scenes, compared, scores, breakdowns, metrics.optimal_assignments(rows), doubts)


def to_json(summary: Summary) -> dict[str, Any]:
    """The summary as JSON can express it: objects by system and metric, accuracies as fractions."""
    nothing = dict.fromkeys(ConfidenceInterval._fields)
    return {
        "scenes": summary.scenes,
        "resamples": RESAMPLES,
        "confidence": CONFIDENCE,
        "compared": summary.compared,
        "own_assignment": list(summary.optimal_assignment),
        "doubts": summary.doubts,
        "systems": {
            name: {
                key: {
                    **(score.interval._asdict() if score.interval else nothing),
                    "scored": score.scored,
                    "not_scored": score.not_scored,
                    "reasons": score.reasons,
                }
                for key, score in scores.items()
            }
            for name, scores in summary.scores.items()
        },
        "breakdowns": {
            breakdown: {
                cell: {n: {k: i._asdict() for k, i in of.items()} for n, of in by_system.items()}
                for cell, by_system in cells.items()
            }
            for breakdown, cells in summary.breakdowns.items()
        },
    }


def to_csv(summary: Summary) -> str:
    """The summary as one long table of comma-separated values: a line for each number and its interval."""
    overall = {
        name: {key: score.interval for key, score in scores.items() if score.interval}
        for name, scores in summary.scores.items()
    }
    rows = [
        (title, cell, name, key, *interval)
        for title, cells in ({"": {"": overall}} | summary.breakdowns).items()
        for cell, by_system in cells.items()
        for name, intervals in by_system.items()
        for key, interval in intervals.items()
    ]
    return csv_text(("breakdown", "cell", "system", "metric", *ConfidenceInterval._fields), rows)


def _intervals(
    values: dict[str, list[Array | None]], metric: Metric, seed: int
) -> tuple[dict[str, ConfidenceInterval], int]:
    """The interval of each system with any value, over the scenes that all of these have, and the number of scenes."""
    taking_part = {name: v for name, v in values.items() if any(x is not None for x in v)}
    common = [of for of in zip(*taking_part.values(), strict=True) if all(x is not None for x in of)]
    if not common:
        return {}, 0
    groups = [[x for x in group if x is not None] for group in zip(*common, strict=True)]
    value, resampled = bootstrap(groups, metric.statistic, seed)
    return {
        name: percentile_interval(v, r, len(common))
        for name, v, r in zip(taking_part, value, resampled, strict=True)
        if np.isfinite(v)
    }, len(common)


def _cell_intervals(
    rows: dict[str, list[Row]], bins: tuple[Bin, ...], keys: list[str], seed: int
) -> dict[str, dict[str, ConfidenceInterval]]:
    """Intervals by system and metric over the scenes, or their talkers, that are in all bins."""
    inside = [i for i, row in enumerate(next(iter(rows.values()))) if members(bins, row).any()]
    intervals: dict[str, dict[str, ConfidenceInterval]] = {name: {} for name in rows}
    for key in keys if inside else ():
        values = {n: [metrics.metric_values(of[i], METRICS[key], bins) for i in inside] for n, of in rows.items()}
        for name, interval in _intervals(values, METRICS[key], seed)[0].items():
            intervals[name][key] = interval
    return intervals


def summary_tables(summary: Summary) -> tuple[list[Table], list[str]]:
    """The summary as tables for `msdet.scoring.tables`, and notes."""
    tables = []
    for group, title in _TITLES.items():
        keys = [key for key, metric in METRICS.items() if metric.group == group and summary.compared[key]]
        if group == "detection" and summary.counts_are_right:
            continue
        for start in range(0, len(keys), _MAX_COLUMNS):
            part = keys[start : start + _MAX_COLUMNS]
            header = ["system", *(f"{METRICS[key].label}\nn = {summary.compared[key]}" for key in part)]
            cells = [_cells([s[key].interval for s in summary.scores.values()], METRICS[key]) for key in part]
            columns = [list(summary.scores), *cells]
            tables.append(Table(f"{title} (continued)" if start else title, header, columns, 1))
    tables += [_breakdown_table(title, cells) for title, cells in summary.breakdowns.items()]
    return tables, _notes(summary)


def _breakdown_table(title: str, cells: dict[str, dict[str, dict[str, ConfidenceInterval]]]) -> Table:
    lines = [(cell, *line) for cell, by_system in cells.items() for line in by_system.items()]
    header = ["", "system"]
    columns = [blank_repeats([cell for cell, _, _ in lines]), [system for _, system, _ in lines]]
    for keys in _IN_BREAKDOWNS:
        intervals = [[of.get(key) for _, _, of in lines] for key in keys]
        if any(intervals[0]):
            header += ["n", *(METRICS[key].label for key in keys)]
            columns.append([str(i.n) if i else "0" for i in intervals[0]])
            columns += [_cells(column, METRICS[key]) for column, key in zip(intervals, keys, strict=True)]
    return Table(title, header, columns, 2)


def _cells(column: list[ConfidenceInterval | None], metric: Metric) -> list[str]:
    return interval_cells([i[:3] if i else None for i in column], metric.decimals, metric.scale)


def _notes(summary: Summary) -> list[str]:
    notes = [
        f"{summary.scenes} scenes; n: scenes compared, those that every system scores; "
        f"in brackets: {CONFIDENCE:.0%} bootstrap interval ({RESAMPLES} resamples of scenes)."
    ]
    if summary.compared["doa_false_alarm_rate"] and not summary.counts_are_right:
        notes.append("False alarms: false estimates over true talkers, not per second.")
    for name in summary.scores:
        notes += _not_scored(summary, name)
    notes += [
        f"{name}: in {count} of {summary.scenes} scenes {doubt}."
        for name, doubts in summary.doubts.items()
        for doubt, count in doubts.items()
    ]
    return notes + metrics.assignment_notes(summary.optimal_assignment, summary.scenes)


def _not_scored(summary: Summary, name: str) -> list[str]:
    """What of the metrics that were asked for a system has no scores for, and why."""
    wanted = {
        METRICS[key].field: score
        for key, score in summary.scores[name].items()
        if any(of[key].reasons.keys() != {NOT_IN_SCORES} for of in summary.scores.values())
    }
    kinds, causes = defaultdict(list), defaultdict(list)
    for field_name, score in wanted.items():
        for reason, count in score.reasons.items():
            if count == summary.scenes and reason in (*NOT_GIVEN, NOT_IN_SCORES):
                kinds[reason].append(field_name)
            else:
                causes[count, reason].append(field_name)
    directions = metrics.FIELDS_OF_KIND["directions"] if NO_DOA in kinds else []
    absent = [f for f in kinds.pop(NOT_IN_SCORES, []) if f not in directions]
    shown = sorted(causes.items(), key=lambda cause: -cause[0][0])
    notes = [f"{name}: {kind}." for kind in kinds]
    notes += [f"{name}: {metrics.name_fields(absent, wanted)} {NOT_IN_SCORES}."] if absent else []
    notes += [
        f"{name}: {metrics.name_fields(fields, wanted)} not scored in {count} of {summary.scenes} scenes ({why})."
        for (count, why), fields in shown[:_MAX_REASONS]
    ]
    more = len(shown) - _MAX_REASONS
    notes += [f"{name}: not scored for {more} more reasons, see summary.json."] if more > 0 else []
    return notes
