"""Options and keys that had another name in an earlier version: one table for errors and for old files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

RENAMED = {
    "optimiser": "optimizer",
    "data.also": "data.extra_train",
    "data.batch_s": "data.batch_seconds",
    "data.references": "data.reference_fraction",
    "data.directions": "data.doa_fraction",
    "scenes.centre_offset_m": "scenes.center_offset_m",
    "model.vacancy": "model.variable_num_speakers",
    **{
        f"{part}_options.{old}": f"{part}_options.{new}"
        for part in ("front_end", "doa", "separation")
        for old, new in (("memory_s", "time_constant_s"), ("every", "update_interval"))
    },
    "objective.normalise": "objective.normalize",
    "objective.regularisation": "objective.regularization",
    "optimizer.gradient_norm": "optimizer.gradient_clip_norm",
    "optimizer.final_share": "optimizer.final_lr_ratio",
    "optimizer.keep": "trainer.monitor",
    "optimizer.bad_steps": "trainer.max_nonfinite_steps",
    **{
        f"optimizer.{name}": f"trainer.{name}"
        for name in (
            "validate_every", "stop_metric", "stop_patience", "deterministic", "precision", "compile",
            "accelerator", "devices", "nodes", "threads", "loggers", "seed",
        )
    },
}  # fmt: skip
"""Old to new name: any part of a dotted name, replaced one after the other."""

RENAMED_OF_COMMANDS = {"live": {"devices": "inputs"}}
"""Old to new name of options of one command."""


def current_name(option: str) -> str:
    """Today's dotted name of an option or key; the name itself if it was not renamed.

    >>> current_name("optimiser.keep"), current_name("optimizer.learning_rate")
    ('trainer.monitor', 'optimizer.learning_rate')
    """
    return ".".join(_current(tuple(option.split("."))))


def renaming(option: str, command: str = "") -> str | None:
    """The error for an option that was renamed, in all commands or in this one; None for any other.

    >>> renaming("optimiser.keep")
    "option 'optimiser.keep' is now 'trainer.monitor'"
    """
    now = RENAMED_OF_COMMANDS.get(command, {}).get(option) or current_name(option)
    return None if now == option else f"option '{option}' is now '{now}'"


def translated(settings: object) -> dict[str, Any]:
    """Nested settings that an earlier version wrote, under today's names; empty if they are no mapping.

    >>> translated({"optimiser": {"keep": "dev/loss", "steps": 9}})
    {'trainer': {'monitor': 'dev/loss'}, 'optimizer': {'steps': 9}}
    """
    result: dict[str, Any] = {}
    if not isinstance(settings, Mapping):
        return result
    for path, value in leaves(settings):
        group = result
        *groups, name = _current(path)
        for key in groups:
            group[key] = group = group[key] if isinstance(group.get(key), dict) else {}
        group[name] = value
    return result


def leaves(settings: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The values of nested settings, each with the keys that lead to it.

    >>> list(leaves({"a": {"b": 1, "c": {}}, "d": [2]}))
    [(('a', 'b'), 1), (('a', 'c'), {}), (('d',), [2])]
    """
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def _current(path: tuple[str, ...]) -> tuple[str, ...]:
    for old, new in _PATHS:
        for start in range(len(path) - len(old) + 1):
            if path[start : start + len(old)] == old:
                path = path[:start] + new + path[start + len(old) :]
    return path


_PATHS = [(tuple(old.split(".")), tuple(new.split("."))) for old, new in RENAMED.items()]
