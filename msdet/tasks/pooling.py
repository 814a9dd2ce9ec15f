"""What auxiliary tasks share: features pooled by learned attention, a small classifier, and losses.

The option ``hidden`` of every head is the width of the features that it pools (`hidden_width`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import smooth_l1_loss

from msdet.models.heads import HeadSizes
from msdet.tasks.labels import LabeledLoss

SMALLEST = 1e-3
"""No quantity is smaller."""

BEND = 0.2
"""Error of the logarithm up to which its square counts, and beyond which its size: about 20 percent."""

WIDEST = 32
"""Width of the features that a head pools, if it is not given one, unless its own are narrower."""


def hidden_width(sizes: HeadSizes, hidden: int | None) -> int:
    """Width of the features that a head pools: as given, or that of its own, `WIDEST` at most.

    Raises:
        ValueError: less than 1.
    """
    if hidden is None:
        return min(WIDEST, sizes.features)
    if hidden < 1:
        raise ValueError(f"hidden is {hidden}, expected at least 1")
    return hidden


def classifier(features: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two linear layers, the one between them twice as wide as `hidden`."""
    return nn.Sequential(nn.Linear(features, 2 * hidden), nn.ReLU(), nn.Linear(2 * hidden, outputs))


class Pool(nn.Module):
    """Attentive statistics of bins (Okabe, Koshinaka and Shinoda, Interspeech 2018), a few times over.

    Each pool weighs all bins by an attention of its own, and gives the mean and the standard deviation of the
    embedded features, and their mean after a learned weight of each frequency: phase differences mean another
    direction at each frequency. A learned offset tells the pools apart.

    Args:
        pools: how many, for example one for each slot.
        hidden: width of the embedded features; what a pool gives is three times as wide.
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
        pooled: Tensor = self(alone).unflatten(0, (batch, frames)).transpose(1, 2)
        return pooled


def class_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy ``(...)`` of logits ``(..., class)`` against classes ``(...)``."""
    return -logits.float().log_softmax(-1).gather(-1, target[..., None])[..., 0]


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
