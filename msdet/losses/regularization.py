"""L1 and L2 penalties on parameters that are chosen by name."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from msdet.errors import MsdetError, did_you_mean

NORMS = ("l1", "l2")


def penalty(patterns: Mapping[str, Mapping[str, float]], model: nn.Module) -> Tensor | None:
    """Σ l1 · |p| + l2 · p² over the parameters that each pattern matches; None where nothing is asked for.

    A parameter that two patterns match pays for both. Frozen ones pay too, which changes no gradient.

    Args:
        patterns: glob patterns of parameter names, such as ``doa_head.*``, each with ``l1`` and/or ``l2``.
        model: whose parameters they are.

    Raises:
        MsdetError: a pattern that matches nothing, of which the nearest name is offered; an unknown norm, or
            a weight that is not one.
    """
    parameters = dict(model.named_parameters())
    terms = []
    for pattern, weights in patterns.items():
        _check(pattern, weights)
        matched = [parameter for name, parameter in parameters.items() if fnmatchcase(name, pattern)]
        if not matched:
            bare = pattern.replace("*", "").replace("?", "")
            near = difflib.get_close_matches(bare, list(parameters), n=1, cutoff=0.0)
            nearest = f"; did you mean '{near[0]}'?" if near else ""
            raise MsdetError(f"objective.regularization: '{pattern}' matches no parameter{nearest}")
        if l1 := weights.get("l1", 0.0):
            terms += [l1 * parameter.abs().sum() for parameter in matched]
        if l2 := weights.get("l2", 0.0):
            terms += [l2 * parameter.square().sum() for parameter in matched]
    return torch.stack(terms).sum() if terms else None


def _check(pattern: str, weights: Mapping[str, float]) -> None:
    for norm, weight in weights.items():
        if norm not in NORMS:
            raise MsdetError(f"objective.regularization: '{pattern}' has no norm '{norm}'{did_you_mean(norm, NORMS)}")
        if not (math.isfinite(weight) and weight >= 0):
            raise MsdetError(f"objective.regularization: {norm} of '{pattern}' is {weight}, expected 0 or more")
