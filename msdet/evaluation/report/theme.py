"""Colours and type of the report, and how a figure becomes part of the page or a file.

Figures are drawn once, in the light colours. In the page their colours are CSS variables, so that the same
drawing follows the reader's light or dark scheme; in a PNG file they stay light.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

UNPROCESSED = "unprocessed"
"""The system that hands out the mixture; it is grey."""

LIGHT = {
    "ink": "#1b1f24",
    "muted": "#5a6472",
    "grid": "#d8dde4",
    "shade": "#eef1f5",
    "surface": "#ffffff",
    "blue": "#0072b2",
    "vermillion": "#d55e00",
    "green": "#00876a",
    "purple": "#aa4499",
    "slate": "#76808d",
}
"""Light colours by role. The four hues are told apart under every common colour blindness (Okabe and Ito,
"Color universal design", 2008; Tol, SRON/EPS/TN/09-002), and a marker repeats what a colour says."""

DARK = {
    "ink": "#e6e9ee",
    "muted": "#a5afbc",
    "grid": "#363d47",
    "shade": "#20252c",
    "surface": "#14171c",
    "blue": "#5ab8ee",
    "vermillion": "#ff9350",
    "green": "#35cda4",
    "purple": "#e08fd0",
    "slate": "#8e98a5",
}
"""The same roles in the dark scheme."""

INK, MUTED, GRID, SHADE, SURFACE = (LIGHT[role] for role in ("ink", "muted", "grid", "shade", "surface"))

WIDTH_IN = 9.6
"""Width of a figure in inches."""

_HUES = ("blue", "vermillion", "green", "purple")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES = ("-", "--", "-.", ":")
_PIXELS_PER_INCH = 130  # of images inside an SVG: sharp at the page's width, small enough to embed
_PNG_PIXELS_PER_INCH = 150

_SETTINGS: Any = {  # any: the type of the keys differs between versions of matplotlib
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.labelsize": 9.0,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "lines.linewidth": 1.6,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 8.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "msdet",
    "image.composite_image": False,
}


class Style(NamedTuple):
    """How a system is drawn: its colour, its marker, and the dashes of its lines."""

    colour: str
    marker: str
    dashes: str = "-"


def styles(systems: Iterable[str]) -> dict[str, Style]:
    """The style of each system, in their order; the unprocessed mixture is grey.

    >>> found = styles(["model", "unprocessed", "srp_beam"])
    >>> found["srp_beam"] == Style(LIGHT["vermillion"], "s", "--")
    True
    """
    drawn = [name for name in systems if name != UNPROCESSED]
    hues = len(_HUES)
    found = {
        name: Style(
            LIGHT[_HUES[n % hues]], _MARKERS[n % len(_MARKERS)], _DASHES[(n + n // hues) % len(_DASHES)]
        )
        for n, name in enumerate(drawn)
    }
    return found | {UNPROCESSED: Style(LIGHT["slate"], "x", ":")}


def degrees(label: str) -> str:
    """A label with the sign of degrees.

    >>> degrees("DoA MAE (deg)"), degrees("within 5 deg (%)")
    ('DoA MAE (°)', 'within 5° (%)')
    """
    return label.replace("(deg)", "(°)").replace(" deg", "°")


@contextmanager
def drawing() -> Iterator[None]:
    """The report's settings of matplotlib inside the block, the caller's afterwards."""
    with matplotlib.rc_context(_SETTINGS):
        yield


def css_variables(colours: dict[str, str]) -> str:
    """Colours as CSS declarations ``--role: #rrggbb``."""
    return " ".join(f"--{role}: {colour};" for role, colour in colours.items())


def to_svg(figure: Figure, label: str, prefix: str) -> str:
    """A figure as an ``<svg>`` element for the page.

    Args:
        figure: drawn in the colours of `LIGHT`.
        label: what it shows, for readers who do not see it.
        prefix: distinguishes its element ids from those of the page's other figures.
    """
    buffer = io.StringIO()
    with drawing():
        figure.savefig(buffer, format="svg", facecolor="none", dpi=_PIXELS_PER_INCH)
    text = buffer.getvalue()
    body = text[text.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'<style type="text/css">.*?</style>', "", body, flags=re.DOTALL)  # would reach the page
    body = re.sub(r' id="image\w+"', "", body)  # a hash: equal images would share it
    body = body.replace("'DejaVu Sans'", "system-ui")
    for role, colour in LIGHT.items():
        body = body.replace(f": {colour}", f": var(--{role})")
    for reference in (' id="', 'href="#', "url(#"):
        body = body.replace(reference, f"{reference}{prefix}-")
    view = re.search(r'viewBox="[^"]*"', body)
    assert view is not None  # matplotlib always writes one
    head = f'<svg role="img" aria-label="{html.escape(label)}" {view[0]}>'
    return head + body[body.index(">") + 1 :].strip()


def to_png(figure: Figure) -> bytes:
    """A figure as a PNG file on white."""
    buffer = io.BytesIO()
    with drawing():
        FigureCanvasAgg(figure)
        figure.savefig(buffer, format="png", facecolor=SURFACE, dpi=_PNG_PIXELS_PER_INCH)
    return buffer.getvalue()
