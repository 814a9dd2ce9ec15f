"""Distance: how far each slot's talker is from the array."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from msdet.models.frontend import Observation
from msdet.models.heads import HeadSizes
from msdet.tasks._pooling import Pool, classifier, hidden_width
from msdet.tasks._regression import log_loss
from msdet.tasks.truth import Labelled, Truth


class Head(nn.Module):
    """One logarithm a slot, from pooled features.

    Args:
        sizes: what its sizes follow from.
        hidden: width of the pooled features; that of the features, 32 at most, if not given.
    """

    def __init__(self, sizes: HeadSizes, hidden: int | None = None) -> None:
        super().__init__()
        width = hidden_width(sizes, hidden)
        self.pool = Pool(sizes, sizes.talkers, width)
        self.estimate = classifier(self.pool.features_out, width, 1)

    def forward(self, features: Tensor, observation: Observation) -> Tensor:
        """Natural logarithms ``(batch, slot)`` of metres."""
        log_m: Tensor = self.estimate(self.pool(features))
        return log_m[..., 0]


class Task:
    """Smooth L1 loss of the logarithm.

    What is heard of a distance, the ratio of direct sound to reverberation, changes with its logarithm.
    """

    Head = Head
    NEEDS = "distances"

    def loss(self, prediction: Tensor, truth: Truth) -> Labelled:
        """Loss ``(batch, slot)`` of logarithms of the same shape."""
        return log_loss(prediction, truth.distance_m, truth.active)

    def scores(self, prediction: Tensor, truth: Truth) -> dict[str, Tensor]:
        """Absolute error of each talker, in metres and relative to the true distance."""
        distance_m = truth.distance_m.masked_fill(~truth.active, torch.nan)
        error_m = (prediction.float().exp() - distance_m).abs()
        return {"distance_error_m": error_m, "distance_error_percent": 100.0 * error_m / distance_m}
