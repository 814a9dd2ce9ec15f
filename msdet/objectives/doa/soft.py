"""Cross-entropy against a circular distribution around the azimuth.

Classes near the true one are less wrong than others (He, Motlicek and Odobez, "Deep neural networks for
multiple speaker detection and localization", ICRA 2018, use a Gaussian), and an azimuth between two classes
keeps its place. The least possible value is the target's entropy.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from msdet.objectives.doa._targets import soft_target


def loss(
    logits: Tensor,
    azimuth_deg: Tensor,
    width_deg: float = 5.0,
    shape: Literal["von_mises", "gaussian"] = "von_mises",
) -> Tensor:
    """Loss ``(...)`` of logits ``(..., class)`` against azimuths ``(...)``.

    Args:
        logits: of azimuth classes.
        azimuth_deg: where the talker is.
        width_deg: standard deviation of the target.
        shape: of the target, ``von_mises`` or ``gaussian``.

    Raises:
        MsdetError: a width that is not above zero, or an unknown shape.
    """
    target = soft_target(azimuth_deg, logits.shape[-1], width_deg, shape)
    return -(target * logits.float().log_softmax(-1)).sum(-1)
