"""Losses of separation, one file each.

A module defines ``loss(estimate: Signals, reference: Signals, **options) -> Tensor``. Both hold signals of
any leading axes, say ``(batch, slot)``, that broadcast against each other, so that all pairs can be asked at
once; the loss has those axes. Signals are at unit mixture level: the mixture's RMS at the reference
microphone is 1. A silent reference (a slot that nobody fills) is all zero; a loss says what it does with one.

A module whose loss can be below zero says so by a constant, ``SIGNED = True``: what works with ratios or
logarithms of losses then refuses it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from msdet.components import Registry, with_options
from msdet.dsp.stft import Signals, Stft
from msdet.errors import MsdetError

SEPARATION_LOSSES = Registry("separation loss", __name__)


class SeparationLoss(Protocol):
    """What a loss of separation is."""

    def __call__(self, estimate: Signals, reference: Signals) -> Tensor:
        """Loss of each signal."""
        ...


def separation_loss(name: str, options: dict[str, Any] | None = None) -> SeparationLoss:
    """A loss by name or import path ``module:function``, with its options.

    Raises:
        UnknownNameError: no such loss; the nearest name is offered.
        MsdetError: an option that the loss does not have, or a value that it cannot work with.
    """
    loss = SEPARATION_LOSSES.find(name)
    chosen: SeparationLoss = with_options(loss, options or {}, f"separation loss '{name}'", 2, _try)
    return chosen


def _try(loss: SeparationLoss) -> None:
    """Take a loss of half a second at 8 kHz."""
    stft = Stft(512)
    waveform = torch.linspace(0.0, 2000.0, 8000).sin().reshape(1, 2, 4000)
    signals = Signals(stft(waveform), partial(stft.inverse, samples=4000), waveform)
    loss(Signals(0.5 * signals.spectrum, signals.to_waveform), signals)


def is_signed(name: str) -> bool:
    """Whether a loss that `separation_loss` finds can be below zero, as far as its module says."""
    if ":" in name:
        return bool(getattr(inspect.getmodule(SEPARATION_LOSSES.find(name)), "SIGNED", False))
    return bool(SEPARATION_LOSSES.fact(name, "signed", False))


# --- Mean absolute error of waveforms.
# Defined for a silent reference: the mean magnitude of what should not be there.


@SEPARATION_LOSSES.register("l1_waveform")
def l1_waveform_loss(estimate: Signals, reference: Signals) -> Tensor:
    """Loss of each signal, over its samples."""
    return (estimate.waveform - reference.waveform).abs().mean(-1)


# --- Mean absolute error of real and imaginary parts (Wang et al., complex spectral mapping, 2021).
# Defined for a silent reference: the mean magnitude of what should not be there.


@SEPARATION_LOSSES.register("l1_real_imaginary")
def l1_real_imaginary_loss(estimate: Signals, reference: Signals) -> Tensor:
    """Loss of each signal, over its frequencies and frames."""
    difference = estimate.spectrum - reference.spectrum
    return (difference.real.abs() + difference.imag.abs()).mean(dim=(-2, -1))


# --- `l1_real_imaginary` plus the mean absolute error of magnitudes, which counters their shrinking.
# After Wang, Wichern and Le Roux, "On the compensation between magnitude and phase in speech separation",
# IEEE SPL 28, 2021. Defined for a silent reference.


@SEPARATION_LOSSES.register("l1_real_imaginary_magnitude")
def l1_real_imaginary_magnitude_loss(estimate: Signals, reference: Signals) -> Tensor:
    """Loss of each signal, over its frequencies and frames."""
    difference = (magnitude(estimate.spectrum) - magnitude(reference.spectrum)).abs()
    return l1_real_imaginary_loss(estimate, reference) + difference.mean(dim=(-2, -1))


def magnitude(spectrum: Tensor) -> Tensor:
    """Magnitude with a gradient at zero, which `abs` of a complex tensor has not.

    The floor is far below any speech at unit level.
    """
    return torch.sqrt(spectrum.real.square() + spectrum.imag.square() + 1e-12)


# --- `l1_real_imaginary_magnitude` of the estimate as it sounds: resynthesized, and transformed anew.
# An estimate need not be the spectrum of any signal; what is heard is its projection on those that are
# (Wisdom et al., "Differentiable consistency constraints for improved deep speech enhancement", ICASSP 2019).
# Several windows make it a multi-resolution loss (Yamamoto, Song and Kim, "Parallel WaveGAN", 2020). Defined
# for a silent reference: the mean magnitude of what should not be there.


@SEPARATION_LOSSES.register("l1_resynthesized")
def l1_resynthesized_loss(
    estimate: Signals, reference: Signals, windows: Sequence[int] | None = None
) -> Tensor:
    """Loss of each signal, over frequencies and frames; its mean over resolutions.

    Args:
        estimate: what was separated.
        reference: what was meant.
        windows: lengths of the STFT windows in samples, each with half overlap; by default the model's own.
            Spectra of all are scaled to the size that noise has with the model's.

    Raises:
        MsdetError: a window that is not an even number of samples.
    """
    own = 2 * (estimate.spectrum.shape[-2] - 1)
    found = [
        l1_real_imaginary_magnitude_loss(_again(estimate, window, own), _again(reference, window, own))
        for window in windows or (own,)
    ]
    return torch.stack(found).mean(0)


def _again(signals: Signals, window: int, own: int) -> Signals:
    """Signals by the spectra of their waveforms."""
    if window < 2 or window % 2:
        raise MsdetError(
            f"objective.separation_options.windows: {window} samples, expected an even number of 2 or more"
        )
    waveform = signals.waveform
    stft = Stft(window).to(waveform.device)
    leading = waveform.shape[:-1]
    spectrum = stft(waveform.reshape(leading.numel(), 1, -1)) * (own / window) ** 0.5
    return Signals(spectrum.reshape(*leading, *spectrum.shape[-2:]), signals.to_waveform, waveform)


# --- Negative thresholded SNR of the resynthesized estimate, also for references that are silent.
# After Wisdom et al., "Unsupervised sound separation using mixture invariant training", NeurIPS 2020, eq. 2,
# and "What's all the FUSS about free universal sound separation data?", ICASSP 2021, eqs. 1 and 2: beyond a
# largest SNR there is nothing more to win, and a silent reference asks for silence: 10 log10 of the
# estimate's power over the mixture's, down to the same threshold.


SILENCE = 1e-10
"""Power below which a reference is silent, relative to the mixture's."""


@SEPARATION_LOSSES.register("snr", signed=True)
def snr_loss(
    estimate: Signals, reference: Signals, scale: float = 0.1, largest_snr_db: float = 30.0
) -> Tensor:
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


# --- Negative SI-SDR of the resynthesized estimate (Le Roux et al., "SDR - half-baked or well done?", 2019).
# SI-SDR is not defined for a silent reference: such a slot pays what `snr` asks for silence.


@SEPARATION_LOSSES.register("si_sdr", signed=True)
def si_sdr_spectral_loss(estimate: Signals, reference: Signals, scale: float = 0.1) -> Tensor:
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
