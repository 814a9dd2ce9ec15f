"""Losses on tensors, which reference a slot answers for, and how the losses of tasks become one.

``from msdet.losses import PITLoss, si_sdr_loss`` is enough for a training loop of your own:

>>> import torch
>>> estimate, reference = torch.randn(4, 2, 8000), torch.randn(4, 2, 8000)  # (batch, slot, time)
>>> loss, permutation = PITLoss(si_sdr_loss)(estimate, reference)
>>> loss.shape, permutation.shape
(torch.Size([]), torch.Size([4, 2]))

Every loss, assignment rule and balancer registers under the name that settings of the objective call it by.
"""

from __future__ import annotations

from msdet.losses.assignment import ASSIGNMENTS, PITLoss
from msdet.losses.doa import (
    DOA_LOSSES,
    cross_entropy_loss,
    earth_mover_loss,
    smoothed_cross_entropy_loss,
    soft_cross_entropy_loss,
)
from msdet.losses.separation import (
    SEPARATION_LOSSES,
    l1_real_imaginary_loss,
    l1_resynthesized_loss,
    l1_spectral_loss,
    l1_waveform_loss,
    si_sdr_loss,
    snr_loss,
)
from msdet.losses.weighting import BALANCERS

__all__ = [
    "ASSIGNMENTS", "BALANCERS", "DOA_LOSSES", "SEPARATION_LOSSES", "PITLoss", "cross_entropy_loss", "earth_mover_loss",
    "l1_real_imaginary_loss", "l1_resynthesized_loss", "l1_spectral_loss", "l1_waveform_loss", "si_sdr_loss",
    "smoothed_cross_entropy_loss", "snr_loss", "soft_cross_entropy_loss",
]  # fmt: skip
