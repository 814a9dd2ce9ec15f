"""Prints the stages of a training configuration as JSON, their steps scaled to a given number in all."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import yaml


def scaled(config: dict[str, Any], steps: int) -> list[dict[str, Any]]:
    """The stages of a configuration with `steps` in all, at least one each.

    >>> rows = [{"name": "a", "optimizer": {"steps": 300}}, {"name": "b", "optimizer": {"steps": 100}}]
    >>> [row["optimizer"]["steps"] for row in scaled({"stages": rows}, 8)]
    [6, 2]
    """
    shared = config.get("optimizer", {}).get("steps")
    asked = [row.get("optimizer", {}).get("steps", shared) for row in config["stages"]]
    counts = [_default_steps() if count is None else count for count in asked]
    return [
        row | {"optimizer": row.get("optimizer", {}) | {"steps": max(1, round(steps * count / sum(counts)))}}
        for row, count in zip(config["stages"], counts, strict=True)
    ]


def _default_steps() -> int:
    from msdet.training.config import OptimizerConfig  # takes seconds, and is rarely needed

    return OptimizerConfig.steps


def main() -> None:
    """Parse options and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="YAML file with stages")
    parser.add_argument("--steps", type=int, required=True, help="of all stages together")
    options = parser.parse_args()
    try:
        stages = scaled(yaml.safe_load(options.config.read_text("utf-8")), options.steps)
    except (yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        sys.exit(f"error: {options.config}: expected stages with a number of steps each ({reason})")
    print(json.dumps(stages))


if __name__ == "__main__":
    main()
