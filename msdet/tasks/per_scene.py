"""Tasks about a whole scene: the number of talkers, its reverberation time, and which domain it is from."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from msdet.losses.doa import class_loss
from msdet.models.frontends import FrontEndOutput
from msdet.models.heads import TASKS, HeadSizes
from msdet.tasks.labels import BatchLabels, LabeledLoss
from msdet.tasks.pooling import LogHead, log_loss, pool_and_classifier


class CountHead(nn.Module):
    """A classifier on features pooled once for each slot (counting by classes: Stöter et al., 2019)."""

    def __init__(self, sizes: HeadSizes, hidden: int | None = None) -> None:
        super().__init__()
        outputs = sizes.talkers + 1
        self.pool, self.classify = pool_and_classifier(sizes, hidden, sizes.talkers, outputs, joined=True)

    def forward(self, features: Tensor, front_end: FrontEndOutput) -> Tensor:
        """Logits ``(batch, count)`` of no talker, one and so on to as many as there are slots."""
        return self.classify(self.pool(features).flatten(1))  # type: ignore[no-any-return]


@TASKS.register("count")
class CountTask:
    """Cross-entropy of the number of talkers, which every scene has."""

    Head = CountHead

    def loss(self, prediction: Tensor, truth: BatchLabels) -> LabeledLoss:
        """Loss ``(batch,)`` of logits ``(batch, count)``."""
        count = truth.active.sum(-1)
        return LabeledLoss(class_loss(prediction, count), count >= 0)

    def scores(self, prediction: Tensor, truth: BatchLabels) -> dict[str, Tensor]:
        """Share of scenes whose count is right."""
        return {"count_accuracy": (prediction.argmax(-1) == truth.active.sum(-1)).float()}


class T60Head(LogHead):
    """Of seconds, for the scene."""

    of_slots = False


@TASKS.register("t60")
class T60Task:
    """Smooth L1 loss of the T60's logarithm; a scene without reverberation has no label."""

    Head = T60Head

    def loss(self, prediction: Tensor, truth: BatchLabels) -> LabeledLoss:
        """Loss ``(batch,)`` of logarithms of the same shape."""
        return log_loss(prediction, truth.t60_s, truth.t60_s > 0.0)

    def scores(self, prediction: Tensor, truth: BatchLabels) -> dict[str, Tensor]:
        """Absolute error of each scene."""
        return {"t60_error_s": (prediction.float().exp() - truth.t60_s).abs()}


class DomainHead(nn.Module):
    """A classifier on pooled features behind a layer that reverses the gradient.

    It learns to tell rooms or corpora apart, and the shared features learn to hide them (Ganin and Lempitsky,
    "Unsupervised domain adaptation by backpropagation", ICML 2015).

    Args:
        domains: number of classes; domains that agree modulo it count as one.
        strength: factor of the reversed gradient (λ of the paper), besides the task's weight.
        hidden: width of the pooled features (`hidden_width`).
    """

    def __init__(self, sizes: HeadSizes, domains: int = 16, strength: float = 1.0, hidden: int | None = None) -> None:
        super().__init__()
        if domains < 2:
            raise ValueError(f"domains is {domains}, expected at least 2")
        if not 0.0 <= strength < math.inf:
            raise ValueError(f"strength is {strength}, expected 0 or more")
        self.strength = strength
        self.pool, self.classify = pool_and_classifier(sizes, hidden, 1, domains)

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
        return LabeledLoss(class_loss(prediction, self.target(prediction, truth)), truth.domain >= 0)

    def target(self, prediction: Tensor, truth: BatchLabels) -> Tensor:
        """Class ``(batch,)`` of each scene; any class where the domain is not known."""
        return truth.domain.clamp_min(0) % prediction.shape[-1]

    def scores(self, prediction: Tensor, truth: BatchLabels) -> dict[str, Tensor]:
        """Share of scenes whose domain is right."""
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
