"""Gradients of tasks: set by a balancer instead of by one backward pass, and how well they agree."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from msdet.objectives.balancing import GradientBalancer
from msdet.objectives.balancing._gradients import average_over_processes, inner_products, task_gradients


class Balanced(NamedTuple):
    """A step whose gradients a balancer makes.

    Attributes:
        total: what is minimised, all in all.
        losses: of the tasks, as they are balanced.
        extra: the parts of the total that are no task's, say a penalty.
    """

    total: Tensor
    losses: dict[str, Tensor]
    extra: Sequence[Tensor] = ()


def balanced_backward(
    balancer: GradientBalancer, step: Balanced, loss: Tensor, parameters: Sequence[nn.Parameter]
) -> None:
    """Add the balanced gradients of the tasks, and those of what is no task, to ``grad`` of the parameters.

    They arrive as those of a backward pass do, so that what waits for gradients, such as their averaging over
    processes, sees them.

    Args:
        balancer: combines the tasks' gradients.
        step: what it is asked about.
        loss: what a backward pass would start at: the total, or that times a factor.
        parameters: that may learn.
    """
    learning = [p for p in parameters if p.requires_grad]
    (scale,) = torch.autograd.grad(loss, step.total, retain_graph=True)  # one over the accumulated batches
    gradients = balancer.gradients(step.losses, learning)
    for row in task_gradients(step.extra, learning):
        for k, more in enumerate(row):
            known = gradients[k]
            gradients[k] = more if known is None else known if more is None else known + more
    reached = [(p, scale * g) for p, g in zip(learning, gradients, strict=True) if g is not None]
    torch.autograd.backward([p for p, _ in reached], [g for _, g in reached])


def task_cosines(losses: dict[str, Tensor], parameters: Sequence[nn.Parameter]) -> dict[str, Tensor]:
    """Cosine between the gradients of each pair of tasks, by name, such as ``separation_doa``.

    Over the parameters that both reach: the encoder, and whatever else one task's loss reaches through
    another's head. Below zero a step for one task is a step against the other: negative transfer. A pair is
    left out where one of them has no gradient, for one because nothing is labelled, or they share nothing.
    The graph is kept; costs one backward pass a task.
    """
    learning = [p for p in parameters if p.requires_grad]
    rows = task_gradients(list(losses.values()), learning)
    average_over_processes(rows, range(len(learning)))
    found = {}
    for (i, first), (j, second) in itertools.combinations(enumerate(losses), 2):
        both = [k for k in range(len(learning)) if rows[i][k] is not None and rows[j][k] is not None]
        gramian = inner_products([rows[i], rows[j]], both)
        lengths = gramian.diagonal().prod().sqrt()
        if lengths > 0:
            found[f"{first}_{second}"] = (gramian[0, 1] / lengths).float()
    return found
