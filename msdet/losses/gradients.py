"""Balancing by gradients: of each task, and their inner products on the parameters that tasks share.

`balanced_backward` stands for ``backward``; GradNorm is here, the methods of TorchJD in `msdet.losses.torchjd`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from msdet.errors import MsdetError
from msdet.losses.weighting import BALANCERS, GradientBalancer, Observed, all_reduce_sum, require_positive, weighted_sum


def task_gradients(losses: Sequence[Tensor], parameters: Sequence[Tensor]) -> list[list[Tensor | None]]:
    """Gradients of each loss: one row a loss, one entry a parameter, None where the loss does not reach it.

    The graph is kept. A loss without gradients is of a task that the batch does not label, or whose parts are frozen.
    """
    none: list[Tensor | None] = [None] * len(parameters)
    grad = partial(torch.autograd.grad, inputs=list(parameters), retain_graph=True, allow_unused=True)
    return [list(grad(loss)) if loss.requires_grad else none.copy() for loss in losses]


def inner_products(rows: Sequence[Sequence[Tensor | None]], columns: Sequence[int]) -> Tensor:
    """Gramian ``(row, row)`` of gradients over some of the parameters, in double precision."""
    size = len(rows)
    device = next((g.device for row in rows for g in row if g is not None), torch.device("cpu"))
    gramian = torch.zeros(size, size, dtype=torch.double, device=device)
    for i in range(size):
        for j in range(i, size):
            pairs = [(rows[i][k], rows[j][k]) for k in columns]
            dots = [(a * b).sum(dtype=torch.double) for a, b in pairs if a is not None and b is not None]
            if dots:
                gramian[i, j] = gramian[j, i] = torch.stack(dots).sum()
    return gramian


def shared_parameters(rows: Sequence[Sequence[Tensor | None]]) -> list[int]:
    """Numbers of the parameters that more than one task reaches, heads that another's loss goes through included."""
    return [k for k in range(len(rows[0])) if sum(row[k] is not None for row in rows) > 1]


class Balanced(NamedTuple):
    """A step whose gradients a balancer makes."""

    total: Tensor  # what is minimized, all in all
    losses: dict[str, Tensor]  # of the tasks, as they are balanced
    extra: Sequence[Tensor] = ()  # the parts of the total that are no task's, say a penalty


def balanced_backward(
    balancer: GradientBalancer, step: Balanced, loss: Tensor, parameters: Sequence[nn.Parameter]
) -> None:
    """Add the balanced gradients of the tasks, and those of what is no task, to ``grad`` of the parameters.

    They arrive as those of a backward pass do, so that what waits for gradients, such as their averaging over
    processes, sees them. `loss` is what a backward pass would start at: the step's total, or that times a factor.
    """
    learning = [p for p in parameters if p.requires_grad]
    scale: Tensor | float = 1.0  # one over the number of accumulated batches
    if loss is not step.total:
        (scale,) = torch.autograd.grad(loss, step.total, retain_graph=True)
    gradients = balancer.gradients(step.losses, learning)
    for row in task_gradients(step.extra, learning):
        for k, more in enumerate(row):
            known = gradients[k]
            gradients[k] = more if known is None else known if more is None else known + more
    reached = [(p, scale * g) for p, g in zip(learning, gradients, strict=True) if g is not None]
    torch.autograd.backward([p for p, _ in reached], [g for _, g in reached])


class SharedGradients(nn.Module, ABC):
    """Weighs the tasks' gradients on shared parameters by their inner products.

    A parameter that one task alone reaches follows that task with its own weight. Tasks without a gradient on shared
    parameters, say because nothing is labeled, take no part. Costs one backward pass a task. Gradients of several
    processes are averaged first, so the result is that of one process with all their batches.
    """

    def __init__(self, weights: dict[str, float]) -> None:
        super().__init__()
        self.weights = weights

    def forward(self, losses: dict[str, Tensor]) -> Tensor:
        """The weighted sum, for the log."""
        return weighted_sum(dict(zip(self.weights, self.own_weights().tolist(), strict=True)), losses)

    def own_weights(self) -> Tensor:
        """Weights ``(task,)`` on parameters that one task alone reaches."""
        return torch.tensor(list(self.weights.values()), dtype=torch.double)

    @abstractmethod
    def shares(self, gramian: Tensor, live: list[int], losses: Tensor) -> Tensor:
        """Weights ``(task,)`` on shared parameters, of the tasks with the numbers `live` and losses ``(task,)``.

        `gramian` are the inner products ``(task, task)`` of the gradients of these, unweighted; finite, in double.
        """

    def gradients(self, losses: dict[str, Tensor], parameters: Sequence[Tensor]) -> list[Tensor | None]:
        """Gradient of each parameter, None where no task reaches it (`GradientBalancer`)."""
        rows = task_gradients([losses[name] for name in self.weights], parameters)
        shared = shared_parameters(rows)
        if not shared:
            reason = "model.sharing shares nothing or that part is frozen; use 'fixed'"
            raise MsdetError(f"objective.balance: no parameter that learns is reached by two tasks: {reason}")
        average_over_processes(rows, shared)
        gramian = inner_products(rows, shared)
        own = self.own_weights().to(gramian)
        together = own.clone()
        if gramian.isfinite().all():  # otherwise the step is dropped, whatever it is
            weighted = gramian.diagonal() * own.square()
            live = [i for i, x in enumerate(weighted.tolist()) if x > 0]
            if live:
                values = torch.stack([losses[name].detach().double() for name in self.weights])[live]
                together[live] = self.shares(gramian[live][:, live], live, values)
        weights = {k: together.tolist() for k in shared}
        alone = own.tolist()
        combined: list[Tensor | None] = []
        for k, column in enumerate(zip(*rows, strict=True)):
            terms = [w * g for w, g in zip(weights.get(k, alone), column, strict=True) if g is not None]
            combined.append(sum(terms[1:], terms[0]) if terms else None)
        return combined


def average_over_processes(rows: list[list[Tensor | None]], columns: Sequence[int]) -> None:
    """Replace gradients by their means over all processes that train together."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    for row in rows:
        gradients = {k: gradient for k in columns if (gradient := row[k]) is not None}
        if not gradients:
            continue
        flat = all_reduce_sum(torch.cat([g.flatten() for g in gradients.values()]))
        parts = (flat / torch.distributed.get_world_size()).split([g.numel() for g in gradients.values()])
        for (k, gradient), part in zip(gradients.items(), parts, strict=True):
            row[k] = part.view_as(gradient)


@BALANCERS.register("gradnorm")
class GradNorm(SharedGradients):
    """Weights that make the tasks' gradients equally long, longer for tasks that lag behind.

    They move towards |weight · ∇loss| = mean · r^alpha, where r is how much of its first loss a task has left, relative
    to the mean, and keep their sum (Chen et al., "GradNorm", ICML 2018, algorithm 1). Norms are over all shared
    parameters. L_grad (eq. 2) is descended in the logarithms of the weights and relative to the mean norm, so weights
    stay positive and one rate fits losses of any scale.

    Args:
        weights: to start with, by task; a task of weight zero stays out.
        alpha: strength of the pull towards tasks that lag; 0 makes all norms equal.
        rate: step of the logarithms of the weights.
    """

    POSITIVE = True
    present: Tensor
    first: Tensor

    def __init__(self, weights: dict[str, float], alpha: float = 1.5, rate: float = 0.025) -> None:
        super().__init__(weights)
        if not 0.0 <= alpha < float("inf") or not 0.0 < rate < float("inf"):
            raise ValueError("expected alpha of 0 or more and a rate of more than 0")
        self.alpha = alpha
        self.rate = rate
        self.register_buffer("present", torch.tensor(list(weights.values()), dtype=torch.double))
        self.register_buffer("first", torch.full((len(weights),), torch.nan, dtype=torch.double))

    def own_weights(self) -> Tensor:
        """The present weights ``(task,)``."""
        return self.present.clone()

    def task_weights(self) -> Tensor:
        """What each loss is multiplied with, ``(task,)``."""
        return self.present

    def shares(self, gramian: Tensor, live: list[int], losses: Tensor) -> Tensor:
        """The weights of this step, ``(task,)``; those of the next move on."""
        names = [list(self.weights)[i] for i in live]
        require_positive(dict(zip(names, losses, strict=True)), "balance 'gradnorm'")
        labeled = losses.where(losses > 0, torch.nan)  # another process may have labels where this has none
        mean = Observed(dict(zip(names, labeled, strict=True)), names, gramian.device).values
        known = self.first[live]
        self.first[live] = first = known.where(known.isfinite(), mean)
        now = self.present[live]
        norms = now * gramian.diagonal().sqrt()
        progress = mean / first.clamp_min(1e-12)
        lag = (progress / progress.mean().clamp_min(1e-12)) ** self.alpha
        moved = now * torch.exp(-self.rate * (norms - norms.mean() * lag).sign() * norms / norms.mean())
        self.present[live] = moved * (now.sum() / moved.sum())
        return now
