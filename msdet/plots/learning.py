"""Learning curves of a training run: what its log holds, and the figure of it."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from msdet.conventions import Array
from msdet.errors import MsdetError
from msdet.plots.theme import LIGHT, MUTED, WIDTH_IN, drawing

Curves = dict[str, tuple[Array, Array]]
"""By column of ``metrics.csv``: training steps ``(point,)``, ascending, and values ``(point,)``."""

_COLUMNS = 3

_PARTS = ("train", "dev")


class _Line(NamedTuple):
    """How a column of a training log is drawn."""

    column: str
    label: str
    color: str
    dashes: str


class _Panel(NamedTuple):
    """One plot: its title, unit, the factor of its values, and its lines."""

    title: str
    unit: str
    scale: float
    lines: tuple[_Line, ...]


def _both(name: str) -> tuple[_Line, ...]:
    return (
        _Line(f"train/{name}", "training", MUTED, "--"),
        _Line(f"dev/{name}", "validation", LIGHT["blue"], "-"),
    )


_PANELS = (
    _Panel("All tasks together", "Loss (weighted)", 1.0, _both("loss")),
    _Panel("Separation", "Loss", 1.0, _both("separation")),
    _Panel("DoA", "Loss", 1.0, _both("doa")),
    _Panel(
        "Separation on validation scenes",
        "SI-SDRi (dB)",
        1.0,
        (_Line("dev/si_sdr_improvement_db", "mean", LIGHT["blue"], "-"),),
    ),
    _Panel(
        "DoA on validation scenes",
        "Talkers (%)",
        100.0,
        (
            _Line("dev/accuracy_10deg", "within 10°", LIGHT["blue"], "-"),
            _Line("dev/accuracy_5deg", "within 5°", LIGHT["vermillion"], "--"),
        ),
    ),
    _Panel(
        "DoA error on validation scenes",
        "Mean error (°)",
        1.0,
        (_Line("dev/doa_mae_deg", "mean", LIGHT["blue"], "-"),),
    ),
)
"""Panels of what training logs, in their order; a column that is in none of them gets a panel of its own."""

_NOT_DRAWN = frozenset({"epoch", "step", "train/skipped_steps"})


def read_curves(run: Path) -> Curves:
    """Read a training run's log; of a training in stages, those of all stages one after the other.

    Raises:
        MsdetError: no log, one that is not CSV of numbers, or one that holds no curve.
    """
    stages = sorted(run.glob("stages/*/"))
    points: dict[str, dict[int, float]] = {}
    done = 0
    for folder in stages or [run]:
        done = max((done, *_read_log(folder / "logs" / "metrics.csv", run, done, points)))
    if not points:
        raise MsdetError(f"{run}: its log holds no curve, only {', '.join(sorted(_NOT_DRAWN))}")
    return {
        name: (np.array(sorted(found)), np.array([found[step] for step in sorted(found)]))
        for name, found in sorted(points.items())
    }


def _read_log(path: Path, run: Path, done: int, points: dict[str, dict[int, float]]) -> list[int]:
    """Add a log's points, its steps counted on from those done before; its steps so counted."""
    steps = []
    try:
        for part in (*sorted(path.parent.glob("metrics-*.csv")), path):  # a resumed run starts a new one
            with part.open(newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    steps.append(done + int(float(row["step"])) + 1)
                    for name in row.keys() - _NOT_DRAWN:
                        if row[name]:
                            points.setdefault(name, {})[steps[-1] - 1] = float(row[name])
    except FileNotFoundError as error:
        raise MsdetError(f"{path}: no such file (is {run} the folder of a training run?)") from error
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise MsdetError(f"{path}: not readable as a training log ({error})") from error
    return steps


def learning_curves(curves: Curves) -> Figure:
    """Losses of every task in training and validation, and the validation's scores, over training steps.

    Args:
        curves: as `read_curves` gives them.
    """
    panels = _panels(curves)
    rows = math.ceil(len(panels) / _COLUMNS)
    with drawing():
        figure = Figure((WIDTH_IN, 0.3 + 2.3 * rows), layout="constrained")
        grid = figure.subplots(rows, _COLUMNS, squeeze=False)
        for axes, panel in zip(grid.flat, panels, strict=False):
            _draw(axes, panel, curves)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
    return figure


def _panels(curves: Curves) -> list[_Panel]:
    """Panels of which the log has a line."""
    known = [panel for panel in _PANELS if any(line.column in curves for line in panel.lines)]
    drawn = {line.column for panel in known for line in panel.lines}
    names = dict.fromkeys(_name(column) for column in curves if column not in drawn)
    return known + [
        _Panel(name.replace("_", " "), name.replace("_", " "), 1.0, _lines(name, curves)) for name in names
    ]


def _name(column: str) -> str:
    """What a column measures, without whether in training or validation."""
    part, _, name = column.partition("/")
    return name if part in _PARTS and name else column


def _lines(name: str, columns: Iterable[str]) -> tuple[_Line, ...]:
    found = tuple(line for line in _both(name) if line.column in columns)
    return found or (_Line(name, "logged", LIGHT["blue"], "-"),)


def _draw(axes: Axes, panel: _Panel, curves: Curves) -> None:
    axes.set(title=panel.title, ylabel=panel.unit, xlabel="Training step")
    axes.grid(True)
    for line in panel.lines:
        if line.column not in curves:
            continue
        steps, values = curves[line.column]
        axes.plot(
            steps, values * panel.scale, line.dashes, color=line.color, label=line.label,
            marker="o" if len(steps) == 1 else "",
        )  # fmt: skip
    if len(panel.lines) > 1:
        axes.legend()
    if panel.scale == 100.0:
        axes.set_ylim(-3, 103)
