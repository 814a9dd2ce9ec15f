"""L1 and L2 penalties on parameters that are chosen by name."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from msdet.errors import MsdetError, did_you_mean

NORMS = ("l1", "l2")


class Regularization:
    """Σ l1 · |p| + l2 · p² over the parameters that each pattern matches.

    A parameter that two patterns match pays for both. Frozen ones pay too, which changes no gradient.

    Args:
        patterns: glob patterns of parameter names, such as ``doa_head.*``, each with ``l1`` and/or ``l2``.
        model: whose parameters they are.

    Raises:
        MsdetError: a pattern that matches nothing, of which the nearest name is offered; an unknown norm, or
            a weight that is not one.
    """

    def __init__(self, patterns: Mapping[str, Mapping[str, float]], model: nn.Module) -> None:
        names = [name for name, _ in model.named_parameters()]
        self.terms: list[tuple[str, float, float]] = []
        for pattern, weights in patterns.items():
            _check(pattern, weights)
            matched = [name for name in names if fnmatchcase(name, pattern)]
            if not matched:
                nearest = _nearest(pattern, names)
                raise MsdetError(f"objective.regularization: '{pattern}' matches no parameter{nearest}")
            self.terms += [(name, weights.get("l1", 0.0), weights.get("l2", 0.0)) for name in matched]

    def __call__(self, model: nn.Module) -> Tensor | None:
        """The penalty; None where nothing is asked for."""
        if not self.terms:
            return None
        parameters = dict(model.named_parameters())
        penalties = []
        for name, l1, l2 in self.terms:
            if l1:
                penalties.append(l1 * parameters[name].abs().sum())
            if l2:
                penalties.append(l2 * parameters[name].square().sum())
        return torch.stack(penalties).sum() if penalties else None


def _check(pattern: str, weights: Mapping[str, float]) -> None:
    for norm, weight in weights.items():
        if norm not in NORMS:
            raise MsdetError(
                f"objective.regularization: '{pattern}' has no norm '{norm}'{did_you_mean(norm, NORMS)}"
            )
        if not (math.isfinite(weight) and weight >= 0):
            raise MsdetError(
                f"objective.regularization: {norm} of '{pattern}' is {weight}, expected 0 or more"
            )


def _nearest(pattern: str, names: Iterable[str]) -> str:
    """The end of a sentence that offers the name nearest to a pattern; its wildcards count for nothing."""
    bare = pattern.replace("*", "").replace("?", "")
    near = difflib.get_close_matches(bare, list(names), n=1, cutoff=0.0)
    return f"; did you mean '{near[0]}'?" if near else ""
