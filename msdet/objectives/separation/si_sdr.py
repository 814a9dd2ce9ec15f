"""Negative SI-SDR of the resynthesised estimate (Le Roux et al., "SDR - half-baked or well done?", 2019).

Not defined for a silent reference: use ``snr`` where slots may be empty.
"""

from __future__ import annotations

import torch
from torch import Tensor

from msdet.objectives.separation import Signals


def loss(estimate: Signals, reference: Signals, scale: float = 0.1) -> Tensor:
    """Negative SI-SDR of each signal.

    Args:
        estimate: what was separated.
        reference: what was meant.
        scale: factor, which brings decibels near the size of the spectral losses.
    """
    return -scale * si_sdr_db(estimate.waveform, reference.waveform).to(estimate.waveform.dtype)


def si_sdr_db(estimate: Tensor, reference: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio in dB over the last axis (eq. 3), in double precision."""
    reference = reference.double()
    estimate = estimate.double()
    energy = reference.square().sum(-1, keepdim=True).clamp_min(1e-20)
    projection = (estimate * reference).sum(-1, keepdim=True) / energy * reference
    distortion = (estimate - projection).square().sum(-1).clamp_min(1e-20)
    return 10 * torch.log10(projection.square().sum(-1).clamp_min(1e-20) / distortion)
