"""Negative thresholded SNR of the resynthesised estimate, also for references that are silent.

After Wisdom et al., "Unsupervised sound separation using mixture invariant training", NeurIPS 2020, eq. 2,
and "What's all the FUSS about free universal sound separation data?", ICASSP 2021, eqs. 1 and 2: beyond a
largest SNR there is nothing more to win, and a silent reference asks for silence: 10 log10 of the estimate's
power over the mixture's, down to the same threshold.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from msdet.errors import MsdetError
from msdet.objectives.separation import Signals

SIGNED = True
SILENCE = 1e-10
"""Power below which a reference is silent, relative to the mixture's."""


def loss(estimate: Signals, reference: Signals, scale: float = 0.1, largest_snr_db: float = 30.0) -> Tensor:
    """Loss of each signal.

    Args:
        estimate: what was separated.
        reference: what was meant.
        scale: factor, which brings decibels near the size of the spectral losses.
        largest_snr_db: soft threshold: a perfect estimate reaches this SNR.

    Raises:
        MsdetError: a scale that is not above zero, which would make the estimate worse.
    """
    check_scale(scale)
    return -scale * snr_db(estimate.waveform, reference.waveform, largest_snr_db).to(estimate.waveform.dtype)


def check_scale(scale: float) -> None:
    """Refuse a factor with which nothing or the opposite is learned.

    Raises:
        MsdetError: it is not above zero.
    """
    if not 0.0 < scale < math.inf:
        raise MsdetError(f"objective.separation_options.scale is {scale}, expected more than 0")


def snr_db(estimate: Tensor, reference: Tensor, largest_snr_db: float = 30.0) -> Tensor:
    """Thresholded SNR in dB over the last axis, in double precision.

    Where the reference is silent, the mixture at unit level stands in its place.
    """
    reference = reference.double()
    power = reference.square().mean(-1)
    power = torch.where(power > SILENCE, power, 1.0)
    error = (estimate.double() - reference).square().mean(-1)
    return -10.0 * torch.log10(error / power + 10.0 ** (-largest_snr_db / 10.0))
