"""Balancing: how the losses of tasks become one, or their gradients one direction; one file each.

A module defines ``Balancer``, a `torch.nn.Module` built as ``Balancer(weights, **options)`` from the tasks'
weights by name. Called with the losses of the tasks that a batch labels, all scalars and maybe none, it gives
one scalar. That is what is minimised, unless the balancer also has ``gradients(losses, parameters)``
(`GradientBalancer`): then those are the gradients of the step, and the scalar is only logged.

Its parameters, if any, learn with the model's; its state is in buffers, which the trainer's state holds. A
step whose loss is not finite leaves them as they are. Besides, a balancer may have

- ``start_epoch(epoch)``, called at the start of each epoch of training, which is the steps between two
  validations; twice for an epoch that a resumed run starts again;
- ``task_weights()``: the present weight of each task, ``(task,)``, which is logged;
- ``POSITIVE = True``, a class attribute: losses below zero make no sense to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from msdet.components import build, find_component
from msdet.errors import MsdetError


class BalancerLike(Protocol):
    """What every balancer offers."""

    def __call__(self, losses: dict[str, Tensor]) -> Tensor:
        """One scalar from the losses of the labelled tasks, all scalars."""
        ...


@runtime_checkable
class GradientBalancer(Protocol):
    """What a balancer offers that sets gradients instead."""

    def gradients(self, losses: dict[str, Tensor], parameters: Sequence[Tensor]) -> list[Tensor | None]:
        """Gradient of each parameter, None where no task reaches it.

        Args:
            losses: of all tasks; zero, with zero gradients, where the batch has no label.
            parameters: that learn.

        Raises:
            MsdetError: no parameter is reached by two tasks.
        """
        ...


def build_balancer(name: str, options: dict[str, Any], weights: dict[str, float]) -> BalancerLike:
    """A balancer by name or import path ``module:Class``.

    Args:
        name: of a file in this package, or an import path.
        options: what its constructor takes besides the weights.
        weights: of the tasks by name, which sum to whatever the user gave.

    Raises:
        MsdetError: an unknown name or option; the nearest is offered.
    """
    factory = find_component(__name__, name, "Balancer", "balancing")
    balancer: BalancerLike = build(factory, options, f"balancing '{name}'", weights=weights)
    return balancer


def weighted_sum(weights: Mapping[str, float | Tensor], losses: Mapping[str, Tensor]) -> Tensor:
    """Σ weight · loss over the losses that there are; zero without any."""
    terms = [weights[name] * loss for name, loss in losses.items()]
    return torch.stack(terms).sum() if terms else torch.zeros(())


def sum_over_processes(values: Tensor) -> Tensor:
    """`values` added over all processes that train together; itself where there is one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        values = values.clone()
        torch.distributed.all_reduce(values)
    return values


class Observed:
    """Losses of a step as vectors in the order of all tasks, over all processes that train together.

    Attributes:
        values: mean loss ``(task,)`` in double precision; zero where no process has a finite one.
        known: bool ``(task,)``, whether one has.
    """

    def __init__(self, losses: dict[str, Tensor], names: Sequence[str], device: torch.device) -> None:
        absent = torch.full((), torch.nan, device=device)
        found = torch.stack([losses.get(name, absent).detach().double() for name in names])
        finite = found.isfinite()
        both = torch.stack([found.where(finite, torch.zeros_like(found)), finite.double()])
        total, count = sum_over_processes(both)
        self.values = total / count.clamp_min(1)
        self.known = count > 0


def require_positive(losses: Mapping[str, Tensor], method: str) -> None:
    """Refuse a loss below zero.

    Raises:
        MsdetError: names the task.
    """
    for name, loss in losses.items():
        if (value := float(loss.detach())) < 0:
            raise MsdetError(f"objective.{method} needs losses of 0 or more: that of {name} is {value:.3g}")
