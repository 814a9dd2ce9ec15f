"""The report's headline: all systems by all metrics, and how they differ from the chosen one."""

from __future__ import annotations

import html

from msdet.plots.theme import UNPROCESSED, Style, degrees
from msdet.report import tables
from msdet.report.content import GAIN, Evaluation
from msdet.scoring.comparison import TEST, Difference, differences
from msdet.scoring.metrics import METRICS, Group, Metric
from msdet.scoring.statistics import CONFIDENCE, ConfidenceInterval
from msdet.scoring.summary import summary_tables

Differences = dict[str, dict[str, Difference]]
"""By system and metric: that system less the chosen one."""

_TILES = (GAIN, "stoi", "doa_median_deg", "accuracy_10deg")

_TITLES: tuple[tuple[str, tuple[Group, ...]], ...] = (
    ("Separation", ("separation", "words")),
    ("Direction of arrival", ("doa", "accuracy")),
    ("Direction of arrival, optimal assignment", ("optimal",)),
    ("Talkers detected, whatever their number", ("detection",)),
    ("Moving talkers, frame by frame", ("track",)),
)


def find_differences(evaluation: Evaluation) -> Differences:
    """Every other system less the chosen one, in all metrics of the tables that both have."""
    keys = [key for key, metric in METRICS.items() if metric.group and evaluation.summary.compared[key]]
    keys += [key for key in _TILES if key not in keys and evaluation.summary.compared[key]]
    chosen = list(evaluation.chosen.rows.values())
    return {
        name: differences(list(system.rows.values()), chosen, _shared(evaluation, name, keys))
        for name, system in evaluation.systems.items()
        if system is not evaluation.chosen
    }


def tiles(evaluation: Evaluation, found: Differences) -> str:
    """The chosen system's main scores, each with its difference to the next best that has it."""
    scores = evaluation.summary.scores[evaluation.chosen.name]
    items = []
    for key in _TILES:
        metric, interval = METRICS[key], scores[key].interval
        if interval is None:
            continue
        against = ""
        # a gain is over the mixture already
        rivals = [name for name in found if key in found[name] and (key, name) != (GAIN, UNPROCESSED)]
        if rivals:
            d = _turned(found[rivals[0]][key])
            value = tables.with_unit(d.value, metric, signed=True)
            bounds = tables.bounds(d, metric, signed=True)
            against = f"<small>against {html.escape(rivals[0])}: {value} <span>{bounds}</span></small>"
        name = degrees(metric.label).partition(" (")[0]
        items.append(
            f'<li><span class="name">{html.escape(name[0].upper() + name[1:])}</span>'
            f"<strong>{tables.with_unit(interval.value, metric)}</strong>"
            f"<small>{tables.bounds(interval, metric)}</small>{against}</li>"
        )
    return f'<ul class="tiles" aria-label="{html.escape(evaluation.chosen.name)}">{"".join(items)}</ul>'


def headline(evaluation: Evaluation, found: Differences, looks: dict[str, Style]) -> str:
    """Tables of all systems by all metrics that any of them has, with marks of significance, and notes."""
    summary = evaluation.summary
    parts = []
    for title, groups in _TITLES:
        keys = [key for key, m in METRICS.items() if m.group in groups and summary.compared[key]]
        if not keys or (groups == ("detection",) and _counts_are_right(evaluation)):
            continue
        head = tables.column("System", kind="text") + "".join(_head(evaluation, key) for key in keys)
        rows = []
        for name, scores in summary.scores.items():
            cells = "".join(
                tables.cell(
                    scores[key].interval, METRICS[key], _mark(found.get(name, {}).get(key), METRICS[key])
                )
                for key in keys
            )
            label = tables.name_of_system(name, looks, "oracle" if name in evaluation.oracles else "")
            rows.append(f'<tr><th scope="row" class="text">{label}</th>{cells}</tr>')
        parts.append(tables.table(title, head, rows, sorted_by=True, copied=True))
    _, notes = summary_tables(summary)
    if found:
        chosen = evaluation.chosen.name
        test = f"▲ significantly better, ▼ significantly worse than {chosen}; {TEST}"
        notes = [notes[0], test, *notes[1:]]
    if evaluation.oracles:
        notes.append(
            f"oracles ({', '.join(evaluation.oracles)}) are told the references or directions of every "
            "scene: they show what such a method reaches at best."
        )
    return "".join(parts) + f'<ul class="notes">{"".join(f"<li>{html.escape(n)}</li>" for n in notes)}</ul>'


def difference_tables(evaluation: Evaluation, found: Differences) -> str:
    """The chosen system less each other, metric by metric, as HTML."""
    chosen = evaluation.chosen.name
    head = tables.column("Against", kind="text") + tables.column("Metric", kind="text")
    head += tables.column("Difference", interval=True) + tables.column("p") + tables.column("Scenes")
    rows = []
    for name, of in found.items():
        for key, less in of.items():
            metric, d = METRICS[key], _turned(less)
            interval = ConfidenceInterval(d.value, d.low, d.high, d.n)
            p = "–" if d.p is None else f"{d.p:.4f} {d.mark}"
            rows.append(
                f'<tr><th scope="row" class="text">{html.escape(name)}</th>'
                f'<th scope="row" class="text">{html.escape(degrees(metric.label))}</th>'
                f"{tables.cell(interval, metric)}<td>{p}</td><td>{d.n}</td></tr>"
            )
    if not rows:
        return ""
    caption = f"{chosen} less each other system, {CONFIDENCE:.0%} paired interval"
    table = tables.table(caption, head, rows, sorted_by=True, copied=True)
    return f"<details><summary>Paired differences of {html.escape(chosen)}</summary>{table}</details>"


def _shared(evaluation: Evaluation, name: str, keys: list[str]) -> list[str]:
    """Metrics that both a system and the chosen one have in some scene."""
    scores = evaluation.summary.scores
    return [k for k in keys if all(scores[n][k].scored for n in (name, evaluation.chosen.name))]


def _turned(d: Difference) -> Difference:
    """The difference the other way round."""
    low, high = (None if x is None else -x for x in (d.high, d.low))
    return Difference(d.second, d.first, -d.value, low, high, d.p, d.n)


def _head(evaluation: Evaluation, key: str) -> str:
    metric = METRICS[key]
    first = f' data-first="{"largest" if metric.higher_is_better else "smallest"}"'
    below = f"n = {evaluation.summary.compared[key]}"
    return tables.column(degrees(metric.label), below, interval=True, more=first)


def _mark(d: Difference | None, metric: Metric) -> str:
    """Whether a system is better or worse than the chosen one, and how sure that is."""
    if d is None or not d.mark:
        return ""
    better = (d.value > 0) == metric.higher_is_better
    sign, word = ("▲", "better") if better else ("▼", "worse")
    return f'<span class="sign">{sign}{d.mark}</span><span class="unseen"> significantly {word}</span>'


def _counts_are_right(evaluation: Evaluation) -> bool:
    """Whether every system always gives as many directions as there are talkers."""
    scores = (of["count_accuracy"].interval for of in evaluation.summary.scores.values())
    return all(interval is None or interval.value == 1.0 for interval in scores)
