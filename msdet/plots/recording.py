"""Figures of a separated recording: waveforms, spectrograms, and directions over time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from msdet.conventions import Array, wrap_deg
from msdet.plots.scene import azimuth_axes, cut_at_zero, draw_spectrogram, spectrogram_db, top_level_db
from msdet.plots.theme import MUTED, WIDTH_IN, Style, drawing

MAX_POINTS = 1200  # of a line over time


@dataclass(frozen=True)
class Overview:
    """A signal of any length: its smallest and largest samples ``(point,)`` over time, and its start ``(time,)``."""

    low: Array
    high: Array
    excerpt: Array
    sample_rate: int
    seconds: float


def sound_figure(signals: dict[str, Overview], colors: Sequence[str]) -> Figure:
    """A row for each signal: its waveform beside its spectrogram, each kind to one scale."""
    levels = [spectrogram_db(s.excerpt, s.sample_rate) for s in signals.values()]
    top_db = top_level_db(levels)
    limit = 1.05 * max(max(float(-s.low.min()), float(s.high.max())) for s in signals.values()) or 1.0
    with drawing():
        figure = Figure((WIDTH_IN, 0.4 + 1.5 * len(signals)), layout="constrained")
        panels = figure.subplots(len(signals), 2, squeeze=False, sharex="col")
        for (name, s), level, color, (left, right) in zip(signals.items(), levels, colors, panels, strict=False):
            times_s = (np.arange(s.low.size) + 0.5) * s.seconds / s.low.size
            left.fill_between(times_s, s.low, s.high, color=color, linewidth=0.3, rasterized=True)
            left.set(title=name, xlim=(0.0, s.seconds), ylim=(-limit, limit), ylabel="Amplitude")
            draw_spectrogram(right, level, s.excerpt.size / s.sample_rate, s.sample_rate, top_db)
            right.set(xlabel="", ylabel="kHz")
        for axes in panels[-1]:
            axes.set_xlabel("Time (s)")
    return figure


def tracks_figure(
    times_s: Array,
    azimuths_deg: Array,
    activity: Array,
    seconds: float,
    looks: Sequence[Style],
    doubtful: Sequence[bool],
    mirror_axis_deg: float | None = None,
) -> Figure:
    """Azimuths over time, and around the array with time as the radius; thick where a talker speaks.

    Azimuths are ``(talker, time)``, not a number where not known; activities are the probabilities to speak. Those
    of `doubtful` talkers are dotted. Of an array that mirrors talkers about an axis, the half plane on its left is
    drawn.
    """
    step = math.ceil(times_s.size / MAX_POINTS)
    with drawing():
        figure = Figure((WIDTH_IN, 3.6), layout="constrained")
        grid = figure.add_gridspec(1, 2, width_ratios=[1.7, 1.0])
        flat = figure.add_subplot(grid[0])
        polar: Any = figure.add_subplot(grid[1], projection="polar")
        polar.set_theta_zero_location("E")
        for n, look in enumerate(looks):
            line = cut_at_zero(azimuths_deg[n, ::step])
            speaks = np.where(activity[n, ::step] >= 0.5, line, np.nan)
            name = f"talker {n + 1}{' (low confidence)' if doubtful[n] else ''}"
            for shown, width, label in ((line, 0.8, None), (speaks, 3.5, name)):
                drawn: dict[str, Any] = {
                    "color": look.color,
                    "linewidth": width,
                    "linestyle": (0, (0.5, 0.5)) if doubtful[n] else "-",
                }
                flat.plot(times_s[::step], shown, label=label, **drawn)
                around = shown if mirror_axis_deg is None else mirror_axis_deg + wrap_deg(shown - mirror_axis_deg)
                polar.plot(np.deg2rad(around), times_s[::step], **drawn)
        azimuth_axes(flat, "Azimuth over time", seconds)
        figure.legend(loc="outside lower center", ncols=len(looks))
        polar.set(title="From above, time outwards", rlim=(0.0, seconds))
        polar.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10], prune="lower"))
        polar.yaxis.set_major_formatter("{x:g} s")
        polar.tick_params(axis="y", labelsize=7.5, colors=MUTED)
        if mirror_axis_deg is not None:
            polar.set_thetalim(np.deg2rad(mirror_axis_deg), np.deg2rad(mirror_axis_deg + 180.0))
        known = np.sort(np.mod(azimuths_deg[np.isfinite(azimuths_deg)], 360.0))
        gaps = np.diff(np.append(known, known[:1] + 360.0))
        polar.set_rlabel_position(known[gaps.argmax()] + gaps.max() / 2 if known.size else 22.5)  # where no talker is
        polar.grid(True)
    return figure
