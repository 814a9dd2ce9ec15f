"""All scenes of an evaluation as a table to sort and filter: their labels, and how each system did."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from msdet.plots.theme import degrees
from msdet.report import tables
from msdet.report.conditions import Condition, short
from msdet.report.content import Evaluation
from msdet.report.document import data_element
from msdet.scenes.scene import Scene
from msdet.scoring.metrics import METRICS, Metric, Row, metric_values

_DECIMALS = 4


class _Label(NamedTuple):
    """A column of what is known of scenes: its name, decimals, and how it is had; None if not known."""

    name: str
    decimals: int
    of: Callable[[Scene, Row], float | None]


def _percent(value: float | None) -> float | None:
    return None if value is None else 100.0 * value


_LABELS = (
    _Label("Talkers", 0, lambda scene, row: len(scene.sources)),
    _Label("Gap (°)", 1, lambda scene, row: row.get("azimuth_gap_deg")),
    _Label("T60 (s)", 2, lambda scene, row: scene.t60_s),
    _Label("SNR (dB)", 1, lambda scene, row: scene.snr_db),
    _Label("Overlap (%)", 0, lambda scene, row: _percent(row.get("overlap_ratio"))),
    _Label("Nearest (m)", 2, lambda scene, row: min(s.distance_m for s in scene.sources)),
)


def scene_table(evaluation: Evaluation, conditions: list[Condition], shown: dict[str, str]) -> str:
    """The table with its filters, and the scores that it can show, as HTML.

    Args:
        evaluation: its scenes and systems.
        conditions: to filter by.
        shown: ids of elements by scene that has one further down.
    """
    metrics = _metrics(evaluation)
    rows = evaluation.chosen.rows
    scenes = [scene for scene in evaluation.scene_set.scenes if scene.id in rows]
    columns = [label for label in _LABELS if len({_text(label, s, rows[s.id]) for s in scenes}) > 1]
    straddling = len({row["straddles"] for row in rows.values()}) > 1
    scores = {
        key: [
            [_scene_value(s.rows.get(scene.id), METRICS[key]) for s in evaluation.systems.values()]
            for scene in scenes
        ]
        for key in metrics
    }
    first = metrics[0]
    body = []
    for n, scene in enumerate(scenes):
        row = rows[scene.id]
        name = html.escape(scene.id)
        link = f'<a href="#{shown[scene.id]}">{name}</a>' if scene.id in shown else name
        cells = "".join(f"<td>{_text(label, scene, row)}</td>" for label in columns)
        cells += f"<td>{'yes' if row['straddles'] else 'no'}</td>" if straddling else ""
        cells += "".join(_score(value, METRICS[first]) for value in scores[first][n])
        body.append(f'<tr{_bins(conditions, row)}><th scope="row" class="text">{link}</th>{cells}</tr>')
    head = tables.column("Scene", kind="text") + "".join(tables.column(label.name) for label in columns)
    head += tables.column("Straddles 0°") if straddling else ""
    better = "largest" if METRICS[first].higher_is_better else "smallest"
    for name in evaluation.systems:
        head += tables.column(name, degrees(METRICS[first].label), more=f' data-score data-first="{better}"')
    labels = 1 + len(columns) + straddling
    foot = '<tr><th scope="row" class="text">Mean of these</th>' + "<td></td>" * (labels - 1)
    foot += "<td></td>" * len(evaluation.systems) + "</tr>"
    table = tables.table("All scenes", head, body, "scenes", "scene-table", foot, sorted_by=True, copied=True)
    data = {"metrics": [_described(key) for key in metrics], "values": _rounded(scores)}
    return _filters(conditions, metrics) + table + data_element("scene-scores", data)


def _metrics(evaluation: Evaluation) -> list[str]:
    """Metrics that a single scene has a value of; the one that scenes are ranked by first."""
    found = [
        key
        for key, metric in METRICS.items()
        if metric.statistic in ("mean", "ratio") and evaluation.summary.compared[key]
    ]
    ranked = [
        key for key in found if METRICS[key].field == evaluation.rank_field and METRICS[key].within is None
    ]
    return ranked[:1] + [key for key in found if key not in ranked[:1]]


def _scene_value(row: Row | None, metric: Metric) -> float | None:
    """The metric of one scene as it is shown: scaled; None without a value."""
    values = None if row is None else metric_values(row, metric)
    if values is None:
        return None
    if metric.statistic == "ratio":
        return None if values[1] == 0 else float(metric.scale * values[0] / values[1])
    return float(metric.scale * np.mean(values))


def _text(label: _Label, scene: Scene, row: Row) -> str:
    value = label.of(scene, row)
    return "–" if value is None else tables.number(value, label.decimals)


def _score(value: float | None, metric: Metric) -> str:
    if value is None:
        return '<td data-value="">–</td>'
    return f'<td data-value="{round(value, _DECIMALS)}">{tables.number(value, metric.decimals)}</td>'


def _bins(conditions: list[Condition], row: Row) -> str:
    """Attributes: by condition, which of its bins hold talkers of the scene."""
    held = {
        condition.name: [
            str(n) for n, b in enumerate((*condition.bins, *condition.overlapping)) if b.members(row).any()
        ]
        for condition in conditions
    }
    return "".join(f' data-in_{name}="{" ".join(places)}"' for name, places in held.items())


def _described(key: str) -> dict[str, Any]:
    metric = METRICS[key]
    better = "higher" if metric.higher_is_better else "lower"
    return {"key": key, "label": degrees(metric.label), "decimals": metric.decimals, "better": better}


def _rounded(scores: dict[str, list[list[float | None]]]) -> dict[str, list[list[float | None]]]:
    return {
        key: [[None if v is None else round(v, _DECIMALS) for v in row] for row in table]
        for key, table in scores.items()
    }


def _filters(conditions: list[Condition], metrics: list[str]) -> str:
    """The form above the table; the script shows it."""
    choices = "".join(
        tables.select(
            f"in_{condition.name}",
            condition.title,
            {"": "any"}
            | {str(n): short(b.name) for n, b in enumerate((*condition.bins, *condition.overlapping))},
            more=f' data-breakdown="in_{condition.name}"',
        )
        for condition in conditions
    )
    labels = {key: degrees(METRICS[key].label) for key in metrics}
    return (
        '<form id="scene-filters" class="choices" hidden>'
        f"{tables.select('metric', 'Scores', labels)}"
        '<label>Find <input type="search" name="text" size="14"></label>'
        f'{choices}<button type="reset">Show all</button>'
        '<span id="scene-count" role="status"></span></form>'
    )
