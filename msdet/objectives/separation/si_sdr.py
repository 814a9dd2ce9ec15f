"""Negative SI-SDR of the resynthesised estimate (Le Roux et al., "SDR - half-baked or well done?", 2019).

SI-SDR is not defined for a silent reference: such a slot pays what `snr` asks for silence.
"""

from __future__ import annotations

import torch
from torch import Tensor

from msdet.objectives.separation import Signals
from msdet.objectives.separation.snr import SILENCE, check_scale, snr_db

SIGNED = True


def loss(estimate: Signals, reference: Signals, scale: float = 0.1) -> Tensor:
    """Negative SI-SDR of each signal.

    Args:
        estimate: what was separated.
        reference: what was meant.
        scale: factor, which brings decibels near the size of the spectral losses.

    Raises:
        MsdetError: a scale that is not above zero.
    """
    check_scale(scale)
    signals = estimate.waveform, reference.waveform
    silent = reference.waveform.double().square().mean(-1) <= SILENCE
    return -scale * torch.where(silent, snr_db(*signals), si_sdr_db(*signals)).to(signals[0].dtype)


def si_sdr_db(estimate: Tensor, reference: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio in dB over the last axis (eq. 3), in double precision."""
    reference = reference.double()
    estimate = estimate.double()
    energy = reference.square().sum(-1, keepdim=True).clamp_min(1e-20)
    projection = (estimate * reference).sum(-1, keepdim=True) / energy * reference
    distortion = (estimate - projection).square().sum(-1).clamp_min(1e-20)
    return 10 * torch.log10(projection.square().sum(-1).clamp_min(1e-20) / distortion)
