"""What is scored: a metric is one entry here; fields of rows, options and tables follow from it.

`SEPARATION_METRICS` says how a metric of signals is computed; its improvement over the mixture follows.
`METRICS` says how summaries and comparisons have a metric from the rows, and how they show it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from msdet.errors import UnknownNameError
from msdet.scoring import stoi
from msdet.scoring.separation_metrics import pesq, snr
from msdet.scoring.signals import ScoredSignals
from msdet.scoring.statistics import Statistic

THRESHOLDS_DEG = (5, 10, 15, 20)
"""Direction errors up to these count as accurate."""

Group = Literal["separation", "words", "doa", "accuracy", "own", "detection", "track"]
"""Metrics that stand in a table together."""


class SeparationMetric(NamedTuple):
    """A metric of signals.

    Attributes:
        field: of a row, a list over talkers.
        label: name in tables.
        unit: ``dB``, or empty.
        decimals: shown.
        score: its value for a reference and a trial of `ScoredSignals`.
    """

    field: str
    label: str
    unit: str
    decimals: int
    score: Callable[[ScoredSignals, int, int], float]

    @property
    def gain_field(self) -> str:
        """Field of the improvement over the mixture at the reference microphone."""
        return f"{self.field.removesuffix('_db')}_improvement{'_db' if self.unit == 'dB' else ''}"

    @property
    def kept_decimals(self) -> int:
        """Decimals in rows: fewer than those in which BLAS differs with its number of threads."""
        return 4 if self.unit == "dB" else 6


def _pesq(signals: ScoredSignals, n: int, m: int) -> float:
    return pesq(signals.reference(n), signals.trial(m), signals.sample_rate)


SEPARATION_METRICS = {
    "si_sdr": SeparationMetric("si_sdr_db", "SI-SDR", "dB", 2, ScoredSignals.si_sdr),
    "sdr": SeparationMetric("sdr_db", "SDR", "dB", 2, ScoredSignals.sdr),
    "sir": SeparationMetric("sir_db", "SIR", "dB", 2, lambda s, n, m: float(s.bss_eval(n, m).sir)),
    "sar": SeparationMetric("sar_db", "SAR", "dB", 2, lambda s, n, m: float(s.bss_eval(n, m).sar)),
    "snr": SeparationMetric(
        "snr_db", "SNR", "dB", 2, lambda s, n, m: float(snr(s.references[n], s.trials[m]))
    ),
    "stoi": SeparationMetric("stoi", "STOI", "", 3, lambda s, n, m: stoi.stoi(*s.segments(n, m))),
    "estoi": SeparationMetric("estoi", "ESTOI", "", 3, lambda s, n, m: stoi.estoi(*s.segments(n, m))),
    "pesq": SeparationMetric("pesq", "PESQ", "", 2, _pesq),
}
"""Metrics of signals by the name that options use."""

DEFAULT_METRICS = ("si_sdr", "sdr", "stoi")
"""What is scored unless others are asked for: the quick ones."""


class Metric(NamedTuple):
    """How a metric is had from the rows, and how it is shown.

    Attributes:
        field: the field of a row: a list over talkers, or a number of the scene.
        label: name and unit in tables.
        decimals: shown.
        group: the table it stands in; None for one that only ``summary.json`` has.
        statistic: over talkers and scenes.
        within: turn each value into whether it is at most this; None leaves the values.
        scale: factor for showing.
        over: of a ratio, the fields whose sum divides `times` the field's.
        times: see `over`.
        higher_is_better: which of two systems a difference favors.
    """

    field: str
    label: str
    decimals: int
    group: Group | None
    statistic: Statistic = "mean"
    within: float | None = None
    scale: float = 1.0
    over: tuple[str, ...] = ()
    times: int = 1
    higher_is_better: bool = True


def _separation_metrics() -> dict[str, Metric]:
    metrics = {}
    for name, m in SEPARATION_METRICS.items():
        unit = f" ({m.unit})" if m.unit else ""
        metrics[m.field] = Metric(m.field, f"{m.label}{unit}", m.decimals, "separation")
        group: Group | None = "separation" if name == "si_sdr" else None
        metrics[m.gain_field] = Metric(m.gain_field, f"{m.label} gain{unit}", m.decimals, group)
    return metrics


def _doa_metrics(prefix: str, field: str, name: str, shown: dict[str, Group]) -> dict[str, Metric]:
    """Metrics of an error in degrees; those that are `shown`, by name, have a group."""
    statistics: dict[str, tuple[str, Statistic]] = {
        "mae": ("MAE", "mean"),
        "median": ("median", "median"),
        "rmse": ("RMSE", "rms"),
    }
    metrics = {}
    for key, (label, statistic) in statistics.items():
        group = shown.get(key)
        metrics[f"{prefix}doa_{key}_deg"] = Metric(
            field, f"{name} {label} (deg)", 1, group, statistic, higher_is_better=False
        )
    within = "own within" if prefix else "within"
    for limit in THRESHOLDS_DEG:
        metrics[f"{prefix}accuracy_{limit}deg"] = Metric(
            field,
            f"{within} {limit} deg (%)",
            1,
            shown.get(str(limit)),
            within=float(limit),
            scale=100.0,
        )
    return metrics


def _detection_metric(label: str, field: str, over: tuple[str, ...], better: bool, times: int = 1) -> Metric:
    return Metric(field, label, 1, "detection", "ratio", None, 100.0, over, times, better)


_SHOWN: dict[str, Group] = {
    **dict.fromkeys(("mae", "median", "rmse"), "doa"),
    **dict.fromkeys(map(str, THRESHOLDS_DEG), "accuracy"),
}

_SHOWN_OWN: dict[str, Group] = dict.fromkeys(("mae", "5", "10"), "own")

_TALKERS = ("doa_matched", "doa_missed")

METRICS: dict[str, Metric] = {
    **_separation_metrics(),
    "wer": Metric(
        "word_errors", "WER (%)", 1, "words", "ratio", None, 100.0, over=("words",), higher_is_better=False
    ),
    **_doa_metrics("", "doa_error_deg", "DoA", _SHOWN),
    "doa_great_circle_deg": Metric(
        "doa_great_circle_deg", "great circle (deg)", 1, "doa", higher_is_better=False
    ),
    **_doa_metrics("own_", "doa_error_own_deg", "own DoA", _SHOWN_OWN),
    "assignment_accuracy": Metric("doa_assigned", "voice at its direction (%)", 1, "own", scale=100.0),
    "doa_recall": _detection_metric("recall (%)", "doa_matched", _TALKERS, True),
    "doa_precision": _detection_metric("precision (%)", "doa_matched", ("doa_matched", "doa_false"), True),
    "doa_f1": _detection_metric(
        "F1 (%)", "doa_matched", ("doa_matched", "doa_matched", "doa_missed", "doa_false"), True, times=2
    ),
    "doa_miss_rate": _detection_metric("missed (%)", "doa_missed", _TALKERS, False),
    "doa_false_alarm_rate": _detection_metric("false alarms per talker (%)", "doa_false", _TALKERS, False),
    "count_accuracy": Metric("doa_count_error", "right count (%)", 1, "detection", within=0.0, scale=100.0),
    "track_mae_deg": Metric("track_error_deg", "track MAE (deg)", 1, "track", higher_is_better=False),
    "track_accuracy_10deg": Metric("track_within_10deg", "frames within 10 deg (%)", 1, "track", scale=100.0),
    "track_coverage": Metric("track_coverage", "frames located (%)", 1, "track", scale=100.0),
}
"""Metrics of summaries and comparisons by name; accuracies and rates are fractions of talkers.

The false alarm rate too: estimates of nobody over true talkers, which may be more than 1. It is no rate in
time.
"""

_FIELD_NAMES = {
    **{m.field: m.label for m in SEPARATION_METRICS.values()},
    **{m.gain_field: f"{m.label} gain" for m in SEPARATION_METRICS.values()},
    "word_errors": "WER",
    "doa_error_deg": "DoA error",
    "doa_error_own_deg": "own DoA error",
    "doa_assigned": "voice at its direction",
    **dict.fromkeys(("doa_matched", "doa_missed", "doa_false"), "talkers found"),
    "doa_count_error": "right count",
    "doa_great_circle_deg": "great circle",
    "doa_confidence": "confidence",
    **dict.fromkeys(("track_error_deg", "track_within_10deg", "track_coverage"), "track"),
}

_GAINS = {m.gain_field: m.field for m in SEPARATION_METRICS.values()}

FIELDS_OF_KIND = {
    "separation": [f for m in SEPARATION_METRICS.values() for f in (m.field, m.gain_field)],
    "directions": [f for f in _FIELD_NAMES if f.startswith(("doa_", "track_"))],
}
"""Fields of rows by what a system gives."""

_MAX_NAMED = 3  # of a kind; more are called by the kind


def name_fields(fields: Iterable[str], asked: Iterable[str]) -> str:
    """Fields of a row in a few words: a gain goes with its metric, and all of a kind have one name.

    Args:
        fields: to name.
        asked: fields that there are.

    >>> name_fields(["si_sdr_db", "si_sdr_improvement_db", "doa_assigned"], ["si_sdr_db", "doa_assigned"])
    'SI-SDR, voice at its direction'
    """
    given, known = dict.fromkeys(fields), set(asked) & _FIELD_NAMES.keys()
    named = {field: _FIELD_NAMES.get(field, field) for field in given if _GAINS.get(field) not in given}
    for kind, of_kind in FIELDS_OF_KIND.items():
        names = {named[field] for field in of_kind if field in named}
        if len(names) > _MAX_NAMED and known.intersection(of_kind) <= given.keys():
            named = {field: kind if name in names else name for field, name in named.items()}
    return ", ".join(dict.fromkeys(named.values()))


def check_metrics(names: Iterable[str]) -> tuple[str, ...]:
    """Names of separation metrics, each once.

    Raises:
        UnknownNameError: one that is not in `SEPARATION_METRICS`.
    """
    chosen = tuple(dict.fromkeys(names))
    for name in chosen:
        if name not in SEPARATION_METRICS:
            raise UnknownNameError("metric", name, SEPARATION_METRICS)
    return chosen


def separation_fields(names: Iterable[str] = DEFAULT_METRICS) -> tuple[str, ...]:
    """Fields of a row that metrics fill: of each its value, then its improvement over the mixture."""
    chosen = [SEPARATION_METRICS[name] for name in names]
    return tuple(field for metric in chosen for field in (metric.field, metric.gain_field))
