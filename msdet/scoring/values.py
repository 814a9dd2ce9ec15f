"""Values of a metric in rows of scores, for the statistics of `msdet.scoring.statistics`."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from msdet.conventions import Array
from msdet.errors import MsdetError, UnknownNameError
from msdet.scoring.breakdowns import Bin, members
from msdet.scoring.metrics import METRICS, Metric

Row = dict[str, Any]
"""One line of ``scores.jsonl``; see `msdet.scoring.score.score_scene`."""

ABSENT = "not in the scores"
"""The reason where a metric was not asked for."""


def aligned_rows(systems: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """The rows of every system in the scenes' order of the first one.

    Raises:
        MsdetError: no system, one without scenes or with a scene twice, or systems on different scenes.
    """
    by_id = {name: {row["id"]: row for row in rows} for name, rows in systems.items()}
    if not by_id or not all(by_id.values()):
        raise MsdetError("nothing to summarize: no system, or one without scenes")
    first_name, first = next(iter(by_id.items()))
    for name, rows in by_id.items():
        if len(rows) != len(systems[name]):
            raise MsdetError(f"scores of '{name}': a scene occurs twice")
        if odd := sorted(rows.keys() ^ first.keys()):
            raise MsdetError(
                f"'{first_name}' and '{name}' are not scored on the same scenes: "
                f"{len(odd)} are in one alone, '{odd[0]}' for one"
            )
        if odd := [i for i, row in rows.items() if row["azimuth_deg"] != first[i]["azimuth_deg"]]:
            raise MsdetError(
                f"'{first_name}' and '{name}' are not scored on the same scenes: "
                f"azimuths of '{odd[0]}' differ"
            )
    return {name: [rows[i] for i in first] for name, rows in by_id.items()}


def metric_values(row: Row, metric: Metric, bins: tuple[Bin, ...] = ()) -> Array | None:
    """Values ``(talker,)`` of a scene; of a ratio, what is divided and what divides it.

    Args:
        row: of the scene.
        metric: which.
        bins: of talkers that count; all without bins.

    Returns:
        None unless every talker (of the bins) has a value, and for some of the talkers where the metric is
        the scene's as a whole.
    """
    inside = members(bins, row) if bins else np.ones(1, dtype=bool)
    if not inside.any():
        return None
    fields = (metric.field, *metric.over)
    columns = [_numbers(row.get(field), None if inside.all() else inside) for field in fields]
    known = [column for column in columns if column is not None]
    if len(known) != len(columns) or not known[0].size:
        return None
    if metric.statistic == "ratio":
        return np.array([metric.times * known[0].sum(), sum(column.sum() for column in known[1:])])
    return known[0] if metric.within is None else (known[0] <= metric.within).astype(np.float64)


def paired_values(
    rows_a: list[Row], rows_b: list[Row], name: str, bins: tuple[Bin, ...] = ()
) -> tuple[list[Array], list[Array]]:
    """Values of a metric in the scenes that two systems both score; empty without any.

    Raises:
        MsdetError: different scenes, or an unknown metric.
    """
    if name not in METRICS:
        raise UnknownNameError("metric", name, METRICS)
    a, b = (
        [metric_values(row, METRICS[name], bins) for row in rows]
        for rows in aligned_rows({"a": rows_a, "b": rows_b}).values()
    )
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    return [x for x, _ in pairs], [y for _, y in pairs]


def own_assignments(systems: dict[str, list[Row]]) -> dict[str, int]:
    """In how many scenes azimuths are assigned by themselves, for want of audio, of systems with any such."""
    counts = {
        name: sum(row.get("permutation_from") == "doa" for row in rows) for name, rows in systems.items()
    }
    return {name: count for name, count in counts.items() if count}


def own_assignment_notes(counts: dict[str, int], scenes: int) -> list[str]:
    """What `own_assignments` finds, in a line each.

    >>> own_assignment_notes({"a": 3}, 4)
    ['a: without audio or references (3 of 4 scenes), azimuths are assigned with the smallest total error.']
    """
    return [
        f"{name}: without audio or references{'' if count == scenes else f' ({count} of {scenes} scenes)'}, "
        "azimuths are assigned with the smallest total error."
        for name, count in counts.items()
    ]


def why_not(row: Row, metric: Metric) -> str:
    """Why a row has no value of a metric, without the scene's name, so that equal reasons count together."""
    if metric.field not in row:
        return ABSENT
    reason = str(row.get("error") or row.get("undefined", {}).get(metric.field, ABSENT))
    return re.sub(rf"(?<![\w.-]){re.escape(row['id'])}(?=[/\\:])", "SCENE", reason)


def _numbers(values: Any, inside: Array | None) -> Array | None:
    """Numbers of a field, or of those talkers that are inside; None unless all of them have one."""
    if values is None or (inside is not None and not isinstance(values, list)):
        return None
    listed = values if isinstance(values, list) else [values]
    if inside is not None:
        listed = [v for v, used in zip(listed, inside, strict=True) if used]
    return None if any(v is None for v in listed) else np.array(listed, dtype=np.float64)
