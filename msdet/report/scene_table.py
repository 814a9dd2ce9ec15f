"""All scenes of an evaluation as a table to sort and filter: their labels, and how each system did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from msdet.plots.theme import degrees
from msdet.report.conditions import Condition, short
from msdet.report.content import Evaluation
from msdet.report.document import number
from msdet.scenes.scene import Scene
from msdet.scoring.metrics import METRICS, Metric, Row, metric_values

_DECIMALS = 4

_LABELS: dict[str, tuple[int, Callable[[Scene, Row], float | None]]] = {
    "Talkers": (0, lambda scene, row: len(scene.sources)),
    "Gap (°)": (1, lambda scene, row: row.get("azimuth_gap_deg")),
    "T60 (s)": (2, lambda scene, row: scene.t60_s),
    "SNR (dB)": (1, lambda scene, row: scene.snr_db),
    "Overlap ratio": (2, lambda scene, row: row.get("overlap_ratio")),
    "Nearest (m)": (2, lambda scene, row: min(s.distance_m for s in scene.sources)),
}
"""Columns of what is known of scenes: decimals, and the value; None if it is not known."""


def scene_table(evaluation: Evaluation, conditions: list[Condition], anchors: dict[str, str]) -> dict[str, Any]:
    """What the template shows: the table's columns and rows, filters by condition, and data for the script.

    `anchors` are ids of elements by scene that has one further down.
    """
    metrics = _scene_metrics(evaluation)
    labeled = evaluation.chosen.rows
    scenes = [scene for scene in evaluation.scene_set.scenes if scene.id in labeled]
    columns: dict[str, list[str]] = {
        name: [number(value(scene, labeled[scene.id]), decimals) for scene in scenes]
        for name, (decimals, value) in _LABELS.items()
    }
    columns["Straddles 0°"] = ["yes" if labeled[scene.id]["straddles"] else "no" for scene in scenes]
    columns = {name: texts for name, texts in columns.items() if len(set(texts)) > 1}
    values = {
        key: [
            [_scene_value(s.rows.get(scene.id), METRICS[key]) for s in evaluation.systems.values()] for scene in scenes
        ]
        for key in metrics
    }
    rows = [
        {
            "id": scene.id,
            "anchor": anchors.get(scene.id, ""),
            "bins": {c.name: _bins_of(c, labeled[scene.id]) for c in conditions},
            "labels": [texts[n] for texts in columns.values()],
            "scores": values[metrics[0]][n],
        }
        for n, scene in enumerate(scenes)
    ]
    bins = {c.name: {str(n): short(b.name) for n, b in enumerate(c.bins)} for c in conditions}
    return {
        "columns": list(columns),
        "rows": rows,
        "shown": METRICS[metrics[0]],
        "choices": {key: degrees(METRICS[key].label) for key in metrics},
        "filters": [(c.name, c.title, {"": "any"} | bins[c.name]) for c in conditions],
        "data": {"metrics": [_described(key) for key in metrics], "values": values},
    }


def _scene_metrics(evaluation: Evaluation) -> list[str]:
    """Metrics that a single scene has a value of; the one that scenes are ranked by first."""
    keys = [
        key
        for key, metric in METRICS.items()
        if metric.statistic in ("mean", "ratio") and evaluation.summary.compared[key]
    ]
    field = evaluation.rank_field
    ranked = [key for key in keys if METRICS[key].field == field and METRICS[key].within is None]
    return list(dict.fromkeys([*ranked[:1], *keys]))


def _scene_value(row: Row | None, metric: Metric) -> float | None:
    """The metric of one scene as it is shown: scaled and rounded; None without a value."""
    values = None if row is None else metric_values(row, metric)
    if values is None or (metric.statistic == "ratio" and values[1] == 0):
        return None
    value = values[0] / values[1] if metric.statistic == "ratio" else np.mean(values)
    return round(float(metric.scale * value), _DECIMALS)


def _bins_of(condition: Condition, row: Row) -> str:
    """Numbers of the bins that hold talkers of a scene, for the filter."""
    return " ".join(str(n) for n, b in enumerate(condition.bins) if b.members(row).any())


def _described(key: str) -> dict[str, Any]:
    """A metric for the script."""
    metric = METRICS[key]
    better = "higher" if metric.higher_is_better else "lower"
    return {"key": key, "label": degrees(metric.label), "decimals": metric.decimals, "better": better}
