"""What is scored of the study so far, and what it answers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from claims import FLAT_DB, GAIN, Answer, Claim
from list_runs import GROUPS, Run, all_runs, choose

from msdet.commands.compare import read_scores
from msdet.errors import MsdetError
from msdet.scoring.comparison import Difference, differences
from msdet.scoring.metrics import FIELDS_OF_KIND, Row, aligned_rows


@dataclass(frozen=True)
class Scored:
    """What there is of the study so far.

    Attributes:
        runs: trainings that are scored at some budget.
        scores: rows of each training's scenes at each of its budgets, the least first.
        steps: of each training at each of its budgets.
        seconds: how long each training took, to each budget.
    """

    runs: list[Run]
    scores: dict[str, list[list[Row]]]
    steps: dict[str, list[int]]
    seconds: dict[str, list[float]]

    def runs_of(self, row: str) -> dict[int, Run]:
        """The trainings of a row, by seed."""
        return {run.seed: run for run in self.runs if run.row == row}

    def at(self, row: str, budget: int) -> list[Row] | None:
        """A row's scenes at a budget, all its seeds together; none unless all are scored there."""
        runs = self.runs_of(row).values()
        if not runs or any(len(self.scores[run.name]) <= budget for run in runs):
            return None
        return pooled([self.scores[run.name][budget] for run in runs])

    def last(self, row: str) -> int:
        """The largest budget at which all seeds are scored."""
        return min(len(self.scores[run.name]) for run in self.runs_of(row).values()) - 1

    def core_hours(self, row: str, budget: int) -> float:
        """Of a seed, to a budget."""
        return float(np.mean([self.seconds[run.name][budget] for run in self.runs_of(row).values()])) / 3600.0

    def last_doubling(self, row: str) -> Difference | None:
        """What it gains in SI-SDR."""
        last = self.last(row)
        if last < 1:
            return None
        now, before = self.at(row, last), self.at(row, last - 1)
        assert now is not None and before is not None
        return differences(now, before, [GAIN]).get(GAIN)

    def is_flat(self, row: str) -> bool:
        """Whether the last doubling of a row's budget gains next to nothing."""
        gain = self.last_doubling(row)
        return gain is not None and gain.high is not None and gain.high < FLAT_DB


def read_study(exp: Path, names: list[str]) -> Scored:
    """What is scored so far.

    Raises:
        MsdetError: no row has scores, or a row's cannot be read.
    """
    scores, numbers, seconds, runs = {}, {}, {}, []
    for run in choose(all_runs(), names):
        steps = [folder.name for folder in checkpoints(exp, run)]
        files = [scores_file(exp, run, step) for step in steps]
        found = [file for file in files if file.is_file()]
        if not found or found != files[: len(found)]:
            continue
        runs.append(run)
        scores[run.name] = [taught(run, read_scores(file.parent)) for file in found]
        times = exp / "logs" / f"{run.name}.seconds"
        whole = sum(map(float, times.read_text(encoding="utf-8").split())) if times.is_file() else math.nan
        numbers[run.name] = [int(step) for step in steps]
        seconds[run.name] = [whole * step / numbers[run.name][-1] for step in numbers[run.name]]
    if not runs:
        raise MsdetError(f"{exp}/evaluation holds no scores of the study's rows: run the stages before")
    return Scored(runs, scores, numbers, seconds)


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


def answers(claims: Iterable[Claim], scored: Scored) -> list[Answer]:
    """Of claims whose rows are trained, on the seeds that both have, in scenes that both score."""
    found = []
    for claim in claims:
        first, second = scored.runs_of(claim.first), scored.runs_of(claim.second)
        pairs = [(first[seed].name, second[seed].name) for seed in first if seed in second]
        if not pairs:
            continue
        budgets = range(min(len(scored.scores[name]) for pair in pairs for name in pair))
        seeds = len(GROUPS[first[min(first)].group].seeds)
        for metric in claim.metrics:
            along = [_difference(scored, pairs, metric, budget) for budget in budgets]
            single = [_difference(scored, [pair], metric, budgets[-1]) for pair in pairs]
            if all(along) and all(single):
                hours = [scored.core_hours(claim.first, budget) for budget in budgets]
                of_seeds = [seed.value for seed in single if seed]
                found.append(Answer(claim, metric, hours, [d for d in along if d], of_seeds, seeds))
    return found


def _difference(scored: Scored, pairs: list[tuple[str, str]], metric: str, budget: int) -> Difference | None:
    first, second = (pooled([scored.scores[pair[side]][budget] for pair in pairs]) for side in (0, 1))
    return differences(first, second, [metric]).get(metric)


def checkpoints(exp: Path, run: Run) -> list[Path]:
    """Checkpoints along a training, the least budget first."""
    return sorted((exp / "runs" / run.name / "steps").glob("*/"))


def scores_file(exp: Path, run: Run, what: str) -> Path:
    """Of the checkpoint of a number of steps on the test set, or of the last one on another set."""
    return exp / "evaluation" / run.name / what / "model" / "scores.jsonl"
