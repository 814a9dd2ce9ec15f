"""The report's main results: all systems by all metrics, and how they differ from the chosen one."""

from __future__ import annotations

from typing import Any

from msdet.report.content import SI_SDRI, Evaluation
from msdet.scoring.comparison import TEST, Difference, differences
from msdet.scoring.metrics import METRICS, UNPROCESSED, Group
from msdet.scoring.summary import summary_tables

_TILES = (SI_SDRI, "stoi", "doa_median_deg", "accuracy_10deg")

_TITLES: tuple[tuple[str, tuple[Group, ...]], ...] = (
    ("Separation", ("separation", "words")),
    ("Direction of arrival", ("doa", "accuracy")),
    ("Direction of arrival, optimal assignment", ("optimal",)),
    ("Talkers detected, whatever their number", ("detection",)),
    ("Moving talkers, frame by frame", ("track",)),
)


def main_results(evaluation: Evaluation) -> dict[str, Any]:
    """What the template shows: tiles, tables with the metrics of each, notes, and paired differences."""
    summary = evaluation.summary
    differ = _differences(evaluation)
    tables = []
    for title, groups in _TITLES:
        keys = [key for key, m in METRICS.items() if m.group in groups and summary.compared[key]]
        if keys and not (groups == ("detection",) and summary.counts_are_right):
            tables.append((title, keys))
    return {
        "tiles": _tiles(evaluation, differ),
        "tables": tables,
        "notes": _notes(evaluation, bool(differ)),
        "differences": differ,
    }


def _differences(evaluation: Evaluation) -> dict[str, dict[str, Difference]]:
    """By system and metric: the chosen system less that one, in all metrics that both have."""
    compared = evaluation.summary.compared
    keys = [key for key, metric in METRICS.items() if compared[key] and (metric.group or key in _TILES)]
    chosen = list(evaluation.chosen.rows.values())
    return {
        name: differences(chosen, list(system.rows.values()), keys)
        for name, system in evaluation.systems.items()
        if system is not evaluation.chosen
    }


def _tiles(evaluation: Evaluation, differ: dict[str, dict[str, Difference]]) -> list[dict[str, Any]]:
    """The chosen system's main scores, each with its difference to the next best that has it."""
    scores = evaluation.summary.scores[evaluation.chosen.name]
    tiles = []
    for key in _TILES:
        # an improvement is over the mixture already
        rivals = [name for name in differ if key in differ[name] and (key, name) != (SI_SDRI, UNPROCESSED)]
        if scores[key].interval is not None:
            rival = rivals[0] if rivals else ""
            difference = differ[rival][key] if rivals else None
            tile = {"metric": METRICS[key], "interval": scores[key].interval}
            tiles.append(tile | {"rival": rival, "difference": difference})
    return tiles


def _notes(evaluation: Evaluation, has_differences: bool) -> list[str]:
    _, notes = summary_tables(evaluation.summary)
    if has_differences:
        chosen = evaluation.chosen.name
        notes.insert(1, f"▲ significantly better, ▼ significantly worse than {chosen}; {TEST}")
    if evaluation.oracles:
        notes.append(
            f"Oracles ({', '.join(evaluation.oracles)}) use the references or true directions of every "
            "scene: they show what such a method reaches at best."
        )
    return notes
