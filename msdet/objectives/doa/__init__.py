"""Losses of DoA, one file each, and what reads azimuths from logits.

A module defines ``loss(logits: Tensor, azimuth_deg: Tensor, **options) -> Tensor``: logits ``(..., class)``
over the full circle and azimuths ``(...)`` to a loss ``(...)``. Class k is at k · 360° / classes.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from msdet.components import find_component, with_options
from msdet.spatial import wrap_azimuth


class DoaLoss(Protocol):
    """What a loss of DoA is."""

    def __call__(self, logits: Tensor, azimuth_deg: Tensor) -> Tensor:
        """Loss ``(...)`` of logits ``(..., class)``."""
        ...


def doa_loss(name: str, options: dict[str, Any] | None = None) -> DoaLoss:
    """A loss by name or import path ``module:function``, with its options.

    Raises:
        UnknownNameError: no such loss; the nearest name is offered.
        MsdetError: an option that the loss does not have, or a value that it cannot work with.
    """
    loss = find_component(__name__, name, "loss", "DoA loss")
    chosen: DoaLoss = with_options(loss, options or {}, f"DoA loss '{name}'", 2, _try)
    return chosen


def _try(loss: DoaLoss) -> None:
    """Take a loss of something."""
    loss(torch.linspace(-1.0, 1.0, 144).reshape(1, 2, 72), torch.tensor([[10.0, 200.0]]))


def decode_azimuth(logits: Tensor, half_width: int = 2) -> tuple[Tensor, Tensor]:
    """Azimuth in degrees and confidence, each ``(...)``, of logits ``(..., class)``.

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
