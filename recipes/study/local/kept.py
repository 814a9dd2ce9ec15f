"""Keeps the scores of a training, or of the methods beside them, in one small file that results are read from."""

from __future__ import annotations

import json
import lzma
import sys
from pathlib import Path
from typing import Any, NamedTuple

from claims import ELSEWHERE
from list_runs import Run, all_runs, choose

from msdet.cli import run_command
from msdet.commands.compare import read_scores
from msdet.errors import MsdetError
from msdet.io.files import plain_name, read_json, read_text, write_bytes
from msdet.models.checkpoint import load_model
from msdet.scoring.metrics import FIELDS_OF_KIND, Row, check_row

FIELDS = {"azimuth_deg": 1, "azimuth_gap_deg": 1, "si_sdr_improvement_db": 2, "doa_error_own_deg": 1}
"""Numbers that are kept of a scene's row, and their decimals."""

_REFERENCES = "references-"


class Kept(NamedTuple):
    """What a file holds.

    Attributes:
        facts: of a training, ``steps`` of its budgets, ``seconds`` that it took, ``parameters`` and ``sets``.
        rows: of scenes, by number of steps, test set or method.
    """

    facts: dict[str, Any]
    rows: dict[str, list[Row]]


def write_kept(path: Path, kept: Kept) -> None:
    """The facts in a line, then a line for each row; the same bytes for the same scores."""
    lines = [kept.facts]
    for of, rows in kept.rows.items():
        lines += [{"of": of} | _slimmed(row) for row in rows]
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, lzma.compress(text.encode(), preset=9))


def _slimmed(row: Row) -> Row:
    numbers = {key: _rounded(row[key], decimals) for key, decimals in FIELDS.items() if row.get(key) is not None}
    return {key: row[key] for key in ("id", "straddles") if key in row} | numbers


def _rounded(value: Any, decimals: int) -> Any:
    if isinstance(value, list):
        return [_rounded(x, decimals) for x in value]
    return None if value is None else round(value, decimals)


def read_kept(path: Path) -> Kept:
    """What `write_kept` wrote.

    Raises:
        MsdetError: the file is none of its.
    """
    try:
        facts, *lines = [json.loads(line) for line in lzma.decompress(path.read_bytes()).splitlines()]
    except (OSError, EOFError, ValueError, lzma.LZMAError) as error:
        raise MsdetError(f"{path}: not the kept scores of a training ({error})") from None
    rows: dict[str, list[Row]] = {}
    for number, row in enumerate(lines, start=2):
        check_row(row, ("of", "id", "azimuth_deg"), f"{path}, line {number}")
        rows.setdefault(row.pop("of"), []).append(row)
    return Kept(facts, rows)


def kept_file(folder: Path, name: str) -> Path:
    """Of a training, or of the methods beside those of a number of talkers."""
    return folder / f"{name}.jsonl.xz"


def references_name(talkers: int) -> str:
    """What the methods are kept as, and the folder of their evaluation."""
    return f"{_REFERENCES}{talkers}"


def of_run(exp: Path, run: Run) -> Kept:
    """A training and its scores at each budget, and elsewhere for a main row.

    Raises:
        MsdetError: it is not trained or not scored.
    """
    steps = exp / "runs" / run.name / "steps"
    folders = sorted(steps.glob("*/"))
    if not folders:
        raise MsdetError(f"{steps}: holds no weights of a training")
    evaluated = exp / "evaluation" / run.name
    names = [folder.name for folder in folders]
    names += [name for name in ELSEWHERE if run.group == "main" and name != "test"]
    seconds = read_text(exp / "logs" / f"{run.name}.seconds").split()
    facts = {
        "steps": [int(folder.name) for folder in folders],
        "seconds": sum(map(float, seconds)),
        "parameters": sum(weights.numel() for weights in load_model(folders[-1]).parameters()),
        "sets": _sets(exp, run),
    }
    return Kept(facts, {name: taught(run, read_scores(evaluated / name / "model")) for name in names})


def taught(run: Run, rows: list[Row]) -> list[Row]:
    """Rows without what the training did not teach: a head that learned nothing says nothing."""
    untaught = {field for kind, fields in FIELDS_OF_KIND.items() if kind not in run.tasks for field in fields}
    return [{key: value for key, value in row.items() if key not in untaught} for row in rows]


def _sets(exp: Path, run: Run) -> dict[str, Any]:
    found = {}
    for name in ("train" if run.part == "all" else f"train_{run.part}", "test"):
        noted = read_json(exp / str(run.talkers) / name / "dataset.json")
        found[name] = {
            "scenes": noted["settings"]["scenes"],
            "hash": noted["hash"],
            "sample_rate": noted["sample_rate"],
            "array": noted["array"]["name"],
        }
    return found


def of_references(exp: Path, name: str) -> Kept:
    """Methods and the mixture on a test set."""
    folder = exp / "evaluation" / plain_name(name, "name", "options")
    summary = folder / "summary.json"  # the folder may hold others' scores as well, of an earlier list
    names = [plain_name(system, "system", summary) for system in read_json(summary)["systems"]]
    return Kept({}, {system: read_scores(folder / system) for system in sorted(names)})


def keep(exp: Path, out: Path, name: str) -> None:
    """Keep the scores of an evaluation.

    Args:
        exp: where the recipe writes.
        out: folder of kept scores.
        name: of a training, or of methods, as references-3.
    """
    if name.startswith(_REFERENCES):
        write_kept(kept_file(out, name), of_references(exp, name))
        return
    for run in choose(all_runs(), [name]):
        write_kept(kept_file(out, run.name), of_run(exp, run))


if __name__ == "__main__":
    sys.exit(run_command(keep, None, "kept.py"))
