"""``msdet describe``."""

from __future__ import annotations

from pathlib import Path

from msdet.errors import MsdetError
from msdet.io.files import write_text


def describe(data: Path, out: Path | None = None) -> None:
    """Count and draw what a data set or an RIR bank holds.

    Args:
        data: folder of the data set or bank; may come first, unnamed.
        out: page of histograms to write, an .html file that opens offline; without it, numbers alone.
    """
    from msdet.data.description import describe_bank, describe_set
    from msdet.data.scene_set import SceneSet
    from msdet.scenes.rir.bank import HEADER, RirBank

    if out is not None and out.suffix != ".html":
        raise MsdetError(f"{out}: the page's name must end in .html")
    if (data / HEADER).is_file():
        bank = RirBank.open(data)
        description, identity = describe_bank(bank), bank.identity
    else:
        scene_set = SceneSet.open(data)
        description, identity = describe_set(scene_set), scene_set.identity
    print(description.title)
    for fact in description.facts:
        print(f"  {fact}")
    rows = [("", "of", "n", "min", "median", "max")]
    rows += [(q.name, q.of, *q.numbers()) for q in description.quantities]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        text = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
        text += [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        print("  " + "  ".join(text))
    if out is not None:
        from msdet.report.description_page import description_page

        write_text(out, description_page(description, identity))
        print(f"{out}: {out.stat().st_size / 1e3:.0f} kB")
