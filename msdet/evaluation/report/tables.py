"""Numbers of the report as HTML: tiles, tables and their cells."""

from __future__ import annotations

import html
from collections.abc import Iterable

from msdet.evaluation.bootstrap import Interval
from msdet.evaluation.report.content import GAIN, Evaluation, Example, Output
from msdet.evaluation.report.theme import LIGHT, Style, degrees
from msdet.evaluation.summary import METRICS, Metric, Summary, paired_difference

_TILES = (GAIN, "stoi", "doa_median_deg", "accuracy_10deg")
_IN_BREAKDOWNS = (GAIN, "doa_mae_deg", "accuracy_5deg")
_OF_TALKER = ("SI-SDR gain (dB)", "azimuth (°)", "error (°)")


def tiles(evaluation: Evaluation) -> str:
    """The model's main scores, each with its difference to the baseline."""
    model, baseline, scores = evaluation.model, evaluation.baseline, evaluation.summary.scores
    items = []
    for key in _TILES:
        metric, interval = METRICS[key], scores[model.name][key].interval
        if interval is None:
            continue
        against = ""
        if baseline is not None and scores[baseline.name][key].interval is not None:
            difference = paired_difference(list(model.rows.values()), list(baseline.rows.values()), key)
            value = with_unit(difference.value, metric, signed=True)
            bounds = _bounds(difference, metric, signed=True)
            against = f"<small>against {html.escape(baseline.name)}: {value} <span>{bounds}</span></small>"
        name = degrees(metric.label).partition(" (")[0]
        items.append(
            f'<li><span class="name">{html.escape(name[0].upper() + name[1:])}</span>'
            f"<strong>{with_unit(interval.value, metric)}</strong>"
            f"<small>{_bounds(interval, metric)}</small>{against}</li>"
        )
    return f'<ul class="tiles">{"".join(items)}</ul>'


def headline(summary: Summary, looks: dict[str, Style]) -> str:
    """All systems by all metrics that any of them has."""
    keys = [key for key in METRICS if summary.compared[key]]
    head = column("System", kind="text") + "".join(
        column(degrees(METRICS[key].label), f"n = {summary.compared[key]}") for key in keys
    )
    rows = []
    for name, scores in summary.scores.items():
        cells = "".join(_cell(scores[key].interval, METRICS[key]) for key in keys)
        role = next(role for role, colour in LIGHT.items() if colour == looks[name].colour)
        mark = f'<span class="mark" style="background: var(--{role})"></span>'
        rows.append(f'<tr><th scope="row" class="text">{mark}{html.escape(name)}</th>{cells}</tr>')
    return table("All systems", head, rows)


def breakdown(summary: Summary, title: str) -> str:
    """One breakdown: all bins by all systems."""
    head = column("Scenes", kind="text") + column("System", kind="text") + column("n")
    head += "".join(column(degrees(METRICS[key].label)) for key in _IN_BREAKDOWNS)
    rows = []
    for name, by_system in summary.breakdowns[title].items():
        for system, found in by_system.items():
            n = max((interval.n for interval in found.values()), default=0)
            cells = "".join(_cell(found.get(key), METRICS[key]) for key in _IN_BREAKDOWNS)
            rows.append(
                f'<tr><th scope="row" class="text">{html.escape(degrees(name))}</th>'
                f'<th scope="row" class="text">{html.escape(system)}</th><td>{n}</td>{cells}</tr>'
            )
    return table(degrees(title), head, rows)


def talkers(example: Example) -> str:
    """Scores and directions of each talker of a scene."""
    groups = "".join(
        f'<th scope="colgroup" colspan="{len(_OF_TALKER)}">{html.escape(name)}</th>'
        for name in example.outputs
    )
    head = column("Talker", kind="text") + column("Distance (m)") + column("Azimuth (°)")
    head += "".join(column(text) for _ in example.outputs for text in _OF_TALKER)
    rows = []
    for t, source in enumerate(example.scene.sources):
        cells = f"<td>{source.distance_m:.2f}</td><td>{source.azimuth_deg:.1f}</td>"
        for output in example.outputs.values():
            azimuth = None if output.azimuths_deg is None else float(output.azimuths_deg[t])
            values = (_of_talker(output, GAIN, t), azimuth, _of_talker(output, "doa_error_deg", t))
            cells += "".join(f"<td>{'–' if v is None else number(v, 1)}</td>" for v in values)
        rows.append(f'<tr><th scope="row" class="text">{t + 1}</th>{cells}</tr>')
    return table("Talkers", f'<td colspan="3"></td>{groups}</tr><tr>{head}', rows)


def table(caption: str, head: str, rows: Iterable[str], kind: str = "scores") -> str:
    """A table that scrolls sideways where it is too wide, by mouse or keyboard.

    Args:
        caption: text.
        head: cells of the head as HTML.
        rows: ``<tr>`` elements.
        kind: class of its box.
    """
    label = html.escape(f"{caption}, table")
    return (
        f'<div class="wide {kind}" tabindex="0" role="group" aria-label="{label}">'
        f"<table><caption>{html.escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>\n"
    )


def column(name: str, below: str = "", kind: str = "") -> str:
    """The head of a column, from text."""
    small = f"<small>{html.escape(below)}</small>" if below else ""
    return f'<th scope="col" class="{kind}">{html.escape(name)}{small}</th>'


def number(value: float, decimals: int, signed: bool = False) -> str:
    """A number with a true minus sign; a zero has no sign.

    >>> number(-1.25, 1), number(3.0, 1, signed=True), number(-0.01, 1)
    ('−1.2', '+3.0', '0.0')
    """
    text = f"{value:{'+' if signed else ''}.{decimals}f}"
    return text.lstrip("+-") if float(text) == 0.0 else text.replace("-", "−")


def with_unit(value: float, metric: Metric, signed: bool = False) -> str:
    """A value of a metric, or with a sign a difference of two, with its unit as HTML."""
    unit = degrees(metric.label).removesuffix(")").partition(" (")[2]
    if signed and unit == "%":
        unit = "points"
    space = "" if unit in ("", "°") else " "
    return number(value * metric.scale, metric.decimals, signed) + space + html.escape(unit)


def _of_talker(output: Output, field: str, talker: int) -> float | None:
    values = output.row.get(field)
    return None if not values or values[talker] is None else float(values[talker])


def _cell(interval: Interval | None, metric: Metric) -> str:
    if interval is None:
        return "<td>–</td>"
    value = number(interval.value * metric.scale, metric.decimals)
    return f"<td>{value}<small>{_bounds(interval, metric)}</small></td>"


def _bounds(interval: Interval, metric: Metric, signed: bool = False) -> str:
    """The ends of an interval in brackets; nothing for fewer than two scenes."""
    if interval.low is None or interval.high is None:
        return ""
    low, high = (number(x * metric.scale, metric.decimals, signed) for x in (interval.low, interval.high))
    return f"[{low}, {high}]"
