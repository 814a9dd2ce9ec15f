"""Drawings of a scene's room, from above and from the side, and of the array as it stands there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array, rotation_matrix
from msdet.plots.scene import numbered
from msdet.plots.theme import INK, LIGHT, MUTED, SHADE, SURFACE, Style
from msdet.scenes.scene import Scene, Source

_AXES = "xyz"

_MARGIN = 0.03

_ARROW = 0.14
"""Of an axis of the array's frame, as a share of the drawing's smaller side."""

_LEVEL_DEG = 0.05

_MIN_ARROW = 0.3
"""An axis that is seen shorter than this share of itself points at the reader and is not drawn."""


def room_view(
    axes: Axes, scene: Scene, array: MicrophoneArray, looks: Sequence[Style], upright: bool
) -> None:
    """The room with the array in it, its 0°, talkers with their paths and directions, and noise sources.

    Args:
        axes: where to draw.
        scene: what to draw; of a room of unknown size, no walls are drawn.
        array: that recorded it.
        looks: style of each talker.
        upright: seen from the side, x and z, with elevations; else from above, x and y, with azimuths.
    """
    seen = np.array([0, 2] if upright else [0, 1])
    low, high = _extent(scene, seen)
    edge = MUTED if scene.room_m else "none"
    size = high - low
    axes.add_patch(Rectangle((low[0], low[1]), *size, facecolor=SHADE, edgecolor=edge, linewidth=1.2))
    center = np.array(scene.array_center_m)[seen]
    for source, look in zip(scene.sources, looks, strict=True):
        _ray(axes, center, np.array(source.position_m)[seen], low, high, look)
    _arrows(axes, scene, seen, _ARROW * float(size.min()), upright)
    microphones = scene.microphones_m(array.positions)[:, seen]
    axes.plot(*microphones.T, ".", color=INK, markersize=2.5, zorder=4)
    for noise in scene.noises:
        if noise.position_m is not None:
            point = np.array(noise.position_m)[seen]
            axes.plot(*point, "X", color=LIGHT["slate"], markersize=8, zorder=4)
            _label(axes, point, (0.0, 11.0), "noise")
    for talker, (source, look) in enumerate(zip(scene.sources, looks, strict=True)):
        _path(axes, source, seen, look)
        numbered(axes, np.array(source.position_m)[seen], talker, look)
    (_elevations if upright else _azimuths)(axes, scene)
    margin = _MARGIN * size.max()
    axes.set_aspect("equal")
    axes.set(
        title="From the side, with elevations" if upright else "From above, with azimuths",
        xlabel="x (m)",
        ylabel=f"{_AXES[seen[1]]} (m)",
        xlim=(low[0] - margin, high[0] + margin),
        ylim=(low[1] - margin, high[1] + margin),
    )


def _azimuths(axes: Axes, scene: Scene) -> None:
    """Azimuths of the talkers beside them, away from the array."""
    for source in scene.sources:
        outward = np.array(source.position_m)[:2] - np.array(scene.array_center_m)[:2]
        outward /= max(float(np.linalg.norm(outward)), 1e-6)
        offset_points = (26.0 * outward[0], 15.0 * outward[1])
        _label(axes, np.array(source.position_m)[:2], offset_points, f"{source.azimuth_deg:.1f}°")


def _elevations(axes: Axes, scene: Scene) -> None:
    """Elevations of the talkers above or below them, unless all are level with the array."""
    if all(abs(source.elevation_deg) < _LEVEL_DEG for source in scene.sources):
        return
    rows = {1: 0, -1: 0}
    for source in scene.sources:
        side = 1 if source.position_m[2] >= scene.array_center_m[2] else -1
        offset_points = (0.0, side * (13.0 + 9.0 * rows[side]))
        rows[side] += 1
        text = f"{source.elevation_deg:.1f}°".replace("-", "−")
        _label(axes, np.array(source.position_m)[[0, 2]], offset_points, text)


def array_view(axes: Axes, scene: Scene, array: MicrophoneArray) -> None:
    """The microphones from above as they stand in the room, with their channels and the array's 0°."""
    points = 100 * (scene.microphones_m(array.positions) - np.array(scene.array_center_m))[:, :2]
    widest = float(np.abs(points).max())
    reach = 1.25 * widest
    _arrow(axes, np.zeros(2), 0.5 * widest * rotation_matrix(*scene.array_rotation_deg)[:2, 0], "0°")
    for channel, (x, y) in enumerate(points):
        chosen = channel == array.reference
        axes.plot(x, y, "o", color=INK if chosen else MUTED, markersize=9.5, zorder=4)
        axes.text(
            x, y, str(channel), color=SURFACE, size=6.5, weight="bold", ha="center", va="center_baseline",
            zorder=5,
        )  # fmt: skip
    yaw, pitch, roll = (f"{angle:.0f}°".replace("-", "−") for angle in scene.array_rotation_deg)
    axes.set_aspect("equal")
    axes.set(
        title=f"Array from above\nyaw {yaw}, pitch {pitch}, roll {roll}",
        xlabel="x from its center (cm)",
        ylabel="y (cm)",
        xlim=(-reach, reach),
        ylim=(-reach, reach),
    )


def _extent(scene: Scene, seen: Array) -> tuple[Array, Array]:
    """Lower and upper corner ``(2,)`` of a drawing: of the room, or around everything where it is unknown."""
    if scene.room_m:
        return np.zeros(2), np.array(scene.room_m)[seen]
    points = [scene.array_center_m, *(s.position_m for s in scene.sources)]
    points += [w.position_m for s in scene.sources for w in s.waypoints]
    points += [noise.position_m for noise in scene.noises if noise.position_m is not None]
    corners = np.array(points)[:, seen]
    pad = 0.25 * float(np.ptp(points, axis=0).max()) or 1.0  # of the array alone
    return corners.min(axis=0) - pad, corners.max(axis=0) + pad


def _ray(axes: Axes, center: Array, point: Array, low: Array, high: Array, look: Style) -> None:
    """A line from the array to a talker, and on, dashed, to the edge of the drawing."""
    direction = point - center
    ways = [
        ((high if step > 0 else low)[axis] - center[axis]) / step
        for axis, step in enumerate(direction)
        if abs(step) > 1e-9
    ]
    end = center + max(1.0, min(ways, default=1.0)) * direction
    axes.plot(*zip(center, point, strict=True), color=look.color, linewidth=1.2)
    axes.plot(*zip(point, end, strict=True), color=look.color, linewidth=0.9, linestyle=(0, (3, 3)))


def _path(axes: Axes, source: Source, seen: Array, look: Style) -> None:
    """Where a moving talker goes, with an arrow at the end."""
    if not source.waypoints:
        return
    corners = np.array([w.position_m for w in source.waypoints])[:, seen]
    axes.plot(*corners.T, color=look.color, linewidth=2.2, zorder=3)
    before, end = corners[-2:].tolist()
    axes.annotate(
        "", end, before, zorder=3,
        arrowprops={"arrowstyle": "-|>", "color": look.color, "linewidth": 2.2, "mutation_scale": 14},
    )  # fmt: skip


def _arrows(axes: Axes, scene: Scene, seen: Array, length: float, upright: bool) -> None:
    """The array's +x axis, its 0°; from the side, where the array is tilted, its +z axis too."""
    rotation = rotation_matrix(*scene.array_rotation_deg)
    center = np.array(scene.array_center_m)[seen]
    named = {"0°": rotation[:, 0]}
    if upright:
        named = named | {"+z": rotation[:, 2]} if any(scene.array_rotation_deg[1:]) else {}
    for name, axis in named.items():
        if np.linalg.norm(axis[seen]) > _MIN_ARROW:
            _arrow(axes, center, center + length * axis[seen], name)


def _arrow(axes: Axes, start: Array, end: Array, name: str) -> None:
    axes.annotate(
        "", (end[0], end[1]), (start[0], start[1]), zorder=3.5,
        arrowprops={"arrowstyle": "->", "color": INK, "linewidth": 1.1},
    )  # fmt: skip
    along = end - start
    x, y = 9.0 * along / max(float(np.linalg.norm(along)), 1e-6)
    _label(axes, end, (x, y), name)


def _label(axes: Axes, point: Array, offset_points: tuple[float, float], text: str) -> None:
    axes.annotate(
        text, (point[0], point[1]), offset_points, textcoords="offset points", ha="center", va="center",
        size=8, zorder=3.8,
        bbox={"boxstyle": "round,pad=0.1", "facecolor": SHADE, "edgecolor": "none", "alpha": 0.7},
    )  # fmt: skip
