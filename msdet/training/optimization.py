"""Optimizers by name, and how the learning rate goes over a run.

A schedule gives a share of the largest rate; warm-up multiplies every schedule. ``linear``, ``cosine``, ``exponential``
stay until ``optimizer.decay_from`` and end at ``optimizer.final_lr_ratio``; others take ``optimizer.schedule_options``.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from torch import nn, optim

from msdet.components import build, check_options, shown
from msdet.errors import MsdetError, UnknownNameError
from msdet.training.config import OptimizerConfig

OPTIMIZERS: dict[str, type[optim.Optimizer]] = {
    kind.__name__.lower(): kind
    for kind in (
        optim.Adagrad, optim.Adam, optim.Adamax, optim.AdamW, optim.NAdam, optim.RAdam, optim.RMSprop, optim.SGD,
    )
}  # fmt: skip
"""Those of torch that take one closure-free step on any dense parameter."""

UNUSABLE = {
    "capturable": "it is of CUDA graphs",
    "differentiable": "nothing is learned through steps",
    "maximize": "losses are minimized",
}
"""Options that they take, and why they may not be set."""


def build_optimizer(settings: OptimizerConfig, model: nn.Module, objective: nn.Module) -> Any:
    """The optimizer that the settings name, for what learns; learned weights of tasks are not decayed."""
    if settings.name not in OPTIMIZERS:
        raise UnknownNameError("optimizer", settings.name, OPTIMIZERS)
    learning = [p for p in model.parameters() if p.requires_grad]
    if not learning:
        raise MsdetError("every parameter of the model is frozen: nothing learns")
    groups: list[dict[str, Any]] = [{"params": learning}]
    if balance := [p for p in objective.parameters() if p.requires_grad]:
        groups.append({"params": balance, "weight_decay": 0.0})
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.options.items()}
    for field, name in (("learning_rate", "lr"), ("weight_decay", "weight_decay")):
        if name in options:
            raise MsdetError(f"optimizer.options: set {name} by optimizer.{field}")
    for name in UNUSABLE.keys() & options.keys():
        raise MsdetError(f"optimizer.options: {name} is not for training here: {UNUSABLE[name]}")
    decay = {} if settings.weight_decay is None else {"weight_decay": settings.weight_decay}
    factory, kind = OPTIMIZERS[settings.name], f"optimizer '{settings.name}'"
    return build(factory, options, kind, params=groups, lr=settings.learning_rate, **decay)


class ScheduleState(NamedTuple):
    """Where a run is."""

    through: float  # share of all steps that are done
    decayed: float  # share of the steps after ``decay_from`` that are done
    final_lr_ratio: float
    plateaus: int  # how often the watched metric stopped improving


Schedule = Callable[[ScheduleState], float]


def constant(state: ScheduleState) -> float:
    """The largest rate throughout."""
    return 1.0


def linear(state: ScheduleState) -> float:
    """Straight down to the final share."""
    return 1.0 - state.decayed * (1.0 - state.final_lr_ratio)


def cosine(state: ScheduleState) -> float:
    """Half a cosine down to the final share (Loshchilov and Hutter, SGDR, 2017, without restarts)."""
    last = state.final_lr_ratio
    return last + (1.0 - last) * (1.0 + math.cos(math.pi * state.decayed)) / 2.0


def exponential(state: ScheduleState) -> float:
    """By the same factor each step, down to the final share."""
    return float(state.final_lr_ratio**state.decayed)


def step(state: ScheduleState, *, every: float = 0.25, factor: float = 0.5) -> float:
    """Down by a factor each time a share of all steps is done.

    >>> [step(ScheduleState(through, 0.0, 0.0, 0)) for through in (0.0, 0.24, 0.25, 0.5)]
    [1.0, 1.0, 0.5, 0.25]
    """
    if every <= 0.0:
        raise ValueError("expected more than 0")
    return float(factor ** math.floor(state.through / every + 1e-9))


def cyclic(state: ScheduleState, *, cycles: int = 4, lowest: float = 0.1) -> float:
    """Up and down in straight lines, from and to the lowest share (Smith, cyclical learning rates, 2017)."""
    phase = state.through * cycles % 1.0
    return lowest + (1.0 - lowest) * (1.0 - abs(2.0 * phase - 1.0))


def plateau(
    state: ScheduleState, *, metric: str = "dev/loss", patience: int = 3, factor: float = 0.5, lowest: float = 0.0
) -> float:
    """Down by a factor each time a metric has not improved in `patience` validations."""
    if patience < 1:
        raise ValueError("expected at least 1")
    return float(max(factor**state.plateaus, lowest))


SCHEDULES = {f.__name__: f for f in (constant, linear, cosine, exponential, step, cyclic, plateau)}


def build_schedule(settings: OptimizerConfig) -> Schedule:
    """The schedule that the settings name, with their options; an error if these give no rate."""
    name, options = settings.schedule, settings.schedule_options
    if name not in SCHEDULES:
        raise UnknownNameError("schedule", name, SCHEDULES)
    check_options(SCHEDULES[name], options, f"schedule '{name}'", list(_defaults(name)))
    schedule: Schedule = partial(SCHEDULES[name], **options)
    for number in range(11):
        try:
            rate = schedule(ScheduleState(number / 10, number / 10, settings.final_lr_ratio, number))
            usable = math.isfinite(rate) and rate >= 0.0
        except (TypeError, ValueError, ArithmeticError):
            usable = False
        if not usable:
            raise MsdetError(f"schedule '{name}' gives no learning rate with {shown(options)}")
    return schedule


def plateau_options(settings: OptimizerConfig) -> tuple[str, int] | None:
    """Metric and patience that the plateau schedule watches; None for another."""
    if settings.schedule != "plateau":
        return None
    options = _defaults("plateau") | settings.schedule_options
    return str(options["metric"]), int(options["patience"])


def relative_rate(schedule: Schedule, settings: OptimizerConfig, total: int, step: int, plateaus: int) -> float:
    """Learning rate at a step of a run of so many in all, relative to the largest."""
    warm = min(1.0, (step + 1) / max(settings.warm_up, 1))
    start = settings.decay_from * total
    decayed = max(0.0, (step - start) / max(total - start, 1.0))
    state = ScheduleState(min(step / total, 1.0), min(decayed, 1.0), settings.final_lr_ratio, plateaus)
    return warm * schedule(state)


def _defaults(name: str) -> dict[str, Any]:
    parameters = list(inspect.signature(SCHEDULES[name]).parameters.values())
    return {p.name: p.default for p in parameters[1:]}
