"""Losses of separation, and SI-SDR for validation.

A loss takes estimates and references as complex spectra ``(batch, talker, freq, frame)`` and gives
``(batch, talker)``; leading axes broadcast, so that all pairs can be asked at once.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

SeparationLoss = Callable[[Tensor, Tensor], Tensor]


def l1_real_imaginary(estimate: Tensor, reference: Tensor) -> Tensor:
    """Mean absolute error of real and imaginary parts (Wang et al., complex spectral mapping, 2021)."""
    difference = estimate - reference
    return (difference.real.abs() + difference.imag.abs()).mean(dim=(-2, -1))


def l1_real_imaginary_magnitude(estimate: Tensor, reference: Tensor) -> Tensor:
    """`l1_real_imaginary` plus the mean absolute error of magnitudes, which counters their shrinking."""
    magnitude = (_magnitude(estimate) - _magnitude(reference)).abs()
    return l1_real_imaginary(estimate, reference) + magnitude.mean(dim=(-2, -1))


LOSSES: dict[str, SeparationLoss] = {
    "l1_real_imaginary": l1_real_imaginary,
    "l1_real_imaginary_magnitude": l1_real_imaginary_magnitude,
}


def _magnitude(spectrum: Tensor) -> Tensor:
    # abs() of a complex zero has no gradient; the floor is far below any speech at unit level
    return torch.sqrt(spectrum.real.square() + spectrum.imag.square() + 1e-12)


def si_sdr_db(estimate: Tensor, reference: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio in dB over the last axis (Le Roux et al., 2019, eq. 3)."""
    reference = reference.double()
    estimate = estimate.double()
    energy = reference.square().sum(-1, keepdim=True).clamp_min(1e-20)
    projection = (estimate * reference).sum(-1, keepdim=True) / energy * reference
    distortion = (estimate - projection).square().sum(-1).clamp_min(1e-20)
    return 10 * torch.log10(projection.square().sum(-1).clamp_min(1e-20) / distortion)
