"""Beams steered at talkers: where to steer (``doa``) is found by another method, given, or the truth.

`unprocessed`, the mixture itself, is what all methods are measured against.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from msdet.arrays import MicrophoneArray
from msdet.conventions import DOA_CLASSES, Array, wrap_deg
from msdet.dsp import spatial
from msdet.dsp.beamforming import DIAGONAL_LOADING, apply_beam, steered_beam_weights
from msdet.dsp.stft import Stft, window_samples
from msdet.errors import MsdetError
from msdet.methods import initial_method
from msdet.methods.base import (
    AZIMUTHS,
    METHODS,
    ORACLE,
    VOICES,
    Oracle,
    OracleInput,
    Separation,
    Separator,
    check_talkers,
    find_peaks,
    spectrum_of,
    waveforms_of,
)
from msdet.models.frontends import ArrayGeometry

DOA = "norm_music"
WINDOW_S = 0.032  # frame length of the default model; from 16 to 128 ms `srp_beam` does alike
MAX_TALKERS = 8
MVDR_LOADING = 0.1  # relative to the mixture's power
MVDR_WINDOW_S = 0.016  # length of an STFT frame: longer ones cancel more of the talker, frames of 32 ms cost 0.4 dB
SOFTNESS = 0.03  # how far the constraints yield where talkers look alike, at low frequencies; nulls of 28 dB are left

Weights = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Weights ``(talker, freq, mic)`` from steering vectors of the same shape, the coherence of diffuse noise and
the mixture's covariance, both ``(freq, mic, mic)``; complex128."""


def beam_separator(
    weights: Weights, array: MicrophoneArray, sample_rate: int, talkers: int, doa: str | list[float], window_s: float
) -> Separator | Oracle:
    """A separator that steers a beam at each talker, in STFT frames of `window_s`.

    Where the talkers are (`doa`) is found by the baseline of this name, given in degrees, or ``oracle``. Refuses a
    `doa` that is no method that finds azimuths, or has another number of them.
    """
    stft = Stft(window_samples(window_s, sample_rate))
    positions = torch.tensor(array.positions)
    frequency_hz = torch.linspace(0.0, sample_rate / 2, stft.freqs, dtype=torch.float64)
    coherence = spatial.diffuse_coherence(positions, frequency_hz).to(torch.complex128)

    @torch.inference_mode()
    def steer(mixture: Array, azimuth_deg: Array) -> Array:
        spectrum = spectrum_of(stft, mixture)
        x = spectrum[0].permute(1, 0, 2).to(torch.complex128)
        steering = spatial.steering_vectors(positions, torch.from_numpy(azimuth_deg), frequency_hz, array.reference)
        beams = weights(steering.to(torch.complex128), coherence, x @ x.mH)
        return waveforms_of(stft, apply_beam(beams.to(spectrum.dtype)[None], spectrum), mixture)

    def steer_at_truth(mixture: Array, truth: OracleInput) -> Separation:
        if not np.isfinite(truth.azimuth_deg).all():
            raise MsdetError("directions are not known")
        return Separation(steer(mixture, truth.azimuth_deg))

    if doa == ORACLE:
        return Oracle(steer_at_truth)
    locate = _fixed(doa, talkers) if isinstance(doa, list) else _locator(doa, array, sample_rate, talkers)

    def separate(mixture: Array) -> Separation:
        azimuth_deg = locate(mixture)
        return Separation(steer(mixture, azimuth_deg), azimuth_deg)

    return separate


def distortionless_separator(
    disturbance: Callable[[Tensor, Tensor], Tensor],
    array: MicrophoneArray,
    sample_rate: int,
    talkers: int,
    doa: str | list[float] = DOA,
    loading: float = DIAGONAL_LOADING,
    window_s: float = WINDOW_S,
) -> Separator | Oracle:
    """A separator whose beams leave their talkers unchanged and let through the least disturbance.

    The weights are C⁻¹d / (dᴴC⁻¹d), of steering vectors d and the disturbance's covariance C: what `disturbance` makes
    of the coherence of diffuse noise and the mixture's covariance, all ``(freq, mic, mic)``, and sensor noise, whose
    power relative to it is `loading`. Arguments and errors as `beam_separator`.
    """
    _check_loading(loading)

    def weights(steering: Tensor, coherence: Tensor, covariance: Tensor) -> Tensor:
        matrix = _loaded(disturbance(coherence, covariance), loading)
        numerator = torch.linalg.solve(matrix, steering[..., None])[..., 0]
        distortionless: Tensor = numerator / (steering.conj() * numerator).sum(-1, keepdim=True)
        return distortionless

    return beam_separator(weights, array, sample_rate, talkers, doa, window_s)


def _loaded(covariance: Tensor, loading: float) -> Tensor:
    """A covariance ``(freq, mic, mic)`` of unit mean power, with `loading` added to the diagonal."""
    power = covariance.diagonal(dim1=-2, dim2=-1).real.mean(-1)[:, None, None]
    eye = torch.eye(covariance.shape[-1], dtype=covariance.dtype)
    return covariance / power.clamp_min(1e-12) + loading * eye


def _check_loading(loading: float) -> None:
    """Refuse a loading that leaves matrices singular."""
    if not 0 < loading < float("inf"):
        raise MsdetError(f"loading is {loading}, expected above 0")


def _fixed(azimuth_deg: list[float], talkers: int) -> Callable[[Array], Array]:
    azimuths = np.sort(wrap_deg(azimuth_deg))
    if azimuths.shape != (talkers,) or not np.isfinite(azimuths).all():
        raise MsdetError(f"doa is {azimuth_deg}, expected azimuths of {talkers} talkers in degrees")
    return lambda mixture: azimuths


def _locator(doa: str, array: MicrophoneArray, sample_rate: int, talkers: int) -> Callable[[Array], Array]:
    example = f"[{','.join(str(10 + 360 * n // talkers) for n in range(talkers))}] (degrees)"
    separator = initial_method("doa", doa, AZIMUTHS, array, sample_rate, talkers, [example])

    def locate(mixture: Array) -> Array:
        found = separator(mixture).azimuth_deg
        if found is None:
            raise MsdetError(f"doa '{doa}' gives no azimuths")
        return found

    return locate


@METHODS.register("delay_and_sum")
def delay_and_sum(
    array: MicrophoneArray, sample_rate: int, talkers: int, doa: str | list[float] = DOA, window_s: float = WINDOW_S
) -> Separator | Oracle:
    """Microphones aligned towards each talker and averaged; arguments and errors as `beam_separator`."""

    def weights(steering: Tensor, coherence: Tensor, covariance: Tensor) -> Tensor:
        return steering / array.microphones

    return beam_separator(weights, array, sample_rate, talkers, doa, window_s)


def diffuse_noise(coherence: Tensor, covariance: Tensor) -> Tensor:
    """Disturbance of superdirective beams (Bitzer and Simmer, in Microphone Arrays, Springer, 2001)."""
    return coherence


superdirective = METHODS.register("superdirective")(partial(distortionless_separator, diffuse_noise))


def mixture_covariance(coherence: Tensor, covariance: Tensor) -> Tensor:
    """Disturbance of MVDR beams (Capon, Proc. IEEE 57(8), 1969): the whole mixture.

    It holds the talker too, who is partly canceled where the direction is not exact or the room reflects; the
    loading keeps that small.
    """
    return covariance


mvdr = METHODS.register("mvdr")(
    partial(distortionless_separator, mixture_covariance, loading=MVDR_LOADING, window_s=MVDR_WINDOW_S)
)


@METHODS.register("lcmv")
def lcmv(
    array: MicrophoneArray,
    sample_rate: int,
    talkers: int,
    doa: str | list[float] = DOA,
    loading: float = DIAGONAL_LOADING,
    softness: float = SOFTNESS,
    window_s: float = WINDOW_S,
) -> Separator | Oracle:
    """LCMV beams (Frost, Proc. IEEE 60(8), 1972): a null on each other talker, then the least diffuse noise.

    With D the talkers' steering vectors and C the covariance of diffuse and sensor noise, talker s has the weights C⁻¹D
    (DᴴC⁻¹D + δI)⁻¹ e_s. Arguments and errors as `beam_separator`, and more talkers than microphones.
    """
    check_talkers("LCMV", talkers, array.microphones)
    _check_loading(loading)

    def weights(steering: Tensor, coherence: Tensor, covariance: Tensor) -> Tensor:
        directions = steering.permute(1, 2, 0)
        filtered = torch.linalg.solve(_loaded(coherence, loading), directions)
        gram = directions.mH @ filtered
        power = gram.diagonal(dim1=-2, dim2=-1).real.mean(-1)[:, None, None]
        eye = torch.eye(gram.shape[-1], dtype=gram.dtype)
        beams: Tensor = filtered @ torch.linalg.inv(gram + softness * power * eye)
        return beams.permute(2, 0, 1)

    return beam_separator(weights, array, sample_rate, talkers, doa, window_s)


@METHODS.register("srp_beam", finds=(VOICES, AZIMUTHS))
def srp_beam(array: MicrophoneArray, sample_rate: int, talkers: int, window_s: float = WINDOW_S) -> Separator:
    """The classical chain: SRP-PHAT peaks, and on each a superdirective beam with a soft null on the others.

    It is where the default model starts: untrained, that model gives exactly this at the same frame length.
    The confidence of an azimuth is the SRP-PHAT map there: the mean steered response, 1 for a plane wave.
    """
    check_talkers("srp_beam", talkers, MAX_TALKERS)
    stft = Stft(window_samples(window_s, sample_rate))
    geometry = ArrayGeometry(array, stft.freqs, sample_rate, DOA_CLASSES, any_domain=True)

    @torch.inference_mode()
    def separate(mixture: Array) -> Separation:
        spectrum = spectrum_of(stft, mixture)
        response = spatial.srp_phat(spectrum, geometry.steering)
        peaks = find_peaks(response, talkers, array)
        logits = spatial.von_mises_logits(peaks, DOA_CLASSES)
        weights = steered_beam_weights(logits.softmax(-1), geometry.steering, geometry.coherence)
        voices = waveforms_of(stft, apply_beam(weights, spectrum), mixture)
        azimuth, _ = spatial.decode_azimuth(logits)
        height = response[0, (azimuth[0] * (DOA_CLASSES / 360.0)).round().long() % DOA_CLASSES]
        return Separation(voices, azimuth[0].double().numpy(), height.double().numpy())

    return separate


@METHODS.register("unprocessed", finds=())
def unprocessed(array: MicrophoneArray, sample_rate: int, talkers: int) -> Separator:
    """The mixture at the reference microphone, for every talker."""
    check_talkers("unprocessed", talkers, MAX_TALKERS)

    def separate(mixture: Array) -> Separation:
        return Separation(np.repeat(mixture[array.reference][None], talkers, axis=0))

    return separate
