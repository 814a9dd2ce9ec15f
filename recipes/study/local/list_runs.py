"""Prints the study's trainings, one a line: name, configuration, talkers, part of the scenes, seed, budgets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from msdet.cli import run_command
from msdet.errors import MsdetError, UnknownNameError

CONF = Path("recipes/study/conf")
BASE = CONF / "base.yaml"
BUDGET = 256
"""Steps of the least budget, of a row whose step costs as much as that of `BASE`."""

PARTS = {"tenth": 10, "third": 3}
"""Rows whose name begins so learn from a part of the speech and of the rooms: one of so many."""


COSTS = {
    "two_networks": 1.4,
    "hierarchical": 1.85,
    "soft_joint": 1.4,
    "cross_stitch_joint": 1.55,
    "gradnorm_joint": 1.6,
    "pcgrad_joint": 1.5,
    "steered_joint": 1.4,
    "steered_separation": 1.4,
}
"""What a step costs on a CPU, relative to one of the common settings, of rows that are compared with these.

Where it differs by more than a tenth; budgets of these rows are of fewer steps and as many core-hours.
"""


class Group(NamedTuple):
    """A folder of `CONF`: seeds of its rows, and how often the least budget is doubled."""

    seeds: tuple[int, ...]
    doublings: int


GROUPS = {"main": Group((0, 1, 2), 4), "around": Group((0, 1), 2)}


class Run(NamedTuple):
    """One training."""

    row: str
    group: str
    config: Path
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.row}-{self.seed}"

    @property
    def settings(self) -> dict[str, Any]:
        """The common settings with the row's over them."""
        return _settings(self.config)

    @property
    def talkers(self) -> int:
        """In each scene."""
        return int(self.settings["model"]["talkers"])

    @property
    def part(self) -> str:
        """Of the training scenes: a name of `PARTS`, or ``all``."""
        first = self.row.partition("_")[0]
        return first if first in PARTS else "all"

    @property
    def cost(self) -> float:
        """What a step costs, relative to one of the common settings."""
        return COSTS.get(self.row, 1.0)

    @property
    def tasks(self) -> tuple[str, ...]:
        """What its losses teach; the separation loss also teaches the DoA where a beam is steered by it."""
        settings = self.settings
        weight = settings["objective"]["doa_weight"]
        steered = settings["model"]["separation_head"] == "steered_beam"
        taught = {"separation": weight < 1.0, "directions": weight > 0.0 or steered}
        return tuple(name for name, is_taught in taught.items() if is_taught)

    @property
    def text(self) -> str:
        """What the row is: the first line of its configuration."""
        return self.config.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ").removesuffix(".")

    def budgets(self, least: int = BUDGET) -> list[int]:
        """Steps at which it is scored, of as many core-hours as those of any other row."""
        first = max(1, round(least / self.cost))
        return [first * 2**k for k in range(GROUPS[self.group].doublings + 1)]


def _settings(config: Path) -> dict[str, Any]:
    """Sections of the common settings, with those of a row over them.

    Raises:
        MsdetError: a row's file is not a YAML mapping of sections.
    """
    base = yaml.safe_load(BASE.read_text(encoding="utf-8"))
    try:
        own = yaml.safe_load(config.read_text(encoding="utf-8")) or {}
        return {section: base[section] | (own.get(section) or {}) for section in base}
    except (yaml.YAMLError, AttributeError, TypeError):
        raise MsdetError(f"{config}: expected sections of settings, as in {BASE}") from None


def all_runs() -> list[Run]:
    """Trainings in the order they are made: by group, and in a group seed by seed."""
    return [
        Run(config.stem, name, config, seed)
        for name, group in GROUPS.items()
        for seed in group.seeds
        for config in sorted((CONF / name).glob("*.yaml"))
    ]


def choose(runs: list[Run], names: list[str]) -> list[Run]:
    """Those of groups, rows or single trainings by name; all without names.

    Raises:
        UnknownNameError: no such group, row or training.
    """
    known = {name for run in runs for name in (run.group, run.row, run.name)}
    for name in names:
        if name not in known:
            raise UnknownNameError("row of the study", name, known)
    return [run for run in runs if not names or {run.group, run.row, run.name} & {*names}]


def list_runs(runs: str = "", steps: int = BUDGET) -> None:
    """Print the trainings, one a line: name, configuration, talkers, part of the scenes, seed, budgets.

    Args:
        runs: groups, rows or trainings, between spaces; all if empty.
        steps: of the least budget.
    """
    for run in choose(all_runs(), runs.split()):
        print(run.name, run.config, run.talkers, run.part, run.seed, ",".join(map(str, run.budgets(steps))))


if __name__ == "__main__":
    sys.exit(run_command(list_runs, None, "list_runs.py"))
