"""A microphone array drawn to scale: from above, from the side where it is not flat, channels numbered."""

from __future__ import annotations

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from msdet.arrays import FLAT, MicrophoneArray
from msdet.conventions import Array
from msdet.plots.theme import INK, LIGHT, MUTED, SURFACE, WIDTH_IN, drawing

_ROOM = 1.6
"""Half of the drawing's width over the largest distance of a microphone from the middle."""

_TURN_DEG = np.linspace(8.0, 50.0, 30)

_TOUCHING = 0.045
"""Microphones nearer to each other than this share of the drawing are drawn as one, with all numbers."""

_WRAP = 118

_MANY = 16


def array_sheet(array: MicrophoneArray) -> Figure:
    """The array from above, with 0° and the sense of azimuth, and from two sides unless it lies flat.

    The reference microphone is marked.
    """
    views = [("From above", (0, 1))]
    if np.ptp(array.positions[:, 2]) > FLAT * array.aperture_m:
        views += [("From the side (from -y)", (0, 2)), ("From the front (from +x)", (1, 2))]
    heading = f"{array.name}: {array.microphones} microphones, aperture {100 * array.aperture_m:.1f} cm"
    heading += f", closest pair {100 * array.closest_distance_m:.1f} cm"
    heading += f", aliasing from {array.aliasing_frequency_hz:.0f} Hz"
    source = textwrap.fill(f"Coordinates: {array.source}", _WRAP) if array.source else ""
    height_in = (5.6 if len(views) == 1 else 3.9) + 0.16 * source.count("\n")
    with drawing():
        figure = Figure((WIDTH_IN, height_in), layout="constrained")
        figure.suptitle(heading, x=0.01, ha="left", size=10.5, weight="bold")
        panels = figure.subplots(1, len(views), squeeze=False)[0]
        for axes, (title, seen) in zip(panels, views, strict=True):
            _view(axes, array, title, seen)
        figure.supxlabel(source, x=0.01, ha="left", size=7.5, color=MUTED)
    return figure


def _view(axes: Axes, array: MicrophoneArray, title: str, seen: tuple[int, int]) -> None:
    """Microphones ``(mic, 2)`` along two of the axes, in centimeters."""
    points = 100 * array.positions[:, seen]
    center = 50 * (array.positions.max(axis=0) + array.positions.min(axis=0))
    reach = _ROOM * float(np.abs(100 * array.positions - center).max())
    middle = center[list(seen)]
    axes.plot(0.0, 0.0, "+", color=MUTED, markersize=9, zorder=2)
    size = 7.5 if array.microphones <= _MANY else 6.0
    left = list(range(array.microphones))
    while left:
        apart = np.linalg.norm(points[left] - points[left[0]], axis=-1)
        here = [c for c, distance in zip(left, apart, strict=True) if distance < _TOUCHING * 2 * reach]
        left = [c for c in left if c not in here]
        color = LIGHT["blue"] if array.reference in here else INK
        box = {"boxstyle": "round,pad=0.3", "facecolor": color, "edgecolor": "none"}
        x, y = points[here].mean(axis=0).tolist()
        axes.annotate(
            ",".join(map(str, here)), (x, y), color=SURFACE, size=size, weight="bold", ha="center",
            va="center", bbox=box, zorder=5,
        )  # fmt: skip
    if seen == (0, 1):
        _azimuth(axes, middle, reach)
        axes.plot([], [], "s", color=LIGHT["blue"], markersize=8, label=f"reference: {array.reference}")
        axes.legend(loc="upper left")
    axes.set_aspect("equal")
    axes.grid(True)
    names = ["xyz"[k] for k in seen]
    axes.set(title=title, xlabel=f"{names[0]} (cm)", ylabel=f"{names[1]} (cm)")
    axes.set(xlim=(middle[0] - reach, middle[0] + reach), ylim=(middle[1] - reach, middle[1] + reach))


def _azimuth(axes: Axes, middle: Array, reach: float) -> None:
    """An arrow along +x, which is 0°, and one that turns counter-clockwise from it.

    Both from the middle of the drawing: directions are of sound from afar, and the origin may not be in it.
    """
    length = 0.94 * reach
    end = middle + [length, 0.0]
    arrow = {"arrowstyle": "-|>", "color": MUTED, "linewidth": 1.2, "mutation_scale": 12}
    axes.annotate("", end.tolist(), middle.tolist(), arrowprops=arrow, zorder=3)
    axes.annotate("0° = +x", end.tolist(), (0, -12), textcoords="offset points", ha="right", color=MUTED)
    angle_rad = np.deg2rad(_TURN_DEG)
    turn = middle + 0.86 * length * np.stack([np.cos(angle_rad), np.sin(angle_rad)], axis=-1)
    axes.plot(*turn.T, color=MUTED, linewidth=1.2, zorder=3)
    axes.annotate("", turn[-1].tolist(), turn[-3].tolist(), arrowprops=arrow, zorder=3)
    above = turn[-1] + [0.0, 0.03 * reach]
    axes.annotate("azimuth", above.tolist(), color=MUTED, ha="center", va="bottom")
