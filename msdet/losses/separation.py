"""Losses of separation, on waveforms or on spectra.

A loss is a function of an estimate and a reference, and of options; both are tensors, waveforms ``(..., time)`` or
complex spectra ``(..., freq, frame)``, whose leading axes broadcast against each other, so that all pairs can be asked
at once. It returns the loss of each signal, ``(...)``. It registers under a name and says there which of the two it
takes (``domain``: ``waveform`` or ``spectrum``) and whether it can be below zero (``signed``: what works with ratios or
logarithms of losses then refuses it). A function of your own says so by attributes of these names; without them it
takes waveforms and is never below zero. A bad value of an option is an `MsdetError`.

In the joint objective signals are at unit mixture level: the mixture's RMS at the reference microphone is 1. The
reference of an empty slot is all zero; the L1 losses are then the mean magnitude of what should not be there.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from msdet.components import Registry
from msdet.dsp.stft import Signals, Stft
from msdet.errors import MsdetError

SEPARATION_LOSSES = Registry("separation loss", __name__)

SILENCE = 1e-10
"""Power below which a reference is silent, relative to the mixture's."""

SeparationLoss = Callable[[Signals, Signals], Tensor]
"""A loss with its options as the joint objective calls it: on signals, of which it takes what it needs."""


def separation_loss(name: str, options: dict[str, Any] | None = None) -> SeparationLoss:
    """A loss by name or import path ``module:function``; its ``window``, if any, is that of the model's STFT."""
    domain = SEPARATION_LOSSES.fact(name, "domain", "waveform")
    derived = "window" in inspect.signature(SEPARATION_LOSSES.find(name)).parameters
    example = torch.linspace(0.0, 2000.0, 8000).sin().reshape(1, 2, 4000)
    if domain == "spectrum":
        example = Stft(512)(example)
    chosen = SEPARATION_LOSSES.with_options(name, options or {}, (0.5 * example, example))

    def of_signals(estimate: Signals, reference: Signals) -> Tensor:
        window = {"window": 2 * (estimate.spectrum.shape[-2] - 1)} if derived else {}
        return cast(Tensor, chosen(getattr(estimate, domain), getattr(reference, domain), **window))

    return of_signals


def is_signed(name: str) -> bool:
    """Whether a loss that `separation_loss` finds can be below zero, as far as it says."""
    return bool(SEPARATION_LOSSES.fact(name, "signed", False))


@SEPARATION_LOSSES.register("l1_waveform")
def l1_waveform_loss(estimate: Tensor, reference: Tensor) -> Tensor:
    """Mean absolute error ``(...)`` of waveforms ``(..., time)``."""
    return (estimate - reference).abs().mean(-1)


@SEPARATION_LOSSES.register("l1_real_imaginary", domain="spectrum")
def l1_real_imaginary_loss(estimate: Tensor, reference: Tensor) -> Tensor:
    """Mean absolute error ``(...)`` of real and imaginary parts of spectra ``(..., freq, frame)``.

    Z.-Q. Wang, P. Wang and D. Wang, "Multi-microphone complex spectral mapping", IEEE/ACM TASLP 29, 2021.
    """
    difference = estimate - reference
    return (difference.real.abs() + difference.imag.abs()).mean(dim=(-2, -1))


@SEPARATION_LOSSES.register("l1_real_imaginary_magnitude", domain="spectrum")
def l1_spectral_loss(estimate: Tensor, reference: Tensor) -> Tensor:
    """`l1_real_imaginary_loss` plus the mean absolute error of magnitudes, which counters their shrinking.

    Wang et al., "On the compensation between magnitude and phase in speech separation", IEEE SPL 28, 2021.
    """
    difference = (magnitude(estimate) - magnitude(reference)).abs()
    return l1_real_imaginary_loss(estimate, reference) + difference.mean(dim=(-2, -1))


def magnitude(spectrum: Tensor) -> Tensor:
    """Magnitude with a gradient at zero, which `abs` has not; the floor is far below any speech at unit level."""
    return torch.sqrt(spectrum.real.square() + spectrum.imag.square() + 1e-12)


@SEPARATION_LOSSES.register("l1_resynthesized")
def l1_resynthesized_loss(
    estimate: Tensor, reference: Tensor, windows: Sequence[int] | None = None, window: int = 512
) -> Tensor:
    """`l1_spectral_loss` ``(...)`` of waveforms ``(..., time)``, its mean over resolutions.

    An estimated spectrum need not be that of any signal; what is heard is its projection on those that are
    (S. Wisdom et al., "Differentiable consistency constraints for improved deep speech enhancement", ICASSP
    2019). Several windows make it a multi-resolution loss (R. Yamamoto, E. Song and J.-M. Kim, "Parallel
    WaveGAN", 2020): even lengths in samples, each with half overlap; `window` alone if not given. Spectra are scaled to
    the size that noise has with `window`, which in the objective is the model's.
    """
    losses = []
    for length in windows or (window,):
        if length < 2 or length % 2:
            option = "objective.separation_options.windows"
            raise MsdetError(f"{option}: {length} samples, expected an even number of 2 or more")
        loss = l1_spectral_loss(_spectrum(estimate, length), _spectrum(reference, length))
        losses.append((window / length) ** 0.5 * loss)
    return torch.stack(losses).mean(0)


def _spectrum(waveform: Tensor, window: int) -> Tensor:
    with waveform.device:  # where the window is made, not copied to
        stft = Stft(window)
    spectrum: Tensor = stft(waveform.reshape(1, -1, waveform.shape[-1]))
    return spectrum.reshape(*waveform.shape[:-1], *spectrum.shape[-2:])


@SEPARATION_LOSSES.register("snr", signed=True)
def snr_loss(estimate: Tensor, reference: Tensor, scale: float = 0.1, largest_snr_db: float = 30.0) -> Tensor:
    """Negative thresholded SNR ``(...)`` of waveforms ``(..., time)``, times `scale`; with 1 in decibels.

    Beyond a largest SNR, which a perfect estimate reaches, there is nothing more to win (S. Wisdom et al.,
    "Unsupervised sound separation using mixture invariant training", NeurIPS 2020, eq. 2), and a silent reference asks
    for silence: 10 log10 of the estimate's power over the mixture's, down to the same threshold ("What's all the FUSS
    about free universal sound separation data?", ICASSP 2021, eqs. 1 and 2). The default scale brings decibels near
    the size of the spectral losses.
    """
    _check_scale(scale)
    return -scale * snr_db(estimate, reference, largest_snr_db).to(estimate.dtype)


@SEPARATION_LOSSES.register("si_sdr", signed=True)
def si_sdr_loss(estimate: Tensor, reference: Tensor, scale: float = 0.1) -> Tensor:
    """Negative SI-SDR ``(...)`` of waveforms ``(..., time)``, times `scale`; with 1 in decibels.

    J. Le Roux et al., "SDR - half-baked or well done?", ICASSP 2019. A silent reference costs what `snr_loss` asks.
    """
    _check_scale(scale)
    silent = reference.double().square().mean(-1) <= SILENCE
    value = torch.where(silent, snr_db(estimate, reference), si_sdr_db(estimate, reference))
    return -scale * value.to(estimate.dtype)


def _check_scale(scale: float) -> None:
    if not 0.0 < scale < math.inf:
        raise MsdetError(f"objective.separation_options.scale is {scale}, expected more than 0")


def snr_db(estimate: Tensor, reference: Tensor, largest_snr_db: float = 30.0) -> Tensor:
    """Thresholded SNR in dB over the last axis, in double precision; of a silent reference, against the mixture."""
    reference = reference.double()
    power = reference.square().mean(-1)
    power = torch.where(power > SILENCE, power, 1.0)
    error = (estimate.double() - reference).square().mean(-1)
    return -10.0 * torch.log10(error / power + 10.0 ** (-largest_snr_db / 10.0))


def si_sdr_db(estimate: Tensor, reference: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio in dB over the last axis (eq. 3), in double precision."""
    reference = reference.double()
    estimate = estimate.double()
    energy = reference.square().sum(-1, keepdim=True).clamp_min(1e-20)
    projection = (estimate * reference).sum(-1, keepdim=True) / energy * reference
    distortion = (estimate - projection).square().sum(-1).clamp_min(1e-20)
    return 10 * torch.log10(projection.square().sum(-1).clamp_min(1e-20) / distortion)
