"""What commands print and write of scores: tables to read and to paste."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from msdet.errors import MsdetError

if TYPE_CHECKING:
    from msdet.scoring.values import Row

EXIT_NOT_ALL_SCORED = 1

Format = Literal["text", "md", "latex", "csv", "json"]
"""How tables are printed: for reading, or for pasting."""


def split_names(text: str) -> tuple[str, ...]:
    """Names between commas.

    >>> split_names("si_sdr, stoi")
    ('si_sdr', 'stoi')
    """
    return tuple(name.strip() for name in text.split(",") if name.strip())


def show_results(
    rows: dict[str, list[Row]],
    out: Path,
    of: str,
    notes: dict[str, Any],
    by: Sequence[str],
    form: Format = "text",
    remarks: Sequence[str] = (),
) -> None:
    """Print the summary of systems, and one's paired differences to the others; write them into a folder.

    Args:
        rows: scores by system.
        out: folder for ``summary.json`` and ``summary.md``, and ``summary.tex`` or ``.csv`` where printed.
        of: the system whose differences are shown.
        notes: more entries of ``summary.json``.
        by: breakdowns.
        form: what to print.
        remarks: lines below the tables.
    """
    from rich.console import Console

    from msdet.io.files import write_json, write_text
    from msdet.scoring.comparison import all_differences, differences_tables
    from msdet.scoring.summary import summarize, summary_tables, to_csv, to_json
    from msdet.scoring.tables import WIDTH, latex, markdown, print_tables

    summary = summarize(rows, by=by)
    differences = all_differences(rows, of)
    tables, lines = summary_tables(summary)
    more_tables, more_lines = differences_tables(differences, of)
    shown = ([*tables, *more_tables], [*lines, *more_lines, *remarks])
    value = {**to_json(summary), "paired_differences": {of: differences}, "remarks": list(remarks), **notes}
    write_json(out / "summary.json", value)
    write_text(out / "summary.md", markdown(*shown))
    if form == "text":
        print_tables(*shown, Console(width=WIDTH))
        return
    texts = {"md": markdown, "latex": latex}
    text = texts[form](*shown) if form in texts else to_csv(summary) if form == "csv" else json.dumps(value)
    if form in ("latex", "csv"):
        write_text(out / ("summary.tex" if form == "latex" else "summary.csv"), text)
    print(text, end="" if text.endswith("\n") else "\n")


def tell_failures(rows: Sequence[Row], scores: Path, stream: TextIO, system: str = "") -> bool:
    """Print what was not scored or looks wrong; whether everything was scored.

    Args:
        rows: of one system.
        scores: file that holds them.
        stream: where to print.
        system: its name, to begin lines with.

    Raises:
        MsdetError: nothing at all was scored.
    """
    begin = f"{system}: " if system else ""
    failed = [(row["id"], reason) for row in rows if (reason := _not_scored(row))]
    doubtful = [(row["id"], doubt) for row in rows for doubt in row["doubts"]]
    for title, found in (("not scored", failed), ("scored, but", doubtful)):
        for scene_id, reason in found[:5]:
            print(f"{begin}{title}: {scene_id}: {reason}", file=stream)
        if len(found) > 5:
            print(f"{begin}{title}: {len(found) - 5} more, see {scores}", file=stream)
    if not any(map(_has_score, rows)):
        raise MsdetError(f"{begin}nothing could be scored; why not, scene by scene, is in {scores}")
    return not failed


def _not_scored(row: Row) -> str | None:
    """Why a scene, or a part of it, has no score; None where that is nobody's failure."""
    from msdet.scoring.metrics import name_fields
    from msdet.scoring.score import NO_FAILURE

    if row["error"]:
        return str(row["error"])
    fields: dict[str, list[str]] = {}
    for field, why in row["undefined"].items():
        if why not in NO_FAILURE:
            fields.setdefault(why, []).append(field)
    return "; ".join(f"{name_fields(of, row)}: {why}" for why, of in fields.items()) or None


def _has_score(row: Row) -> bool:
    from msdet.scoring.metrics import METRICS

    values = [row.get(metric.field) for metric in METRICS.values()]
    return any(v is not None for value in values for v in (value if isinstance(value, list) else [value]))
