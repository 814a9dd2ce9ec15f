"""Writes RESULTS.md and the figures of the study; no number is typed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import figures
from claims import AROUND, ELSEWHERE, FLAT_DB, GAIN, MAIN, WITHIN, Answer, with_scatter
from list_runs import Run
from scored import Scored, answers, checkpoints, pooled, read_study, scores_file, taught

from msdet.commands.compare import read_scores
from msdet.errors import MsdetError
from msdet.io.files import plain_name, read_json, write_text
from msdet.models.checkpoint import load_model
from msdet.scoring.comparison import Difference
from msdet.scoring.metrics import METRICS, Metric, Row
from msdet.scoring.statistics import ConfidenceInterval
from msdet.scoring.summary import summarize
from msdet.scoring.tables import Table, aligned, markdown, number

VERDICTS = {"better": "Better", "worse": "Worse", "not shown": "No difference is shown", "": "Not all seeds are there"}
COLUMNS = (GAIN, "own_doa_mae_deg", WITHIN, "own_accuracy_10deg")
BREAKDOWNS = ("azimuth_gap", "straddling")
CLAIM_NOTES = (
    "The first row less the second: above zero, the first is better, over the scenes that both score. In brackets: 95 "
    "% of what other scenes and seeds would give; how much seeds differ is estimated from all claims of the table.",
    f"Flat: the last doubling of either row's budget gains less than {FLAT_DB} dB, with 95 % confidence.",
)
ALONG_NOTES = (
    "Of all seeds together, at 1, 2, 4 ... times the least budget; each row's steps and core-hours are below.",
)
SCORE_NOTES = (
    "n: scenes that every row scores. Own: directions under their own best assignment, whichever voice they came with.",
    "In brackets: 95 % bootstrap intervals over scenes; values of several seeds are averaged in each scene.",
)
TRAINING_NOTES = (
    "Core-hours: of one seed, a mean, on one thread, without those before a kill; how many ran beside is not known.",
    "Last doubling: what it gains, in brackets the 95 % interval over scenes.",
)


def claims_table(title: str, found: list[Answer], scored: Scored) -> Table:
    """Differences at the largest budget with intervals, each seed's, the verdict, and whether learning had ended."""
    parts, seeds = [], []
    for answer in found:
        metric = METRICS[answer.metric]
        parts.append([*_parts(answer.difference, metric)[:1], *_ends(answer, metric)])
        seeds.append(", ".join(number(x, metric.decimals, metric.scale, signed=True) for x in answer.of_seeds))
    columns = [
        [answer.claim.question for answer in found],
        [f"`{answer.claim.first}` less `{answer.claim.second}`" for answer in found],
        [METRICS[answer.metric].label for answer in found],
        aligned(parts, "{} [{}, {}]"),
        [str(answer.difference.n) for answer in found],
        seeds,
        [answer.verdict for answer in found],
        ["flat" if all(map(scored.is_flat, answer.claim[1:3])) else "still rising" for answer in found],
    ]
    header = ["question", "rows", "metric", "difference", "scenes", "of each seed", "verdict", "curves"]
    return Table(title, header, columns, 3)


def along_table(found: list[Answer]) -> Table:
    """Differences at each budget."""
    most = max(len(answer.along) for answer in found)
    columns = [
        [f"`{answer.claim.first}` less `{answer.claim.second}`" for answer in found],
        [METRICS[answer.metric].label for answer in found],
    ]
    for budget in range(most):
        parts = [
            _parts(answer.along[budget], METRICS[answer.metric]) if budget < len(answer.along) else []
            for answer in found
        ]
        columns.append(aligned(parts, "{} [{}, {}]"))
    return Table("Along the budget", ["rows", "metric", *(f"{2**k}" for k in range(most))], columns, 2)


def _parts(difference: Difference, metric: Metric) -> list[str]:
    numbers = (difference.value, difference.low, difference.high)
    return [number(x, metric.decimals, metric.scale, signed=True) for x in numbers]


def _ends(answer: Answer, metric: Metric) -> list[str]:
    return [number(x, metric.decimals, metric.scale, signed=True) for x in answer.interval or ()]


def sentences(found: list[Answer], scored: Scored) -> list[str]:
    """What each main claim comes to at the largest budget, in words."""
    lines = []
    for answer in found:
        metric = METRICS[answer.metric]
        value, *ends = _parts(answer.difference, metric)
        low, high = _ends(answer, metric) or ends
        run = next(iter(scored.runs_of(answer.claim.first).values()))
        steps = scored.steps[run.name][len(answer.along) - 1]
        rising = [row for row in answer.claim[1:3] if not scored.is_flat(row)]
        gains = " and ".join(f"`{row}` gained {_gain(scored, row)} dB" for row in rising)
        end = f"not the end of learning: over the last doubling {gains}" if rising else "their curves have flattened"
        lines.append(
            f"- **{answer.claim.question}** {VERDICTS[answer.verdict]}: {value} [{low}, {high}] in {metric.label} "
            f"after {steps} steps ({answer.budgets[-1]:.2f} core-hours), {len(answer.of_seeds)} seeds; {end}."
        )
    return lines


def _gain(scored: Scored, row: str) -> str:
    gain = scored.last_doubling(row)
    return "an unknown number of" if gain is None else number(gain.value, METRICS[GAIN].decimals, signed=True)


def scores_table(title: str, systems: dict[str, list[Row]], scored: Scored) -> Table:
    """Mean scores of rows on the same scenes, those that all of them score."""
    summary = summarize(systems, by=())
    columns = [list(systems), [str(len(scored.runs_of(name)) or "-") for name in systems]]
    for key in COLUMNS:
        parts = [_numbers(summary.scores[name][key].interval, METRICS[key]) for name in systems]
        columns.append(aligned(parts, "{} [{}, {}]"))
    header = ["row", "seeds", *(f"{METRICS[key].label}, n = {summary.compared[key]}" for key in COLUMNS)]
    return Table(title, header, columns, 1)


def elsewhere_table(exp: Path, scored: Scored) -> Table | None:
    """SI-SDRi and share within 5 degrees of main rows on other test sets."""
    rows = list(dict.fromkeys(run.row for run in scored.runs if run.group == "main"))
    columns, header, metrics = [[f"`{row}`" for row in rows]], ["row"], (GAIN, WITHIN)
    for name, words in ELSEWHERE.items():
        systems = {}
        for row in rows:
            runs = scored.runs_of(row).values()
            if name == "test":
                systems[row] = scored.at(row, scored.last(row)) or []
            elif all(scores_file(exp, run, name).is_file() for run in runs):
                systems[row] = pooled([taught(run, read_scores(scores_file(exp, run, name).parent)) for run in runs])
        if len(systems) < len(rows) or not rows:
            continue
        summary = summarize(systems, by=())
        for key in metrics:
            parts = [_numbers(summary.scores[row][key].interval, METRICS[key]) for row in rows]
            columns.append(aligned(parts, "{} [{}, {}]"))
            header.append(f"{words}: {METRICS[key].label}, n = {summary.compared[key]}")
    return Table("Other rooms, noise and microphones", header, columns, 1) if len(columns) > 3 else None


def training_table(exp: Path, scored: Scored) -> Table:
    """What each row's trainings were: parameters, steps, core-hours, and what the last doubling gained."""
    cells = []
    for row in dict.fromkeys(run.row for run in scored.runs):
        runs, last = scored.runs_of(row), scored.last(row)
        first = runs[min(runs)]
        gain = scored.last_doubling(row)
        cells.append(
            [
                f"`{row}`",
                first.text,
                str(len(runs)),
                f"{sum(weights.numel() for weights in load_model(checkpoints(exp, first)[last]).parameters()):,}",
                str(int(checkpoints(exp, first)[last].name)),
                f"{scored.core_hours(row, last):.2f}",
                "-" if gain is None else "{} [{}, {}]".format(*_parts(gain, METRICS[GAIN])),
                "-" if gain is None else "flat" if scored.is_flat(row) else "rising",
            ]
        )
    header = ["row", "what", "seeds", "parameters", "steps", "core-hours", "last doubling (dB)", "curve"]
    return Table("Trainings", header, [list(column) for column in zip(*cells, strict=True)], 2)


def results(exp: Path, out: Path, command: str, names: list[str]) -> str:
    """The page; its figures are written beside it.

    Raises:
        MsdetError: no row has scores, or a row's cannot be read.
    """
    scored = read_study(exp, names)
    main, around = (with_scatter(answers(claims, scored)) for claims in (MAIN, AROUND))
    parts = ["# Results", "Generated by the recipe; not edited by hand.", f"    {command}", _data(exp, scored.runs)]
    if main:
        parts.append("\n".join(["## Main claims", "", *sentences(main, scored)]))
    for claims, title in ((main, "Main claims at the largest budget"), (around, "Around them")):
        if claims:
            parts.append(markdown([claims_table(title, claims, scored)], CLAIM_NOTES))
            parts.append(markdown([along_table(claims)], ALONG_NOTES))
    if figures.claims(main, around, out / "claims.png"):
        parts.append("![Differences of the claims with their intervals](claims.png)")
    if figures.along(main, out / "along.png"):
        parts.append("![Differences of the main claims along the budget](along.png)")
    elsewhere = elsewhere_table(exp, scored)
    if elsewhere:
        parts.append(markdown([elsewhere], SCORE_NOTES))
    for talkers in sorted({run.talkers for run in scored.runs}, reverse=True):
        systems = _references(exp, talkers)
        for row in dict.fromkeys(run.row for run in scored.runs if run.talkers == talkers):
            systems[row] = scored.at(row, scored.last(row)) or []
        table = scores_table(f"Scores at the largest budget, {talkers} talkers", systems, scored)
        parts.append(markdown([table, *_breakdowns(systems)], SCORE_NOTES))
    parts += [markdown([training_table(exp, scored)], TRAINING_NOTES), "![Test scores along the budget](curves.png)"]
    figures.curves(_curves(scored), out / "curves.png")
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _curves(scored: Scored) -> dict[Run, dict[str, tuple[list[float], list[float]]]]:
    """Core-hours and means of a row's test scores, of those that it was taught, by its first training."""
    found: dict[Run, dict[str, tuple[list[float], list[float]]]] = {}
    for row in dict.fromkeys(run.row for run in scored.runs):
        runs = scored.runs_of(row)
        curves: dict[str, tuple[list[float], list[float]]] = {}
        for budget in range(scored.last(row) + 1):
            overall = summarize({row: scored.at(row, budget) or []}, by=()).scores[row]
            for metric in (GAIN, WITHIN):
                interval = overall[metric].interval
                if interval is not None:
                    hours, values = curves.setdefault(metric, ([], []))
                    hours.append(scored.core_hours(row, budget))
                    values.append(interval.value)
        found[runs[min(runs)]] = curves
    return found


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
