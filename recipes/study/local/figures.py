"""Figures of the study: effects with their intervals, and learning curves."""

from __future__ import annotations

from pathlib import Path

from claims import GAIN, WITHIN, Answer
from list_runs import Run
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from msdet.io.files import atomic_path
from msdet.plots.learning import Curves
from msdet.plots.theme import LIGHT, MUTED, WIDTH_IN, drawing, to_png
from msdet.scoring.metrics import METRICS

_LINE_IN = 0.27  # height of a claim


def claims(main: list[Answer], around: list[Answer], out: Path) -> bool:
    """Differences with 95 % intervals, the main claims with each seed's value above the others.

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
        if d.low is not None and d.high is not None:
            axes.plot([scale * d.low, scale * d.high], [y, y], color=color, linewidth=1.6)
        axes.plot([scale * d.value], [y], "o", color=color, markersize=4.5)
        if len(answer.of_seeds) > 1:
            axes.plot([scale * x for x in answer.of_seeds], [y] * len(answer.of_seeds), "|", color=color, markersize=9)


def curves(found: dict[Run, Curves], out: Path) -> None:
    """SI-SDRi and share within 5 degrees on dev scenes over the steps, first seed, by group.

    On dev scenes a talker's direction is that of its voice, so a row without voices has none.
    """
    columns = {
        "dev/si_sdr_improvement_db": ({"separation"}, "SI-SDRi (dB)", 1.0),
        "dev/accuracy_5deg": ({"separation", "directions"}, "within 5 deg (%)", 100.0),
    }
    first = {run.row: run for run in sorted(found, key=lambda run: -run.seed)}
    panels = list(dict.fromkeys((run.group, run.talkers) for run in found))
    with drawing():
        figure = Figure((WIDTH_IN, 2.6 * len(panels)), layout="constrained")
        grid = figure.subplots(len(panels), 2, squeeze=False)
        for axes_of_panel, panel in zip(grid, panels, strict=True):
            runs = [run for run in first.values() if (run.group, run.talkers) == panel]
            styles = {run.row: f"C{n % 10}{'.x+'[n // 10 % 3]}-" for n, run in enumerate(runs)}
            drawn = {}
            for axes, (column, (tasks, label, scale)) in zip(axes_of_panel, columns.items(), strict=True):
                for run in runs:
                    if tasks <= set(run.tasks) and column in found[run]:
                        steps, values = found[run][column]
                        drawn[run.row] = axes.plot(
                            steps, scale * values, styles[run.row], linewidth=1.0, markersize=3.5, label=run.row
                        )[0]
                axes.set_xlabel("step")
                axes.set_ylabel(f"{label}, dev")
            axes_of_panel[0].set_title(f"{panel[0]}, {panel[1]} talkers", loc="left")
            place = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)}
            axes_of_panel[1].legend(handles=list(drawn.values()), fontsize=6, frameon=False, **place)
    _write(out, figure)
