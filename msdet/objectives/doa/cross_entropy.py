"""Cross-entropy against the class nearest to the azimuth."""

from __future__ import annotations

from torch import Tensor


def loss(logits: Tensor, azimuth_deg: Tensor) -> Tensor:
    """Cross-entropy ``(...)`` of logits ``(..., class)`` against azimuths ``(...)``."""
    classes = logits.shape[-1]
    target = (azimuth_deg * (classes / 360.0)).round().long() % classes
    return -logits.float().log_softmax(-1).gather(-1, target[..., None])[..., 0]
