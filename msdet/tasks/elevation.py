"""Elevation of each slot's talker, by classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from msdet.errors import MsdetError
from msdet.models.frontends import FrontEndOutput
from msdet.models.heads import TASKS, HeadSizes
from msdet.tasks.labels import BatchLabels, LabeledLoss
from msdet.tasks.pooling import Pool, classifier, hidden_width


class ElevationHead(nn.Module):
    """A classifier on pooled features. The first class is centered on -90 degrees, the last on 90.

    Args:
        sizes: what its sizes follow from.
        width_deg: from one class to the next.
        hidden: width of the pooled features; that of the features, 32 at most, if not given.

    Raises:
        MsdetError: an array that cannot tell up from down.
        ValueError: a width that does not divide 180 degrees.
    """

    def __init__(self, sizes: HeadSizes, width_deg: float = 10.0, hidden: int | None = None) -> None:
        super().__init__()
        domain = sizes.geometry.domain
        if domain.axis is not None:
            raise MsdetError(
                f"task 'elevation' needs microphones that span space; these resolve {domain.words}"
            )
        steps = round(180.0 / width_deg) if width_deg > 0 else 0
        if steps < 1 or abs(steps * width_deg - 180.0) > 1e-6:
            raise ValueError(f"width_deg is {width_deg}, expected to divide 180")
        width = hidden_width(sizes, hidden)
        self.pool = Pool(sizes, sizes.talkers, width)
        self.classify = classifier(self.pool.features_out, width, steps + 1)

    def forward(self, features: Tensor, front_end: FrontEndOutput) -> Tensor:
        """Logits ``(batch, slot, class)``."""
        logits: Tensor = self.classify(self.pool(features))
        return logits


@TASKS.register("elevation")
class ElevationTask:
    """Cross-entropy of the nearest class, of talkers whose elevation is known."""

    Head = ElevationHead
    NEEDS = "directions"

    def loss(self, prediction: Tensor, truth: BatchLabels) -> LabeledLoss:
        """Loss ``(batch, slot)`` of logits ``(batch, slot, class)``."""
        target = elevation_to_class(truth.elevation_deg.nan_to_num(0.0), prediction.shape[-1])
        value = -prediction.float().log_softmax(-1).gather(-1, target[..., None])[..., 0]
        return LabeledLoss(value, truth.elevation_deg.isfinite() & truth.active)

    def scores(self, prediction: Tensor, truth: BatchLabels) -> dict[str, Tensor]:
        """Absolute error of each talker."""
        error = (decode_elevation(prediction)[0] - truth.elevation_deg).abs()
        return {"elevation_mae_deg": error.masked_fill(~truth.active, torch.nan)}


def elevation_to_class(elevation_deg: Tensor, classes: int) -> Tensor:
    """The class whose center is nearest; half-way, the upper one.

    >>> elevation_to_class(torch.tensor([-90.0, -85.1, -85.0, 0.0, 84.9, 90.0]), 19).tolist()
    [0, 0, 1, 9, 17, 18]
    """
    place = (elevation_deg + 90.0) * ((classes - 1) / 180.0)
    return (place + 0.5).floor().long().clamp(0, classes - 1)


def decode_elevation(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Elevation in degrees and confidence, each ``(...)``, of logits ``(..., class)``.

    The elevation is the mean of the posterior over the peak class and its neighbors, which resolves
    directions between classes; the confidence is the probability of those classes.
    """
    posterior = logits.float().softmax(-1)
    classes = logits.shape[-1]
    index = torch.arange(classes, device=logits.device)
    nearby = (index - posterior.argmax(-1, keepdim=True)).abs() <= 1
    weight = posterior * nearby
    confidence = weight.sum(-1)
    return (weight * index).sum(-1) / confidence * (180.0 / (classes - 1)) - 90.0, confidence
