"""What the benchmarks share: options like those of `msdet`, a table, and a last line of JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from msdet.cli import run_command


def run(benchmark: Callable[..., None]) -> int:
    """Run a benchmark with the options of the command line, where ``--quick`` needs no value."""
    argv = ["--quick=true" if argument == "--quick" else argument for argument in sys.argv[1:]]
    return run_command(benchmark, argv, Path(sys.argv[0]).name)


def report(rows: Sequence[Mapping[str, object]], **figures: object) -> None:
    """Print rows of the same columns as a table, then the figures and the rows as one line of JSON."""
    lines = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())
    print(json.dumps({**figures, "rows": rows}))


def _cell(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
