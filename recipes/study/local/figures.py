"""Figures of the study: differences with their intervals, along the budget, and learning curves."""

from __future__ import annotations

from pathlib import Path

from claims import GAIN, WITHIN, Answer
from list_runs import Run
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from msdet.io.files import atomic_path
from msdet.plots.theme import LIGHT, MUTED, WIDTH_IN, drawing, to_png
from msdet.scoring.metrics import METRICS

_LINE_IN = 0.27  # height of a claim
_COLUMNS = 3


def claims(main: list[Answer], around: list[Answer], out: Path) -> bool:
    """Differences with 95 % intervals and each seed's value, the main claims above the others.

    Without any, no figure is left; returns whether there is one.
    """
    metrics = [m for m in (GAIN, WITHIN) if any(a.metric == m for a in main + around)]
    if not metrics:
        out.unlink(missing_ok=True)
        return False
    with drawing():
        rows = list(dict.fromkeys((a.claim.first, a.claim.second) for a in main + around))
        figure = Figure((WIDTH_IN, 1.0 + _LINE_IN * len(rows)), layout="constrained")
        panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for axes, metric in zip(panels, metrics, strict=True):
            for answers, color in ((main, LIGHT["vermillion"]), (around, LIGHT["blue"])):
                _draw_claims(axes, [a for a in answers if a.metric == metric], rows, color)
            axes.axvline(0.0, color=MUTED, linewidth=0.8)
            axes.set_xlabel(f"difference in {METRICS[metric].label}")
        panels[0].set_yticks(range(len(rows)), [f"{first} − {second}" for first, second in rows], fontsize=7)
        panels[0].set_ylim(len(rows) - 0.5, -0.5)
    _write(out, figure)
    return True


def _write(out: Path, figure: Figure) -> None:
    with atomic_path(out) as temporary:
        temporary.write_bytes(to_png(figure))


def _draw_claims(axes: Axes, answers: list[Answer], rows: list[tuple[str, str]], color: str) -> None:
    for answer in answers:
        d, scale = answer.difference, METRICS[answer.metric].scale
        y = rows.index((answer.claim.first, answer.claim.second))
        interval, seeds = answer.interval(), answer.by_seed[-1]
        if interval is not None:
            axes.plot([scale * end for end in interval], [y, y], color=color, linewidth=1.6)
        axes.plot([scale * d.value], [y], "o", color=color, markersize=4.5)
        if len(seeds) > 1:
            axes.plot([scale * x for x in seeds], [y] * len(seeds), "|", color=color, markersize=9)


def along(answers: list[Answer], out: Path) -> bool:
    """Differences of claims in SI-SDRi along the budget, with 95 % intervals and a thin line for each seed.

    Without any, no figure is left; returns whether there is one.
    """
    drawn = [answer for answer in answers if answer.metric == GAIN]
    if not drawn:
        out.unlink(missing_ok=True)
        return False
    with drawing():
        columns = min(_COLUMNS, len(drawn))
        rows = -(-len(drawn) // columns)
        figure = Figure((WIDTH_IN, 0.4 + 1.9 * rows), layout="constrained")
        panels = [*figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat]
        for answer, axes in zip(drawn, panels, strict=False):
            _draw_along(axes, answer)
        for axes in panels[len(drawn) :]:
            axes.set_visible(False)
        figure.supxlabel("core-hours of a training", fontsize=8)
        figure.supylabel("difference in SI-SDRi (dB)", fontsize=8)
    _write(out, figure)
    return True


def _draw_along(axes: Axes, answer: Answer) -> None:
    values = [d.value for d in answer.along]
    intervals = [answer.interval(n) or (d.low, d.high) for n, d in enumerate(answer.along)]
    if all(end is not None for interval in intervals for end in interval):
        low, high = zip(*intervals, strict=True)
        axes.fill_between(answer.budgets, low, high, color=LIGHT["blue"], alpha=0.2, linewidth=0)
    for seed in zip(*answer.by_seed, strict=True):
        axes.plot(answer.budgets, seed, color=LIGHT["blue"], linewidth=0.6, alpha=0.6)
    axes.plot(answer.budgets, values, "o-", color=LIGHT["blue"], linewidth=1.4, markersize=3.5)
    axes.axhline(0.0, color=MUTED, linewidth=0.8)
    _doublings(axes, answer.budgets)
    axes.tick_params(labelsize=6)
    axes.set_title(f"{answer.claim.first}\n− {answer.claim.second}", fontsize=7, loc="left")


def _doublings(axes: Axes, hours: list[float]) -> None:
    """A logarithmic axis with a tick at each budget."""
    axes.set_xscale("log")
    axes.set_xticks(hours, [f"{x:.2g}" for x in hours])
    axes.minorticks_off()


def curves(found: dict[Run, dict[str, tuple[list[float], list[float]]]], out: Path) -> None:
    """Test scores of rows against core-hours, by group and number of talkers."""
    panels = list(dict.fromkeys((run.group, run.talkers) for run in found))
    with drawing():
        figure = Figure((WIDTH_IN, 3.0 * len(panels)), layout="constrained")
        grid = figure.subplots(len(panels), 2, squeeze=False)
        for axes_of_panel, panel in zip(grid, panels, strict=True):
            runs = [run for run in found if (run.group, run.talkers) == panel]
            styles = {run.row: f"C{n % 10}{'.x+v'[n // 10 % 4]}-" for n, run in enumerate(runs)}
            drawn = {}
            for axes, metric in zip(axes_of_panel, (GAIN, WITHIN), strict=True):
                for run in runs:
                    if metric in found[run]:
                        hours, values = found[run][metric]
                        scaled = [METRICS[metric].scale * value for value in values]
                        style = styles[run.row]
                        drawn[run.row] = axes.plot(hours, scaled, style, linewidth=1.0, markersize=3.5, label=run.row)[
                            0
                        ]
                longest = max((found[run][metric][0] for run in runs if metric in found[run]), key=len, default=[])
                _doublings(axes, longest)
                axes.set_xlabel("core-hours")
                axes.set_ylabel(METRICS[metric].label)
            axes_of_panel[0].set_title(f"{panel[0]}, {panel[1]} talkers", loc="left")
            place = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)}
            axes_of_panel[1].legend(handles=list(drawn.values()), fontsize=5.5, frameon=False, **place)
    _write(out, figure)
