"""Loss and decoding of DoA logits ``(batch, slot, class)``."""

from __future__ import annotations

import torch
from torch import Tensor

from msdet.spatial import wrap_azimuth


def doa_cross_entropy(logits: Tensor, azimuth_deg: Tensor) -> Tensor:
    """Cross-entropy ``(...)`` of logits ``(..., class)`` against the class nearest to azimuths ``(...)``."""
    classes = logits.shape[-1]
    target = (azimuth_deg * (classes / 360.0)).round().long() % classes
    return -logits.float().log_softmax(-1).gather(-1, target[..., None])[..., 0]


def decode_azimuth(logits: Tensor, half_width: int = 2) -> tuple[Tensor, Tensor]:
    """Azimuth in degrees and confidence, each ``(batch, slot)``.

    The azimuth is the circular mean of the posterior over the peak class and `half_width` classes on either
    side, which resolves directions between classes; the confidence is the probability of those classes.
    """
    posterior = logits.float().softmax(-1)
    classes = logits.shape[-1]
    offset = torch.arange(-half_width, half_width + 1, device=logits.device)
    nearby = (posterior.argmax(-1, keepdim=True) + offset) % classes
    weight = posterior.gather(-1, nearby)
    angle_rad = nearby * (2 * torch.pi / classes)
    mean_rad = torch.atan2((weight * angle_rad.sin()).sum(-1), (weight * angle_rad.cos()).sum(-1))
    return wrap_azimuth(torch.rad2deg(mean_rad)), weight.sum(-1)
