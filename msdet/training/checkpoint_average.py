"""The average of the weights of several checkpoints of one configuration.

Checkpoints of one run, or of runs that started from the same weights, often lie in one basin of the loss,
and their average generalises better than each of them at no cost in inference (P. Izmailov et al.,
"Averaging weights leads to wider optima and better generalization", UAI 2018; M. Wortsman et al., "Model
soups", ICML 2022). Models that were trained from different weights have nothing in common to be averaged;
their outputs do (``msdet.evaluation.baselines.ensemble``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from msdet.errors import MsdetError
from msdet.training.checkpoint import load_model, read_description, save_model
from msdet.training.transfer import weights_hash

_SAME = ("assignment", "assignment_options")
"""Of the objective's settings: what decides who is in which slot."""


def average_checkpoints(folders: Sequence[Path], out: Path, weights: Sequence[float] | None = None) -> Path:
    """Write the average of checkpoints as a checkpoint directory of its own.

    Its notes name the sources, with step, weight and hash, and what their training settings have in common.

    Args:
        folders: checkpoint directories, at least two.
        out: the new one.
        weights: of each, on any scale; all alike if not given.

    Returns:
        `out`.

    Raises:
        MsdetError: weights that do not fit, configurations that differ (the field is named), or an `out`
            that holds something.
    """
    if len(folders) < 2:
        raise MsdetError(f"models: {len(folders)} given, expected at least two checkpoint directories")
    shares = _shares(len(folders), weights)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MsdetError(f"{out}: exists; choose another folder")
    descriptions = [read_description(folder) for folder in folders]
    for folder, description in zip(folders[1:], descriptions[1:], strict=True):
        _check_same(folders[0], descriptions[0], folder, description)
    models = [load_model(folder) for folder in folders]
    averaged = models[0]
    averaged.load_state_dict(weighted_mean([model.state_dict() for model in models], shares))
    save_model(out, averaged, _notes(folders, descriptions, shares))
    return out


def weighted_mean(states: Sequence[Mapping[str, Tensor]], shares: Sequence[float]) -> dict[str, Tensor]:
    """The mean of state dictionaries, summed in double precision; integers and booleans are the first's.

    Args:
        states: of models of one configuration.
        shares: weight of each; they add up to one.

    >>> states = [{"w": torch.tensor([1.0, 2.0]), "n": torch.tensor(7)}, {"w": torch.tensor([3.0, 6.0])}]
    >>> {name: value.tolist() for name, value in weighted_mean(states, [0.75, 0.25]).items()}
    {'w': [1.5, 3.0], 'n': 7}
    """
    mean = {}
    for name, first in states[0].items():
        if not (first.is_floating_point() or first.is_complex()):
            mean[name] = first.clone()
            continue
        wide = torch.complex128 if first.is_complex() else torch.float64
        terms = [share * state[name].to(wide) for share, state in zip(shares, states, strict=True)]
        mean[name] = torch.stack(terms).sum(0).to(first.dtype)
    return mean


def common(first: Any, second: Any) -> Any:
    """What two settings agree in, group by group; None where they do not.

    >>> common({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 9}, "d": 3})
    {'a': {'b': 1}, 'd': 3}
    """
    if isinstance(first, dict) and isinstance(second, dict):
        both = {key: common(first[key], second[key]) for key in first if key in second}
        return {key: value for key, value in both.items() if value is not None or first[key] is None}
    return first if first == second else None


def _shares(count: int, weights: Sequence[float] | None) -> list[float]:
    """Weights that add up to one."""
    given = list(weights or [1.0] * count)
    if len(given) != count:
        raise MsdetError(f"weights: {len(given)} given for {count} models, expected one for each")
    if not all(math.isfinite(w) and w >= 0.0 for w in given) or sum(given) == 0.0:
        raise MsdetError(f"weights are {given}, expected 0 or more, not all of them 0")
    return [w / sum(given) for w in given]


def _check_same(first: Path, one: dict[str, Any], second: Path, other: dict[str, Any]) -> None:
    """Refuse a model of another configuration than the first.

    Raises:
        MsdetError: names the field and both values.
    """
    before, now = dict(_leaves(_decisive(one))), dict(_leaves(_decisive(other)))
    if not (_objective(one) and _objective(other)):  # nobody wrote it down
        before, now = ({k: v for k, v in d.items() if not k.startswith("objective.")} for d in (before, now))
    for field in [*before, *(name for name in now if name not in before)]:
        if before.get(field) != now.get(field):
            raise MsdetError(
                f"{second}: {field} is {now.get(field)}, that of {first} is {before.get(field)}; "
                "only models of one configuration can be averaged"
            )


def _decisive(description: dict[str, Any]) -> dict[str, Any]:
    """What models that are averaged must agree in."""
    objective = _objective(description)
    return {
        "model": description["model"],
        "sample_rate": description["sample_rate"],
        "array": {key: description["array"].get(key) for key in ("positions_m", "reference")},
        "objective": {key: objective.get(key) for key in _SAME},
    }


def _objective(description: dict[str, Any]) -> dict[str, Any]:
    """Settings of the objective that a model was trained with, as far as its notes tell."""
    training = (description.get("notes") or {}).get("training") or {}
    found = training.get("objective")
    return found if isinstance(found, dict) else {}


def _leaves(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings as ``name.of.field`` and value."""
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _notes(
    folders: Sequence[Path], descriptions: Sequence[dict[str, Any]], shares: Sequence[float]
) -> dict[str, Any]:
    """Where the average comes from."""
    all_notes = [description.get("notes") or {} for description in descriptions]
    sources = [
        {"model": str(folder), "weight": share, "hash": weights_hash(folder), "step": notes.get("step")}
        for folder, notes, share in zip(folders, all_notes, shares, strict=True)
    ]
    training = all_notes[0].get("training") or {}
    for notes in all_notes[1:]:
        training = common(training, notes.get("training") or {})
    return {"averaged": sources} | ({"training": training} if training else {})
