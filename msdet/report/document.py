"""An HTML page that opens offline: everything in one file, and no script but ours, named by its hash."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from importlib import resources
from typing import Any

from matplotlib.figure import Figure

from msdet import __version__
from msdet.plots.theme import to_svg
from msdet.report.style import style_sheet

SCRIPT = "page.js"
"""File beside this one: the script of the pages that have one."""

_POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"


def document(
    title: str,
    heading: str,
    about: str,
    sections: dict[str, tuple[str, str]],
    source: str,
    script: bool = False,
) -> str:
    """A page of sections.

    Args:
        title: of the window, text.
        heading: text.
        about: a line below the heading, text.
        sections: by id, the heading as text and the content as HTML.
        source: of what is shown, text for the page's foot.
        script: whether tables sort, filter and so on.
    """
    code = resources.files(__package__).joinpath(SCRIPT).read_text(encoding="utf-8") if script else ""
    policy = _POLICY + (f"; script-src '{_hash(code)}'" if code else "")
    links = "".join(f'<li><a href="#{key}">{name}</a></li>' for key, (name, _) in sections.items())
    body = "\n".join(
        f'<section id="{key}" aria-labelledby="{key}-title"><h2 id="{key}-title">{name}</h2>\n'
        f"{content}\n</section>"
        for key, (name, content) in sections.items()
    )
    return _PAGE.format(
        policy=policy,
        style=style_sheet(),
        title=html.escape(title),
        heading=html.escape(heading),
        about=html.escape(about),
        links=links,
        body=body,
        version=html.escape(__version__),
        source=html.escape(source),
        script=f"<script>{code}</script>\n" if code else "",
    )


def data_element(key: str, value: Any) -> str:
    """Data for the script, as an element with an id; values that JSON can express."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="{key}">{text}</script>\n'


def _hash(code: str) -> str:
    """How a content security policy names a script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}"


def figure_element(figure: Figure, number: int, label: str, caption: str) -> str:
    """A figure of the page as HTML.

    Args:
        figure: drawn in the light colors of the theme.
        number: of the figure on the page.
        label: what it shows, for readers who do not see it.
        caption: text below it.
    """
    return (
        f'<figure><div class="wide" tabindex="0" role="group" aria-label="Figure {number}">'
        f"{to_svg(figure, label, f'f{number}')}</div>"
        f"<figcaption>{html.escape(caption)}</figcaption></figure>\n"
    )


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the results</a>
<header>
<h1>{heading}</h1>
<p class="about">{about}</p>
<nav aria-label="Sections"><ul>{links}</ul></nav>
</header>
<main id="main">
{body}
</main>
<footer>Drawn by msdet {version}. {source}.</footer>
{script}</body>
</html>
"""
