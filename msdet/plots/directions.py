"""Figures of estimated directions: errors around the circle, and true against estimated azimuths."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from msdet.conventions import Array, angular_distance_deg, wrap_deg
from msdet.plots.theme import GRID, INK, MANY_POINTS, MUTED, SHADE, SURFACE, WIDTH_IN, Style, drawing

_MAX_COLUMNS = 3
_ERROR_RINGS_DEG = (5, 20, 45, 90, 180)
_SECTORS = 12
_MIN_FOR_MEDIAN = 3
_CELL_DEG = 10
_FAINTEST = 0.18


def doa_polar(errors: dict[str, tuple[Array, Array]], looks: dict[str, Style]) -> Figure:
    """The error of every talker's direction, around the circle of true azimuths, for each system.

    `errors` are true azimuths and errors ``(talker,)`` in degrees, at least one.
    """
    with drawing():
        figure, panels = _grid(len(errors), (5.0, 3.9), "polar")
        for axes, (name, (truth_deg, errors_deg)) in zip(panels, errors.items(), strict=True):
            median = f"{truth_deg.size} talkers, median error {np.median(errors_deg):.1f}°"
            axes.set_title(f"{name}\n{median}", loc="center", pad=14)
            _polar_panel(axes, wrap_deg(truth_deg), errors_deg, looks[name])
        handles = [
            Line2D([], [], linestyle="", marker="o", color=MUTED, markersize=4.5),
            Line2D([], [], color=INK, linewidth=1.4),
            Rectangle((0, 0), 1, 1, facecolor=SHADE, edgecolor=GRID),
        ]
        labels = ["one talker", f"median of a {360 // _SECTORS}° sector", "error up to 10°"]
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def doa_confusion(pairs: dict[str, tuple[Array, Array]], looks: dict[str, Style]) -> Figure:
    """How often which true azimuth is estimated as which, in cells of 10°, for each system.

    `pairs` are true and estimated azimuths ``(talker,)`` in degrees, at least one.
    """
    edges = np.arange(0.0, 360.0 + _CELL_DEG, _CELL_DEG)
    counts = {
        name: np.histogram2d(wrap_deg(truth), wrap_deg(estimate), bins=[edges, edges])[0]
        for name, (truth, estimate) in pairs.items()
    }
    most = int(max(count.max() for count in counts.values()))
    with drawing():
        figure, panels = _grid(len(pairs), (4.6, 3.4), None)
        for axes, (name, count) in zip(panels, counts.items(), strict=True):
            axes.set_title(f"{name}: {pairs[name][0].size} talkers")
            _confusion_panel(axes, count, most, looks[name])
        shown = np.unique(np.geomspace(1, most, 4).round().astype(int))
        look = looks[next(iter(pairs))]
        handles: list[Artist] = [_cell(0, 0, int(value), most, look) for value in shown]
        labels = [f"{value} talker{'s' if value > 1 else ''}" for value in shown]
        handles.append(Line2D([], [], color=MUTED, linewidth=0.8, linestyle=":"))
        labels.append("right within a cell")
        figure.legend(handles, labels, loc="outside lower center", ncols=5)
    return figure


def _grid(panels: int, heights_in: tuple[float, float], projection: str | None) -> tuple[Figure, list[Any]]:
    """A figure of panels, no single one in the last row if possible; high in two columns, low in three."""
    columns = 2 if panels in (1, 2, 4) else _MAX_COLUMNS
    rows = math.ceil(panels / columns)
    figure = Figure((WIDTH_IN, 0.5 + rows * heights_in[columns - 2]), layout="constrained")
    return figure, [figure.add_subplot(rows, columns, n + 1, projection=projection) for n in range(panels)]


def _confusion_panel(axes: Axes, count: Array, most: int, look: Style) -> None:
    axes.grid(True)
    axes.plot([0, 360 - _CELL_DEG], [_CELL_DEG, 360], ":", color=MUTED, linewidth=0.8)
    axes.plot([_CELL_DEG, 360], [0, 360 - _CELL_DEG], ":", color=MUTED, linewidth=0.8)
    for x, y in np.argwhere(count):
        axes.add_patch(_cell(_CELL_DEG * int(x), _CELL_DEG * int(y), int(count[x, y]), most, look))
    axes.set_aspect("equal")
    axes.set(xlim=(0, 360), ylim=(0, 360), xticks=range(0, 361, 90), yticks=range(0, 361, 90))
    axes.set(xlabel="True azimuth (°)", ylabel="Estimated azimuth (°)")


def _cell(x: int, y: int, count: int, most: int, look: Style) -> Rectangle:
    """A cell in the system's color, the more opaque the more talkers, but never invisible."""
    opacity = _FAINTEST + (1.0 - _FAINTEST) * math.sqrt(count / most)
    return Rectangle((x, y), _CELL_DEG, _CELL_DEG, facecolor=look.color, edgecolor="none", alpha=opacity, zorder=2)


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
    many = truth_deg.size > MANY_POINTS
    axes.scatter(
        np.deg2rad(truth_deg), np.sqrt(errors_deg), s=6 if many else 16, marker=look.marker,
        facecolor=look.color, edgecolor=SURFACE, linewidth=0.0 if many else 0.4, alpha=0.4 if many else 0.85,
        zorder=3, rasterized=many,
    )  # fmt: skip
    _sector_medians(axes, truth_deg, errors_deg)
    axes.set_xlabel("True azimuth (°, counter-clockwise)", labelpad=6)
    axes.set_ylabel("Error (°, square-root scale)", labelpad=30)


def _sector_medians(axes: Any, truth_deg: Array, errors_deg: Array) -> None:
    width = 360.0 / _SECTORS
    sector = np.minimum((truth_deg // width).astype(int), _SECTORS - 1)
    inside = [errors_deg[sector == k] for k in range(_SECTORS)]
    medians = [np.median(errors) if errors.size >= _MIN_FOR_MEDIAN else np.nan for errors in inside]
    arcs = np.deg2rad(np.linspace(0.0, width, 16) + width * np.arange(_SECTORS)[:, None])
    outline = np.sqrt(np.repeat(medians, arcs.shape[1]))
    closed = (np.append(arcs, 2 * np.pi), np.append(outline, outline[0]))
    outlined = [withStroke(linewidth=4.0, foreground=SURFACE)]
    axes.plot(*closed, color=INK, linewidth=1.8, zorder=4, path_effects=outlined)
