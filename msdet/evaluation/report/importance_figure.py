"""The figure of how much each option of a study matters."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from msdet.evaluation.report.theme import LIGHT, SURFACE, WIDTH_IN, drawing


def importance_figure(importances: Mapping[str, float], metric: str, trials: int) -> Figure:
    """A bar for each option, the most important one on top.

    Args:
        importances: of options by name, adding up to one.
        metric: that the study looked at.
        trials: that they are measured from.
    """
    shown = sorted(importances.items(), key=lambda pair: pair[1])
    with drawing():
        figure = Figure((WIDTH_IN, 0.9 + 0.34 * len(shown)), layout="constrained")
        axes = figure.subplots()
        bars = axes.barh(
            [name for name, _ in shown], [100.0 * share for _, share in shown],
            color=LIGHT["blue"], edgecolor=SURFACE, height=0.7,
        )  # fmt: skip
        axes.bar_label(bars, fmt="%.0f", padding=3)
        axes.set(xlabel=f"Importance for {metric} (%), {trials} trials", ylabel="Option", xlim=(0.0, 108.0))
        axes.grid(True, axis="x")
        axes.set_axisbelow(True)
    return figure
