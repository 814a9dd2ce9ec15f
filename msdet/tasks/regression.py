"""Quantities that are estimated by their logarithm: an error counts relative to the truth."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import smooth_l1_loss

from msdet.models.frontends import FrontEndOutput
from msdet.models.heads import TASKS, HeadSizes
from msdet.tasks.labels import BatchLabels, LabeledLoss
from msdet.tasks.pooling import Pool, classifier, hidden_width

SMALLEST = 1e-3
"""No quantity is smaller."""

BEND = 0.2
"""Error of the logarithm up to which its square counts, and beyond which its size: about 20 percent."""


def log_loss(prediction: Tensor, target: Tensor, known: Tensor) -> LabeledLoss:
    """Smooth L1 loss (Girshick 2015) of logarithms ``(batch, ...)``.

    Args:
        prediction: natural logarithms ``(batch, ...)``.
        target: the quantity itself ``(batch, ...)``, NaN where it is not known.
        known: bool ``(batch, ...)``, whether it matters.
    """
    labeled = known & (target > 0.0)
    wanted = target.nan_to_num(1.0).clamp_min(SMALLEST).log()
    return LabeledLoss(smooth_l1_loss(prediction.float(), wanted, reduction="none", beta=BEND), labeled)


# --- Distance: how far each slot's talker is from the array.


class DistanceHead(nn.Module):
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

    def forward(self, features: Tensor, front_end: FrontEndOutput) -> Tensor:
        """Natural logarithms ``(batch, slot)`` of meters."""
        log_m: Tensor = self.estimate(self.pool(features))
        return log_m[..., 0]


@TASKS.register("distance")
class DistanceTask:
    """Smooth L1 loss of the logarithm.

    What is heard of a distance, the ratio of direct sound to reverberation, changes with its logarithm.
    """

    Head = DistanceHead
    NEEDS = "distances"

    def loss(self, prediction: Tensor, truth: BatchLabels) -> LabeledLoss:
        """Loss ``(batch, slot)`` of logarithms of the same shape."""
        return log_loss(prediction, truth.distance_m, truth.active)

    def scores(self, prediction: Tensor, truth: BatchLabels) -> dict[str, Tensor]:
        """Absolute error of each talker, in meters and relative to the true distance."""
        distance_m = truth.distance_m.masked_fill(~truth.active, torch.nan)
        error_m = (prediction.float().exp() - distance_m).abs()
        return {"distance_error_m": error_m, "distance_error_percent": 100.0 * error_m / distance_m}


# --- T60: the scene's reverberation time.


class T60Head(nn.Module):
    """One logarithm a scene, from pooled features.

    Args:
        sizes: what its sizes follow from.
        hidden: width of the pooled features; that of the features, 32 at most, if not given.
    """

    def __init__(self, sizes: HeadSizes, hidden: int | None = None) -> None:
        super().__init__()
        width = hidden_width(sizes, hidden)
        self.pool = Pool(sizes, 1, width)
        self.estimate = classifier(self.pool.features_out, width, 1)

    def forward(self, features: Tensor, front_end: FrontEndOutput) -> Tensor:
        """Natural logarithms ``(batch,)`` of seconds."""
        log_s: Tensor = self.estimate(self.pool(features))
        return log_s[:, 0, 0]


@TASKS.register("t60")
class T60Task:
    """Smooth L1 loss of the logarithm; a scene without reverberation has no label."""

    Head = T60Head

    def loss(self, prediction: Tensor, truth: BatchLabels) -> LabeledLoss:
        """Loss ``(batch,)`` of logarithms of the same shape."""
        return log_loss(prediction, truth.t60_s, truth.t60_s > 0.0)

    def scores(self, prediction: Tensor, truth: BatchLabels) -> dict[str, Tensor]:
        """Absolute error of each scene."""
        return {"t60_error_s": (prediction.float().exp() - truth.t60_s).abs()}
