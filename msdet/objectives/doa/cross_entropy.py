"""Cross-entropy against the class nearest to the azimuth."""

from __future__ import annotations

from torch import Tensor

from msdet.objectives.doa._targets import nearest_class


def loss(logits: Tensor, azimuth_deg: Tensor) -> Tensor:
    """Cross-entropy ``(...)`` of logits ``(..., class)`` against azimuths ``(...)``."""
    target = nearest_class(azimuth_deg, logits.shape[-1])
    return -logits.float().log_softmax(-1).gather(-1, target[..., None])[..., 0]
