"""Learning curves of a training run: what its log holds, and the figure of it."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from msdet.conventions import Array
from msdet.errors import MsdetError
from msdet.plots.theme import LIGHT, MUTED, degrees, drawing, panel_grid
from msdet.scoring.metrics import METRICS

Curves = dict[str, tuple[Array, Array]]
"""By column of ``metrics.csv``: training steps ``(point,)``, ascending, and values ``(point,)``."""


class _Panel(NamedTuple):
    """One plot: its title, unit, the factor of its values, and labels of its lines by column of the log."""

    title: str
    unit: str
    scale: float
    lines: dict[str, str]


def _both(name: str) -> dict[str, str]:
    return {f"train/{name}": "training", f"dev/{name}": "validation"}


_PANELS = (
    _Panel("All tasks together", "Loss (weighted)", 1.0, _both("loss")),
    _Panel("Separation", "Loss", 1.0, _both("separation")),
    _Panel("DoA", "Loss", 1.0, _both("doa")),
    _Panel("Separation on validation scenes", "SI-SDRi (dB)", 1.0, {"dev/si_sdr_improvement_db": "mean"}),
    _Panel(
        "DoA on validation scenes", "Talkers (%)", 100.0,
        {"dev/accuracy_10deg": "within 10°", "dev/accuracy_5deg": "within 5°"},
    ),
    _Panel("DoA error on validation scenes", "Mean error (°)", 1.0, {"dev/doa_mae_deg": "mean"}),
)  # fmt: skip
"""Panels of what training logs, in their order; a column that is in none of them gets a panel of its own."""

_SHORT = {"doa": "DoA"}  # as it is written; other short names are in capitals
_NOT_DRAWN = frozenset({"epoch", "step", "train/skipped_steps"})


def read_curves(run: Path) -> Curves:
    """Read a training run's log; of a training in stages, those of all stages one after the other."""
    stages = sorted(run.glob("stages/*/"))
    points: dict[str, dict[int, float]] = {}
    done = 0
    for folder in stages or [run]:
        done = max((done, *_read_log(folder / "logs" / "metrics.csv", run, done, points)))
    if not points:
        raise MsdetError(f"{run}: its log holds no curve, only {', '.join(sorted(_NOT_DRAWN))}")
    return {
        name: (np.array(sorted(values)), np.array([values[step] for step in sorted(values)]))
        for name, values in sorted(points.items())
    }


def _read_log(path: Path, run: Path, done: int, points: dict[str, dict[int, float]]) -> list[int]:
    """Add a log's points, its steps counted on from those done before; returns its steps so counted."""
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
    """Losses of every task in training and validation, and the validation's scores, over training steps."""
    panels = [panel for panel in _PANELS if panel.lines.keys() & curves.keys()]
    drawn = {column for panel in panels for column in panel.lines}
    others = dict.fromkeys(
        column.removeprefix("train/").removeprefix("dev/") for column in curves if column not in drawn
    )
    panels += [_other_panel(name, curves) for name in others]
    with drawing():
        figure, grid = panel_grid(len(panels), 2.3)
        for axes, panel in zip(grid, panels, strict=True):
            _draw(axes, panel, curves)
    return figure


def _other_panel(name: str, curves: Curves) -> _Panel:
    """The panel of a quantity that `_PANELS` does not have, named like the metric if it is one."""
    lines = {column: text for column, text in _both(name).items() if column in curves}
    tasks = sorted({column.partition("/")[2] for column in curves} - METRICS.keys(), key=len, reverse=True)
    kind, _, of = name.partition("_")
    pair = next((t for t in tasks if of.startswith(f"{t}_")), None)
    if name in METRICS:
        unit, scale = degrees(METRICS[name].label), METRICS[name].scale
        title = unit.partition(" (")[0]
    elif kind == "cosine" and pair is not None:
        unit, scale, title = "Cosine", 1.0, f"gradients of {_in_words(pair)} and {_in_words(of[len(pair) + 1 :])}"
    elif kind == "weight" and of:
        unit, scale, title = "Weight", 1.0, f"weight of {_in_words(of)}"
    elif name.endswith("_accuracy"):
        unit, scale, title = "Right (%)", 100.0, _in_words(name)
    else:
        unit, scale, title = "Loss" if f"train/{name}" in curves else "Score", 1.0, _in_words(name)
    return _Panel(title[0].upper() + title[1:], unit[0].upper() + unit[1:], scale, lines or {name: "logged"})


def _in_words(name: str) -> str:
    """A logged name as words.

    >>> _in_words("doa_map"), _in_words("map_f1"), _in_words("elevation_mae_deg")
    ('DoA map', 'map F1', 'elevation MAE (°)')
    """
    words = name.replace("/", ": ").replace("_deg", " (°)").replace("_db", " (dB)").replace("_", " ")
    return re.sub(r"\b(doa|f1|mae|t60|rtf|snr|drr)\b", lambda found: _SHORT.get(found[0], found[0].upper()), words)


def _draw(axes: Axes, panel: _Panel, curves: Curves) -> None:
    axes.set(title=panel.title, ylabel=panel.unit, xlabel="Training step")
    axes.grid(True)
    for n, (column, label) in enumerate(panel.lines.items()):
        if column not in curves:
            continue
        steps, values = curves[column]
        training = label == "training"
        color = MUTED if training else (LIGHT["blue"], LIGHT["vermillion"])[n and label != "validation"]
        dashes = "--" if training or color == LIGHT["vermillion"] else "-"
        marker = "o" if len(steps) == 1 else ""
        axes.plot(steps, values * panel.scale, dashes, color=color, label=label, marker=marker)
    if len(panel.lines) > 1:
        axes.legend()
    if panel.scale == 100.0:
        axes.set_ylim(-3, 103)
