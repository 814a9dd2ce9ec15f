"""Prints the study's trainings, one a line: name, configuration, number of talkers, seed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

from msdet.errors import UnknownNameError

CONF = Path("recipes/study/conf")
SEEDS = {"main": (0, 1, 2), "default": (0,), "around": (0,)}
"""Seeds by group of rows, which is a folder of ``conf``."""


class Run(NamedTuple):
    """One training."""

    row: str
    group: str
    config: Path
    talkers: int
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.row}-{self.seed}"

    @property
    def text(self) -> str:
        """What the row is: the first line of its configuration."""
        return self.config.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ").removesuffix(".")


def all_runs() -> list[Run]:
    """Trainings in the order they are made: by group, and in a group seed by seed."""
    return [
        Run(config.stem, group, config, 2 if config.stem.startswith("two_") else 3, seed)
        for group, seeds in SEEDS.items()
        for seed in seeds
        for config in sorted((CONF / group).glob("*.yaml"))
    ]


def choose(runs: list[Run], names: list[str]) -> list[Run]:
    """Those of rows or single trainings by name; all without names.

    Raises:
        UnknownNameError: no such row or training.
    """
    known = {run.row for run in runs} | {run.name for run in runs}
    for name in names:
        if name not in known:
            raise UnknownNameError("row of the study", name, known)
    return [run for run in runs if not names or run.row in names or run.name in names]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", default="", help="rows or trainings, between spaces")
    try:
        for run in choose(all_runs(), parser.parse_args().runs.split()):
            print(run.name, run.config, run.talkers, run.seed)
    except UnknownNameError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
