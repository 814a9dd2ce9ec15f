"""What a data set or an RIR bank holds, as an HTML page."""

from __future__ import annotations

import html

from msdet.data.description import Description
from msdet.plots.histograms import histograms
from msdet.report import tables
from msdet.report.document import document, figure_element


def description_page(description: Description, identity: str) -> str:
    """The page: a table of all quantities, and histograms of those that vary.

    Args:
        description: of a data set or a bank.
        identity: of it.
    """
    d = description
    head = tables.column("Quantity", kind="text") + tables.column("of", kind="text")
    head += "".join(tables.column(name) for name in ("n", "Min", "Median", "Max"))
    rows = []
    for quantity in d.quantities:
        name, of = html.escape(quantity.name), html.escape(quantity.of)
        cells = "".join(f"<td>{text.replace('-', '−')}</td>" for text in quantity.numbers())
        cells = f'<td style="text-align: left">{of}</td>{cells}'
        rows.append(f'<tr><th scope="row" class="text">{name}</th>{cells}</tr>')
    facts = "".join(f"<li>{html.escape(fact)}</li>" for fact in d.facts[1:])
    numbers = f'<ul class="notes">{facts}</ul>' + tables.table("Quantities", head, rows)
    sections = {"numbers": ("Numbers", numbers)}
    varying = [quantity for quantity in d.quantities if not quantity.constant]
    if varying:
        label = f"Histograms of {', '.join(quantity.name for quantity in varying)}"
        caption = (
            "Dashed lines are medians. Azimuths are in the array's frame: 0° on its +x axis, "
            "counter-clockwise seen from above."
        )
        figure = figure_element(histograms(varying), 1, label, caption)
        sections["distributions"] = ("Distributions", figure)
    heading = d.title[0].upper() + d.title[1:]
    return document(heading, heading, d.facts[0], sections, f"Hash {identity}")
