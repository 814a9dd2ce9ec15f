"""How the losses of tasks become one: brought to a common scale, weighted, and with weights that change.

A balancer is a `torch.nn.Module` built from the tasks' weights by name and options. Called with the losses of
the tasks that a batch labels, all scalars and maybe none, it gives one scalar. That is what is minimized,
unless the balancer also has ``gradients`` (`GradientBalancer`): then those are the gradients of the step, and
the scalar is only logged. Its parameters, if any, learn with the model's; its state is in buffers, which the
trainer's state holds. A step whose loss is not finite leaves them as they are. Besides, a balancer may have

- ``start_epoch(epoch)``, called at the start of each epoch of training, which is the steps between two
  validations; twice for an epoch that a resumed run starts again;
- ``task_weights()``: the present weight of each task, ``(task,)``, which is logged;
- ``POSITIVE = True``, a class attribute: losses below zero make no sense to it.
"""

from __future__ import annotations

import difflib
import fnmatch
import math
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from msdet.components import Registry
from msdet.errors import MsdetError, UnknownNameError, did_you_mean

BALANCERS = Registry("balancing", "msdet.losses")

NORMALIZATIONS = ("none", "running_mean", "log")


@runtime_checkable
class GradientBalancer(Protocol):
    """What a balancer offers that sets gradients instead."""

    def gradients(self, losses: dict[str, Tensor], parameters: Sequence[Tensor]) -> list[Tensor | None]:
        """Gradient of each parameter that learns, None where no task reaches it; an error if none is reached by two.

        Losses are those of all tasks; zero, with zero gradients, where the batch has no label.
        """


def weighted_sum(weights: Mapping[str, float | Tensor], losses: Mapping[str, Tensor]) -> Tensor:
    """Σ weight · loss over the losses that there are; zero without any."""
    terms = [weights[name] * loss for name, loss in losses.items()]
    return torch.stack(terms).sum() if terms else torch.zeros(())


def all_reduce_sum(values: Tensor) -> Tensor:
    """`values` added over all processes that train together; itself where there is one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        values = values.clone()
        torch.distributed.all_reduce(values)
    return values


class Observed:
    """Losses of a step as vectors ``(task,)`` in the order of all tasks, over all processes that train together.

    `values` are means in double precision, zero where no process has a finite loss; `known` says whether one has.
    """

    def __init__(self, losses: dict[str, Tensor], names: Sequence[str], device: torch.device) -> None:
        absent = torch.full((), torch.nan, device=device)
        own = torch.stack([losses.get(name, absent).detach().double() for name in names])
        finite = own.isfinite()
        both = torch.stack([own.where(finite, torch.zeros_like(own)), finite.double()])
        total, count = all_reduce_sum(both)
        self.values = total / count.clamp_min(1)
        self.known = count > 0


def require_positive(losses: Mapping[str, Tensor], method: str) -> None:
    """Refuse a loss below zero, by the task's name."""
    for name, loss in losses.items():
        if (value := float(loss.detach())) < 0:
            raise MsdetError(f"objective.{method} needs losses of 0 or more: that of {name} is {value:.3g}")


class LossNormalization(nn.Module):
    """Brings losses to a common scale.

    - ``none``: as they are;
    - ``running_mean``: divided by a running mean of their magnitude, this step's included, so each is near 1;
    - ``log``: their logarithm, whose gradient is the loss's own relative to its size; needs losses above zero.

    A step keeps a share `decay` of the running mean; the first step's loss starts it.
    """

    mean: Tensor

    def __init__(self, name: str, tasks: Sequence[str], decay: float = 0.99) -> None:
        super().__init__()
        if name not in NORMALIZATIONS:
            raise UnknownNameError("objective.normalize", name, NORMALIZATIONS)
        self.name = name
        self.tasks = list(tasks)
        self.decay = decay
        self.register_buffer("mean", torch.full((len(self.tasks),), torch.nan, dtype=torch.double))

    def forward(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """The losses of labeled tasks, rescaled."""
        if self.name == "log":
            require_positive(losses, "normalize 'log'")
            return {name: loss.clamp_min(1e-8).log() for name, loss in losses.items()}
        if self.name == "running_mean":
            if self.training:
                self._update(losses)
            scales = self.mean.abs().nan_to_num(1.0).clamp_min(1e-8)
            return {name: loss / scales[self.tasks.index(name)].to(loss) for name, loss in losses.items()}
        return losses

    @torch.no_grad()
    def _update(self, losses: dict[str, Tensor]) -> None:
        """Take a step of training into the mean; what is not finite is left out."""
        now = Observed({name: loss.abs() for name, loss in losses.items()}, self.tasks, self.mean.device)
        moved = self.decay * self.mean + (1 - self.decay) * now.values
        moved = moved.where(self.mean.isfinite(), now.values)
        self.mean.copy_(moved.where(now.known, self.mean))


@BALANCERS.register("fixed")
class FixedWeights(nn.Module):
    """Σ weight · loss."""

    def __init__(self, weights: dict[str, float]) -> None:
        super().__init__()
        self.weights = weights

    def forward(self, losses: dict[str, Tensor]) -> Tensor:
        """The weighted sum."""
        return weighted_sum(self.weights, losses)


@BALANCERS.register("dynamic_weight_average")
class DynamicWeightAverage(nn.Module):
    """A task whose loss falls slower than the others' weighs more: Σ weight · λ · loss.

    λ = tasks · softmax(r / temperature), where r is a task's mean loss of the last epoch over that of the
    epoch before; 1 until there are two (Liu, Johns and Davison, "End-to-end multi-task learning with
    attention", CVPR 2019, eq. 7). An epoch is the steps between two validations. A large temperature makes λ equal.
    """

    POSITIVE = True
    epoch: Tensor
    sums: Tensor
    means: Tensor

    def __init__(self, weights: dict[str, float], temperature: float = 2.0) -> None:
        super().__init__()
        if not 0.0 < temperature < float("inf"):
            raise ValueError("temperature: expected more than 0")
        self.weights = weights
        self.temperature = temperature
        tasks = len(weights)
        self.register_buffer("epoch", torch.tensor(-1))
        self.register_buffer("sums", torch.zeros(2, tasks, dtype=torch.double))  # of losses, and their number
        self.register_buffer("means", torch.full((2, tasks), torch.nan, dtype=torch.double))  # older first

    def forward(self, losses: dict[str, Tensor]) -> Tensor:
        """The weighted sum."""
        if self.training and torch.is_grad_enabled():
            require_positive(losses, "balance 'dynamic_weight_average'")
            now = Observed(losses, list(self.weights), self.sums.device)
            self.sums += torch.stack([now.values, now.known.double()])
        return weighted_sum(dict(zip(self.weights, self.task_weights().tolist(), strict=True)), losses)

    def start_epoch(self, epoch: int) -> None:
        """Close the last epoch."""
        if epoch == int(self.epoch):  # a resumed run starts it again
            return
        self.epoch.fill_(epoch)
        total, count = self.sums
        if count.any():
            self.means.copy_(torch.stack([self.means[1], (total / count).where(count > 0, self.means[1])]))
        self.sums.zero_()

    def task_weights(self) -> Tensor:
        """What each loss is multiplied with, ``(task,)``."""
        ratio = self.means[1] / self.means[0]
        rates = ratio.where(ratio.isfinite(), torch.ones_like(ratio))
        own = torch.tensor(list(self.weights.values()), dtype=torch.double, device=rates.device)
        return own * len(rates) * (rates / self.temperature).softmax(0)


@BALANCERS.register("uncertainty")
class UncertaintyWeighting(nn.Module):
    """Each task's noise is learned, and noisy tasks weigh less: Σ weight · (factor · exp(-s) · loss + ½ s).

    s = log σ² is what is learned (Kendall, Gal and Cipolla, "Multi-task learning using uncertainty to weigh
    losses", CVPR 2018, eqs. 7 and 10). The factor is 1 for tasks of `classification`, where the cost is least at
    σ² = 2 · loss, and ½ for regression, where it is least at σ² = loss. The sum is over labeled tasks.
    """

    POSITIVE = True

    def __init__(self, weights: dict[str, float], classification: Sequence[str] = ("doa",)) -> None:
        super().__init__()
        for name in classification:
            if name not in weights:
                raise UnknownNameError("task in balance_options.classification:", name, weights)
        self.weights = weights
        self.factors = {name: 1.0 if name in classification else 0.5 for name in weights}
        self.log_variance = nn.Parameter(torch.zeros(len(weights)))

    def forward(self, losses: dict[str, Tensor]) -> Tensor:
        """The weighted sum with its price."""
        require_positive(losses, "balance 'uncertainty'")
        log_variance = dict(zip(self.weights, self.log_variance, strict=True))
        costs = {n: self.factors[n] * (-log_variance[n]).exp() * x + log_variance[n] / 2 for n, x in losses.items()}
        return weighted_sum(self.weights, costs)

    def task_weights(self) -> Tensor:
        """What each loss is multiplied with, ``(task,)``."""
        fixed = [self.weights[name] * factor for name, factor in self.factors.items()]
        return torch.tensor(fixed, device=self.log_variance.device) * (-self.log_variance.detach()).exp()


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
