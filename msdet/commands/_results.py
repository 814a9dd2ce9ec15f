"""What commands print and write of scores: tables to read and to paste, and what was not scored."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

from msdet.errors import MsdetError

if TYPE_CHECKING:
    from msdet.scoring.metrics import Row
    from msdet.scoring.summary import ScoreTable

EXIT_NOT_ALL_SCORED = 1

Format = Literal["text", "md", "latex", "csv", "json"]
"""How tables are printed: for reading, or for pasting."""


def split_names(text: str) -> tuple[str, ...]:
    """Names between commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def show_results(table: ScoreTable, out: Path, form: Format = "text") -> None:
    """Print scores; write ``summary.json`` and ``summary.md``, and ``summary.tex`` or ``.csv`` where printed."""
    from rich.console import Console

    from msdet.io.files import write_json, write_text
    from msdet.scoring.tables import WIDTH

    value = table.to_json()
    write_json(out / "summary.json", value)
    write_text(out / "summary.md", table.to_markdown())
    if form == "text":
        table.print(Console(width=WIDTH))
    elif form == "json":
        print(json.dumps(value))
    elif form == "md":
        print(table.to_markdown(), end="")
    else:
        text, name = (table.to_csv(), "summary.csv") if form == "csv" else (table.to_latex(), "summary.tex")
        write_text(out / name, text)
        print(text, end="")


def print_failures(rows: Sequence[Row], scores: Path, stream: TextIO, system: str = "") -> bool:
    """Print what of a system's rows was not scored or looks wrong; whether all was, an `MsdetError` if nothing was."""
    from msdet.scoring.metrics import METRICS

    begin = f"{system}: " if system else ""
    failed = [(row["id"], reason) for row in rows if (reason := _not_scored(row))]
    doubtful = [(row["id"], doubt) for row in rows for doubt in row["doubts"]]
    for title, lines in (("not scored", failed), ("scored, but", doubtful)):
        for scene_id, reason in lines[:5]:
            print(f"{begin}{title}: {scene_id}: {reason}", file=stream)
        if len(lines) > 5:
            print(f"{begin}{title}: {len(lines) - 5} more, see {scores}", file=stream)
    values = (row.get(metric.field) for row in rows for metric in METRICS.values())
    if not any(v is not None for value in values for v in (value if isinstance(value, list) else [value])):
        raise MsdetError(f"{begin}nothing could be scored; why not, scene by scene, is in {scores}")
    return not failed


def _not_scored(row: Row) -> str | None:
    """Why a scene, or a part of it, has no score; None where that is no failure."""
    from msdet.scoring.metrics import name_fields
    from msdet.scoring.summary import NO_FAILURE

    if row["error"]:
        return str(row["error"])
    fields: dict[str, list[str]] = {}
    for field, why in row["undefined"].items():
        if why not in NO_FAILURE:
            fields.setdefault(why, []).append(field)
    return "; ".join(f"{name_fields(of, row)}: {why}" for why, of in fields.items()) or None
