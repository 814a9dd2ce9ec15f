"""Prints the stages of a training configuration as JSON, their steps scaled to a given number in all."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import yaml

from msdet.training.config import OptimiserConfig


def scaled(config: dict[str, Any], steps: int) -> list[dict[str, Any]]:
    """The stages of a configuration with `steps` in all, at least one each.

    >>> rows = [{"name": "a", "optimiser": {"steps": 300}}, {"name": "b", "optimiser": {"steps": 100}}]
    >>> [row["optimiser"]["steps"] for row in scaled({"stages": rows}, 8)]
    [6, 2]
    """
    default = config.get("optimiser", {}).get("steps", OptimiserConfig.steps)
    counts = [row.get("optimiser", {}).get("steps", default) for row in config["stages"]]
    return [
        row | {"optimiser": row.get("optimiser", {}) | {"steps": max(1, round(steps * count / sum(counts)))}}
        for row, count in zip(config["stages"], counts, strict=True)
    ]


def main() -> None:
    """Parse options and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="YAML file with stages")
    parser.add_argument("--steps", type=int, required=True, help="of all stages together")
    options = parser.parse_args()
    print(json.dumps(scaled(yaml.safe_load(options.config.read_text("utf-8")), options.steps)))


if __name__ == "__main__":
    main()
