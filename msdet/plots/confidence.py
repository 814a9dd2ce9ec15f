"""Figures of what confidences and posteriors are worth: ROC, precision and recall, and calibration."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from msdet.conventions import Array
from msdet.plots.theme import MUTED, SURFACE, WIDTH_IN, Style, drawing
from msdet.report.content import DOA_ERROR, ScoredSystem
from msdet.scoring.calibration import TOLERANCE_DEG

_MAX_POINTS = 400  # of a line, so that the page stays small

_TWO_SIDED_95 = 1.959964  # quantile of the normal distribution


class Curve(NamedTuple):
    """What comes of ever lower thresholds.

    Attributes:
        false_rate: share of the wrong that are kept, ``(threshold,)``.
        true_rate: share of the right.
        area: under the one over the other.
        recall: share found of what there is to find, ``(threshold,)``.
        precision: share of the kept that are right.
    """

    false_rate: Array
    true_rate: Array
    area: float
    recall: Array
    precision: Array


def confidence_curve(system: ScoredSystem) -> Curve | None:
    """The curve of a system's confidences in its directions; None without right and wrong ones.

    A direction is right within `TOLERANCE_DEG`. The recall is of all talkers: one whose direction is wrong is
    not found. Fawcett, "An introduction to ROC analysis", Pattern Recognition Letters 27(8), 2006.
    """
    confidence, errors_deg = system.of_talkers("doa_confidence", DOA_ERROR)
    right = errors_deg <= TOLERANCE_DEG
    if not 0 < right.sum() < right.size:
        return None
    order = np.argsort(-confidence, kind="stable")
    last = np.append(np.flatnonzero(np.diff(confidence[order])), confidence.size - 1)
    true, false = (np.append(0, np.cumsum(kept[order])[last]) for kept in (right, ~right))
    true_rate, false_rate = true / true[-1], false / false[-1]
    precision = true[1:] / (true[1:] + false[1:])
    area = float(np.sum(np.diff(false_rate) * (true_rate[1:] + true_rate[:-1]) / 2))
    return Curve(false_rate, true_rate, area, true[1:] / right.size, precision)


def posterior_curve(found: dict[str, Any] | None) -> Curve | None:
    """The curve of a posterior, as `msdet.scoring.calibration.posterior_curves` describes it."""
    if found is None:
        return None
    false_rate, recall, precision = (
        np.array(found[key]) for key in ("false_positive_rate", "true_positive_rate", "precision")
    )
    starts = np.append(0.0, false_rate), np.append(0.0, recall)
    return Curve(*starts, found["roc_area"], recall, precision)


def detection_figure(
    curves: dict[str, Curve], looks: dict[str, Style], what: str, right: str, wrong: str
) -> Figure:
    """ROC, and precision over recall, of several systems.

    Args:
        curves: by system.
        looks: the systems' styles.
        what: has a threshold, in a word.
        right: what is to be found, in a word or two.
        wrong: what is not.
    """
    with drawing():
        figure = Figure((WIDTH_IN, 4.2), layout="constrained")
        first, second = figure.subplots(1, 2)
        for name, curve in curves.items():
            look = {"color": looks[name].color, "linestyle": looks[name].dashes}
            false_rate, true_rate = _percent(curve.false_rate, curve.true_rate)
            first.plot(false_rate, true_rate, **look, label=f"{name}: area {curve.area:.3f}")
            second.plot(*_percent(curve.recall, curve.precision), **look)
        first.plot([0, 100], [0, 100], ":", color=MUTED, linewidth=1.0)
        first.set(title=f"ROC of the {what}", xlabel=f"{wrong} (%)", ylabel=f"{right} (%)")
        second.set(title=f"Precision and recall of the {what}", xlabel="Recall (%)", ylabel="Precision (%)")
        for axes in (first, second):
            _percent_axes(axes)
        first.legend(loc="lower right")
    return figure


def calibration_figure(found: dict[str, dict[str, Any]], looks: dict[str, Style]) -> Figure:
    """Share of right directions over confidence, and how many there are, of several systems.

    Args:
        found: by system, as `msdet.scoring.calibration.calibration` gives it, with bins.
        looks: the systems' styles.
    """
    with drawing():
        figure = Figure((WIDTH_IN, 3.9), layout="constrained")
        shares, counts = figure.subplots(1, 2)
        shares.plot([0, 100], [0, 100], ":", color=MUTED, linewidth=1.0)
        for k, (name, calibration) in enumerate(found.items()):
            bins, look = calibration["bins"], looks[name]
            confidence, accuracy, n = (
                np.array([b[key] for b in bins], dtype=np.float64) for key in ("confidence", "accuracy", "n")
            )
            low, high = wilson(accuracy, n)
            shares.vlines(100 * confidence, 100 * low, 100 * high, look.color, linewidth=1.2)
            gap = 100 * calibration["expected_calibration_error"]
            shares.plot(
                100 * confidence, 100 * accuracy, look.marker, color=look.color, linestyle=look.dashes,
                markersize=6, linewidth=1.0, markeredgecolor=SURFACE, markeredgewidth=0.7,
                label=f"{name}: {gap:.1f} points off",
            )  # fmt: skip
            width = 100 * (bins[0]["high"] - bins[0]["low"]) * 0.85 / len(found)
            middle = np.array([50 * (b["low"] + b["high"]) for b in bins])
            places = middle + (k - (len(found) - 1) / 2) * width
            counts.bar(places, n, width, color=look.color, edgecolor=SURFACE, linewidth=0.5)
        shares.set(title="Calibration", ylabel=f"Directions within {TOLERANCE_DEG:g}° (%)")
        counts.set(title="How often", ylabel="Directions")
        _percent_axes(shares)
        for axes in (shares, counts):
            axes.set(xlabel="Confidence (%)", xlim=(-2, 102))
            axes.grid(True, axis="y")
        figure.legend(*shares.get_legend_handles_labels(), loc="outside upper left", ncols=3)
    return figure


def wilson(share: Array, count: Array) -> tuple[Array, Array]:
    """95 % interval of a share of `count` cases (Wilson, JASA 22(158), 1927)."""
    z = _TWO_SIDED_95
    center = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return center - half, center + half


def _percent(*lines: Array) -> list[Array]:
    kept = np.unique(np.linspace(0, lines[0].size - 1, _MAX_POINTS).round().astype(int))
    return [100 * line[kept] for line in lines]


def _percent_axes(axes: Axes) -> None:
    axes.set(xlim=(-2, 102), ylim=(-2, 102))
    axes.grid(True)
