"""An HTML page that opens offline: no scripts, and everything in one file."""

from __future__ import annotations

import html

from matplotlib.figure import Figure

from msdet import __version__
from msdet.evaluation.report.style import style_sheet
from msdet.evaluation.report.theme import to_svg

_POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"


def document(title: str, heading: str, about: str, sections: dict[str, tuple[str, str]], source: str) -> str:
    """A page of sections.

    Args:
        title: of the window, text.
        heading: text.
        about: a line below the heading, text.
        sections: by id, the heading as text and the content as HTML.
        source: of what is shown, text for the page's foot.
    """
    links = "".join(f'<li><a href="#{key}">{name}</a></li>' for key, (name, _) in sections.items())
    body = "\n".join(
        f'<section id="{key}" aria-labelledby="{key}-title"><h2 id="{key}-title">{name}</h2>\n'
        f"{content}\n</section>"
        for key, (name, content) in sections.items()
    )
    return _PAGE.format(
        policy=_POLICY,
        style=style_sheet(),
        title=html.escape(title),
        heading=html.escape(heading),
        about=html.escape(about),
        links=links,
        body=body,
        version=html.escape(__version__),
        source=html.escape(source),
    )


def figure_element(figure: Figure, number: int, label: str, caption: str) -> str:
    """A figure of the page as HTML.

    Args:
        figure: drawn in the light colours of the theme.
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
</body>
</html>
"""
