"""Everything about one scene on a sheet: its room, who talks when and where, its responses, its sound."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array
from msdet.plots.room import array_view, room_view
from msdet.plots.scene import numbered, spectrogram, spectrogram_db
from msdet.plots.theme import INK, LIGHT, MUTED, WIDTH_IN, Style, drawing, styles
from msdet.scenes.scene import Scene, Source

_MAX_COLUMNS = 4

_BEFORE_S, _SHOWN_S = 0.003, 0.04

_FLOOR_DB = -70.0

_FIT_DB = (-5.0, -35.0)
"""Ends of the decay that the T30 is fitted to (ISO 3382-1)."""


class Decay(NamedTuple):
    """How a response decays.

    Attributes:
        level_db: Schroeder curve ``(tap,)``, 0 at the start.
        slope_db_s: of the line fitted to it; None where it does not reach -35 dB.
        start_db: where that line is at time 0.
    """

    level_db: Array
    slope_db_s: float | None
    start_db: float

    @property
    def t60_s(self) -> float | None:
        """Extrapolated from the T30."""
        return None if self.slope_db_s is None else -60.0 / self.slope_db_s


def measure_decay(response: Array, sample_rate: int) -> Decay:
    """Schroeder curve of a response ``(tap,)`` and the line through it from -5 to -35 dB."""
    energy = np.cumsum(np.square(response, dtype=np.float64)[::-1])[::-1]
    level_db = 10 * np.log10(np.maximum(energy / energy[0], 1e-12))
    fitted = np.flatnonzero((level_db < _FIT_DB[0]) & (level_db >= _FIT_DB[1]))
    if len(fitted) < 2 or level_db[-1] > _FIT_DB[1]:
        return Decay(level_db, None, 0.0)
    slope, start = np.polyfit(fitted / sample_rate, level_db[fitted], 1)
    return Decay(level_db, float(slope), float(start))


def scene_sheet(scene: Scene, array: MicrophoneArray, mixture: Array, responses: Array | None) -> Figure:
    """The sheet of a scene.

    Args:
        scene: what is shown.
        array: that recorded it.
        mixture: ``(time,)`` at the reference microphone.
        responses: ``(talker, tap)`` at the reference microphone, of moving talkers where they start; None
            where nobody knows them.
    """
    by_name = styles(str(talker) for talker in range(len(scene.sources)))
    looks = [Style(by_name[str(talker)].color, "o") for talker in range(len(scene.sources))]
    columns = min(len(scene.sources), _MAX_COLUMNS)
    groups = math.ceil(len(scene.sources) / columns) if responses is not None else 0
    heights = [4.3, 2.0, 1.5, *([1.5, 1.9] * groups)]
    with drawing():
        figure = Figure((WIDTH_IN, 0.5 + sum(heights)), layout="constrained")
        figure.suptitle(_title(scene), x=0.01, ha="left", size=11, weight="bold")
        rows = figure.add_gridspec(len(heights), 1, height_ratios=heights)
        top = rows[0].subgridspec(2, 2, width_ratios=[1.5, 1.0], height_ratios=[1.0, 1.5])
        placed = scene if scene.located else dataclasses.replace(scene, sources=())
        room_view(figure.add_subplot(top[:, 0]), placed, array, looks[: len(placed.sources)], upright=False)
        room_view(figure.add_subplot(top[0, 1]), placed, array, looks[: len(placed.sources)], upright=True)
        array_view(figure.add_subplot(top[1, 1]), scene, array)
        panels = [figure.add_subplot(rows[1]), figure.add_subplot(rows[2])]
        image = _sound(panels[0], scene, mixture)
        _directions(panels[1], scene, looks)
        figure.colorbar(
            image, ax=panels, pad=0.01, aspect=12, shrink=0.5, anchor=(0.0, 1.0), label="dB re full scale"
        )
        cells = [rows[row].subgridspec(1, columns) for row in range(3, len(heights))]
        for talker, response in enumerate(() if responses is None else responses):
            group, column = divmod(talker, columns)
            start, decay = (figure.add_subplot(cells[2 * group + part][column]) for part in (0, 1))
            _response(start, scene, array, talker, response, looks[talker])
            _decay(decay, scene, talker, response, looks[talker])
        if responses is not None:
            handles, labels = decay.get_legend_handles_labels()
            handles[1] = Line2D([], [], color=INK, linewidth=2.0)  # of no talker's color
            figure.legend(handles, labels, loc="outside lower left", ncols=4)
    return figure


def _title(scene: Scene) -> str:
    facts = []
    if scene.room_m:
        facts.append(" x ".join(f"{v:.2f}" for v in scene.room_m) + " m")
    if scene.t60_target_s is not None:
        facts.append(f"T60 asked for {scene.t60_target_s:.3f} s")
    if scene.t60_measured_s is not None:
        facts.append(f"T60 measured {scene.t60_measured_s:.3f} s")
    return ": ".join([scene.id, ", ".join(facts)] if facts else [scene.id])


def _sound(axes: Axes, scene: Scene, mixture: Array) -> Any:
    level_db = spectrogram_db(mixture, scene.sample_rate)
    top_db = 5.0 * math.ceil(float(np.quantile(level_db, 0.999)) / 5.0)
    return spectrogram(axes, level_db, scene, "Mixture, reference microphone", top_db)


def _directions(axes: Axes, scene: Scene, looks: list[Style]) -> None:
    """Azimuths over time: thick while the talker talks; where they are not known, a level for each talker."""
    for talker, (source, look) in enumerate(zip(scene.sources, looks, strict=True)):
        times_s, azimuths_deg = _azimuths(source, scene.duration_s)
        if not scene.located:
            azimuths_deg = np.full(times_s.size, 360.0 * (talker + 1) / (len(looks) + 1))
        axes.plot(times_s, azimuths_deg, color=look.color, linewidth=0.8, alpha=0.6)
        talks = (times_s >= source.onset_s) & (times_s <= source.onset_s + source.duration_s)
        axes.plot(times_s[talks], azimuths_deg[talks], color=look.color, linewidth=4.0, solid_capstyle="butt")
        place_s = source.onset_s + source.duration_s * (talker + 1) / (len(looks) + 1)
        place = int(np.argmin(np.abs(times_s - place_s)))
        numbered(axes, np.array([times_s[place], azimuths_deg[place]]), talker, look)
    axes.set(title="Who talks when, and from where", xlabel="Time (s)", ylabel="Azimuth (°)")
    axes.set(xlim=(0.0, scene.duration_s), ylim=(-5.0, 365.0), yticks=range(0, 361, 90))
    if not scene.located:
        axes.set(title="Who talks when; directions are not known", ylabel="", yticks=[])
    axes.grid(True)


def _azimuths(source: Source, duration_s: float) -> tuple[Array, Array]:
    """Times and azimuths ``(time,)`` of a talker; not a number where it passes 0°."""
    times_s = np.linspace(0.0, duration_s, 1000)
    if not source.track:
        return times_s, np.full(times_s.size, source.azimuth_deg)
    known_s = [direction.time_s for direction in source.track]
    unwrapped = np.unwrap([direction.azimuth_deg for direction in source.track], period=360.0)
    azimuths = np.interp(times_s, known_s, unwrapped) % 360.0
    azimuths[1:][np.abs(np.diff(azimuths)) > 180.0] = np.nan
    return times_s, azimuths


def _response(
    axes: Axes, scene: Scene, array: MicrophoneArray, talker: int, response: Array, look: Style
) -> None:
    """The start of a response, and, dashed, when its direct path is due by geometry."""
    source = scene.sources[talker]
    microphone = scene.microphones_m(array.positions)[array.reference]
    due_s = float(np.linalg.norm(np.array(source.position_m) - microphone)) / scene.speed_of_sound
    times_ms = 1000.0 * np.arange(response.size) / scene.sample_rate
    axes.axvline(1000.0 * due_s, color=MUTED, linewidth=1.0, linestyle="--")
    axes.plot(times_ms, response / np.abs(response).max(), color=look.color, linewidth=0.9)
    start_ms = 1000.0 * max(0.0, due_s - _BEFORE_S)
    where = " (start)" if source.waypoints else ""
    axes.set_title(f"Talker {talker + 1}{where}: direct path at {1000.0 * due_s:.2f} ms", size=8)
    axes.set(xlabel="Time since emission (ms)", xlim=(start_ms, start_ms + 1000.0 * _SHOWN_S))
    axes.set_ylabel("Response" if talker % _MAX_COLUMNS == 0 else "")


def _decay(axes: Axes, scene: Scene, talker: int, response: Array, look: Style) -> None:
    """A response in dB, its Schroeder curve, the line of its T30, and the decay asked for."""
    decay = measure_decay(response, scene.sample_rate)
    times_s = np.arange(response.size) / scene.sample_rate
    with np.errstate(divide="ignore"):
        power_db = 20.0 * np.log10(np.abs(response) / np.abs(response).max())
    axes.plot(times_s, power_db, color=LIGHT["slate"], linewidth=0.4, alpha=0.6, label="response")
    axes.plot(times_s, decay.level_db, color=look.color, linewidth=2.0, label="Schroeder curve")
    title = f"Talker {talker + 1}" + (": anechoic" if scene.t60_target_s == 0 else "")
    end_s = times_s[-1]
    if decay.slope_db_s is not None and decay.t60_s is not None and scene.t60_target_s != 0:
        line_s = np.array([0.0, (_FLOOR_DB - decay.start_db) / decay.slope_db_s])
        axes.plot(
            line_s,
            decay.start_db + decay.slope_db_s * line_s,
            "--",
            color=INK,
            linewidth=1.1,
            label="line of the T30",
        )
        title += f": T60 {decay.t60_s:.3f} s"
        if scene.t60_target_s:
            first_s = float(times_s[np.argmax(decay.level_db < _FIT_DB[0])])
            asked_s = np.array([first_s, first_s + scene.t60_target_s * (_FIT_DB[0] - _FLOOR_DB) / 60.0])
            axes.plot(asked_s, [_FIT_DB[0], _FLOOR_DB], ":", color=INK, linewidth=1.6, label="asked for")
        end_s = max(end_s, float(line_s[1]))
    axes.grid(True)
    axes.set_title(title, size=8)
    axes.set(xlabel="Time since emission (s)", xlim=(0.0, end_s), ylim=(_FLOOR_DB, 3.0))
    axes.set_ylabel("Level (dB)" if talker % _MAX_COLUMNS == 0 else "")
