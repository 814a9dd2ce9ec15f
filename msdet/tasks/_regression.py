"""Quantities that are estimated by their logarithm: an error counts relative to the truth."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from msdet.tasks.truth import Labelled

SMALLEST = 1e-3
"""No quantity is smaller."""

BEND = 0.2
"""Error of the logarithm up to which its square counts, and beyond which its size: about 20 percent."""


def log_loss(prediction: Tensor, target: Tensor, known: Tensor) -> Labelled:
    """Smooth L1 loss (Girshick 2015) of logarithms ``(batch, ...)``.

    Args:
        prediction: natural logarithms ``(batch, ...)``.
        target: the quantity itself ``(batch, ...)``, NaN where it is not known.
        known: bool ``(batch, ...)``, whether it matters.
    """
    labelled = known & (target > 0.0)
    wanted = target.nan_to_num(1.0).clamp_min(SMALLEST).log()
    return Labelled(smooth_l1_loss(prediction.float(), wanted, reduction="none", beta=BEND), labelled)
