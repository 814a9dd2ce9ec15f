"""Figures of a whole evaluation: learning curves, breakdowns, and directions around the circle."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from msdet.conventions import Array, angular_distance_deg, wrap_deg
from msdet.evaluation.report.content import UNPROCESSED, Curves
from msdet.evaluation.report.theme import (
    GRID,
    INK,
    LIGHT,
    MUTED,
    SHADE,
    SURFACE,
    WIDTH_IN,
    Style,
    degrees,
    drawing,
)
from msdet.evaluation.summary import BINS, METRICS, Summary

_IN_BREAKDOWNS = ("si_sdr_improvement_db", "doa_mae_deg")

_ERROR_RINGS_DEG = (5, 20, 45, 90, 180)
_SECTORS = 12
_FEWEST_FOR_MEDIAN = 3
_MANY_POINTS = 500  # beyond, points are small, faint, behind the medians, and drawn as an image


class _Line(NamedTuple):
    """How a column of a training log is drawn."""

    column: str
    label: str
    colour: str
    dashes: str


_CURVE_PANELS = (
    (
        "Separation loss",
        "Loss (mean absolute error)",
        1.0,
        (
            _Line("train/separation", "training", MUTED, "--"),
            _Line("dev/separation", "validation", LIGHT["blue"], "-"),
        ),
    ),
    (
        "DoA loss",
        "Loss (cross-entropy, nat)",
        1.0,
        (
            _Line("train/doa", "training", MUTED, "--"),
            _Line("dev/doa", "validation", LIGHT["blue"], "-"),
        ),
    ),
    (
        "Separation on validation scenes",
        "SI-SDR gain (dB)",
        1.0,
        (_Line("dev/si_sdr_improvement_db", "mean", LIGHT["blue"], "-"),),
    ),
    (
        "DoA on validation scenes",
        "Talkers (%)",
        100.0,
        (
            _Line("dev/accuracy_10deg", "within 10°", LIGHT["blue"], "-"),
            _Line("dev/accuracy_5deg", "within 5°", LIGHT["vermillion"], "--"),
        ),
    ),
)
"""Title, unit, scale and lines of each panel of the learning curves."""


def learning_curves(curves: Curves) -> Figure:
    """Terms of the loss in training and validation, and the validation's scores, over training steps.

    Args:
        curves: as `read_curves` gives them.
    """
    with drawing():
        figure = Figure((WIDTH_IN, 5.0), layout="constrained")
        for axes, (title, unit, scale, lines) in zip(figure.subplots(2, 2).flat, _CURVE_PANELS, strict=True):
            axes.set(title=title, ylabel=unit, xlabel="Training step")
            axes.grid(True)
            found = [(line, *curves[line.column]) for line in lines if line.column in curves]
            for line, steps, values in found:
                axes.plot(
                    steps, values * scale, line.dashes, color=line.colour, label=line.label,
                    marker="o" if len(steps) == 1 else "",
                )  # fmt: skip
            if len(lines) > 1 and found:
                axes.legend()
            if not found:
                axes.text(0.5, 0.5, "not logged", ha="center", transform=axes.transAxes, color=MUTED)
            if scale == 100.0:
                axes.set_ylim(-3, 103)
    return figure


def breakdowns(summary: Summary, looks: dict[str, Style]) -> Figure:
    """Mean and interval of separation and DoA by azimuth gap, T60 and straddling, for each system.

    The unprocessed mixture is left out: its gain is zero by definition and it has no DoA.

    Args:
        summary: of all systems.
        looks: the systems' styles.
    """
    systems = [name for name in summary.scores if name != UNPROCESSED]
    widths = [len(bins) for bins in BINS.values()]
    with drawing():
        figure = Figure((WIDTH_IN, 5.4), layout="constrained")
        grid = figure.subplots(
            len(_IN_BREAKDOWNS), len(BINS), sharey="row", squeeze=False, width_ratios=widths
        )
        for row, metric in zip(grid, _IN_BREAKDOWNS, strict=True):
            for axes, title in zip(row, summary.breakdowns, strict=True):
                _breakdown_panel(axes, summary, title, metric, {name: looks[name] for name in systems})
            row[0].set_ylabel(degrees(METRICS[metric].label))
            row[0].set_ylim(bottom=min(0.0, row[0].get_ylim()[0]))
        handles = [_swatch(looks[name]) for name in systems]
        figure.legend(handles, systems, loc="outside upper left", ncols=4)
    return figure


def _breakdown_panel(axes: Axes, summary: Summary, title: str, metric: str, looks: dict[str, Style]) -> None:
    bins = summary.breakdowns[title]
    scale = METRICS[metric].scale
    ticks = []
    for x, (name, by_system) in enumerate(bins.items()):
        counts = [found[metric].n for found in by_system.values() if metric in found]
        ticks.append(f"{_short(name)}\nn = {max(counts, default=0)}")
        for k, (system, look) in enumerate(looks.items()):
            interval = by_system[system].get(metric)
            if interval is None:
                continue
            place = x + (k - (len(looks) - 1) / 2) * min(0.22, 0.7 / len(looks))
            if interval.low is not None and interval.high is not None:
                axes.vlines(place, interval.low * scale, interval.high * scale, look.colour, linewidth=1.6)
            axes.plot(
                place, interval.value * scale, look.marker, color=look.colour, markersize=6.5,
                markeredgecolor=SURFACE, markeredgewidth=0.7,
            )  # fmt: skip
    for x in _overlapping(title):
        axes.axvline(x - 0.5, color=MUTED, linewidth=0.8, linestyle=":")
    axes.grid(True, axis="y")
    axes.axhline(0.0, color=MUTED, linewidth=0.8)
    axes.set_xlim(-0.5, len(bins) - 0.5)
    axes.set_xticks(range(len(bins)), ticks)
    axes.set_xlabel(degrees(title))
    axes.tick_params(axis="x", length=0)


def doa_polar(pairs: dict[str, tuple[Array, Array]], looks: dict[str, Style]) -> Figure:
    """The error of every talker's direction, around the circle of true azimuths, for each system.

    Args:
        pairs: by system, true and estimated azimuths ``(pair,)`` in degrees, at least one.
        looks: the systems' styles.
    """
    with drawing():
        figure = Figure((WIDTH_IN, 5.4), layout="constrained")
        for n, (name, (truth, estimate)) in enumerate(pairs.items(), start=1):
            axes: Any = figure.add_subplot(1, max(2, len(pairs)), n, projection="polar")
            errors = angular_distance_deg(truth, estimate)
            axes.set_title(
                f"{name}: {truth.size} talkers, median error {np.median(errors):.1f}°", loc="center", pad=14
            )
            _polar_panel(axes, wrap_deg(truth), errors, looks[name])
        handles = [
            Line2D([], [], linestyle="", marker="o", color=MUTED, markersize=4.5),
            Line2D([], [], color=INK, linewidth=1.4),
            Rectangle((0, 0), 1, 1, facecolor=SHADE, edgecolor=GRID),
        ]
        labels = ["one talker", f"median of a {360 // _SECTORS}° sector", "error up to 10°"]
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def _polar_panel(axes: Any, truth_deg: Array, errors_deg: Array, look: Style) -> None:
    limit = math.sqrt(180.0)
    axes.set_theta_zero_location("E")
    axes.set_theta_direction(1)
    axes.set_ylim(0.0, limit)
    axes.set_rorigin(-0.3 * limit)
    axes.set_xticks(np.deg2rad(np.arange(0, 360, 45)), ["0°\n(+x)", *(f"{a}°" for a in range(45, 360, 45))])
    axes.set_yticks([math.sqrt(error) for error in _ERROR_RINGS_DEG], [])
    axes.grid(True)
    angles = np.arange(22.5, 360.0, 45.0)
    near = (angular_distance_deg(truth_deg[:, None], angles) < 8.0).sum(axis=0)
    for error in _ERROR_RINGS_DEG:  # where they hide the fewest points
        axes.text(
            np.deg2rad(angles[near.argmin()]), math.sqrt(error), f"{error}°", size=7.5, ha="center",
            va="center", zorder=6,
            bbox={"facecolor": SURFACE, "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
        )  # fmt: skip
    around = np.linspace(0.0, 2 * np.pi, 181)
    axes.fill_between(around, 0.0, math.sqrt(10.0), facecolor=SHADE, edgecolor="none", zorder=0.5)
    many = truth_deg.size > _MANY_POINTS
    axes.scatter(
        np.deg2rad(truth_deg), np.sqrt(errors_deg), s=6 if many else 16, marker=look.marker,
        facecolor=look.colour, edgecolor=SURFACE, linewidth=0.0 if many else 0.4, alpha=0.4 if many else 0.85,
        zorder=3, rasterized=many,
    )  # fmt: skip
    width = 360.0 / _SECTORS
    sector = np.minimum((truth_deg // width).astype(int), _SECTORS - 1)
    inside = [errors_deg[sector == k] for k in range(_SECTORS)]
    medians = [np.median(errors) if errors.size >= _FEWEST_FOR_MEDIAN else np.nan for errors in inside]
    arcs = np.deg2rad(np.linspace(0.0, width, 16) + width * np.arange(_SECTORS)[:, None])
    outline = np.sqrt(np.repeat(medians, arcs.shape[1]))
    closed = (np.append(arcs, 2 * np.pi), np.append(outline, outline[0]))
    axes.plot(*closed, color=INK, linewidth=1.4, zorder=4 if many else 2.5)
    axes.set_xlabel("True azimuth (°, counter-clockwise)", labelpad=6)
    axes.set_ylabel("Error (°, square-root scale)", labelpad=30)


def _overlapping(title: str) -> list[int]:
    """Places of the bins of a breakdown that share scenes with an earlier one."""
    bins = BINS[title]
    return [
        k
        for k, late in enumerate(bins)
        if any(max(late.low, early.low) < min(late.high, early.high) for early in bins[:k])
    ]


def _short(bin_name: str) -> str:
    return degrees(bin_name).replace(">=", "≥").replace(" to ", "–")


def _swatch(look: Style) -> Line2D:
    return Line2D([], [], color=look.colour, marker=look.marker, linewidth=1.6)
