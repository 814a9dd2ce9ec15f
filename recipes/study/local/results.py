"""Writes RESULTS.md and the figures of the study; no number is typed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import figures
from claims import AROUND, GAIN, MAIN, WITHIN, Answer, Claim
from list_runs import Run, all_runs, choose

from msdet.commands.compare import read_scores
from msdet.errors import MsdetError
from msdet.io.files import plain_name, read_json, write_text
from msdet.models.checkpoint import load_model
from msdet.plots.learning import read_curves
from msdet.scoring.comparison import differences
from msdet.scoring.metrics import FIELDS_OF_KIND, METRICS, Metric, Row, aligned_rows
from msdet.scoring.statistics import ConfidenceInterval
from msdet.scoring.summary import summarize
from msdet.scoring.tables import Table, aligned, markdown, number

COLUMNS = (GAIN, "sdr_db", "estoi", "own_doa_mae_deg", "own_accuracy_5deg", "own_accuracy_10deg")
BREAKDOWNS = ("azimuth_gap", "straddling")
CLAIM_NOTES = (
    "The first row less the second: above zero, the first is better. Over the scenes that both score; in "
    "brackets, 95 % of what other scenes would give, which says nothing of other seeds.",
)
SCORE_NOTES = (
    "n: scenes that every row scores. Own: directions under their own best assignment, whichever voice they came with.",
    "In brackets: 95 % bootstrap intervals over scenes; values of several seeds are averaged in each scene.",
)
TRAINING_NOTES = (
    "Minutes on one thread, without those before a kill; how many others ran beside it is not known here.",
    "Last fall: from the validation before the last to the last.",
)


def pooled(runs: list[list[Row]]) -> list[Row]:
    """Rows of one kind of training: in each scene, the values of the talkers under all seeds.

    A mean over them is the mean over seeds, and scenes stay what is resampled.
    """
    merged = []
    for rows in zip(*aligned_rows({str(n): rows for n, rows in enumerate(runs)}).values(), strict=True):
        values = {key: _together([row.get(key) for row in rows]) for key in rows[0]}
        merged.append(values | {"azimuth_deg": rows[0]["azimuth_deg"]})
    return merged


def _together(values: list[Any]) -> Any:
    if not isinstance(values[0], list):
        return values[0]
    if any(not isinstance(value, list) for value in values):
        return None
    return [item for value in values for item in value]


def taught(run: Run, rows: list[Row]) -> list[Row]:
    """Rows without what the training did not teach: a head that learned nothing says nothing."""
    untaught = {field for kind, fields in FIELDS_OF_KIND.items() if kind not in run.tasks for field in fields}
    return [{key: value for key, value in row.items() if key not in untaught} for row in rows]


def answers(claims: Iterable[Claim], scores: dict[str, list[Row]], seeds: dict[str, list[str]]) -> list[Answer]:
    """Of claims whose rows are trained, on the seeds that both have, and scored in scenes that both score."""
    found = []
    for claim in claims:
        pairs = [
            (f"{claim.first}-{s}", f"{claim.second}-{s}")
            for s in seeds.get(claim.first, ())
            if s in seeds.get(claim.second, ())
        ]
        if not pairs:
            continue
        first, second = (pooled([scores[pair[side]] for pair in pairs]) for side in (0, 1))
        for metric in claim.metrics:
            whole = differences(first, second, [metric])
            single = [differences(scores[a], scores[b], [metric]) for a, b in pairs]
            if whole and all(single):
                found.append(Answer(claim, metric, whole[metric], [seed[metric].value for seed in single]))
    return found


def claims_table(title: str, found: list[Answer], with_verdict: bool) -> Table:
    """Differences with intervals, and of several seeds each one's, and the verdict."""
    parts, seeds = [], []
    for answer in found:
        metric, d = METRICS[answer.metric], answer.difference
        parts.append([number(x, metric.decimals, metric.scale, signed=True) for x in (d.value, d.low, d.high)])
        seeds.append(", ".join(number(x, metric.decimals, metric.scale, signed=True) for x in answer.of_seeds))
    columns = [
        [answer.claim.question for answer in found],
        [f"`{answer.claim.first}` less `{answer.claim.second}`" for answer in found],
        [METRICS[answer.metric].label for answer in found],
        aligned(parts, "{} [{}, {}]"),
        [str(answer.difference.n) for answer in found],
    ]
    header = ["question", "rows", "metric", "difference", "scenes"]
    if with_verdict:
        columns += [seeds, [answer.verdict for answer in found]]
        header += ["of each seed", "verdict"]
    return Table(title, header, columns, 3)


def scores_table(title: str, systems: dict[str, list[Row]], seeds: dict[str, list[str]]) -> Table:
    """Mean scores of rows on the same scenes, those that all of them score."""
    summary = summarize(systems, by=())
    columns = [list(systems), [str(len(seeds[name])) if name in seeds else "-" for name in systems]]
    for key in COLUMNS:
        parts = [_numbers(summary.scores[name][key].interval, METRICS[key]) for name in systems]
        columns.append(aligned(parts, "{} [{}, {}]"))
    header = ["row", "seeds", *(f"{METRICS[key].label}, n = {summary.compared[key]}" for key in COLUMNS)]
    return Table(title, header, columns, 1)


def training_table(exp: Path, runs: list[Run]) -> Table:
    """What each training was: parameters, minutes, and how much its dev loss still fell at the end."""
    cells = []
    for run in runs:
        folder, times = exp / "runs" / run.name, exp / "logs" / f"{run.name}.seconds"
        seconds = times.read_text(encoding="utf-8").split() if times.is_file() else []
        losses = read_curves(folder)["dev/loss"][1]
        fall = f"{100 * (losses[-2] - losses[-1]) / abs(losses[-2]):.1f}" if len(losses) > 1 else "-"
        cells.append(
            [
                f"`{run.name}`",
                run.text,
                f"{sum(weights.numel() for weights in load_model(folder).parameters()):,}",
                str(read_json(folder / "training.json")["steps"]),
                f"{sum(map(int, seconds)) / 60:.1f}" if seconds else "-",
                fall,
            ]
        )
    header = ["training", "what", "parameters", "steps", "minutes", "last fall of dev loss (%)"]
    return Table("Trainings", header, [list(column) for column in zip(*cells, strict=True)], 2)


def results(exp: Path, out: Path, command: str, names: list[str]) -> str:
    """The page; its figures are written beside it.

    Raises:
        MsdetError: no row has scores, or a row's cannot be read.
    """
    runs = [run for run in choose(all_runs(), names) if _scores(exp, run).is_file()]
    if not runs:
        raise MsdetError(f"{exp}/evaluation holds no scores of the study's rows: run the stages before")
    scores = {run.name: taught(run, read_scores(_scores(exp, run).parent)) for run in runs}
    seeds: dict[str, list[str]] = {}
    for run in runs:
        seeds.setdefault(run.row, []).append(str(run.seed))
    first = {row: ["0"] for row in seeds if "0" in seeds[row]}
    main, around = answers(MAIN, scores, seeds), answers(AROUND, scores, first)
    parts = ["# Results", "Generated by the recipe; not edited by hand.", f"    {command}", _data(exp, runs)]
    for claims, title in ((main, "Main claims"), (around, "Around them: one seed, no verdict")):
        if claims:
            parts.append(markdown([claims_table(title, claims, claims is main)], CLAIM_NOTES))
    if figures.claims(main, around, out / "claims.png"):
        parts.append("![Differences of the claims with their intervals](claims.png)")
    for talkers in sorted({run.talkers for run in runs}, reverse=True):
        systems = _references(exp, talkers)
        rows = dict.fromkeys(run.row for run in runs if run.talkers == talkers)
        systems |= {row: pooled([scores[f"{row}-{seed}"] for seed in seeds[row]]) for row in rows}
        table = scores_table(f"Scores, {talkers} talkers", systems, seeds)
        parts.append(markdown([table, *_breakdowns(systems)], SCORE_NOTES))
    parts += [markdown([training_table(exp, runs)], TRAINING_NOTES), "![Dev loss against steps](curves.png)"]
    figures.curves({run: read_curves(exp / "runs" / run.name) for run in runs}, out / "curves.png")
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _scores(exp: Path, run: Run) -> Path:
    return exp / "evaluation" / run.name / "model" / "scores.jsonl"


def _data(exp: Path, runs: list[Run]) -> str:
    lines = []
    for talkers in sorted({run.talkers for run in runs}, reverse=True):
        train, test = (read_json(exp / str(talkers) / split / "dataset.json") for split in ("train", "test"))
        lines.append(
            f"- {talkers} talkers: {train['settings']['scenes']} training scenes (hash {train['hash']}), "
            f"{test['settings']['scenes']} test scenes (hash {test['hash']}), {test['sample_rate']} Hz, "
            f"array {test['array']['name']}"
        )
    return "\n".join(lines)


def _references(exp: Path, talkers: int) -> dict[str, list[Row]]:
    folder = exp / "evaluation" / f"references-{talkers}"
    summary = folder / "summary.json"  # the folder may hold others' scores as well, of an earlier list
    names = read_json(summary)["systems"] if summary.is_file() else ()
    found = {name: read_scores(folder / plain_name(name, "system", summary)) for name in sorted(names)}
    first = {name: found.pop(name) for name in ("unprocessed",) if name in found}
    return first | found


def _breakdowns(systems: dict[str, list[Row]]) -> list[Table]:
    """Gain and share within 5 degrees by azimuth gap and seam, of those that have any."""
    tables = []
    for title, cells in summarize(systems, by=BREAKDOWNS).breakdowns.items():
        for key in (GAIN, WITHIN):
            metric = METRICS[key]
            names = [name for name in systems if any(key in cell.get(name, {}) for cell in cells.values())]
            columns, header = [names], ["row"]
            for label, cell in cells.items():
                found = [cell.get(name, {}).get(key) for name in names]
                columns.append(aligned([_numbers(x, metric) for x in found], "{} [{}, {}]"))
                header.append(f"{label}, n = {max((x.n for x in found if x), default=0)}")
            tables.append(Table(f"{title}: {metric.label}", header, columns, 1))
    return tables


def _numbers(interval: ConfidenceInterval | None, metric: Metric) -> list[str]:
    """Value and bounds as texts; none without bounds."""
    if interval is None or interval.low is None:
        return []
    return [number(x, metric.decimals, metric.scale) for x in (interval.value, interval.low, interval.high)]


def main() -> None:
    """Parse options and write page and figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exp", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of RESULTS.md and figures")
    parser.add_argument("--command", required=True)
    parser.add_argument("--runs", default="", help="rows or trainings, between spaces; all if empty")
    asked = parser.parse_args()
    try:
        asked.out.mkdir(parents=True, exist_ok=True)
        page = results(asked.exp, asked.out, asked.command, asked.runs.split())
        write_text(asked.out / "RESULTS.md", page)
    except MsdetError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"{asked.out / 'RESULTS.md'}: written")


if __name__ == "__main__":
    main()
