"""Numbers of the report as HTML: tiles, tables and their cells."""

from __future__ import annotations

import html
from collections.abc import Iterable

from msdet.plots.theme import LIGHT, Style, degrees
from msdet.scoring.comparison import Difference
from msdet.scoring.metrics import METRICS, Metric
from msdet.scoring.statistics import ConfidenceInterval
from msdet.scoring.summary import Summary


def breakdown(summary: Summary, title: str, metrics: Iterable[str]) -> str:
    """One breakdown: all bins by all systems."""
    keys = list(metrics)
    head = column("Bin", kind="text") + column("System", kind="text") + column("Scenes")
    head += "".join(column(degrees(METRICS[key].label), interval=True) for key in keys)
    rows = []
    for name, by_system in summary.breakdowns[title].items():
        for system, found in by_system.items():
            n = max((found[key].n for key in keys if key in found), default=0)
            cells = "".join(cell(found.get(key), METRICS[key]) for key in keys)
            rows.append(
                f'<tr><th scope="row" class="text">{html.escape(degrees(name))}</th>'
                f'<th scope="row" class="text">{html.escape(system)}</th><td>{n}</td>{cells}</tr>'
            )
    return table(degrees(title), head, rows, copied=True)


def table(
    caption: str,
    head: str,
    rows: Iterable[str],
    kind: str = "scores",
    key: str = "",
    foot: str = "",
    sorted_by: bool = False,
    copied: bool = False,
) -> str:
    """A table that scrolls sideways where it is too wide, by mouse or keyboard.

    Args:
        caption: text.
        head: cells of the head as HTML.
        rows: ``<tr>`` elements.
        kind: class of its box.
        key: id of its box.
        foot: ``<tr>`` elements of the foot.
        sorted_by: whether its columns sort.
        copied: whether it can be copied.
    """
    label = html.escape(f"{caption}, table")
    marks = (f' id="{key}"' if key else "") + (" data-copy" if copied else "")
    sortable = ' class="sortable"' if sorted_by else ""
    foot = f"<tfoot>{foot}</tfoot>" if foot else ""
    return (
        f'<div class="wide {kind}" tabindex="0" role="group" aria-label="{label}"{marks}>'
        f"<table{sortable}><caption>{html.escape(caption)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>{foot}</table></div>\n"
    )


def column(name: str, below: str = "", kind: str = "", interval: bool = False, more: str = "") -> str:
    """The head of a column, from text.

    Args:
        name: of the column.
        below: smaller, in a line of its own.
        kind: class; ``text`` for columns of text.
        interval: whether its cells have one.
        more: attributes.
    """
    small = f"<small>{html.escape(below)}</small>" if below else ""
    marks = (f' class="{kind}"' if kind else "") + (" data-interval" if interval else "") + more
    return f'<th scope="col"{marks}>{html.escape(name)}{small}</th>'


def cell(interval: ConfidenceInterval | None, metric: Metric, mark: str = "") -> str:
    """A value with its interval; a dash without one.

    Args:
        interval: of the metric.
        metric: how it is shown.
        mark: HTML behind the value.
    """
    if interval is None:
        return "<td>–</td>"
    scaled = [None if x is None else x * metric.scale for x in interval[:3]]
    data = "".join(
        f' data-{name}="{x:.{metric.decimals}f}"'
        for name, x in zip(("value", "low", "high"), scaled, strict=True)
        if x is not None
    )
    value = number(interval.value * metric.scale, metric.decimals)
    return f"<td{data}>{value}{mark}<small>{bounds(interval, metric)}</small></td>"


def bounds(interval: ConfidenceInterval | Difference, metric: Metric, signed: bool = False) -> str:
    """The ends of an interval in brackets; nothing for fewer than two scenes."""
    if interval.low is None or interval.high is None:
        return ""
    low, high = (number(x * metric.scale, metric.decimals, signed) for x in (interval.low, interval.high))
    return f"[{low}, {high}]"


def name_of_system(name: str, looks: dict[str, Style], tag: str = "") -> str:
    """A system's name behind a dot of its color, as HTML, and a tag below it in small."""
    role = next(role for role, color in LIGHT.items() if color == looks[name].color)
    below = f"<small>{html.escape(tag)}</small>" if tag else ""
    return f'<span class="mark" style="background: var(--{role})"></span>{html.escape(name)}{below}'


def select(name: str, label: str, options: dict[str, str], chosen: str = "", more: str = "") -> str:
    """A labeled choice of a form.

    Args:
        name: of the field.
        label: text.
        options: texts by value.
        chosen: value; the first without it.
        more: attributes.
    """
    items = ""
    for value, text in options.items():
        mark = " selected" if value == chosen else ""
        items += f'<option value="{html.escape(value)}"{mark}>{html.escape(text)}</option>'
    return f'<label>{html.escape(label)} <select name="{name}"{more}>{items}</select></label>'


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
