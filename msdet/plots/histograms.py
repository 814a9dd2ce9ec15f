"""Figures of how values are distributed: quantities of a data set or bank, and importances of options."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from msdet.conventions import Array
from msdet.data.description import Quantity
from msdet.plots.theme import INK, LIGHT, SURFACE, WIDTH_IN, drawing, panel_grid

_MIN_BINS, _MAX_BINS = 6, 20


def histograms(quantities: Sequence[Quantity]) -> Figure:
    """A histogram of each of at least one quantity, with its median where it has one."""
    with drawing():
        figure, grid = panel_grid(len(quantities), 2.1)
        for axes, quantity in zip(grid, quantities, strict=True):
            _histogram(axes, quantity)
    return figure


def _histogram(axes: Axes, quantity: Quantity) -> None:
    edges = bin_edges(quantity.values) if quantity.edges is None else _coarser(quantity.edges, quantity.values.size)
    axes.hist(quantity.values, edges.tolist(), color=LIGHT["blue"], edgecolor=SURFACE, linewidth=0.5)
    median = ""
    if quantity.median is not None:
        axes.axvline(quantity.median, color=INK, linewidth=1.1, linestyle="--")
        median = f"median {quantity.numbers()[2]}".replace("-", "−")
    axes.set(title=quantity.name, xlabel=median, ylabel=quantity.of.capitalize(), xlim=(edges[0], edges[-1]))
    if quantity.circular:
        axes.set_xticks(range(0, 361, 90))
    axes.grid(True, axis="y")
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))


def _coarser(edges: Array, values: int) -> Array:
    """Every so-manieth of the edges of bins, so that there are no more bins than so many values fill.

    >>> _coarser(np.arange(37) * 10.0, 48).astype(int).tolist()
    [0, 30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 330, 360]
    """
    bins = edges.size - 1
    most = max(_MIN_BINS, 2 * math.isqrt(values))
    return edges[:: next(step for step in range(1, bins + 1) if bins % step == 0 and bins // step <= most)]


def bin_edges(values: Array) -> Array:
    """Edges of bins of a round width that hold all of values ``(value,)``; more for more values.

    >>> bin_edges(np.array([0.21, 0.28, 0.5])).round(3).tolist()
    [0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55]
    """
    bins = min(_MAX_BINS, 5 + math.isqrt(values.size))
    low, high = float(values.min()), float(values.max())
    edges = MaxNLocator(bins, steps=[1, 2, 5, 10]).tick_values(low, high if high - low > 1e-6 else low + 1.0)
    return np.append(edges, 2 * edges[-1] - edges[-2])[: 1 + np.searchsorted(edges, high, "right")]


def importance_figure(importances: Mapping[str, float], metric: str, trials: int) -> Figure:
    """A bar for the importance of each option, all adding up to one, the most important one on top."""
    names = sorted(importances, key=importances.__getitem__)
    shares = [100.0 * importances[name] for name in names]
    with drawing():
        figure = Figure((WIDTH_IN, 0.9 + 0.34 * len(names)), layout="constrained")
        axes = figure.subplots()
        bars = axes.barh(names, shares, color=LIGHT["blue"], edgecolor=SURFACE, height=0.7)
        axes.bar_label(bars, fmt="%.0f", padding=3)
        axes.set(xlabel=f"Importance for {metric} (%), {trials} trials", ylabel="Option", xlim=(0.0, 108.0))
        axes.grid(True, axis="x")
    return figure
