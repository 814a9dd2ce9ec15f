"""``msdet compare``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from msdet.commands._results import Format, split_names
from msdet.commands._scoring import SCORES
from msdet.errors import MsdetError
from msdet.scoring.breakdowns import DEFAULT_BREAKDOWNS

if TYPE_CHECKING:
    from msdet.scoring.comparison import Comparison
    from msdet.scoring.metrics import Row


def compare(
    systems: list[Path],
    metrics: str = "",
    by: str = ",".join(DEFAULT_BREAKDOWNS),
    format: Format = "text",
    out: Path | None = None,
) -> None:
    """Compare two systems scored on the same scenes: paired differences, overall and by bin.

    Args:
        systems: two folders with scores.jsonl, as msdet evaluate and score write them, or such files; first,
            unnamed.
        metrics: names as in summary.json, between commas; those that both have if not given.
        by: breakdowns, between commas, as for msdet score; none if empty.
        format: of what is printed: text to read, or md, latex, csv or json to paste.
        out: file for what is printed, instead of the screen.
    """
    from msdet.io.files import write_text
    from msdet.scoring.comparison import compare as compare_rows

    if len(systems) != 2:
        raise MsdetError(f"compare takes two folders of scores, found {len(systems)}")
    folders = [path.resolve().parent if path.name == SCORES else path.resolve() for path in systems]
    names = [folder.name for folder in folders]
    if names[0] == names[1]:  # of two evaluations
        names = ["/".join(folder.parts[-2:]) for folder in folders]
    if names[0] == names[1]:
        names = [str(path) for path in systems]
    if folders[0] == folders[1]:
        raise MsdetError(f"both systems are {systems[0]}, expected two")
    rows = {name: read_scores(path) for name, path in zip(names, systems, strict=True)}
    comparison = compare_rows(rows, split_names(metrics), split_names(by))
    text = _as_text(comparison, format)
    if out is not None:
        write_text(out, text)
    else:
        print(text, end="")


def read_scores(path: Path) -> list[Row]:
    """Rows of a folder's ``scores.jsonl``, or of such a file.

    Raises:
        MsdetError: not there (systems in the folder are named), or not rows of scores.
    """
    from msdet.io.files import read_jsonl

    file = path / SCORES if path.is_dir() else path
    if path.is_dir() and not file.is_file():
        inside = sorted(p.parent.name for p in path.glob(f"*/{SCORES}"))
        hint = f"; did you mean one of its systems: {', '.join(inside)}?" if inside else ""
        raise MsdetError(f"{path}: holds no {SCORES}{hint}")
    rows = read_jsonl(file)
    for number, row in enumerate(rows, start=1):
        missing = [key for key in ("id", "azimuth_deg") if not isinstance(row, dict) or key not in row]
        if missing:
            raise MsdetError(f"{file}, line {number}: not a row of scores, '{missing[0]}' is missing")
    return rows


def _as_text(comparison: Comparison, form: Format) -> str:
    from msdet.scoring.comparison import comparison_csv, comparison_json, comparison_tables
    from msdet.scoring.tables import latex, markdown, plain

    if form == "json":
        return json.dumps(comparison_json(comparison)) + "\n"
    if form == "csv":
        return comparison_csv(comparison)
    writers = {"text": plain, "md": markdown, "latex": latex}
    return writers[form](*comparison_tables(comparison))
