"""Figures of scores: by condition, and what confidences and posteriors are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from msdet.conventions import Array
from msdet.plots.theme import MANY_POINTS, MUTED, SURFACE, WIDTH_IN, Style, degrees, drawing
from msdet.scoring.confidence_calibration import TOLERANCE_DEG, posterior_curves
from msdet.scoring.metrics import Metric
from msdet.scoring.statistics import ConfidenceInterval

MIN_WRONG = 10  # wrong directions that a ROC rests on at least, to be drawn
_MAX_BINS = 13  # of the panels of a row together
_PANEL_MARGIN = 1.2  # between panels, in widths of a bin


class BreakdownPanel(NamedTuple):
    """A metric in the bins, by their labels, of one condition; by system, None in a bin without scenes.

    `disjoint` bins, the first ones, do not overlap; a dotted line sets the others apart.
    """

    title: str
    bins: Sequence[str]
    disjoint: int
    intervals: Mapping[str, Sequence[ConfidenceInterval | None]]

    @property
    def width(self) -> float:
        """Relative width."""
        return len(self.bins) + _PANEL_MARGIN


class DetectionCurve(NamedTuple):
    """Rates ``(threshold,)`` as a threshold falls: shares of the wrong and the right that are kept, and the area.

    `wrong` directions are how many the false rate rests on; 0 where it is of all directions around the circle.

    The recall is the share of what there is to detect that is detected, the precision that of the kept that are right.
    """

    false_rate: Array
    true_rate: Array
    area: float
    recall: Array
    precision: Array
    wrong: int = 0


def improvement_figure(pairs: dict[str, tuple[Array, Array]], looks: dict[str, Style]) -> Figure:
    """Shares of talkers with at most so much SI-SDRi, and the SI-SDRi of each over its SI-SDR in the mixture.

    `pairs` are by system the mixture's SI-SDR and the SI-SDRi ``(talker,)`` in dB.
    """
    with drawing():
        figure = Figure((WIDTH_IN, 4.0), layout="constrained")
        shares, points = figure.subplots(1, 2)
        for name, (mixture_db, improvement_db) in pairs.items():
            look = looks[name]
            label = f"{name}: median {np.median(improvement_db):.1f} dB"
            shares.ecdf(improvement_db, color=look.color, linestyle=look.dashes, label=label)
            points.plot(
                mixture_db, improvement_db, look.marker, color=look.color, markersize=4, alpha=0.7,
                markeredgecolor=SURFACE, markeredgewidth=0.3, rasterized=mixture_db.size > MANY_POINTS,
            )  # fmt: skip
        shares.set(title="Distribution", xlabel="SI-SDRi up to (dB)", ylabel="Talkers (%)", ylim=(0.0, 1.0))
        shares.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f}")
        points.set(title="Against the input", xlabel="SI-SDR of the mixture (dB)", ylabel="SI-SDRi (dB)")
        shares.axvline(0.0, color=MUTED, linewidth=0.8)
        points.axhline(0.0, color=MUTED, linewidth=0.8)
        for axes in (shares, points):
            axes.grid(True)
        figure.legend(*shares.get_legend_handles_labels(), loc="outside upper left", ncols=3)
    return figure


def breakdown_figure(panels: Sequence[BreakdownPanel], metric: Metric, looks: dict[str, Style]) -> Figure:
    """Mean and interval of a metric in every bin of every condition, of which there is one, for each system."""
    rows: list[list[BreakdownPanel]] = [[]]
    for panel in panels:
        if rows[-1] and sum(len(p.bins) for p in (*rows[-1], panel)) > _MAX_BINS:
            rows.append([])
        rows[-1].append(panel)
    widest = max(sum(panel.width for panel in row) for row in rows)
    with drawing():
        figure = Figure((WIDTH_IN, 0.4 + 2.5 * len(rows)), layout="constrained")
        grid = figure.add_gridspec(len(rows), 1)
        first = None
        for n, row in enumerate(rows):
            widths = [panel.width for panel in row]
            cells = grid[n].subgridspec(1, len(row) + 1, width_ratios=[*widths, max(widest - sum(widths), 1e-3)])
            for column, panel in enumerate(row):
                axes = figure.add_subplot(cells[column], sharey=first)
                first = first or axes
                _breakdown(axes, panel, metric.scale, looks)
                if column == 0:
                    axes.set_ylabel(degrees(metric.label))
        assert first is not None
        first.set_ylim(bottom=min(0.0, first.get_ylim()[0]))
        for name, look in looks.items():
            first.plot([], [], color=look.color, marker=look.marker, label=name)
        figure.legend(*first.get_legend_handles_labels(), loc="outside upper left", ncols=4)
    return figure


def _breakdown(axes: Axes, panel: BreakdownPanel, scale: float, looks: dict[str, Style]) -> None:
    ticks = []
    for x, label in enumerate(panel.bins):
        counts = [of[x].n for of in panel.intervals.values() if of[x] is not None]  # type: ignore[union-attr]
        ticks.append(f"{label}\nn = {max(counts, default=0)}")
        for k, (system, look) in enumerate(looks.items()):
            interval = panel.intervals[system][x]
            if interval is None:
                continue
            place = x + (k - (len(looks) - 1) / 2) * min(0.22, 0.7 / len(looks))
            if interval.low is not None and interval.high is not None:
                axes.vlines(place, interval.low * scale, interval.high * scale, look.color, linewidth=1.6)
            axes.plot(
                place, interval.value * scale, look.marker, color=look.color, markersize=6.5,
                markeredgecolor=SURFACE, markeredgewidth=0.7,
            )  # fmt: skip
    if panel.disjoint < len(panel.bins):
        axes.axvline(panel.disjoint - 0.5, color=MUTED, linewidth=0.8, linestyle=":")
    axes.grid(True, axis="y")
    axes.axhline(0.0, color=MUTED, linewidth=0.8)
    axes.set(xlim=(-0.5, len(panel.bins) - 0.5), xlabel=panel.title)
    axes.set_xticks(range(len(panel.bins)), ticks)
    axes.tick_params(axis="x", length=0, labelsize=7.5)


def confidence_curve(confidence: Array, errors_deg: Array) -> DetectionCurve | None:
    """The curve of confidences ``(talker,)`` in directions; None unless some are right and some are wrong.

    A direction is right within `TOLERANCE_DEG`. The recall is of all talkers: one whose direction is wrong
    is not detected. Fawcett, "An introduction to ROC analysis", Pattern Recognition Letters 27(8), 2006.
    """
    right = errors_deg <= TOLERANCE_DEG
    wrong = confidence[~right]
    curve = posterior_curve(posterior_curves(confidence[right], wrong, wrong))
    return curve and curve._replace(recall=curve.recall * right.mean(), wrong=int(wrong.size))


def posterior_curve(curves: dict[str, Any] | None) -> DetectionCurve | None:
    """The curve of a posterior, from what `msdet.scoring.confidence_calibration.posterior_curves` returns."""
    if curves is None:
        return None
    keys = ("false_positive_rate", "true_positive_rate", "precision")
    false_rate, recall, precision = (np.array(curves[key]) for key in keys)
    starts = np.append(0.0, false_rate), np.append(0.0, recall)
    return DetectionCurve(*starts, curves["roc_area"], recall, precision)


def detection_figure(
    curves: dict[str, DetectionCurve], looks: dict[str, Style], what: str, right: str, wrong: str
) -> Figure:
    """ROC, and precision over recall, of several systems; `what` is the score that has a threshold.

    `right` and `wrong` are the names of the ROC's vertical and horizontal axes.
    """
    with drawing():
        figure = Figure((WIDTH_IN, 4.2), layout="constrained")
        roc, recall = figure.subplots(1, 2)
        for name, curve in curves.items():
            look = {"color": looks[name].color, "linestyle": looks[name].dashes}
            label = f"{name}: area {curve.area:.3f}" + (f", {curve.wrong} wrong directions" if curve.wrong else "")
            roc.plot(100 * curve.false_rate, 100 * curve.true_rate, **look, label=label)
            recall.plot(100 * curve.recall, 100 * curve.precision, **look)
        roc.plot([0, 100], [0, 100], ":", color=MUTED, linewidth=1.0)
        roc.set(title=f"ROC of the {what}", xlabel=f"{wrong} (%)", ylabel=f"{right} (%)")
        recall.set(title=f"Precision and recall of the {what}", xlabel="Recall (%)", ylabel="Precision (%)")
        for axes in (roc, recall):
            axes.set(xlim=(-2, 102), ylim=(-2, 102))
            axes.grid(True)
        roc.legend(loc="lower right")
    return figure


def calibration_figure(reliability: dict[str, dict[str, Any]], looks: dict[str, Style]) -> Figure:
    """Share of right directions over confidence with Wilson intervals, and how many there are, by system.

    The `reliability` is what `msdet.scoring.confidence_calibration.calibration` returns, with bins.
    """
    from scipy.stats import binomtest  # slow to import

    with drawing():
        figure = Figure((WIDTH_IN, 3.9), layout="constrained")
        shares, counts = figure.subplots(1, 2)
        shares.plot([0, 100], [0, 100], ":", color=MUTED, linewidth=1.0)
        for k, (name, calibration) in enumerate(reliability.items()):
            bins, look = calibration["bins"], looks[name]
            confidence, accuracy, n = (
                np.array([b[key] for b in bins], dtype=np.float64) for key in ("confidence", "accuracy", "n")
            )
            pairs = zip(accuracy, n, strict=True)
            ends = [binomtest(round(a * c), round(c)).proportion_ci(method="wilson") for a, c in pairs]
            low, high = 100 * np.array(ends).T
            shares.vlines(100 * confidence, low, high, look.color, linewidth=1.2)
            gap = 100 * calibration["expected_calibration_error"]
            shares.plot(
                100 * confidence, 100 * accuracy, look.marker, color=look.color, linestyle=look.dashes,
                markersize=6, linewidth=1.0, markeredgecolor=SURFACE, markeredgewidth=0.7,
                label=f"{name}: {gap:.1f} points off",
            )  # fmt: skip
            width = 85 * (bins[0]["high"] - bins[0]["low"]) / len(reliability)
            middle = np.array([50 * (b["low"] + b["high"]) for b in bins])
            places = middle + (k - (len(reliability) - 1) / 2) * width
            counts.bar(places, n, width, color=look.color, edgecolor=SURFACE, linewidth=0.5)
        shares.set(title="Calibration", ylabel=f"Directions within {TOLERANCE_DEG:g}° (%)", ylim=(-2, 102))
        counts.set(title="How often", ylabel="Directions")
        for axes in (shares, counts):
            axes.set(xlabel="Confidence (%)", xlim=(-2, 102))
            axes.grid(True, axis="y")
        shares.grid(True)
        figure.legend(*shares.get_legend_handles_labels(), loc="outside upper left", ncols=3)
    return figure
