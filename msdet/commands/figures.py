"""``msdet figures``."""

from __future__ import annotations

from pathlib import Path

from msdet.errors import MsdetError
from msdet.files import atomic_path, write_text


def figures(evaluation: Path, data: Path, out: Path, run: Path | None = None) -> None:
    """Draw the page of figures of an evaluation: scores, learning curves, directions, scenes to hear.

    The page is one HTML file that opens offline; the main figures are also written as PNG files into the
    folder beside it that has its name without the suffix.

    Args:
        evaluation: folder that msdet evaluate wrote.
        data: the data set that was evaluated.
        out: the page, an .html file.
        run: folder of the training run, for its learning curves.
    """
    if out.suffix != ".html":
        raise MsdetError(f"{out}: the page's name must end in .html")
    from msdet.evaluation.report.page import Report

    report = Report(evaluation, data, run)
    folder = out.with_suffix("")
    for name, image in report.images.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes(image)
    write_text(out, report.html)
    size = len(report.html.encode()) / 1e6
    print(f"{out}: {report.figures} figures, {size:.1f} MB; {len(report.images)} images in {folder}")
