"""``msdet report``."""

from __future__ import annotations

from pathlib import Path

from msdet.errors import MsdetError
from msdet.io.files import write_bytes, write_text

NONE: list[str] = []


def report(
    evaluation: Path,
    data: Path,
    out: Path,
    run: Path | None = None,
    system: str | None = None,
    show: list[str] = NONE,
    estimates: list[str] = NONE,
    images: Path | None = None,
) -> None:
    """Draw an evaluation as one page: scores, conditions, directions, learning curves, scenes to hear.

    The page is one HTML file that opens offline, with every system of the evaluation.

    Args:
        evaluation: folder that msdet evaluate or msdet score wrote; may come first, unnamed.
        data: the data set that was evaluated.
        out: the page, an .html file.
        run: folder of a training run, for its learning curves.
        system: the system that the page is about; if not given, the one called model, else the best that is no oracle.
        show: ids of scenes to see and hear besides the system's best, median and worst.
        estimates: of systems whose estimates are not where they were when scored, name=folder.
        images: folder for the main figures as PNG files.
    """
    if out.suffix != ".html":
        raise MsdetError(f"{out}: the page's name must end in .html")
    from msdet.report.page import Report

    ids = [scene_id for text in show for scene_id in text.split(",") if scene_id]
    drawn = Report(evaluation, data, run, system, ids, _folders(estimates), with_images=images is not None)
    if images is not None:
        for name, image in drawn.images.items():
            write_bytes(images / name, image)
    write_text(out, drawn.html)
    size = len(drawn.html.encode()) / 1e6
    print(f"{out}: {', '.join(drawn.systems)}; {drawn.figures} figures, {size:.1f} MB")


def _folders(estimates: list[str]) -> dict[str, Path]:
    found = {}
    for text in estimates:
        name, equals, folder = text.partition("=")
        if not (name and equals and folder):
            raise MsdetError(f"estimates is '{text}', expected name=folder")
        found[name] = Path(folder)
    return found
