"""Cross-entropy with label smoothing (Szegedy et al., "Rethinking the Inception architecture", CVPR 2016)."""

from __future__ import annotations

from torch import Tensor

from msdet.errors import MsdetError
from msdet.objectives.doa._targets import nearest_class


def loss(logits: Tensor, azimuth_deg: Tensor, smoothing: float = 0.1) -> Tensor:
    """Loss ``(...)`` of logits ``(..., class)`` against azimuths ``(...)``.

    Args:
        logits: of azimuth classes.
        azimuth_deg: where the talker is.
        smoothing: probability that the target spreads over all classes alike; the rest is the nearest's.

    Raises:
        MsdetError: a smoothing outside [0, 1).
    """
    if not 0.0 <= smoothing < 1.0:
        raise MsdetError(f"objective.doa_options.smoothing is {smoothing}, expected 0 or more and below 1")
    logarithm = logits.float().log_softmax(-1)
    nearest = logarithm.gather(-1, nearest_class(azimuth_deg, logits.shape[-1])[..., None])[..., 0]
    return -(1.0 - smoothing) * nearest - smoothing * logarithm.mean(-1)
