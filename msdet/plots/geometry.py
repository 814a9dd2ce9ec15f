"""Drawings to scale: a microphone array, and a room with the array, talkers and noise sources in it."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from msdet.arrays import FLAT, MicrophoneArray
from msdet.conventions import Array, direction_vector, rotation_matrix
from msdet.plots.theme import INK, LIGHT, MUTED, SHADE, SURFACE, WIDTH_IN, Style, drawing
from msdet.scenes.scene import Scene, Source

_ARRAY_ROOM = 1.6  # half of an array drawing's width over the largest distance of a microphone from the middle
_TOUCHING = 0.045  # microphones nearer to each other than this share of the drawing share one label
_WRAP = 118  # characters of the line that cites an array's source
_MANY = 16  # microphones; beyond, labels are small
_MARGIN = 0.03  # around a room, as a share of its longer side
_AXIS = 0.14  # length of an axis of the array's frame, as a share of the drawing's smaller side
_MIN_AXIS = 0.3  # an axis seen shorter than this share of itself points at the reader and is not drawn
_LEVEL_DEG = 0.05
_NEARLY = 0.8
ABOVE = np.eye(3)[:2]  # a view: what of x, y and z goes to the right and up
# markers with room for a number only away from their middle: where, in points
_TRIANGLES = {"^": (0.0, -1.5), "v": (0.0, 1.5), "<": (1.5, 0.0), ">": (-1.5, 0.0)}


def array_sheet(array: MicrophoneArray) -> Figure:
    """The array from above, with 0° and the sense of azimuth, and from two sides unless it lies flat."""
    views = [("From above", (0, 1))]
    if np.ptp(array.positions[:, 2]) > FLAT * array.aperture_m:
        views += [("From the side (from -y)", (0, 2)), ("From the front (from +x)", (1, 2))]
    heading = (
        f"{array.name}: {array.microphones} microphones, aperture {100 * array.aperture_m:.1f} cm, closest pair "
        f"{100 * array.closest_distance_m:.1f} cm, aliasing from {array.aliasing_frequency_hz:.0f} Hz"
    )
    source = textwrap.fill(f"Coordinates: {array.source}", _WRAP) if array.source else ""
    height_in = (5.6 if len(views) == 1 else 3.9) + 0.16 * source.count("\n")
    with drawing():
        figure = Figure((WIDTH_IN, height_in), layout="constrained")
        figure.suptitle(heading, x=0.01, ha="left", size=10.5, weight="bold")
        panels = figure.subplots(1, len(views), squeeze=False)[0]
        for axes, (title, seen) in zip(panels, views, strict=True):
            _array_panel(axes, array, title, seen)
        figure.supxlabel(source, x=0.01, ha="left", size=7.5, color=MUTED)
    return figure


def array_view(axes: Axes, scene: Scene, array: MicrophoneArray) -> None:
    """The microphones from above as they stand in the room, with their channels and the array's 0°."""
    points = 100 * (scene.microphones_m(array.positions) - np.array(scene.array_center_m))[:, :2]
    widest = float(np.abs(points).max())
    reach = 1.25 * widest
    _arrow(axes, np.zeros(2), 0.5 * widest * rotation_matrix(*scene.array_rotation_deg)[:2, 0], "0°")
    _channels(axes, points, array, reach, 6.5)
    yaw, pitch, roll = (f"{angle:.0f}°".replace("-", "−") for angle in scene.array_rotation_deg)
    title = f"Array from above\nyaw {yaw}, pitch {pitch}, roll {roll}"
    axes.set_aspect("equal")
    axes.set(title=title, xlabel="x from its center (cm)", ylabel="y (cm)")
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach))


def room_view(
    axes: Axes,
    scene: Scene,
    array: MicrophoneArray,
    looks: Sequence[Style],
    view: Array = ABOVE,
    estimates: Mapping[str, tuple[Array, Style]] | None = None,
) -> None:
    """The room with the array, its 0°, talkers with their paths and directions, and noise sources.

    The `view` ``(2, 3)`` is from `ABOVE`, with azimuths, or from a side (`side_view`), with elevations. From
    above, estimates by system, azimuths ``(talker,)`` in degrees and their style, are rays out to the walls.
    """
    low, high = _extent(scene, view)
    size = high - low
    edge = MUTED if scene.room_m else "none"  # no walls where the size is not known
    axes.add_patch(Rectangle((low[0], low[1]), *size, facecolor=SHADE, edgecolor=edge, linewidth=1.2))
    center, *points = (view @ p for p in (scene.array_center_m, *(s.position_m for s in scene.sources)))
    for point, look in zip(points, looks, strict=True):
        axes.plot(*zip(center, point, strict=True), color=look.color, linewidth=1.2)
        if estimates is None:
            end = center + max(1.0, _way_out(center, point - center, low, high)) * (point - center)
            axes.plot(*zip(point, end, strict=True), color=look.color, linewidth=0.9, linestyle=(0, (3, 3)))
    for n, (azimuths_deg, look) in enumerate((estimates or {}).values()):
        for talker, azimuth_deg in enumerate(azimuths_deg.tolist()):
            ray = (rotation_matrix(*scene.array_rotation_deg) @ direction_vector(azimuth_deg))[:2]
            end = center + (0.98 - 0.1 * n) * _way_out(center, ray, low, high) * ray
            axes.plot(*zip(center, end, strict=True), color=look.color, linestyle="--", linewidth=1.2)
            numbered(axes, end, talker, look)
    _frame(axes, scene, view, _AXIS * float(size.min()))
    axes.plot(*view @ scene.microphones_m(array.positions).T, ".", color=INK, markersize=2.5, zorder=4)
    for noise in scene.noises:
        if noise.position_m is not None:
            point = view @ noise.position_m
            axes.plot(*point, "X", color=LIGHT["slate"], markersize=8, zorder=4)
            _label(axes, point, (0.0, 11.0), "noise")
    for talker, (source, point, look) in enumerate(zip(scene.sources, points, looks, strict=True)):
        _path(axes, source, view, look)
        numbered(axes, point, talker, look)
    if not estimates:
        _angles(axes, scene, view)
    margin = _MARGIN * size.max()
    axes.set_aspect("equal")
    title = "From above, with azimuths" if view is ABOVE else "From the side, with elevations"
    axes.set(title=title.partition(",")[0] if estimates else title)
    turned = round(math.degrees(math.atan2(view[0, 1], view[0, 0])))
    along = {0: "x", 90: "y"}.get(turned, f"along {turned}° from +x")
    axes.set(xlabel=f"{along} (m)", ylabel=f"{'y' if view is ABOVE else 'z'} (m)")
    axes.set(xlim=(low[0] - margin, high[0] + margin), ylim=(low[1] - margin, high[1] + margin))


def side_view(scene: Scene) -> Array:
    """The view ``(2, 3)`` from the side from which talkers cover each other and the array the least.

    Its first row is horizontal; along x or y where that is nearly as good.
    """
    points = np.array([scene.array_center_m, *(s.position_m for s in scene.sources)])
    first, second = np.triu_indices(len(points), 1)
    angles = np.deg2rad([0.0, 90.0, *range(5, 90, 5), *range(95, 180, 5)])
    views = np.stack([[[c, s, 0.0], [0.0, 0.0, 1.0]] for c, s in zip(np.cos(angles), np.sin(angles), strict=True)])
    seen = views @ points.T
    apart = np.linalg.norm(seen[..., first] - seen[..., second], axis=1).min(axis=-1, initial=1e3)
    chosen: Array = views[np.argmax(apart >= _NEARLY * apart.max())]
    return chosen


def numbered(axes: Axes, point: Array, talker: int, look: Style) -> None:
    """Draw a talker's marker with its number, from 1, at a point ``(2,)``."""
    x, y = float(point[0]), float(point[1])
    middle = _TRIANGLES.get(look.marker)
    axes.plot(
        x, y, look.marker, color=look.color, markersize=12 if middle else 9, markeredgecolor=SHADE,
        markeredgewidth=0.8, zorder=4,
    )  # fmt: skip
    axes.annotate(
        str(talker + 1), (x, y), middle or (0.0, 0.0), textcoords="offset points", color=SURFACE, size=6.5,
        weight="bold", ha="center", va="center_baseline", zorder=5,
    )  # fmt: skip


def _array_panel(axes: Axes, array: MicrophoneArray, title: str, seen: tuple[int, int]) -> None:
    """The array along two of its axes, in centimeters."""
    center = 50 * (array.positions.max(axis=0) + array.positions.min(axis=0))
    reach = _ARRAY_ROOM * float(np.abs(100 * array.positions - center).max())
    middle = center[list(seen)]
    axes.plot(0.0, 0.0, "+", color=MUTED, markersize=9, zorder=2)
    _channels(axes, 100 * array.positions[:, seen], array, reach, 7.5 if array.microphones <= _MANY else 6.0)
    if seen == (0, 1):
        _sense_of_azimuth(axes, middle, reach)
        axes.plot([], [], "s", color=LIGHT["blue"], markersize=8, label=f"reference: {array.reference}")
        axes.legend(loc="upper left")
    axes.set_aspect("equal")
    axes.grid(True)
    axes.set(title=title, xlabel=f"{'xyz'[seen[0]]} (cm)", ylabel=f"{'xyz'[seen[1]]} (cm)")
    axes.set(xlim=(middle[0] - reach, middle[0] + reach), ylim=(middle[1] - reach, middle[1] + reach))


def _channels(axes: Axes, points: Array, array: MicrophoneArray, reach: float, size: float) -> None:
    """Numbers of the channels at points ``(mic, 2)``; those that would cover each other share a label."""
    left = list(range(array.microphones))
    while left:
        apart = np.linalg.norm(points[left] - points[left[0]], axis=-1)
        here = [c for c, distance in zip(left, apart, strict=True) if distance < _TOUCHING * 2 * reach]
        left = [c for c in left if c not in here]
        color = LIGHT["blue"] if array.reference in here else INK
        x, y = points[here].mean(axis=0).tolist()
        box = {"boxstyle": "round,pad=0.3", "facecolor": color, "edgecolor": "none"}
        axes.annotate(
            ",".join(map(str, here)), (x, y), color=SURFACE, size=size, weight="bold", ha="center",
            va="center", bbox=box, zorder=5,
        )  # fmt: skip


def _sense_of_azimuth(axes: Axes, middle: Array, reach: float) -> None:
    """Arrows from the middle, as of sound from afar: along +x, which is 0°, and counter-clockwise from it."""
    length = 0.94 * reach
    end = middle + [length, 0.0]
    arrow = {"arrowstyle": "-|>", "color": MUTED, "linewidth": 1.2, "mutation_scale": 12}
    axes.annotate("", end.tolist(), middle.tolist(), arrowprops=arrow, zorder=3)
    axes.annotate("0° = +x", end.tolist(), (0, -12), textcoords="offset points", ha="right", color=MUTED)
    turn = middle + 0.86 * length * direction_vector(np.linspace(8.0, 50.0, 30))[:, :2]
    axes.plot(*turn.T, color=MUTED, linewidth=1.2, zorder=3)
    axes.annotate("", turn[-1].tolist(), turn[-3].tolist(), arrowprops=arrow, zorder=3)
    axes.annotate("azimuth", (turn[-1] + [0.0, 0.03 * reach]).tolist(), color=MUTED, ha="center", va="bottom")


def _angles(axes: Axes, scene: Scene, view: Array) -> None:
    """From above, azimuths of the talkers away from the array; from a side, elevations above or below them.

    Elevations are left out where all talkers are level with the array.
    """
    above = view is ABOVE
    if not above and all(abs(source.elevation_deg) < _LEVEL_DEG for source in scene.sources):
        return
    outwards = [view @ (np.array(source.position_m) - np.array(scene.array_center_m)) for source in scene.sources]
    ranks = np.argsort(np.argsort([outward[0] for outward in outwards]))
    for source, outward, rank in zip(scene.sources, outwards, ranks, strict=True):
        x, y = (np.array([26.0, 15.0]) * outward / max(float(np.hypot(*outward)), 1e-6)).tolist()
        if not above:  # neighbors' labels at other heights
            x, y = 0.0, math.copysign(13.0 + 10.0 * (rank % 2), outward[1])
        text = f"{source.azimuth_deg if above else source.elevation_deg:.1f}°".replace("-", "−")
        _label(axes, view @ source.position_m, (x, y), text)


def _extent(scene: Scene, view: Array) -> tuple[Array, Array]:
    """Lower and upper corner ``(2,)`` of a drawing: of the room, or around everything where it is unknown."""
    if scene.room_m:
        seen = view @ (np.array([*np.ndindex(2, 2, 2)]) * scene.room_m).T
        return seen.min(axis=1), seen.max(axis=1)
    points = [scene.array_center_m, *(s.position_m for s in scene.sources)]
    points += [w.position_m for s in scene.sources for w in s.waypoints]
    points += [noise.position_m for noise in scene.noises if noise.position_m is not None]
    corners = np.array(points) @ view.T
    pad = 0.25 * float(np.ptp(points, axis=0).max()) or 1.0  # of the array alone
    return corners.min(axis=0) - pad, corners.max(axis=0) + pad


def _way_out(center: Array, direction: Array, low: Array, high: Array) -> float:
    """How many times a direction ``(2,)`` leads from the array to the edge of the drawing."""
    ways = np.where(direction > 0, high - center, low - center) / np.where(direction, direction, np.nan)
    return float(np.nanmin(ways)) if direction.any() else 1.0


def _path(axes: Axes, source: Source, view: Array, look: Style) -> None:
    """Where a moving talker goes, with an arrow at the end."""
    if not source.waypoints:
        return
    corners = np.array([w.position_m for w in source.waypoints]) @ view.T
    axes.plot(*corners.T, color=look.color, linewidth=2.2, zorder=3)
    before, end = corners[-2:].tolist()
    arrow = {"arrowstyle": "-|>", "color": look.color, "linewidth": 2.2, "mutation_scale": 14}
    axes.annotate("", end, before, zorder=3, arrowprops=arrow)


def _frame(axes: Axes, scene: Scene, view: Array, length: float) -> None:
    """The array's +x axis, its 0°; from the side, where the array is tilted, its +z axis too."""
    axis_x, _, axis_z = rotation_matrix(*scene.array_rotation_deg).T @ view.T
    center = view @ scene.array_center_m
    named = {"0°": axis_x}
    if view is not ABOVE:
        named = named | {"+z": axis_z} if any(scene.array_rotation_deg[1:]) else {}
    for name, axis in named.items():
        if np.linalg.norm(axis) > _MIN_AXIS:
            _arrow(axes, center, center + length * axis, name)


def _arrow(axes: Axes, start: Array, end: Array, name: str) -> None:
    arrow = {"arrowstyle": "->", "color": INK, "linewidth": 1.1}
    axes.annotate("", (end[0], end[1]), (start[0], start[1]), zorder=3.5, arrowprops=arrow)
    x, y = 9.0 * (end - start) / max(float(np.linalg.norm(end - start)), 1e-6)
    _label(axes, end, (x, y), name)


def _label(axes: Axes, point: Array, offset_points: tuple[float, float], text: str) -> None:
    box = {"boxstyle": "round,pad=0.1", "facecolor": SHADE, "edgecolor": "none", "alpha": 0.7}
    axes.annotate(
        text, (point[0], point[1]), offset_points, textcoords="offset points", ha="center", va="center",
        size=8, zorder=3.8, bbox=box,
    )  # fmt: skip
