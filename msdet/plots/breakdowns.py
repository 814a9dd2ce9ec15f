"""The figure of a metric by every condition that varies."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from msdet.plots.theme import MUTED, SURFACE, WIDTH_IN, Style, degrees, drawing
from msdet.report.conditions import Condition, short
from msdet.scoring.breakdowns import BREAKDOWNS
from msdet.scoring.metrics import METRICS
from msdet.scoring.summary import Summary

_MAX_BINS = 13  # beside each other

_BESIDE = 1.2  # room between panels, in bins


def breakdown_figure(
    summary: Summary, conditions: list[Condition], metric: str, looks: dict[str, Style]
) -> Figure:
    """Mean and interval of a metric in every bin of every condition, for each system that has it.

    Args:
        summary: broken down by the conditions.
        conditions: at least one.
        metric: name in `METRICS`.
        looks: the styles of the systems to draw.
    """
    lines = _lines(conditions)
    widest = max(sum(map(_width, line)) for line in lines)
    with drawing():
        figure = Figure((WIDTH_IN, 0.4 + 2.5 * len(lines)), layout="constrained")
        rows = figure.add_gridspec(len(lines), 1)
        first = None
        for row, line in enumerate(lines):
            widths = [_width(condition) for condition in line]
            left = widest - sum(widths)
            part = rows[row].subgridspec(1, len(line) + 1, width_ratios=[*widths, max(left, 1e-3)])
            for n, condition in enumerate(line):
                axes = figure.add_subplot(part[n], sharey=first)
                first = first or axes
                _panel(axes, summary, condition, metric, looks)
                if n == 0:
                    axes.set_ylabel(degrees(METRICS[metric].label))
        assert first is not None
        first.set_ylim(bottom=min(0.0, first.get_ylim()[0]))
        handles = [
            Line2D([], [], color=look.color, marker=look.marker, linewidth=1.6) for look in looks.values()
        ]
        figure.legend(handles, list(looks), loc="outside upper left", ncols=4)
    return figure


def _bins(condition: Condition) -> list[str]:
    return [b.name for b in (*condition.bins, *condition.overlapping)]


def _width(condition: Condition) -> float:
    """Of a panel, in bins."""
    return len(_bins(condition)) + _BESIDE


def _lines(conditions: list[Condition]) -> list[list[Condition]]:
    """Conditions in lines that are not too wide, in their order."""
    lines: list[list[Condition]] = [[]]
    for condition in conditions:
        used = sum(len(_bins(c)) for c in lines[-1])
        if lines[-1] and used + len(_bins(condition)) > _MAX_BINS:
            lines.append([])
        lines[-1].append(condition)
    return lines


def _panel(axes: Axes, summary: Summary, condition: Condition, metric: str, looks: dict[str, Style]) -> None:
    found = summary.breakdowns[BREAKDOWNS[condition.name][0]]
    scale = METRICS[metric].scale
    bins = _bins(condition)
    ticks = []
    for x, name in enumerate(bins):
        counts = [of[metric].n for of in found[name].values() if metric in of]
        ticks.append(f"{short(name)}\nn = {max(counts, default=0)}")
        for k, (system, look) in enumerate(looks.items()):
            interval = found[name][system].get(metric)
            if interval is None:
                continue
            place = x + (k - (len(looks) - 1) / 2) * min(0.22, 0.7 / len(looks))
            if interval.low is not None and interval.high is not None:
                axes.vlines(place, interval.low * scale, interval.high * scale, look.color, linewidth=1.6)
            axes.plot(
                place, interval.value * scale, look.marker, color=look.color, markersize=6.5,
                markeredgecolor=SURFACE, markeredgewidth=0.7,
            )  # fmt: skip
    if condition.overlapping:
        axes.axvline(len(condition.bins) - 0.5, color=MUTED, linewidth=0.8, linestyle=":")
    axes.grid(True, axis="y")
    axes.axhline(0.0, color=MUTED, linewidth=0.8)
    axes.set_xlim(-0.5, len(bins) - 0.5)
    axes.set_xticks(range(len(bins)), ticks)
    axes.set_xlabel(condition.title)
    axes.tick_params(axis="x", length=0, labelsize=7.5)
