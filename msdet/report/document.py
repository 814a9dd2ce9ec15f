"""HTML pages that open offline: one file each, from templates, with no script but ours, named by its hash.

Whatever a template is given is text, and escaped, but for the drawings of `PageFigure`.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from typing import Any, NamedTuple

import jinja2
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from msdet import __version__
from msdet.conventions import Array
from msdet.io import audio
from msdet.plots.theme import DARK, LIGHT, Style, degrees, panel_boxes, to_svg
from msdet.report.conditions import short
from msdet.scoring import tables
from msdet.scoring.comparison import Difference
from msdet.scoring.metrics import METRICS, Metric
from msdet.scoring.statistics import ConfidenceInterval

_POLICY = (
    "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)

_PEAK = 0.9  # of what is played together


class PageFigure(NamedTuple):
    """A drawing on a page, by its number there; the note stands after the caption that the template has.

    Where it is too wide, its panels are shown one below the other, by their boxes in it (`panel_boxes`).
    """

    number: int
    svg: Markup
    panels: list[tuple[float, float, float, float]]
    note: str = ""


def page_figure(figure: Figure, number: int, label: str, note: str = "") -> PageFigure:
    """A figure, drawn in the light colors of the theme, for a page; `label` is for readers who do not see it."""
    return PageFigure(number, Markup(to_svg(figure, label, f"f{number}")), panel_boxes(figure), note)


def playback_gain(*signals: Array) -> float:
    """The gain with which signals are played together: the loudest sample of all is just below full scale."""
    peak = max((float(np.abs(signal).max(initial=0.0)) for signal in signals), default=0.0)
    return _PEAK / peak if peak > 0.0 else 1.0


def sound_url(signal: Array, sample_rate: int) -> str:
    """A signal ``(time,)``, compressed, as a data URL for a player."""
    content, kind = audio.clip(signal, sample_rate)
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def render_page(template: str, script: str = "", **content: Any) -> str:
    """A page by its template, which extends ``base.html``, and maybe a script beside it.

    The content is at least ``title`` of the window, ``heading``, lines ``about`` what is shown, ``sections`` by id,
    and the ``source`` for the foot, all of them text.
    """
    code = resources.files(__package__).joinpath("templates", script).read_text("utf-8") if script else ""
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    policy = f"{_POLICY}; script-src 'sha256-{digest}'" if code else _POLICY
    return _TEMPLATES.get_template(template).render(policy=policy, script=Markup(code), **content)


def number(value: float | None, decimals: int = 1, signed: bool = False) -> str:
    """A number with a true minus sign; a zero has no sign, None is a dash.

    >>> number(-1.25, 1), number(3.0, 1, signed=True), number(-0.01, 1), number(None)
    ('−1.2', '+3.0', '0.0', '–')
    """
    return "–" if value is None else tables.number(value, decimals, signed=signed).replace("-", "−")


def _bounds(interval: ConfidenceInterval | Difference, metric: Metric, signed: bool = False) -> str:
    """The ends of an interval in brackets; nothing for fewer than two scenes."""
    if interval.low is None or interval.high is None:
        return ""
    low, high = (number(x * metric.scale, metric.decimals, signed) for x in (interval.low, interval.high))
    return f"[{low}, {high}]"


def _with_unit(value: float, metric: Metric, signed: bool = False) -> str:
    """A value of a metric, or with a sign a difference of two, with its unit."""
    unit = degrees(metric.label).removesuffix(")").partition(" (")[2]
    if signed and unit == "%":
        unit = "points"
    space = "" if unit in ("", "°") else " "
    return number(value * metric.scale, metric.decimals, signed) + space + unit


def _plain(value: float, metric: Metric) -> str:
    """A value of a metric for programs to read."""
    return f"{value * metric.scale:.{metric.decimals}f}"


def _in_sentence(title: str) -> str:
    """A title inside a sentence: without its capital, unless it is an abbreviation."""
    return title if title[1:2].isdigit() or title[1:2].isupper() else title[0].lower() + title[1:]


def _color_role(style: Style) -> str:
    """The name of the style's color."""
    return next(role for role, color in LIGHT.items() if color == style.color)


_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader(__package__),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
_TEMPLATES.globals.update(light=LIGHT, dark=DARK, metrics=METRICS, version=__version__)
_TEMPLATES.filters.update(
    bounds=_bounds, color_role=_color_role, degrees=degrees, in_sentence=_in_sentence, number=number,
    plain=_plain, short=short, with_unit=_with_unit,
)  # fmt: skip
