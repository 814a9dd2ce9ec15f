"""Writes RESULTS.md and the figures of the study; no number is typed."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import figures
from claims import AROUND, ELSEWHERE, FLAT, GAIN, MAIN, WITHIN, Answer, with_scatter
from kept import kept_file, read_kept, references_name
from list_runs import Run
from scored import Scored, answers, mean, read_study

from msdet.cli import run_command
from msdet.io.files import write_text
from msdet.scoring.comparison import Difference
from msdet.scoring.metrics import METRICS, UNPROCESSED, Metric, Row
from msdet.scoring.statistics import ConfidenceInterval
from msdet.scoring.summary import summarize
from msdet.scoring.tables import Table, aligned, markdown, number

VERDICTS = {"better": "Better", "worse": "Worse", "not shown": "No difference is shown", "": "No verdict yet"}
COLUMNS = (GAIN, "own_doa_mae_deg", WITHIN, "own_accuracy_10deg")
BREAKDOWNS = ("azimuth_gap", "straddling")
CLAIM_NOTES = (
    "The first row less the second: above zero, the first is better, over the scenes that both score. In brackets: 95 "
    "% of what other scenes and seeds would give; how much seeds differ is estimated from all claims of the table.",
    f"Flat: the last doubling of either row's budget gains less than {FLAT[GAIN]} dB, or {100 * FLAT[WITHIN]:.0f} "
    "points, with 95 % confidence over scenes.",
)
ALONG_NOTES = (
    "At 1, 2, 4 ... times the least budget, with the same intervals; each row's steps and core-hours are below.",
)
SCORE_NOTES = (
    "n: scenes that every row scores. Own: directions under their own best assignment, whichever voice they came with.",
    "In brackets: 95 % bootstrap intervals over scenes; values of several seeds are averaged in each scene.",
)
TRAINING_NOTES = (
    "Core-hours: CPU time of one seed, a mean, on one thread, without what was before a kill.",
    "Last doubling: what it gains, in brackets the 95 % interval over scenes.",
)


def claims_table(title: str, found: list[Answer], scored: Scored) -> Table:
    """Differences at the largest budget with intervals, each seed's, the verdict, and whether learning had ended."""
    seeds = []
    for answer in found:
        metric = METRICS[answer.metric]
        seeds.append(", ".join(number(x, metric.decimals, metric.scale, signed=True) for x in answer.by_seed[-1]))
    columns = [
        [answer.claim.question for answer in found],
        [f"`{answer.claim.first}` less `{answer.claim.second}`" for answer in found],
        [METRICS[answer.metric].label for answer in found],
        aligned([_with_interval(answer) for answer in found], "{} [{}, {}]"),
        [str(answer.difference.n) for answer in found],
        seeds,
        [answer.verdict for answer in found],
        ["still rising" if _rising(answer, scored) else "flat" for answer in found],
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
        parts = [_with_interval(answer, budget) if budget < len(answer.along) else [] for answer in found]
        columns.append(aligned(parts, "{} [{}, {}]"))
    return Table("Along the budget", ["rows", "metric", *(f"{2**k}" for k in range(most))], columns, 2)


def _parts(difference: Difference, metric: Metric) -> list[str]:
    """Value and interval over scenes as texts."""
    numbers = (difference.value, difference.low, difference.high)
    return [number(x, metric.decimals, metric.scale, signed=True) for x in numbers]


def _with_interval(answer: Answer, budget: int = -1) -> list[str]:
    """Value and interval over scenes and seeds as texts."""
    metric = METRICS[answer.metric]
    numbers = (answer.along[budget].value, *(answer.interval(budget) or (None, None)))
    return [number(x, metric.decimals, metric.scale, signed=True) for x in numbers]


def sentences(found: list[Answer], scored: Scored) -> list[str]:
    """What each main claim comes to at the largest budget, in words."""
    lines = []
    for answer in found:
        metric = METRICS[answer.metric]
        value, low, high = _with_interval(answer) if answer.interval() else _parts(answer.difference, metric)
        known = "" if answer.interval() else " (their interval is over scenes alone)"
        seeds = f"{len(answer.by_seed[-1])} of {answer.seeds} seeds{known}"
        run = next(iter(scored.runs_of(answer.claim.first).values()))
        rising, last = _rising(answer, scored), len(answer.along) - 1
        gains = " and ".join(f"`{row}` gained {_gain(scored, row, answer, last)}" for row in rising)
        end = f"not the end of learning: over the last doubling {gains}" if rising else "their curves have flattened"
        lines.append(
            f"- **{answer.claim.question}** {VERDICTS[answer.verdict]}: {value} [{low}, {high}] in {metric.label} "
            f"after {scored.steps(run)[last]} steps ({answer.budgets[-1]:.2f} core-hours), {seeds}; {end}."
        )
    return lines


def _rising(answer: Answer, scored: Scored) -> list[str]:
    """Its rows whose curves were not flat at the largest budget that both have."""
    return [row for row in answer.claim[1:3] if not scored.is_flat(row, answer.metric, len(answer.along) - 1)]


def _gain(scored: Scored, row: str, answer: Answer, budget: int) -> str:
    gain, metric = scored.last_doubling(row, answer.metric, budget), METRICS[answer.metric]
    unit = "dB" if answer.metric == GAIN else "points"
    return "nobody knows what" if gain is None else f"{_parts(gain, metric)[0]} {unit}"


def scores_table(title: str, systems: dict[str, list[Row]], scored: Scored) -> Table:
    """Mean scores of rows on the same scenes, those that all of them score."""
    summary = summarize(systems, by=())
    columns = [list(systems), [str(len(scored.runs_of(name)) or "-") for name in systems]]
    for key in COLUMNS:
        parts = [_numbers(summary.scores[name][key].interval, METRICS[key]) for name in systems]
        columns.append(aligned(parts, "{} [{}, {}]"))
    header = ["row", "seeds", *(f"{METRICS[key].label}, n = {summary.compared[key]}" for key in COLUMNS)]
    return Table(title, header, columns, 1)


def elsewhere_table(scored: Scored) -> Table | None:
    """SI-SDRi and share within 5 degrees of main rows on other test sets; none without main rows."""
    rows = list(dict.fromkeys(run.row for run in scored.runs if run.group == "main"))
    if not rows:
        return None
    columns, header = [[f"`{row}`" for row in rows]], ["row"]
    for name, words in ELSEWHERE.items():
        systems = {
            row: scored.at(row, scored.last(row)) if name == "test" else scored.elsewhere(row, name) for row in rows
        }
        summary = summarize(systems, by=())
        for key in (GAIN, WITHIN):
            parts = [_numbers(summary.scores[row][key].interval, METRICS[key]) for row in rows]
            columns.append(aligned(parts, "{} [{}, {}]"))
            header.append(f"{words}: {METRICS[key].label}, n = {summary.compared[key]}")
    return Table("Other rooms, noise and microphones", header, columns, 1)


def training_table(scored: Scored) -> Table:
    """What each row's trainings were: parameters, steps, core-hours, and what the last doubling gained."""
    cells = []
    for row in dict.fromkeys(run.row for run in scored.runs):
        runs, last = scored.runs_of(row), scored.last(row)
        first = runs[min(runs)]
        gains = {metric: scored.last_doubling(row, metric, last) for metric in FLAT}
        known = [metric for metric, gain in gains.items() if gain]
        flat = "flat" if all(scored.is_flat(row, metric, last) for metric in known) else "rising"
        cells.append(
            [
                f"`{row}`",
                first.text,
                str(len(runs)),
                f"{scored.kept[first.name].facts['parameters']:,}",
                str(scored.steps(first)[last]),
                f"{scored.core_hours(row, last):.2f}",
                *("{} [{}, {}]".format(*_parts(gain, METRICS[key])) if gain else "-" for key, gain in gains.items()),
                flat if known else "-",
            ]
        )
    header = ["row", "what", "seeds", "parameters", "steps", "core-hours"]
    header += [f"last doubling: {METRICS[metric].label}" for metric in FLAT]
    return Table("Trainings", [*header, "curve"], [list(column) for column in zip(*cells, strict=True)], 2)


def results(folder: Path, out: Path, command: str, names: list[str]) -> str:
    """The page, from a folder of kept scores; its figures are written beside it.

    Raises:
        MsdetError: no scores are kept, or they cannot be read.
    """
    scored = read_study(folder, names)
    main, around = (with_scatter(answers(claims, scored)) for claims in (MAIN, AROUND))
    parts = ["# Results", "Generated by the recipe; not edited by hand.", f"    {command}", _data(scored)]
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
    elsewhere = elsewhere_table(scored)
    if elsewhere:
        parts.append(markdown([elsewhere], SCORE_NOTES))
    for talkers in sorted({run.talkers for run in scored.runs}, reverse=True):
        systems = _references(folder, talkers)
        for row in dict.fromkeys(run.row for run in scored.runs if run.talkers == talkers):
            systems[row] = scored.at(row, scored.last(row))
        table = scores_table(f"Scores at the largest budget, {talkers} talkers", systems, scored)
        parts.append(markdown([table, *_breakdowns(systems)], SCORE_NOTES))
    parts += [markdown([training_table(scored)], TRAINING_NOTES), "![Test scores along the budget](curves.png)"]
    figures.curves(_curves(scored), out / "curves.png")
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _curves(scored: Scored) -> dict[Run, dict[str, tuple[list[float], list[float]]]]:
    """Core-hours and means of a row's test scores, of those that it was taught, by its first training."""
    found: dict[Run, dict[str, tuple[list[float], list[float]]]] = {}
    for row in dict.fromkeys(run.row for run in scored.runs):
        runs = scored.runs_of(row)
        curves: dict[str, tuple[list[float], list[float]]] = {}
        for metric in (GAIN, WITHIN):
            budgets = range(scored.last(row) + 1)
            values = [mean(scored.at(row, budget), metric) for budget in budgets]
            if not any(map(math.isnan, values)):
                curves[metric] = [scored.core_hours(row, budget) for budget in budgets], values
        found[runs[min(runs)]] = curves
    return found


def _data(scored: Scored) -> str:
    sets = [
        f"- {run.talkers} talkers, {name}: {noted['scenes']} scenes (hash {noted['hash']}), "
        f"{noted['sample_rate']} Hz, array {noted['array']}"
        for run in scored.runs
        for name, noted in scored.kept[run.name].facts["sets"].items()
    ]
    return "\n".join(dict.fromkeys(sets))


def _references(folder: Path, talkers: int) -> dict[str, list[Row]]:
    file = kept_file(folder, references_name(talkers))
    found = read_kept(file).rows if file.is_file() else {}
    first = {name: found.pop(name) for name in (UNPROCESSED,) if name in found}
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


def write_results(scores: Path, out: Path, command: str, runs: str = "") -> None:
    """Write the page and its figures.

    Args:
        scores: folder of kept scores.
        out: folder of RESULTS.md and figures.
        command: the recipe's command line, for the page.
        runs: groups, rows or trainings, between spaces; all if empty.
    """
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "RESULTS.md", results(scores, out, command, runs.split()))
    print(f"{out / 'RESULTS.md'}: written")


if __name__ == "__main__":
    sys.exit(run_command(write_results, None, "results.py"))
