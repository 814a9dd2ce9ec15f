"""The figure of an example scene: spectrograms of everything that can be heard, and a plan of the room."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array, angular_distance_deg, direction_vector, rotation_matrix
from msdet.plots.theme import INK, MUTED, SHADE, SURFACE, WIDTH_IN, Style, drawing
from msdet.report.examples import SceneExample
from msdet.scenes.scene import Scene
from msdet.scoring.doa_scores import moves, true_track
from msdet.scoring.submission import Track

MAX_SYSTEMS = 7
"""As many as are drawn of a scene: two lines of spectrograms a talker, with the reference."""

_RANGE_DB = 60.0

_COLORS = 64  # steps of about 1 dB, which compress well

_WINDOW_S = 0.032

_MAX_FRAMES = 800

_MAX_COLUMNS = 4

_TRIANGLES = {"^": (0.0, -1.5), "v": (0.0, 1.5), "<": (1.5, 0.0), ">": (-1.5, 0.0)}
"""Markers with room for a number only away from their middle: where, in points."""


def example_scene(example: SceneExample, array: MicrophoneArray, looks: dict[str, Style]) -> Figure:
    """Spectrograms of a scene's mixture, references and estimates, and a plan of its room.

    All spectrograms share their color limits; estimates are at the level of their references. Where talkers
    move or a system gives directions over time, they are drawn over time. Of many systems the first are
    drawn.

    Args:
        example: the scene.
        array: that recorded it.
        looks: the systems' styles.
    """
    outputs = dict(itertools.islice(example.outputs.items(), MAX_SYSTEMS))
    example = dataclasses.replace(example, outputs=outputs)
    scene, heard = example.scene, example.heard
    levels = [spectrogram_db(x, scene.sample_rate) for x in (example.mixture, *example.references)]
    top = 5.0 * math.ceil(float(np.quantile(levels, 0.999)) / 5.0)
    columns = min(_MAX_COLUMNS, max(2, 1 + len(heard)))
    lines = math.ceil((1 + len(heard)) / columns)
    over_time = moves(scene) or any(o.directions and o.directions.track for o in example.outputs.values())
    heights = [1.5] + [1.0] * lines * len(levels[1:]) + [1.2] * over_time
    with drawing():
        figure = Figure((WIDTH_IN, 1.2 + 1.75 * sum(heights[1:]) + 1.75), layout="constrained")
        grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
        panels = [figure.add_subplot(grid[0, 0])]
        image = spectrogram(panels[0], levels[0], scene, "Mixture", top)
        room_plan(figure.add_subplot(grid[0, 1:]), example, array, looks)
        for t, level in enumerate(levels[1:]):
            shown = {"Reference": level}
            shown |= {name: spectrogram_db(x[t], scene.sample_rate) for name, x in heard.items()}
            for c, (name, values) in enumerate(shown.items()):
                panels.append(figure.add_subplot(grid[1 + t * lines + c // columns, c % columns]))
                spectrogram(panels[-1], values, scene, f"{name}, talker {t + 1}", top)
        if over_time:
            _azimuths_over_time(figure.add_subplot(grid[-1, :]), example, looks)
        bar = figure.colorbar(
            image, ax=panels[1:], location="bottom", aspect=70, pad=0.02, label="Level (dB re full scale)"
        )
        if bar.solids is not None:
            bar.solids.set_rasterized(True)
    return figure


def spectrogram(axes: Axes, level_db: Array, scene: Scene, title: str, top_db: float) -> Any:
    """Draw levels ``(freq, frame)`` over a scene's time, down from `top_db`; returns the image."""
    image = axes.imshow(
        level_db, origin="lower", aspect="auto", interpolation="nearest",
        extent=(0.0, scene.duration_s, 0.0, scene.sample_rate / 2000.0),
        cmap=matplotlib.colormaps["magma"].resampled(_COLORS), vmin=top_db - _RANGE_DB, vmax=top_db,
    )  # fmt: skip
    axes.set(title=title, xlabel="Time (s)", ylabel="Frequency (kHz)")
    return image


def spectrogram_db(signal: Array, sample_rate: int) -> Array:
    """Level ``(freq, frame)`` in dB; a full-scale sine is at 0."""
    size = 2 ** round(math.log2(_WINDOW_S * sample_rate))
    hop = max(size // 4, math.ceil(signal.size / _MAX_FRAMES))
    padded = np.pad(np.asarray(signal, dtype=np.float64), size // 2)
    window = np.hanning(size + 1)[:-1]
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop] * window
    level: Array = 20.0 * np.log10(np.abs(np.fft.rfft(frames)) / (window.sum() / 2) + 1e-8).T
    return level


def room_plan(axes: Axes, example: SceneExample, array: MicrophoneArray, looks: dict[str, Style]) -> None:
    """The room from above: array and its 0°, talkers, true directions, and estimates out to the walls."""
    scene = example.scene
    low, high = _floor(scene)
    width, depth = high - low
    center = np.array(scene.array_center_m[:2])
    edge = MUTED if scene.room_m else "none"
    axes.add_patch(Rectangle((low[0], low[1]), width, depth, facecolor=SHADE, edgecolor=edge, linewidth=1.2))
    _zero_azimuth(axes, scene)
    located = {n: o.directions.azimuth_deg for n, o in example.outputs.items() if o.directions is not None}
    shares = np.linspace(0.98, 0.98 - 0.1 * len(located), len(located), endpoint=False)
    for (name, azimuths_deg), share in zip(located.items(), shares, strict=True):
        for t, azimuth_deg in enumerate(azimuths_deg):
            end = _towards_wall(scene, float(azimuth_deg), float(share))
            axes.plot(*zip(center, end, strict=True), color=looks[name].color, linestyle="--", linewidth=1.2)
            numbered(axes, end, t, looks[name])
    for t, source in enumerate(scene.sources):
        point = np.array(source.position_m[:2])
        axes.plot(*zip(center, point, strict=True), color=INK, linewidth=1.4)
        if source.waypoints:
            path = np.array([waypoint.position_m[:2] for waypoint in source.waypoints])
            axes.plot(*path.T, color=INK, linewidth=2.4)
        numbered(axes, point, t, Style(INK, "o"))
    microphones = scene.microphones_m(array.positions)
    axes.plot(microphones[:, 0], microphones[:, 1], ".", color=INK, markersize=2.5)
    axes.set_aspect("equal", anchor="W")
    axes.set(title="Room from above", xlabel="x (m)", ylabel="y (m)")
    margin = 0.02 * (high - low)
    axes.set(xlim=(low[0] - margin[0], high[0] + margin[0]), ylim=(low[1] - margin[1], high[1] + margin[1]))
    drawn = {"talker, true direction": Style(INK, "o")}
    drawn |= {f"{name}, estimate": looks[name] for name in located}
    handles = [
        Line2D([], [], color=s.color, marker=s.marker, linestyle="-" if s.color == INK else "--")
        for s in drawn.values()
    ]
    handles.append(Line2D([], [], color=INK, marker=".", markersize=2.5, linestyle=""))
    labels = [*drawn, f"array ({array.microphones} microphones)"]
    axes.legend(handles, labels, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _azimuths_over_time(axes: Axes, example: SceneExample, looks: dict[str, Style]) -> None:
    """True and estimated azimuths of all talkers; an estimate without a track is a level line."""
    truth = true_track(example.scene)
    end_s = example.scene.duration_s
    drawn = {"true direction": (Track(truth.time_s, truth.azimuth_deg), Style(INK, ""))}
    for name, output in example.outputs.items():
        if output.directions is not None:
            found = output.directions
            standing = Track(np.array([0.0]), found.azimuth_deg[:, None])
            drawn[name] = (found.track or standing, looks[name])
    for name, (track, look) in drawn.items():
        level = track.time_s.size == 1
        times_s = np.array([0.0, end_s]) if level else track.time_s
        for talker, azimuths_deg in enumerate(track.azimuth_deg):
            values = np.repeat(azimuths_deg, 2) if level else azimuths_deg.copy()
            values = np.mod(values, 360.0)
            values[1:][np.abs(np.diff(values)) > 180.0] = np.nan  # where it passes 0°
            axes.plot(
                times_s, values, color=look.color, linestyle=look.dashes, linewidth=1.8,
                label=name if talker == 0 else None,
            )  # fmt: skip
    axes.set(title="Directions over time", xlabel="Time (s)", ylabel="Azimuth (°)")
    axes.set(xlim=(0.0, end_s), ylim=(-5.0, 365.0), yticks=range(0, 361, 90))
    axes.grid(True)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def _floor(scene: Scene) -> tuple[Array, Array]:
    """Lower and upper corner ``(2,)`` of the floor plan; around the talkers where the room is not known."""
    if scene.room_m:
        return np.zeros(2), np.array(scene.room_m[:2])
    reach = 1.3 * max(source.distance_m for source in scene.sources)
    center = np.array(scene.array_center_m[:2])
    return center - reach, center + reach


def _zero_azimuth(axes: Axes, scene: Scene) -> None:
    """An arrow along the array's +x axis, its label on the side where the nearest talker is not."""
    x, y, _ = scene.array_center_m
    along, across = rotation_matrix(*scene.array_rotation_deg)[:2, :2].T
    low, high = _floor(scene)
    tip = 0.13 * (high - low).min() * along + (x, y)
    nearest = min(scene.azimuths_deg, key=lambda azimuth_deg: float(angular_distance_deg(azimuth_deg, 0.0)))
    offset = -8.0 * across if nearest < 180.0 else 8.0 * across
    axes.annotate(
        "", (tip[0], tip[1]), (x, y), arrowprops={"arrowstyle": "->", "color": INK, "linewidth": 1.0}
    )
    axes.annotate(
        "0°", (tip[0], tip[1]), (offset[0], offset[1]), textcoords="offset points", ha="center", va="center",
        size=8,
    )  # fmt: skip


def _towards_wall(scene: Scene, azimuth_deg: float, share: float) -> Array:
    """The point ``(2,)`` in the room at a share of the way from the array to the wall in a direction."""
    direction = (rotation_matrix(*scene.array_rotation_deg) @ direction_vector(azimuth_deg))[:2]
    center = np.array(scene.array_center_m[:2])
    ways = [
        ((last if step > 0.0 else first) - start) / step
        for start, first, last, step in zip(center, *_floor(scene), direction, strict=True)
        if abs(step) > 1e-9
    ]
    point: Array = center + share * min(ways) * direction
    return point


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
