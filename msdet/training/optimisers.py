"""Optimisers by name."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from msdet.components import build
from msdet.errors import MsdetError, UnknownNameError
from msdet.training.config import OptimiserConfig

OPTIMISERS: dict[str, type[torch.optim.Optimizer]] = {
    "adagrad": torch.optim.Adagrad,
    "adam": torch.optim.Adam,
    "adamax": torch.optim.Adamax,
    "adamw": torch.optim.AdamW,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}
"""Those of torch that take one closure-free step on any dense parameter."""

UNUSABLE = {
    "capturable": "it is of CUDA graphs",
    "differentiable": "nothing is learned through steps",
    "maximize": "losses are minimised",
}
"""Options that they take, and why they may not be set."""


def build_optimiser(settings: OptimiserConfig, model: nn.Module, objective: nn.Module) -> Any:
    """The optimiser that the settings name, for what learns.

    Parameters of the objective, such as learned weights of tasks, are not decayed.

    Raises:
        MsdetError: an unknown name or option, with the nearest; or nothing that learns.
    """
    if settings.name not in OPTIMISERS:
        raise UnknownNameError("optimiser", settings.name, OPTIMISERS)
    learning = [p for p in model.parameters() if p.requires_grad]
    if not learning:
        raise MsdetError("every parameter of the model is frozen: nothing learns")
    groups: list[dict[str, Any]] = [{"params": learning}]
    if balance := [p for p in objective.parameters() if p.requires_grad]:
        groups.append({"params": balance, "weight_decay": 0.0})
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.options.items()}
    for field, name in (("learning_rate", "lr"), ("weight_decay", "weight_decay")):
        if name in options:
            raise MsdetError(f"optimiser.options: set {name} by optimiser.{field}")
    for name in UNUSABLE.keys() & options.keys():
        raise MsdetError(f"optimiser.options: {name} is not for training here: {UNUSABLE[name]}")
    decay = {} if settings.weight_decay is None else {"weight_decay": settings.weight_decay}
    factory, kind = OPTIMISERS[settings.name], f"optimiser '{settings.name}'"
    return build(factory, options, kind, params=groups, lr=settings.learning_rate, **decay)
