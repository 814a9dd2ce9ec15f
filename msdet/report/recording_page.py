"""A recording to look at and listen to: what `msdet separate` found in it, as one page that opens offline."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from msdet.conventions import Array
from msdet.io import audio
from msdet.plots.scene import spectrogram_db
from msdet.plots.theme import LIGHT, MUTED, WIDTH_IN, Style, drawing, styles
from msdet.report import tables
from msdet.report.document import document, figure_element

MAX_EXCERPT_S = 90.0
"""Of a recording, what can be heard on the page, and whose spectrogram is drawn."""

_COLUMNS = 1200

_RANGE_DB, _COLORS = 60.0, 64

_PEAK = 0.9

_PIECE_S = 4.0


@dataclass(frozen=True)
class Overview:
    """A signal of any length, as much of it as a page shows.

    Attributes:
        low: smallest sample ``(column,)`` over its time.
        high: largest.
        excerpt: its beginning ``(time,)``.
        sample_rate: of the excerpt.
        seconds: length of all of it.
    """

    low: Array
    high: Array
    excerpt: Array
    sample_rate: int
    seconds: float


def overview(pieces: Iterable[Array], samples: int, sample_rate: int) -> Overview:
    """Look through a signal that comes in pieces ``(time,)``, of so many samples in all."""
    low, high = np.zeros(_COLUMNS), np.zeros(_COLUMNS)
    kept: list[Array] = []
    excerpt, done = round(MAX_EXCERPT_S * sample_rate), 0
    for piece in pieces:
        columns = (done + np.arange(piece.size)) * _COLUMNS // max(samples, 1)
        columns = np.minimum(columns, _COLUMNS - 1)
        np.minimum.at(low, columns, piece)
        np.maximum.at(high, columns, piece)
        if done < excerpt:
            kept.append(piece[: excerpt - done])
        done += piece.size
    return Overview(low, high, np.concatenate(kept), sample_rate, samples / sample_rate)


def voice_overview(path: Path) -> Overview:
    """The overview of a voice's file."""
    header = audio.info(path)

    def voice() -> Iterator[Array]:
        for piece in audio.pieces(path, round(_PIECE_S * header.sample_rate)):
            yield piece[0]

    return overview(voice(), header.frames, header.sample_rate)


def recording_page(heading: str, described: dict[str, Any], mixture: Overview, voices: list[Overview]) -> str:
    """The page of a recording.

    Args:
        heading: what it is called.
        described: the content of ``doa.json``.
        mixture: at the reference microphone.
        voices: of the talkers in their order; none of a system that gives directions alone.
    """
    talkers = described["talkers"]
    by_name = styles(map(str, range(len(talkers))))
    looks = [by_name[str(n)] for n in range(len(talkers))]
    seconds = f"{mixture.seconds:.1f} s"
    about = (
        f"{len(talkers)} talker{'s' * (len(talkers) != 1)} in {seconds}, found by {described['separated_by']}"
    )
    excerpt = mixture.seconds > MAX_EXCERPT_S
    cut = f" The first {MAX_EXCERPT_S:.0f} s; the files beside this page hold all." if excerpt else ""
    names = ["Mixture", *(f"Talker {n + 1}" for n in range(len(voices)))]
    signals = dict(zip(names, [mixture, *voices], strict=True))
    colors = [LIGHT["slate"], *(look.color for look in looks)]
    warnings = "".join(f"<li>{html.escape(w)}</li>" for w in described["warnings"])
    listen = f'<ul class="notes">{warnings}</ul>' if warnings else ""
    listen += f'<p class="note">All are played with one gain.{cut}</p>' + _players(signals, talkers)
    sound = figure_element(
        _sound(signals, colors),
        1,
        f"Waveforms and spectrograms of {', '.join(names)}",
        f"Waveforms of the whole recording, and spectrograms.{cut}",
    )
    sections = {"listen": ("Listen", listen), "sound": ("Waveforms and spectrograms", sound)}
    if "track" in described:
        figure = figure_element(
            _directions(described, mixture.seconds, looks),
            2,
            "Azimuth over time, and seen from above",
            "Thick where the talker speaks. Azimuth is in the array's frame: 0° on its +x axis, "
            "counter-clockwise seen from above. In the polar view, time goes outwards.",
        )
        sections["directions"] = ("Directions", figure)
    array = described["array"]["name"]
    return document(f"{heading}: voices and directions", heading, about, sections, f"Array {array}")


def _players(signals: dict[str, Overview], talkers: list[dict[str, Any]]) -> str:
    peak = max((float(np.abs(s.excerpt).max(initial=0.0)) for s in signals.values()), default=0.0)
    gain = _PEAK / peak if peak > 0.0 else 1.0
    head = "".join(tables.column(name, kind="text") for name in ("Signal", "Sound", "Azimuth", "Speaks"))
    rows = []
    for n in range(max(len(signals), 1 + len(talkers))):
        name = "Mixture" if n == 0 else f"Talker {n}"
        cells = [_player(name, signals[name], gain) if name in signals else ""]
        facts = talkers[n - 1] if n else {}
        azimuth_deg, confidence = facts.get("azimuth_deg"), facts.get("confidence")
        shown = "" if azimuth_deg is None else f"{azimuth_deg:.1f}°"
        cells.append(shown + ("" if confidence is None else f"<small>confidence {confidence:.2f}</small>"))
        cells.append(f"{facts['active_s']:.1f} s" if facts else "")
        if "file" in facts:
            file = html.escape(facts["file"])
            name = f'<a href="{file}">{name}</a>'
        body = "".join(f"<td>{cell}</td>" for cell in cells)
        rows.append(f'<tr><th scope="row" class="text">{name}</th>{body}</tr>')
    return tables.table("Voices", head, rows, "players")


def _player(name: str, signal: Overview, gain: float) -> str:
    content, kind = audio.clip(gain * signal.excerpt, signal.sample_rate)
    source = f"data:{kind};base64,{base64.b64encode(content).decode()}"
    return f'<audio controls preload="metadata" aria-label="{html.escape(name)}" src="{source}"></audio>'


def _sound(signals: dict[str, Overview], colors: list[str]) -> Figure:
    """A row a signal: its waveform beside its spectrogram, each kind to one scale."""
    levels = [spectrogram_db(s.excerpt, s.sample_rate) for s in signals.values()]
    top_db = 5.0 * math.ceil(max(float(np.quantile(level, 0.999)) for level in levels) / 5.0)
    limit = 1.05 * max(max(float(-s.low.min()), float(s.high.max())) for s in signals.values()) or 1.0
    with drawing():
        figure = Figure((WIDTH_IN, 0.4 + 1.5 * len(signals)), layout="constrained")
        panels = figure.subplots(len(signals), 2, squeeze=False, sharex="col")
        for (name, signal), level, color, (left, right) in zip(
            signals.items(), levels, colors, panels, strict=False
        ):
            times_s = (np.arange(_COLUMNS) + 0.5) * signal.seconds / _COLUMNS
            left.fill_between(times_s, signal.low, signal.high, color=color, linewidth=0.3, rasterized=True)
            left.set(title=name, xlim=(0.0, signal.seconds), ylim=(-limit, limit), ylabel="Amplitude")
            _spectrogram(right, level, signal, top_db)
        for axes in panels[-1]:
            axes.set_xlabel("Time (s)")
    return figure


def _spectrogram(axes: Axes, level_db: Array, signal: Overview, top_db: float) -> None:
    end_s = signal.excerpt.size / signal.sample_rate
    axes.imshow(
        level_db, origin="lower", aspect="auto", interpolation="nearest",
        extent=(0.0, end_s, 0.0, signal.sample_rate / 2000.0),
        cmap=matplotlib.colormaps["magma"].resampled(_COLORS), vmin=top_db - _RANGE_DB, vmax=top_db,
    )  # fmt: skip
    axes.set_ylabel("kHz")


def _directions(described: dict[str, Any], seconds: float, looks: list[Style]) -> Figure:
    """Azimuths over time, and around the array with time as the radius."""
    step = math.ceil(len(described["track"]["time_s"]) / _COLUMNS)
    times_s = np.array(described["track"]["time_s"][::step])
    with drawing():
        figure = Figure((WIDTH_IN, 3.6), layout="constrained")
        grid = figure.add_gridspec(1, 2, width_ratios=[1.7, 1.0])
        flat: Axes = figure.add_subplot(grid[0])
        polar: Any = figure.add_subplot(grid[1], projection="polar")
        polar.set_theta_zero_location("E")
        for n, look in enumerate(looks):
            azimuths_deg = np.array(described["track"]["azimuth_deg"][n][::step], dtype=np.float64)
            speaks = np.array(described["activity"][n][::step]) >= 0.5
            for shown, width in ((np.ones_like(speaks), 0.8), (speaks, 3.5)):
                line = np.where(shown, azimuths_deg, np.nan)
                line[1:][np.abs(np.diff(line)) > 180.0] = np.nan  # where it passes 0°
                label = f"talker {n + 1}" if width > 1.0 else None
                flat.plot(times_s, line, color=look.color, linewidth=width, label=label)
                polar.plot(np.deg2rad(line), times_s, color=look.color, linewidth=width)
        flat.set(title="Azimuth over time", xlabel="Time (s)", ylabel="Azimuth (°)")
        flat.set(xlim=(0.0, seconds), ylim=(-5.0, 365.0), yticks=range(0, 361, 90))
        flat.grid(True)
        figure.legend(loc="outside lower center", ncols=len(looks))
        polar.set(title="From above", rlim=(0.0, seconds))
        polar.tick_params(axis="y", labelsize=7, colors=MUTED)
        polar.grid(True)
    return figure
