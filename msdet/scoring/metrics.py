"""The metrics: `SEPARATION_METRICS` of signals, and `METRICS`, how summaries have and show them all.

A metric is one entry here; fields of rows, options, tables and comparisons follow from it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from msdet.conventions import Array
from msdet.errors import MsdetError, check_known
from msdet.scoring.breakdowns import Bin, members
from msdet.scoring.separation_metrics import ScoredSignals, estoi, pesq, snr, stoi
from msdet.scoring.statistics import Statistic

Row = dict[str, Any]
"""One line of ``scores.jsonl``; see `msdet.scoring.score.score_scene`."""

UNPROCESSED = "unprocessed"  # name of the mixture among the systems
THRESHOLDS_DEG = (5, 10, 15, 20)  # direction errors up to these count as accurate
NOT_IN_SCORES = "not in the scores"  # the reason where a metric was not asked for

Group = Literal["separation", "words", "doa", "accuracy", "optimal", "detection", "track"]
"""Metrics that stand in a table together."""


class SeparationMetric(NamedTuple):
    """A metric of signals: `score` is its value for a reference and a trial; `unit` is ``dB`` or empty."""

    field: str
    label: str
    unit: str
    decimals: int
    score: Callable[[ScoredSignals, int, int], float]
    needs_reference: bool = True

    @property
    def improvement_field(self) -> str:
        """Field of the improvement over the mixture at the reference microphone."""
        return f"{self.field.removesuffix('_db')}_improvement{'_db' if self.unit == 'dB' else ''}"

    @property
    def improvement_label(self) -> str:
        """Its name in tables."""
        return f"{self.label}i" if self.unit == "dB" else f"{self.label} improvement"

    @property
    def stored_decimals(self) -> int:
        """Decimals in rows: fewer than those in which BLAS differs with its number of threads."""
        return 4 if self.unit == "dB" else 6


SEPARATION_METRICS = {
    "si_sdr": SeparationMetric("si_sdr_db", "SI-SDR", "dB", 2, ScoredSignals.si_sdr),
    "sdr": SeparationMetric("sdr_db", "SDR", "dB", 2, ScoredSignals.sdr),
    "sir": SeparationMetric("sir_db", "SIR", "dB", 2, lambda s, n, m: float(s.bss_eval(n, m).sir)),
    "sar": SeparationMetric("sar_db", "SAR", "dB", 2, lambda s, n, m: float(s.bss_eval(n, m).sar)),
    "snr": SeparationMetric("snr_db", "SNR", "dB", 2, lambda s, n, m: float(snr(s.references[n], s.trials[m]))),
    "stoi": SeparationMetric("stoi", "STOI", "", 3, lambda s, n, m: stoi(*s.pair(n, m), s.sample_rate)),
    "estoi": SeparationMetric("estoi", "ESTOI", "", 3, lambda s, n, m: estoi(*s.pair(n, m), s.sample_rate)),
    "pesq": SeparationMetric("pesq", "PESQ", "", 2, lambda s, n, m: pesq(*s.pair(n, m), s.sample_rate)),
    "dnsmos": SeparationMetric("dnsmos", "DNSMOS", "", 2, lambda s, n, m: s.dnsmos(m).overall, False),
    "dnsmos_sig": SeparationMetric("dnsmos_sig", "DNSMOS SIG", "", 2, lambda s, n, m: s.dnsmos(m).signal, False),
    "dnsmos_bak": SeparationMetric("dnsmos_bak", "DNSMOS BAK", "", 2, lambda s, n, m: s.dnsmos(m).background, False),
}
"""Metrics of signals by the name that options use."""

DEFAULT_METRICS = ("si_sdr", "sdr", "stoi")  # what is scored unless others are asked for: the quick ones


class Metric(NamedTuple):
    """How a metric is computed from the rows, and how it is shown."""

    field: str  # of a row: a list over talkers, or a number of the scene
    label: str  # name and unit in tables
    decimals: int  # shown
    group: Group | None  # the table it stands in; None for one that only ``summary.json`` has
    statistic: Statistic = "mean"  # over talkers and scenes
    within: float | None = None  # turn each value into whether it is at most this; None leaves the values
    scale: float = 1.0  # for showing
    over: tuple[str, ...] = ()  # of a ratio, the fields whose sum divides `times` the field's
    times: int = 1
    higher_is_better: bool = True  # which of two systems a difference favors
    compared: bool = False  # whether comparisons show it unless metrics are named


def _separation_metrics() -> dict[str, Metric]:
    metrics = {}
    for name, m in SEPARATION_METRICS.items():
        unit = f" ({m.unit})" if m.unit else ""
        main = name == "si_sdr"
        group: Group | None = "separation" if main else None
        metrics[m.field] = Metric(m.field, f"{m.label}{unit}", m.decimals, "separation", compared=not main)
        metrics[m.improvement_field] = Metric(
            m.improvement_field, f"{m.improvement_label}{unit}", m.decimals, group, compared=main
        )
    return metrics


def _error(
    field: str, label: str, group: Group | None, statistic: Statistic = "mean", compared: bool = False
) -> Metric:
    """An error in degrees."""
    return Metric(field, f"{label} (deg)", 1, group, statistic, higher_is_better=False, compared=compared)


def _share(field: str, label: str, group: Group, compared: bool = False) -> Metric:
    """A mean of shares, in percent."""
    return Metric(field, f"{label} (%)", 1, group, scale=100.0, compared=compared)


def _within(limit: float, field: str, label: str, group: Group | None, compared: bool = False) -> Metric:
    """How often an error is within a limit, in percent."""
    return Metric(field, f"{label} (%)", 1, group, within=limit, scale=100.0, compared=compared)


def _rate(field: str, label: str, *over: str, times: int = 1, better: bool = True, compared: bool = False) -> Metric:
    """A ratio of counts, in percent."""
    group: Group = "words" if field == "word_errors" else "detection"
    return Metric(field, f"{label} (%)", 1, group, "ratio", None, 100.0, over, times, better, compared)


_TALKERS = ("doa_matched", "doa_missed")
_OWN = "doa_error_own_deg"

METRICS: dict[str, Metric] = {
    **_separation_metrics(),
    "wer": _rate("word_errors", "WER", "words", better=False, compared=True),
    "doa_mae_deg": _error("doa_error_deg", "DoA MAE", "doa", compared=True),
    "doa_median_deg": _error("doa_error_deg", "DoA median", "doa", "median", compared=True),
    "doa_rmse_deg": _error("doa_error_deg", "DoA RMSE", "doa", "rms"),
    **{
        f"accuracy_{deg}deg": _within(deg, "doa_error_deg", f"within {deg} deg", "accuracy", compared=deg <= 10)
        for deg in THRESHOLDS_DEG
    },
    "doa_great_circle_deg": _error("doa_great_circle_deg", "great circle", "doa", compared=True),
    "own_doa_mae_deg": _error(_OWN, "DoA MAE, optimal", "optimal"),
    "own_doa_median_deg": _error(_OWN, "DoA median, optimal", None, "median"),
    "own_doa_rmse_deg": _error(_OWN, "DoA RMSE, optimal", None, "rms"),
    **{
        f"own_accuracy_{deg}deg": _within(deg, _OWN, f"optimal within {deg} deg", "optimal" if deg <= 10 else None)
        for deg in THRESHOLDS_DEG
    },
    "assignment_accuracy": _share("doa_assigned", "assignment accuracy", "optimal", compared=True),
    "doa_recall": _rate("doa_matched", "recall", *_TALKERS),
    "doa_precision": _rate("doa_matched", "precision", "doa_matched", "doa_false"),
    "doa_f1": _rate("doa_matched", "F1", "doa_matched", *_TALKERS, "doa_false", times=2, compared=True),
    "doa_miss_rate": _rate("doa_missed", "missed", *_TALKERS, better=False),
    "doa_false_alarm_rate": _rate("doa_false", "false alarms per talker", *_TALKERS, better=False),
    "count_accuracy": _within(0.0, "doa_count_error", "right count", "detection"),
    "track_mae_deg": _error("track_error_deg", "track MAE", "track", compared=True),
    "track_accuracy_10deg": _share("track_within_10deg", "frames within 10 deg", "track", compared=True),
    "track_coverage": _share("track_coverage", "frames located", "track"),
}
"""Metrics of summaries and comparisons by name; accuracies and rates are fractions of talkers.

``own_`` is the azimuths' optimal assignment. The false alarm rate is false estimates over true talkers, which
may be more than 1; it is no rate in time.
"""

_FIELD_NAMES = {
    **{m.field: m.label for m in SEPARATION_METRICS.values()},
    **{m.improvement_field: m.improvement_label for m in SEPARATION_METRICS.values()},
    "word_errors": "WER",
    "doa_error_deg": "DoA error",
    "doa_error_own_deg": "DoA error, optimal assignment",
    "doa_assigned": "assignment accuracy",
    **dict.fromkeys(("doa_matched", "doa_missed", "doa_false"), "detection"),
    "doa_count_error": "right count",
    "doa_great_circle_deg": "great circle",
    "doa_confidence": "confidence",
    **dict.fromkeys(("track_error_deg", "track_within_10deg", "track_coverage"), "track"),
}

_IMPROVEMENTS = {m.improvement_field: m.field for m in SEPARATION_METRICS.values()}

FIELDS_OF_KIND = {
    "separation": [f for m in SEPARATION_METRICS.values() for f in (m.field, m.improvement_field)],
    "directions": [f for f in _FIELD_NAMES if f.startswith(("doa_", "track_"))],
}
"""Fields of rows by kind of estimate."""

_MAX_NAMED = 3  # of a kind; more are called by the kind


def name_fields(fields: Iterable[str], available: Iterable[str]) -> str:
    """Fields of a row in a few words: an improvement goes with its metric, all of a kind that there are have one name.

    >>> name_fields(["si_sdr_db", "si_sdr_improvement_db", "doa_assigned"], ["si_sdr_db", "doa_assigned"])
    'SI-SDR, assignment accuracy'
    """
    chosen, known = dict.fromkeys(fields), set(available) & _FIELD_NAMES.keys()
    named = {f: _FIELD_NAMES.get(f, f) for f in chosen if _IMPROVEMENTS.get(f) not in chosen}
    for kind, of_kind in FIELDS_OF_KIND.items():
        names = {named[field] for field in of_kind if field in named}
        if len(names) > _MAX_NAMED and known.intersection(of_kind) <= chosen.keys():
            named = {field: kind if name in names else name for field, name in named.items()}
    return ", ".join(dict.fromkeys(named.values()))


def check_metrics(names: Iterable[str]) -> tuple[str, ...]:
    """Names of separation metrics, each once; an `UnknownNameError` for one that is not in `SEPARATION_METRICS`."""
    chosen = tuple(dict.fromkeys(names))
    check_known("metric", SEPARATION_METRICS, *chosen)
    return chosen


def separation_fields(names: Iterable[str] = DEFAULT_METRICS) -> tuple[str, ...]:
    """Fields of a row that metrics fill: of each its value, then its improvement over the mixture."""
    chosen = [SEPARATION_METRICS[name] for name in names]
    return tuple(field for metric in chosen for field in (metric.field, metric.improvement_field))


def aligned_rows(systems: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """The rows of every system, all on the same scenes, each once, in the order of the first system's."""
    by_id = {name: {row["id"]: row for row in rows} for name, rows in systems.items()}
    if not by_id or not all(by_id.values()):
        raise MsdetError("nothing to summarize: no system, or one without scenes")
    first_name, first = next(iter(by_id.items()))
    for name, rows in by_id.items():
        if len(rows) != len(systems[name]):
            raise MsdetError(f"scores of '{name}': a scene occurs twice")
        differ = f"'{first_name}' and '{name}' are not scored on the same scenes"
        if odd := sorted(rows.keys() ^ first.keys()):
            raise MsdetError(f"{differ}: {len(odd)} are in one alone, '{odd[0]}' for one")
        if odd := [i for i, row in rows.items() if row["azimuth_deg"] != first[i]["azimuth_deg"]]:
            raise MsdetError(f"{differ}: azimuths of '{odd[0]}' differ")
    return {name: [rows[i] for i in first] for name, rows in by_id.items()}


def metric_values(row: Row, metric: Metric, bins: tuple[Bin, ...] = ()) -> Array | None:
    """Values ``(talker,)`` of a scene, of the talkers in the bins alone; of a ratio, its numerator and its denominator.

    None unless every such talker has a value, and for some of the talkers where the metric is the scene's as a whole.
    """
    inside = members(bins, row) if bins else np.ones(1, dtype=bool)
    if not inside.any():
        return None
    columns = []
    for field in (metric.field, *metric.over):
        value = row.get(field)
        if isinstance(value, list):
            numbers = value if inside.all() else list(itertools.compress(value, inside))
        else:
            numbers = [value if inside.all() else None]
        if not numbers or None in numbers:
            return None
        columns.append(np.array(numbers, dtype=np.float64))
    first, *rest = columns
    if metric.statistic == "ratio":
        return np.array([metric.times * first.sum(), sum(column.sum() for column in rest)])
    return first if metric.within is None else (first <= metric.within).astype(np.float64)


def why_not(row: Row, metric: Metric) -> str:
    """Why a row has no value of a metric, without the scene's name, so that equal reasons count together."""
    if metric.field not in row:
        return NOT_IN_SCORES
    reason = str(row.get("error") or row.get("undefined", {}).get(metric.field, NOT_IN_SCORES))
    return re.sub(rf"(?<![\w.-]){re.escape(row['id'])}(?=[/\\:])", "SCENE", reason)


def optimal_assignments(systems: dict[str, list[Row]], metrics: Iterable[str] = METRICS) -> dict[str, int]:
    """By system, in how many scenes (if any) azimuths have their optimal assignment, for want of audio.

    Nothing if none of the metrics is of directions.
    """
    if not any(METRICS[name].field in FIELDS_OF_KIND["directions"] for name in metrics):
        return {}
    counts = {name: sum(row.get("permutation_from") == "doa" for row in rows) for name, rows in systems.items()}
    return {name: count for name, count in counts.items() if count}


def assignment_notes(counts: dict[str, int], scenes: int) -> list[str]:
    """A line on each system of `optimal_assignments`.

    >>> assignment_notes({"a": 3}, 4)
    ['a: without audio or references (3 of 4 scenes), azimuths are assigned with the smallest total error.']
    """
    return [
        f"{name}: without audio or references{'' if count == scenes else f' ({count} of {scenes} scenes)'}, "
        "azimuths are assigned with the smallest total error."
        for name, count in counts.items()
    ]


def check_row(row: Any, needed: Sequence[str], place: str) -> None:
    """Refuse what is no line of ``scores.jsonl``: a key is missing, or a metric has no numbers."""
    missing = [key for key in needed if not isinstance(row, dict) or key not in row]
    if missing:
        raise MsdetError(f"{place}: not a row of scores, '{missing[0]}' is missing")
    for field in ("azimuth_deg", *(metric.field for metric in METRICS.values())):
        value = row.get(field)
        for number in value if isinstance(value, list) else [value]:
            if not isinstance(number, int | float | None):
                raise MsdetError(f"{place}: {field} is {value!r:.40}, expected numbers")
