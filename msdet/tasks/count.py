"""Talker count: how many people are in the scene."""

from __future__ import annotations

from torch import Tensor, nn

from msdet.models.frontends import FrontEndOutput
from msdet.models.heads import TASKS, HeadSizes
from msdet.tasks.labels import BatchLabels, LabeledLoss
from msdet.tasks.pooling import Pool, classifier, hidden_width


class CountHead(nn.Module):
    """A classifier on features pooled once for each slot (counting by classes: Stöter et al., 2019).

    Args:
        sizes: what its sizes follow from.
        hidden: width of the pooled features; that of the features, 32 at most, if not given.
    """

    def __init__(self, sizes: HeadSizes, hidden: int | None = None) -> None:
        super().__init__()
        width = hidden_width(sizes, hidden)
        self.pool = Pool(sizes, sizes.talkers, width)
        self.classify = classifier(sizes.talkers * self.pool.features_out, width, sizes.talkers + 1)

    def forward(self, features: Tensor, front_end: FrontEndOutput) -> Tensor:
        """Logits ``(batch, count)`` of nobody, one talker and so on to as many as there are slots."""
        logits: Tensor = self.classify(self.pool(features).flatten(1))
        return logits


@TASKS.register("count")
class CountTask:
    """Cross-entropy of the number of talkers, which every scene has."""

    Head = CountHead

    def loss(self, prediction: Tensor, truth: BatchLabels) -> LabeledLoss:
        """Loss ``(batch,)`` of logits ``(batch, count)``."""
        count = truth.active.sum(-1)
        value = -prediction.float().log_softmax(-1).gather(-1, count[:, None])[:, 0]
        return LabeledLoss(value, count >= 0)

    def scores(self, prediction: Tensor, truth: BatchLabels) -> dict[str, Tensor]:
        """Share of scenes whose count is right."""
        return {"count_accuracy": (prediction.argmax(-1) == truth.active.sum(-1)).float()}
