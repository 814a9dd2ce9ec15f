"""Domain: which room or corpus a scene is from, learned so that the shared features cannot tell.

A classifier behind a layer that reverses the gradient (Ganin and Lempitsky, "Unsupervised domain adaptation
by backpropagation", ICML 2015): it learns to tell domains apart, and what it reads learns to hide them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from msdet.models.frontends import FrontEndOutput
from msdet.models.heads import TASKS, HeadSizes
from msdet.tasks.labels import BatchLabels, LabeledLoss
from msdet.tasks.pooling import Pool, classifier, hidden_width


class DomainHead(nn.Module):
    """A classifier on pooled features whose gradient is reversed.

    Args:
        sizes: what its sizes follow from.
        domains: number of classes; domains that agree modulo it count as one.
        strength: factor of the reversed gradient (λ of the paper), besides the task's weight.
        hidden: width of the pooled features; that of the features, 32 at most, if not given.

    Raises:
        ValueError: fewer than two domains, or a negative strength.
    """

    def __init__(
        self, sizes: HeadSizes, domains: int = 16, strength: float = 1.0, hidden: int | None = None
    ) -> None:
        super().__init__()
        if domains < 2:
            raise ValueError(f"domains is {domains}, expected at least 2")
        if not 0.0 <= strength < math.inf:
            raise ValueError(f"strength is {strength}, expected 0 or more")
        self.strength = strength
        width = hidden_width(sizes, hidden)
        self.pool = Pool(sizes, 1, width)
        self.classify = classifier(self.pool.features_out, width, domains)

    def forward(self, features: Tensor, front_end: FrontEndOutput) -> Tensor:
        """Logits ``(batch, domain)``."""
        logits: Tensor = self.classify(self.pool(reverse_gradient(features, self.strength)))
        return logits[:, 0]


@TASKS.register("domain")
class DomainTask:
    """Cross-entropy of the domain, where it is known.

    A shared encoder has succeeded where the accuracy is that of guessing. Rooms that training never saw say
    little: look at the accuracy on known ones.
    """

    Head = DomainHead

    def loss(self, prediction: Tensor, truth: BatchLabels) -> LabeledLoss:
        """Loss ``(batch,)`` of logits ``(batch, domain)``."""
        value = -prediction.float().log_softmax(-1).gather(-1, self.target(prediction, truth)[:, None])[:, 0]
        return LabeledLoss(value, truth.domain >= 0)

    def target(self, prediction: Tensor, truth: BatchLabels) -> Tensor:
        """Class ``(batch,)`` of each scene; any class where the domain is not known."""
        return truth.domain.clamp_min(0) % prediction.shape[-1]

    def scores(self, prediction: Tensor, truth: BatchLabels) -> dict[str, Tensor]:
        """Share of scenes whose domain is told."""
        right = (prediction.argmax(-1) == self.target(prediction, truth)).float()
        return {"domain_accuracy": right.masked_fill(truth.domain < 0, torch.nan)}


def reverse_gradient(x: Tensor, strength: float = 1.0) -> Tensor:
    """The same values; the gradient comes back times ``-strength``.

    >>> x = torch.ones(2, requires_grad=True)
    >>> reverse_gradient(3.0 * x, 0.5).sum().backward()
    >>> x.grad.tolist()
    [-1.5, -1.5]
    """
    fixed = x.detach()
    return fixed - strength * (x - fixed)
