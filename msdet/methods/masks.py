"""Masks: MVDR beams driven by any method's voices or by the references, and the oracle ideal ratio mask."""

from __future__ import annotations

from dataclasses import replace

import torch

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array
from msdet.dsp.beamforming import masked_mvdr, power_masks
from msdet.dsp.stft import Stft, window_samples
from msdet.errors import MsdetError
from msdet.methods import initial_method
from msdet.methods.base import (
    METHODS,
    ORACLE,
    VOICES,
    Oracle,
    OracleInput,
    Separation,
    Separator,
    spectrum_of,
    waveforms_of,
)

MASKS = "srp_beam"
WINDOW_S = 0.032
LOADING = 1e-7  # of the disturbance's covariance, relative to its trace
POSTFILTER_WINDOW_S, POSTFILTER_LOADING = 0.064, 1e-3


@METHODS.register("mask_mvdr")
def mask_mvdr(
    array: MicrophoneArray, sample_rate: int, talkers: int, masks: str = MASKS, window_s: float = WINDOW_S
) -> Separator | Oracle:
    """MVDR beams, one a talker, from covariances weighted by ratio masks: of a method's voices, or ``oracle``."""
    stft = Stft(window_samples(window_s, sample_rate))

    @torch.inference_mode()
    def beams(mixture: Array, voices: Array) -> Array:
        spectrum = spectrum_of(stft, mixture)
        ratios = power_masks(spectrum_of(stft, voices), spectrum[:, array.reference])
        wide = masked_mvdr(spectrum.to(torch.complex128), ratios.double(), array.reference, LOADING)
        return waveforms_of(stft, wide.to(spectrum.dtype), mixture)

    if masks == ORACLE:
        return Oracle(lambda mixture, truth: Separation(beams(mixture, truth.references)))
    first = initial_method("masks", masks, VOICES, array, sample_rate, talkers)

    def separate(mixture: Array) -> Separation:
        initial = first(mixture)
        if initial.estimates is None:
            raise MsdetError(f"masks '{masks}' gives no voices")
        return Separation(beams(mixture, initial.estimates), initial.azimuth_deg, initial.confidence)

    return separate


@METHODS.register("oracle_mvdr", finds=())
def oracle_mvdr(
    array: MicrophoneArray, sample_rate: int, talkers: int, window_s: float = WINDOW_S
) -> Separator | Oracle:
    """`mask_mvdr` with masks of the references: about the best that one fixed beam a talker can do."""
    return mask_mvdr(array, sample_rate, talkers, ORACLE, window_s)


@METHODS.register("oracle_irm", finds=())
def oracle_irm(array: MicrophoneArray, sample_rate: int, talkers: int, window_s: float = WINDOW_S) -> Oracle:
    """Mask the mixture by √(S² / (S² + N²)), N all but the reference S (Wang et al., TASLP 22(12), 2014).

    It is the oracle mask of the literature; masks that know the phase as well can do better.
    """
    stft = Stft(window_samples(window_s, sample_rate))

    @torch.inference_mode()
    def separate(mixture: Array, truth: OracleInput) -> Separation:
        spectrum = spectrum_of(stft, mixture[array.reference, None])
        masked = power_masks(spectrum_of(stft, truth.references), spectrum[:, 0]).sqrt() * spectrum
        return Separation(waveforms_of(stft, masked, mixture))

    return Oracle(separate)


def mvdr_separator(separator: Separator, array: MicrophoneArray, sample_rate: int) -> Separator:
    """A separator whose voices are those of an MVDR beamformer driven by another one's.

    The beamformer is linear, so free of the artifacts that masks leave. Each voice, against all else at the
    reference microphone, gives a mask; directions and activity stay the other separator's.
    """
    stft = Stft(window_samples(POSTFILTER_WINDOW_S, sample_rate))

    @torch.inference_mode()
    def beamformed(mixture: Array, voices: Array) -> Array:
        x = torch.from_numpy(mixture)[None]
        level = x[0, array.reference].square().mean().sqrt().clamp_min(1e-8)
        spectrum = stft(x / level).to(torch.complex128)
        estimates = stft(torch.from_numpy(voices)[None] / level).to(torch.complex128)
        power = estimates.abs().square()
        rest = (spectrum[:, array.reference] - estimates.sum(1)).abs().square()
        masks = power / (power.sum(1, keepdim=True) + rest[:, None] + 1e-10)
        beams = masked_mvdr(spectrum, masks, array.reference, POSTFILTER_LOADING)
        waveforms: Array = waveforms_of(stft, beams.to(torch.complex64), mixture) * level.numpy()
        return waveforms

    def separate(mixture: Array) -> Separation:
        initial = separator(mixture)
        if initial.estimates is None:
            raise MsdetError("beamform needs voices, and this system gives directions alone")
        return replace(initial, estimates=beamformed(mixture, initial.estimates))

    return separate
