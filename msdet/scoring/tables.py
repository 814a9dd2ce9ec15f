"""Tables of text: printed, and as Markdown or LaTeX to paste."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 110  # columns of a screen that printed tables fit

_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", ">=": r"$\geq$",
    "<": "$<$", ">": "$>$", **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}  # fmt: skip

_LATEX_PATTERN = re.compile("|".join(map(re.escape, _LATEX)))


class Table(NamedTuple):
    """A table of text by columns, each with as many cells; `left` columns, the first ones, are aligned to the left.

    A line feed in a name of the header starts a second line.
    """

    title: str
    header: list[str]
    columns: list[list[str]]
    left: int


def markdown(tables: Iterable[Table], notes: Sequence[str]) -> str:
    """Tables as Markdown, aligned in plain text as well, and notes below them."""
    parts = [f"### {table.title}\n\n{_markdown_body(table)}\n" for table in tables]
    return "\n".join([*parts, "".join(f"- {note}\n" for note in notes)])


def latex(tables: Iterable[Table], notes: Sequence[str]) -> str:
    """Tables as LaTeX ``table`` environments with booktabs rules, notes as comments."""
    parts = ["% needs \\usepackage{booktabs}"]
    for table in tables:
        align = "l" * table.left + "r" * (len(table.header) - table.left)
        header = " & ".join(_latex_text(name.replace("\n", ", ")) for name in table.header)
        columns = [
            [_latex_text(cell) if c < table.left else _latex_number(cell) for cell in column]
            for c, column in enumerate(table.columns)
        ]
        # the empty group: a row that begins with a bracket would be an argument of the one before
        body = "".join(f"{{}}{' & '.join(row)} \\\\\n" for row in zip(*columns, strict=True))
        parts.append(
            f"\\begin{{table}}\n\\centering\n\\caption{{{_latex_text(table.title)}}}\n"
            f"\\begin{{tabular}}{{{align}}}\n\\toprule\n{header} \\\\\n\\midrule\n{body}\\bottomrule\n"
            "\\end{tabular}\n\\end{table}"
        )
    return "\n\n".join(parts) + "\n" + "".join(f"% {note}\n" for note in notes)


def print_tables(tables: Iterable[Table], notes: Sequence[str], console: Console) -> None:
    """Print tables, and notes below them; made for `WIDTH` columns."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    for table in tables:
        shown = RichTable(
            title=Text(table.title), title_justify="left", box=box.SIMPLE_HEAD, show_edge=False,
            pad_edge=False, padding=(0, 1, 0, 0),
        )  # fmt: skip
        for c, name in enumerate(table.header):
            kind: Any = {"overflow": "fold"} if c < table.left else {"justify": "right", "no_wrap": True}
            shown.add_column(Text(name), vertical="top", **kind)
        for row in zip(*table.columns, strict=True):
            shown.add_row(*(Text(cell) for cell in row))
        console.print(shown)
        console.print()
    for note in notes:
        console.print(Text(note))


def plain(tables: Iterable[Table], notes: Sequence[str]) -> str:
    """Tables as they are printed, without colors."""
    from rich.console import Console

    stream = io.StringIO()
    print_tables(tables, notes, Console(file=stream, width=WIDTH))
    return stream.getvalue()


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Comma-separated values with a header."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return stream.getvalue()


def blank_repeats(names: Sequence[str]) -> list[str]:
    """A column of names in which repeats of the one above are empty.

    >>> blank_repeats(["a", "a", "b"])
    ['a', '', 'b']
    """
    return [name if n == 0 or names[n - 1] != name else "" for n, name in enumerate(names)]


def number(value: float | None, decimals: int, scale: float = 1.0, signed: bool = False) -> str:
    """A number as text, a dash for none; a zero has no sign.

    >>> number(-0.004, 2), number(0.25, 1, 100.0, signed=True), number(None, 1)
    ('0.00', '+25.0', '-')
    """
    if value is None:
        return "-"
    text = f"{value * scale:{'+' if signed else ''}.{decimals}f}"
    return text.lstrip("+-") if float(text) == 0.0 else text


def aligned(parts: Sequence[Sequence[str]], pattern: str) -> list[str]:
    """Rows of text put into a pattern such that the parts stand below each other; a dash for an empty row.

    >>> aligned([("1.0", "2.0"), (), ("10.0", "-1.0")], "{} [{}]")
    [' 1.0 [ 2.0]', '-', '10.0 [-1.0]']
    """
    widths = [max(map(len, column)) for column in zip(*(row for row in parts if row), strict=True)]
    return [
        pattern.format(*(text.rjust(w) for text, w in zip(row, widths, strict=True))) if row else "-" for row in parts
    ]


def interval_cells(intervals: Sequence[Sequence[float | None] | None], decimals: int, scale: float = 1.0) -> list[str]:
    """Cells of values with their intervals, aligned; a dash for None.

    >>> interval_cells([(0.5, 0.25, 1.0), None], 1, 100.0)
    ['50.0 [25.0, 100.0]', '-']
    """
    texts = [[number(x, decimals, scale) for x in i[:3]] if i else [] for i in intervals]
    return aligned(texts, "{} [{}, {}]")


def _markdown_body(table: Table) -> str:
    columns = []
    for c, (name, cells) in enumerate(zip(table.header, table.columns, strict=True)):
        texts = [x.replace("\n", ", ").replace("|", "\\|") for x in (name, *cells)]
        width = max(3, *map(len, texts))
        left = c < table.left
        rule = "-" * width if left else "-" * (width - 1) + ":"
        head, *rest = (x.ljust(width) if left else x.rjust(width) for x in texts)
        columns.append([head, rule, *rest])
    return "\n".join(f"| {' | '.join(line)} |" for line in zip(*columns, strict=True))


def _latex_text(text: str) -> str:
    return _LATEX_PATTERN.sub(lambda match: _LATEX[match[0]], text)


def _latex_number(cell: str) -> str:
    """A cell of numbers, its interval small, with true minus signs and raised marks of significance."""
    text = " ".join(_latex_text(cell).split()).replace("[ ", "[")
    text = re.sub(r"(?<![\w.])-(?=\d)", "$-$", text)
    text = re.sub(r"(\[[^]]*\])", r"{\\scriptsize \1}", text)
    return re.sub(r"(\*+)", r"$^{\1}$", text)
