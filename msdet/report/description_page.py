"""What a data set or an RIR bank holds, as an HTML page."""

from __future__ import annotations

from msdet.data.description import Description
from msdet.plots.histograms import histograms
from msdet.report.document import page_figure, render_page


def description_page(description: Description, identity: str) -> str:
    """The page: a table of all quantities, and histograms of those that vary; `identity` is a hash."""
    varying = [quantity for quantity in description.quantities if not quantity.constant]
    figure = None
    if varying:
        label = f"Histograms of {', '.join(quantity.name for quantity in varying)}"
        figure = page_figure(histograms(varying), 1, label)
    heading = description.title[0].upper() + description.title[1:]
    return render_page(
        "description.html",
        title=heading,
        heading=heading,
        about=description.facts[:1],
        sections={"numbers": "Numbers"} | ({"distributions": "Distributions"} if figure else {}),
        facts=description.facts[1:],
        quantities=description.quantities,
        figure=figure,
        source=f"Hash {identity}",
    )
