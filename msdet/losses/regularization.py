"""L1 and L2 penalties on parameters that are chosen by name."""

from __future__ import annotations

import difflib
import fnmatch
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from msdet.errors import MsdetError, did_you_mean

NORMS = {"l1": torch.abs, "l2": torch.square}


def penalty(patterns: Mapping[str, Mapping[str, float]], model: nn.Module) -> Tensor | None:
    """Σ l1 · |p| + l2 · p² over the parameters that each pattern matches; None where nothing is asked for.

    Patterns are of names, such as ``doa_head.*``, each with ``l1`` and/or ``l2``. A parameter that two match pays for
    both. Frozen ones pay too, which changes no gradient.
    """
    parameters = dict(model.named_parameters())
    terms = []
    for pattern, weights in patterns.items():
        for norm, weight in weights.items():
            where = f"objective.regularization: '{pattern}'"
            if norm not in NORMS:
                raise MsdetError(f"{where} has no norm '{norm}'{did_you_mean(norm, NORMS)}")
            if not 0.0 <= weight < math.inf:
                raise MsdetError(f"objective.regularization: {norm} of '{pattern}' is {weight}, expected 0 or more")
        matched = [parameters[name] for name in fnmatch.filter(parameters, pattern)]
        if not matched:
            bare = pattern.replace("*", "").replace("?", "")
            near = difflib.get_close_matches(bare, list(parameters), n=1, cutoff=0.0)
            nearest = f"; did you mean '{near[0]}'?" if near else ""
            raise MsdetError(f"objective.regularization: '{pattern}' matches no parameter{nearest}")
        for norm, size in NORMS.items():
            if weight := weights.get(norm, 0.0):
                terms += [weight * size(parameter).sum() for parameter in matched]
    return torch.stack(terms).sum() if terms else None
