"""``msdet compare``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from msdet.commands._results import Format, split_names
from msdet.commands._scoring import MODEL, SCORES
from msdet.errors import MsdetError
from msdet.scoring.breakdowns import DEFAULT_BREAKDOWNS
from msdet.scoring.metrics import UNPROCESSED

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
    """Compare systems scored on the same scenes: paired differences, overall and by bin.

    Args:
        systems: two folders with scores.jsonl, as msdet evaluate and score write them, or such files; first,
            unnamed. The first may be an evaluation with a model, the second one with several systems: the
            model is compared with each.
        metrics: names as in summary.json, between commas; those that both have if not given.
        by: breakdowns, between commas, as for msdet score; none if empty.
        format: of what is printed: text to read, or md, latex, csv or json to paste.
        out: file for what is printed, instead of the screen.
    """
    from msdet.io.files import write_text
    from msdet.scoring.comparison import compare as compare_rows

    if len(systems) != 2:
        raise MsdetError(f"compare takes two folders of scores, found {len(systems)}")
    first, *more = _systems(systems[0])
    if more:
        names = ", ".join(path.name for path in (first, *more))
        raise MsdetError(f"{systems[0]}: holds several systems ({names}), expected one to compare")
    others = [path for path in _systems(systems[1], with_model=False) if _folder(path) != _folder(first)]
    if not others:
        raise MsdetError(f"both systems are {systems[0]}, expected two")
    rows = read_scores(first)
    comparisons = []
    for other in others:
        both = dict(zip(_names(first, other), (rows, read_scores(other)), strict=True))
        comparisons.append(compare_rows(both, split_names(metrics), split_names(by)))
    text = _as_text(comparisons, format)
    if out is not None:
        write_text(out, text)
    else:
        print(text, end="")


def read_scores(path: Path) -> list[Row]:
    """Rows of a folder's ``scores.jsonl``, or of such a file."""
    from msdet.io.files import read_jsonl
    from msdet.scoring.metrics import check_row

    file = path / SCORES if path.is_dir() else path
    if path.is_dir() and not file.is_file():
        inside = sorted(p.parent.name for p in path.glob(f"*/{SCORES}"))
        hint = f"; did you mean one of its systems: {', '.join(inside)}?" if inside else ""
        raise MsdetError(f"{path}: holds no {SCORES}{hint}")
    rows = read_jsonl(file)
    for number, row in enumerate(rows, start=1):
        check_row(row, ("id", "azimuth_deg"), f"{file}, line {number}")
    return rows


def _systems(path: Path, with_model: bool = True) -> list[Path]:
    """A system's own folder or file, or an evaluation's model, if wanted, or systems but the mixture."""
    inside = [p.parent for p in sorted(path.glob(f"*/{SCORES}")) if p.parent.name != UNPROCESSED]
    if not inside or (path / SCORES).is_file():
        return [path]
    model = [p for p in inside if with_model and p.name == MODEL]
    return model or inside


def _folder(path: Path) -> Path:
    return path.resolve().parent if path.name == SCORES else path.resolve()


def _names(*systems: Path) -> list[str]:
    """The systems' folders, with the evaluations' where they are called the same."""
    folders = [_folder(path) for path in systems]
    for names in ([f.name for f in folders], ["/".join(f.parts[-2:]) for f in folders]):
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in systems]


def _as_text(comparisons: list[Comparison], form: Format) -> str:
    from msdet.scoring.comparison import comparison_csv, comparison_json, comparison_tables
    from msdet.scoring.tables import latex, markdown, plain

    if form == "json":
        values = [comparison_json(comparison) for comparison in comparisons]
        return json.dumps(values if len(values) > 1 else values[0]) + "\n"
    if form == "csv":
        return comparison_csv(comparisons)
    parts = [comparison_tables(comparison) for comparison in comparisons]
    notes = dict.fromkeys(note for _, part in parts for note in part)
    writers = {"text": plain, "md": markdown, "latex": latex}
    return writers[form]([table for part, _ in parts for table in part], list(notes))
