"""What auxiliary tasks share: features pooled by learned attention, a small classifier, and losses.

The option ``hidden`` of every head is the width of the features that it pools (`hidden_width`).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import smooth_l1_loss

from msdet.models.frontends import FrontEndOutput
from msdet.models.heads import HeadSizes
from msdet.models.heads.separation import at_least_one
from msdet.tasks.labels import LabeledLoss


def hidden_width(sizes: HeadSizes, hidden: int | None) -> int:
    """Width of the features that a head pools: as given, or that of its own, 32 at most."""
    return min(32, sizes.features) if hidden is None else at_least_one(hidden, "hidden")


def pool_and_classifier(
    sizes: HeadSizes, hidden: int | None, pools: int, outputs: int, joined: bool = False
) -> tuple[Pool, nn.Sequential]:
    """Pooled features, and two linear layers that give outputs from each pool, or from all of them joined."""
    width = hidden_width(sizes, hidden)
    pool = Pool(sizes, pools, width)
    features = pools * pool.features_out if joined else pool.features_out
    return pool, nn.Sequential(nn.Linear(features, 2 * width), nn.ReLU(), nn.Linear(2 * width, outputs))


class Pool(nn.Module):
    """Attentive statistics of bins (Okabe, Koshinaka and Shinoda, Interspeech 2018), a few times over.

    Each pool weighs all bins by an attention of its own, and gives the mean and the standard deviation of the
    embedded features, and their mean after a learned weight of each frequency: phase differences mean another
    direction at each frequency. A learned offset tells the pools apart. What a pool gives is three times as wide as
    the embedded features, `hidden`.
    """

    def __init__(self, sizes: HeadSizes, pools: int, hidden: int) -> None:
        super().__init__()
        freqs = sizes.geometry.steering.shape[1]
        self.features_out = 3 * hidden
        self.attention = nn.Linear(sizes.features, pools)
        self.embed = nn.Linear(sizes.features, hidden)
        self.frequency = nn.Parameter(torch.randn(freqs, hidden) * 0.1)
        self.offset = nn.Parameter(torch.randn(pools, self.features_out) * 0.1)

    def forward(self, features: Tensor) -> Tensor:
        """``(batch, freq, frame, feature)`` to ``(batch, pool, features_out)``."""
        shares = self.attention(features).flatten(1, 2).softmax(1).mT
        embedded = torch.relu(self.embed(features)).float()  # half precision loses small deviations
        placed = embedded * self.frequency[:, None]
        with torch.autocast(features.device.type, enabled=False):
            mean, square, somewhere = (shares.float() @ x.flatten(1, 2) for x in (embedded, embedded.square(), placed))
            deviation = ((square - mean.square()).clamp_min(0.0) + 1e-5).sqrt()
            pooled: Tensor = torch.cat([mean, deviation, somewhere], dim=-1) + self.offset
        return pooled

    def of_frames(self, features: Tensor) -> Tensor:
        """Each frame for itself: ``(batch, pool, frame, features_out)``."""
        batch, _, frames, _ = features.shape
        alone = features.transpose(1, 2).flatten(0, 1)[:, :, None]
        return cast(Tensor, self(alone).unflatten(0, (batch, frames)).transpose(1, 2))


class LogHead(nn.Module):
    """Natural logarithms of a quantity, from pooled features: of each slot, or one of the scene."""

    of_slots = True

    def __init__(self, sizes: HeadSizes, hidden: int | None = None) -> None:
        super().__init__()
        self.pool, self.estimate = pool_and_classifier(sizes, hidden, sizes.talkers if self.of_slots else 1, 1)

    def forward(self, features: Tensor, front_end: FrontEndOutput) -> Tensor:
        """Logarithms ``(batch, slot)``, or ``(batch,)`` of scenes."""
        logarithms: Tensor = self.estimate(self.pool(features))[..., 0]
        return logarithms if self.of_slots else logarithms[:, 0]


def log_loss(prediction: Tensor, target: Tensor, known: Tensor) -> LabeledLoss:
    """Smooth L1 loss (Girshick 2015) of natural logarithms ``(batch, ...)`` against the quantity itself.

    The square of the error counts up to 0.2, about 20 percent, and beyond that its size. `known` says where it matters.
    """
    labeled = known & (target > 0.0)
    wanted = target.nan_to_num(1.0).clamp_min(1e-3).log()  # no quantity is smaller
    return LabeledLoss(smooth_l1_loss(prediction.float(), wanted, reduction="none", beta=0.2), labeled)
