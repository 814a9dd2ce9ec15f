"""Names of before: how older checkpoints and configurations call what has another name today.

Files are translated where they are read (`renamed`); what is written has today's names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MODEL = {"vacancy": "variable_num_speakers"}
"""Keys of a model's settings (`msdet.models.config.ModelConfig`)."""

MODEL_OPTIONS = {"memory_s": "time_constant_s", "every": "update_interval"}
"""Options of the front ends and heads that msdet ships."""

OBJECTIVE = {"normalise": "normalize", "regularisation": "regularization"}
"""Keys of the objective's settings (`msdet.training.objective.ObjectiveConfig`)."""

LOSSES = {"l1_resynthesised": "l1_resynthesized"}
"""Names of separation losses."""


def renamed(settings: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Settings under today's names; a key that has today's name already stays.

    >>> renamed({"vacancy": True, "talkers": 2}, MODEL)
    {'variable_num_speakers': True, 'talkers': 2}
    """
    return {
        (key if names.get(key, key) in settings else names.get(key, key)): v for key, v in settings.items()
    }


def renamed_model(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a model under today's names; options of parts that are not msdet's stay as they are."""
    today = renamed(settings, MODEL)
    for part in ("front_end", "doa_head", "separation_head"):
        key = f"{part.removesuffix('_head')}_options"
        if ":" not in str(today.get(part, "")) and isinstance(today.get(key), dict):
            today[key] = renamed(today[key], MODEL_OPTIONS)
    return today
