"""What is scored of the study so far, and what it answers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from claims import FLAT, Answer, Claim
from kept import Kept, kept_file, read_kept
from list_runs import GROUPS, Run, all_runs, choose

from msdet.errors import MsdetError
from msdet.scoring.comparison import Difference, differences
from msdet.scoring.metrics import METRICS, Row, aligned_rows, metric_values


@dataclass(frozen=True)
class Scored:
    """What there is of the study so far.

    Attributes:
        runs: trainings that are scored.
        kept: the scores of each by its name.
    """

    runs: list[Run]
    kept: dict[str, Kept]

    def runs_of(self, row: str) -> dict[int, Run]:
        """The trainings of a row, by seed."""
        return {run.seed: run for run in self.runs if run.row == row}

    def steps(self, run: Run) -> list[int]:
        """Of its budgets, the least first."""
        steps: list[int] = self.kept[run.name].facts["steps"]
        return steps

    def scores(self, run: Run, budget: int) -> list[Row]:
        """Rows of a training's test scenes at a budget."""
        return self.kept[run.name].rows[f"{self.steps(run)[budget]:06d}"]

    def at(self, row: str, budget: int) -> list[Row]:
        """A row's scenes at a budget, all its seeds together."""
        return pooled([self.scores(run, budget) for run in self.runs_of(row).values()])

    def elsewhere(self, row: str, name: str) -> list[Row]:
        """A row's scenes of another test set, all its seeds together."""
        return pooled([self.kept[run.name].rows[name] for run in self.runs_of(row).values()])

    def last(self, row: str) -> int:
        """The largest budget."""
        return min(len(self.steps(run)) for run in self.runs_of(row).values()) - 1

    def core_hours(self, row: str, budget: int) -> float:
        """Of a seed, to a budget."""
        runs = self.runs_of(row).values()
        seconds = [self.kept[r.name].facts["seconds"] * self.steps(r)[budget] / self.steps(r)[-1] for r in runs]
        return float(np.mean(seconds)) / 3600.0

    def last_doubling(self, row: str, metric: str, budget: int) -> Difference | None:
        """What the doubling that ends at a budget gained; none of what the row was not taught."""
        if budget < 1:
            return None
        return _paired(self.at(row, budget), self.at(row, budget - 1), metric)

    def is_flat(self, row: str, metric: str, budget: int) -> bool:
        """Whether that is next to nothing."""
        gain = self.last_doubling(row, metric, budget)
        return gain is not None and gain.high is not None and gain.high < FLAT[metric]


def read_study(folder: Path, names: list[str]) -> Scored:
    """What is kept so far.

    Raises:
        MsdetError: no training's scores are kept, or they cannot be read.
    """
    files = {run: kept_file(folder, run.name) for run in choose(all_runs(), names)}
    kept = {run: read_kept(file) for run, file in files.items() if file.is_file()}
    if not kept:
        raise MsdetError(f"{folder} holds no scores of the study's rows: run the stages before")
    for run, (facts, rows) in kept.items():
        if not isinstance(facts, dict) or not facts.keys() >= {"steps", "seconds", "parameters", "sets"}:
            raise MsdetError(f"{files[run]}, line 1: does not say what the training was")
        if lacking := {f"{steps:06d}" for steps in facts["steps"]} - rows.keys():
            raise MsdetError(f"{files[run]}: holds no scores after {int(min(lacking))} steps")
    return Scored([*kept], {run.name: of for run, of in kept.items()})


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


def answers(claims: Iterable[Claim], scored: Scored) -> list[Answer]:
    """Of claims whose rows are trained, on the seeds that both have, in scenes that both score."""
    found = []
    for claim in claims:
        first, second = scored.runs_of(claim.first), scored.runs_of(claim.second)
        pairs = [(first[seed], second[seed]) for seed in first if seed in second]
        if not pairs:
            continue
        budgets = range(min(len(scored.steps(run)) for pair in pairs for run in pair))
        seeds = len(GROUPS[pairs[0][0].group].seeds)
        for metric in claim.metrics:
            along = [_difference(scored, pairs, metric, budget) for budget in budgets]
            if all(along):
                hours = [scored.core_hours(claim.first, budget) for budget in budgets]
                by_seed = [[_mean_difference(scored, pair, metric, budget) for pair in pairs] for budget in budgets]
                found.append(Answer(claim, metric, hours, [d for d in along if d], by_seed, seeds))
    return found


def _difference(scored: Scored, pairs: list[tuple[Run, Run]], metric: str, budget: int) -> Difference | None:
    first, second = (pooled([scored.scores(pair[side], budget) for pair in pairs]) for side in (0, 1))
    return _paired(first, second, metric)


def _mean_difference(scored: Scored, pair: tuple[Run, Run], metric: str, budget: int) -> float:
    """That of `_difference` of one seed, without its interval, which takes long."""
    both = aligned_rows({run.name: scored.scores(run, budget) for run in pair}).values()
    values = zip(*([metric_values(row, METRICS[metric]) for row in rows] for rows in both), strict=True)
    pairs = [(a, b) for a, b in values if a is not None and b is not None]
    first, second = (float(np.concatenate(side).mean()) for side in zip(*pairs, strict=True))
    return first - second


def _paired(first: list[Row], second: list[Row], metric: str) -> Difference | None:
    return differences(first, second, [metric], tested=False).get(metric)


def mean(rows: list[Row], metric: str) -> float:
    """Over the talkers of all scenes that have values; NaN without any."""
    values = [of for row in rows if (of := metric_values(row, METRICS[metric])) is not None]
    return float(np.concatenate(values).mean()) if values else math.nan
