"""Prints the study's trainings, one a line: name, configuration, number of talkers, seed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from msdet.errors import MsdetError, UnknownNameError

CONF = Path("recipes/study/conf")
BASE = CONF / "base.yaml"
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
    def tasks(self) -> tuple[str, ...]:
        """What its losses teach; the separation loss also teaches the DoA where a beam is steered by it."""
        settings = _settings(self.config)
        weight = settings["objective"]["doa_weight"]
        steered = settings["model"]["separation_head"] == "steered_beam"
        return ("separation",) * (weight < 1.0) + ("directions",) * (weight > 0.0 or steered)

    @property
    def text(self) -> str:
        """What the row is: the first line of its configuration."""
        return self.config.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ").removesuffix(".")


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
        Run(config.stem, group, config, _settings(config)["model"]["talkers"], seed)
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
    except MsdetError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
