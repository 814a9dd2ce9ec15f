"""Figures of one scene: a sheet of everything known of it, and what systems made of it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array
from msdet.plots.geometry import array_view, numbered, room_view, side_view
from msdet.plots.theme import INK, LIGHT, MUTED, WIDTH_IN, Style, drawing, styles
from msdet.scenes.scene import Scene, size_text
from msdet.scoring.doa_scores import moves, true_track
from msdet.scoring.submission import DoaEstimates, Track

_RANGE_DB, _COLORS = 60.0, 64  # steps of about 1 dB, which compress well
_WINDOW_S, _MAX_FRAMES = 0.032, 800
_MAX_COLUMNS = 4
_BEFORE_S, _SHOWN_S = 0.003, 0.04
_FLOOR_DB = -70.0
_FIT_DB = (-5.0, -35.0)  # ends of the decay that the T30 is fitted to (ISO 3382-1)


class Decay(NamedTuple):
    """Schroeder curve ``(tap,)`` of a response, 0 at the start, and the line fitted to it, if it reaches -35 dB."""

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


def spectrogram_db(signal: Array, sample_rate: int) -> Array:
    """Level ``(freq, frame)`` in dB; a full-scale sine is at 0."""
    size = 2 ** round(math.log2(_WINDOW_S * sample_rate))
    hop = max(size // 4, math.ceil(signal.size / _MAX_FRAMES))
    padded = np.pad(np.asarray(signal, dtype=np.float64), size // 2)
    window = np.hanning(size + 1)[:-1]
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop] * window
    return np.asarray(20.0 * np.log10(np.abs(np.fft.rfft(frames)) / (window.sum() / 2) + 1e-8).T)


def top_level_db(levels: Sequence[Array]) -> float:
    """A round level that hardly any bin of some spectrograms is above: the top of their color scale."""
    return 5.0 * math.ceil(max(float(np.quantile(level, 0.999)) for level in levels) / 5.0)


def draw_spectrogram(axes: Axes, level_db: Array, seconds: float, sample_rate: int, top_db: float) -> Any:
    """Draw levels ``(freq, frame)`` over so many seconds, 60 dB down from `top_db`; returns the image."""
    axes.set(xlabel="Time (s)", ylabel="Frequency (kHz)")
    return axes.imshow(
        level_db, origin="lower", aspect="auto", interpolation="nearest",
        extent=(0.0, seconds, 0.0, sample_rate / 2000.0),
        cmap=matplotlib.colormaps["magma"].resampled(_COLORS), vmin=top_db - _RANGE_DB, vmax=top_db,
    )  # fmt: skip


def azimuth_axes(axes: Axes, title: str, seconds: float) -> None:
    """Prepare axes for azimuths over time."""
    axes.set(title=title, xlabel="Time (s)", ylabel="Azimuth (°)")
    axes.set(xlim=(0.0, seconds), ylim=(-5.0, 365.0), yticks=range(0, 361, 90))
    axes.grid(True)


def cut_at_zero(azimuths_deg: Array) -> Array:
    """Azimuths ``(time,)`` in [0, 360), not a number where they pass 0°, so that no line leaps across."""
    azimuths = np.mod(azimuths_deg, 360.0)
    azimuths[1:][np.abs(np.diff(azimuths)) > 180.0] = np.nan
    return azimuths


def estimates_figure(
    scene: Scene,
    array: MicrophoneArray,
    mixture: Array,
    signals: dict[str, Array],
    directions: dict[str, DoaEstimates],
    looks: dict[str, Style],
) -> Figure:
    """Spectrograms of a scene's mixture, references and estimates, and a plan of its room.

    All spectrograms share their color limits, set by the mixture ``(time,)`` and the first of the signals: those are,
    by name, ``(talker, time)``, the references first, then estimates. Where talkers move or a system estimates
    directions over time, directions are drawn over time.
    """
    levels = {name: [spectrogram_db(x, scene.sample_rate) for x in of_talkers] for name, of_talkers in signals.items()}
    mixed = spectrogram_db(mixture, scene.sample_rate)
    top_db = top_level_db([mixed, *next(iter(levels.values()))])
    lines = math.ceil(len(levels) / _MAX_COLUMNS)
    columns = max(2, math.ceil(len(levels) / lines))
    over_time = moves(scene) or any(d.track for d in directions.values())
    heights = [1.5] + [1.0] * lines * len(scene.sources) + [1.2] * over_time
    with drawing():
        figure = Figure((WIDTH_IN, 1.2 + 1.75 * sum(heights[1:]) + 1.75), layout="constrained")
        grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
        panels = [figure.add_subplot(grid[0, 0])]
        image = draw_spectrogram(panels[0], mixed, scene.duration_s, scene.sample_rate, top_db)
        panels[0].set_title("Mixture")
        _plan(figure.add_subplot(grid[0, 1:]), scene, array, directions, looks)
        for talker in range(len(scene.sources)):
            for c, (name, of_talkers) in enumerate(levels.items()):
                cell = grid[1 + talker * lines + c // columns, c % columns]
                panels.append(figure.add_subplot(cell))
                draw_spectrogram(panels[-1], of_talkers[talker], scene.duration_s, scene.sample_rate, top_db)
                panels[-1].set_title(f"{name}, talker {talker + 1}")
        if over_time:
            _directions_over_time(figure.add_subplot(grid[-1, :]), scene, directions, looks)
        bar = figure.colorbar(
            image, ax=panels[1:], location="bottom", aspect=70, pad=0.02, label="Level (dB re full scale)"
        )
        if bar.solids is not None:
            bar.solids.set_rasterized(True)
    return figure


def scene_sheet(scene: Scene, array: MicrophoneArray, mixture: Array, responses: Array | None) -> Figure:
    """A scene's room, who talks when and where, and at the reference microphone its responses and the mixture.

    Responses are ``(talker, tap)``, of moving talkers where they start; None where they are not known.
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
        top = rows[0].subgridspec(2, 2, width_ratios=[1.15, 1.0], height_ratios=[1.0, 1.1])
        placed = scene if scene.located else dataclasses.replace(scene, sources=())
        room_view(figure.add_subplot(top[:, 0]), placed, array, looks[: len(placed.sources)])
        room_view(figure.add_subplot(top[0, 1]), placed, array, looks[: len(placed.sources)], side_view(placed))
        array_view(figure.add_subplot(top[1, 1]), scene, array)
        panels = [figure.add_subplot(rows[1]), figure.add_subplot(rows[2])]
        level_db = spectrogram_db(mixture, scene.sample_rate)
        top_db = top_level_db([level_db])
        image = draw_spectrogram(panels[0], level_db, scene.duration_s, scene.sample_rate, top_db)
        panels[0].set_title("Mixture, reference microphone")
        _turns(panels[1], scene, looks)
        figure.colorbar(image, ax=panels, pad=0.01, aspect=12, shrink=0.5, anchor=(0.0, 1.0), label="dB re full scale")
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


def _plan(
    axes: Axes, scene: Scene, array: MicrophoneArray, directions: dict[str, DoaEstimates], looks: dict[str, Style]
) -> None:
    """The room from above with all systems' directions, and a legend beside it."""
    estimates = {name: (found.azimuth_deg, looks[name]) for name, found in directions.items()}
    room_view(axes, scene, array, [Style(INK, "o")] * len(scene.sources), estimates=estimates)
    axes.set_aspect("equal", anchor="W")
    axes.plot([], [], "-o", color=INK, label="talker, true direction")
    for name, (_, look) in estimates.items():
        axes.plot([], [], color=look.color, marker=look.marker, linestyle="--", label=f"{name}, estimate")
    axes.plot([], [], ".", color=INK, markersize=2.5, label=f"array ({array.microphones} microphones)")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def _directions_over_time(
    axes: Axes, scene: Scene, directions: dict[str, DoaEstimates], looks: dict[str, Style]
) -> None:
    """True and estimated azimuths of all talkers; an estimate without a track is a level line."""
    truth = true_track(scene)
    drawn = {"true direction": (Track(truth.time_s, truth.azimuth_deg), Style(INK, ""))}
    for name, found in directions.items():
        level = np.repeat(found.azimuth_deg[:, None], 2, axis=1)
        drawn[name] = (found.track or Track(np.array([0.0, scene.duration_s]), level), looks[name])
    for name, (track, look) in drawn.items():
        for talker, azimuths_deg in enumerate(track.azimuth_deg):
            axes.plot(
                track.time_s, cut_at_zero(azimuths_deg), color=look.color, linestyle=look.dashes,
                linewidth=1.8, label=name if talker == 0 else None,
            )  # fmt: skip
    azimuth_axes(axes, "Directions over time", scene.duration_s)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def _title(scene: Scene) -> str:
    facts = [size_text(scene.room_m)] if scene.room_m else []
    times_s = {"target": scene.t60_target_s, "measured": scene.t60_measured_s}
    facts += [f"T60 {name} {time_s:.3f} s" for name, time_s in times_s.items() if time_s is not None]
    return ": ".join([scene.id, ", ".join(facts)] if facts else [scene.id])


def _turns(axes: Axes, scene: Scene, looks: list[Style]) -> None:
    """Azimuths over time: thick while the talker talks; where they are not known, a level for each talker."""
    times_s = np.linspace(0.0, scene.duration_s, 1000)
    for talker, (source, look) in enumerate(zip(scene.sources, looks, strict=True)):
        level = source.azimuth_deg if scene.located else 360.0 * (talker + 1) / (len(looks) + 1)
        azimuths_deg = np.full(times_s.size, level)
        if source.track:
            unwrapped = np.unwrap([direction.azimuth_deg for direction in source.track], period=360.0)
            known_s = [direction.time_s for direction in source.track]
            azimuths_deg = cut_at_zero(np.interp(times_s, known_s, unwrapped))
        axes.plot(times_s, azimuths_deg, color=look.color, linewidth=0.8, alpha=0.6)
        talks = (times_s >= source.onset_s) & (times_s <= source.onset_s + source.duration_s)
        axes.plot(times_s[talks], azimuths_deg[talks], color=look.color, linewidth=4.0, solid_capstyle="butt")
        place_s = source.onset_s + source.duration_s * (talker + 1) / (len(looks) + 1)
        place = int(np.argmin(np.abs(times_s - place_s)))
        numbered(axes, np.array([times_s[place], azimuths_deg[place]]), talker, look)
    azimuth_axes(axes, "Who talks when, and from where", scene.duration_s)
    if not scene.located:
        axes.set(title="Who talks when; directions are not known", ylabel="", yticks=[])


def _response(axes: Axes, scene: Scene, array: MicrophoneArray, talker: int, response: Array, look: Style) -> None:
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
    """A response in dB, its Schroeder curve, the line of its T30, and the decay of the target T60."""
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
        line_db = decay.start_db + decay.slope_db_s * line_s
        axes.plot(line_s, line_db, "--", color=INK, linewidth=1.1, label="line of the T30")
        title += f": T60 {decay.t60_s:.3f} s"
        if scene.t60_target_s:
            first_s = float(times_s[np.argmax(decay.level_db < _FIT_DB[0])])
            target_s = np.array([first_s, first_s + scene.t60_target_s * (_FIT_DB[0] - _FLOOR_DB) / 60.0])
            axes.plot(target_s, [_FIT_DB[0], _FLOOR_DB], ":", color=INK, linewidth=1.6, label="target T60")
        end_s = max(end_s, float(line_s[1]))
    axes.grid(True)
    axes.set_title(title, size=8)
    axes.set(xlabel="Time since emission (s)", xlim=(0.0, end_s), ylim=(_FLOOR_DB, 3.0))
    axes.set_ylabel("Level (dB)" if talker % _MAX_COLUMNS == 0 else "")
