"""Colors and type of the report, and how a figure becomes part of the page or a file.

Figures are drawn once, in the light colors. In the page their colors are CSS variables, so that the same
drawing follows the reader's light or dark scheme; in a PNG file they stay light.
"""

from __future__ import annotations

import html
import io
import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from msdet.scoring.metrics import UNPROCESSED

_ROLES = {
    "ink": ("#1b1f24", "#e6e9ee"),
    "muted": ("#5a6472", "#a5afbc"),
    "grid": ("#d8dde4", "#363d47"),
    "shade": ("#eef1f5", "#20252c"),
    "surface": ("#ffffff", "#14171c"),
    "blue": ("#116ae9", "#0d9ffe"),
    "vermillion": ("#e0770c", "#f59b4e"),
    "green": ("#256f55", "#38ddb2"),
    "purple": ("#81427a", "#e5b3e4"),
    "rose": ("#cc2e5e", "#e1080e"),
    "olive": ("#565b0b", "#f6f348"),
    "sky": ("#00a0c8", "#037fa0"),
    "ultramarine": ("#0400ee", "#0f51ff"),
    "forest": ("#0a360e", "#c6ffb3"),
    "plum": ("#5e0157", "#e75273"),
    "slate": ("#76808d", "#8e98a5"),
}
"""Light and dark color of each role.

Any two of the hues, and gray and ink, are at least 11 apart (CIEDE2000) for normal eyes and for those that lack the
red, green or blue cones (simulated after Machado et al., IEEE TVCG 15(6), 2009), in the light and in the dark scheme,
and 3:1 against the page. A marker repeats what a color says.
"""

LIGHT, DARK = ({role: colors[scheme] for role, colors in _ROLES.items()} for scheme in (0, 1))
INK, MUTED, GRID, SHADE, SURFACE = (LIGHT[role] for role in ("ink", "muted", "grid", "shade", "surface"))

Dashes = str | tuple[int, tuple[float, ...]]
"""A line style of matplotlib: a name, or an offset and lengths of dashes and gaps."""

WIDTH_IN = 9.6  # of a figure
MANY_POINTS = 500  # beyond, points are faint and drawn as an image
HUES = tuple(LIGHT)[5:-1]  # roles of the colors that systems have, the best to tell apart first
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", "h", ">")
_DASHES: tuple[Dashes, ...] = (
    "-", "--", "-.", (0, (1, 2.5)), (0, (9, 2)), (0, (4, 1, 1, 1, 1, 1)), (0, (4, 4)), (0, (9, 2, 3, 2)),
    (0, (2, 1)), (0, (6, 1, 1, 1, 1, 1, 1, 1)),
)  # fmt: skip

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
    **{f"{axis}tick.color": MUTED for axis in "xy"},
    **{f"{axis}tick.labelcolor": INK for axis in "xy"},
    **{f"{axis}tick.labelsize": 8.5 for axis in "xy"},
    "svg.fonttype": "none",
    "svg.hashsalt": "msdet",
    "image.composite_image": False,
}


class Style(NamedTuple):
    """How a system is drawn: its color, its marker, and the dashes of its lines."""

    color: str
    marker: str
    dashes: Dashes = "-"


def styles(systems: Iterable[str]) -> dict[str, Style]:
    """The style of each system, in their order; the unprocessed mixture is gray.

    >>> styles(["model", "unprocessed", "srp_beam"])["srp_beam"] == Style(LIGHT["vermillion"], "s", "--")
    True
    """
    hues, looks = len(HUES), {}
    for n, name in enumerate(name for name in systems if name != UNPROCESSED):
        dashes = _DASHES[(n + n // hues) % len(_DASHES)]
        looks[name] = Style(LIGHT[HUES[n % hues]], _MARKERS[n % len(_MARKERS)], dashes)
    return looks | {UNPROCESSED: Style(LIGHT["slate"], "x", ":")}


def degrees(label: str) -> str:
    """A label with the sign of degrees.

    >>> degrees("DoA MAE (deg)"), degrees("within 5 deg (%)")
    ('DoA MAE (°)', 'within 5° (%)')
    """
    return label.replace("(deg)", "(°)").replace(" deg", "°")


def panel_grid(panels: int, height_in: float, columns: int = 3) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels, in rows of a height."""
    rows = math.ceil(panels / columns)
    figure = Figure((WIDTH_IN, 0.3 + height_in * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in axes[panels:]:
        unused.set_axis_off()
    return figure, axes[:panels]


@contextmanager
def drawing() -> Iterator[None]:
    """The report's settings of matplotlib inside the block, the caller's afterwards."""
    with matplotlib.rc_context(_SETTINGS):
        yield


def to_svg(figure: Figure, label: str, prefix: str) -> str:
    """A figure in the colors of `LIGHT` as an ``<svg>`` element; `label` is for readers who do not see it.

    The prefix distinguishes its element ids from those of the page's other figures.
    """
    buffer = io.StringIO()
    with drawing():
        figure.savefig(buffer, format="svg", facecolor="none", dpi=_PIXELS_PER_INCH)
    figure.set_layout_engine("none")  # as it is: laying out takes longer than drawing
    text = buffer.getvalue()
    body = text[text.index("<svg") :]
    body = re.sub(r"<(metadata|style)\b.*?</\1>", "", body, flags=re.DOTALL)  # a style would reach the page
    body = re.sub(r' id="image\w+"', "", body)  # a hash: equal images would share it
    body = body.replace("'DejaVu Sans'", "system-ui")
    for role, color in LIGHT.items():
        body = body.replace(f": {color}", f": var(--{role})")
    for reference in (' id="', 'href="#', "url(#"):
        body = body.replace(reference, f"{reference}{prefix}-")
    view = re.search(r'viewBox="[^"]*"', body)
    assert view is not None  # matplotlib always writes one
    head = f'<svg role="img" aria-label="{html.escape(label)}" {view[0]}>'
    return head + body[body.index(">") + 1 :].strip()


def panel_boxes(figure: Figure) -> list[tuple[float, float, float, float]]:
    """Boxes (x, y, width, height), in points from the top left, of legends and of panels with all their text.

    They are of a figure that `to_svg` drew, in whose units they are; a screen too narrow for it shows them one by one.
    """
    scale, height = 72.0 / figure.dpi, 72.0 * figure.get_figheight()
    boxes = []
    with drawing():
        figure.draw_without_rendering()
        found_boxes = [part.get_tightbbox() for part in (*figure.legends, *figure.axes) if part.get_visible()]
    for found in found_boxes:
        if found is not None and found.width and found.height:
            left, low, right, top = (scale * value for value in found.extents)
            corner = round(left - 4.0, 1), round(height - top - 3.0, 1)
            boxes.append((*corner, round(right - left + 8.0, 1), round(top - low + 6.0, 1)))
    return boxes


def to_png(figure: Figure) -> bytes:
    """A figure as a PNG file on white."""
    buffer = io.BytesIO()
    with drawing():
        FigureCanvasAgg(figure)
        figure.savefig(buffer, format="png", facecolor=SURFACE, dpi=_PNG_PIXELS_PER_INCH)
    figure.set_layout_engine("none")
    return buffer.getvalue()
