"""Array kernels that models, baselines and inference share: steering, SRP-PHAT, covariances, beamformers.

A far-field source in direction u reaches a microphone at p earlier by p·u/c, so its spectrum there is
exp(+j 2π f p·u / c) times that at the array's origin. Steering vectors are relative to the reference
microphone. Spectra are complex ``(batch, mic, freq, frame)``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from msdet.conventions import SPEED_OF_SOUND, direction_vector
from msdet.running import Memory, sum_so_far

DIAGONAL_LOADING = 0.01
"""Added to the disturbance covariance: sensor noise and misplaced microphones, relative to diffuse noise."""

SEED_CONCENTRATION = 300.0
"""Von Mises concentration of a posterior around one known azimuth: about 3.3 degrees wide."""

SEED_FLOOR = -8.0
"""Log probability, relative to the peak's, of every direction far from a seeded one."""


Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def full_precision(kernel: Kernel) -> Kernel:
    """Runs a kernel in 32 bits under autocast: half precision moves SRP peaks and breaks small solves."""

    @functools.wraps(kernel)
    def wrapped(*tensors: Any, **options: Any) -> Any:
        wide = [t.float() if isinstance(t, Tensor) and t.dtype in _HALVES else t for t in tensors]
        with torch.autocast(tensors[0].device.type, enabled=False):
            return kernel(*wide, **options)

    return cast(Kernel, wrapped)


_HALVES = (torch.bfloat16, torch.float16)


def steering_vectors(
    positions: Tensor,
    azimuth_deg: Tensor,
    frequency_hz: Tensor,
    reference: int,
    speed_of_sound: float = SPEED_OF_SOUND,
) -> Tensor:
    """Far-field steering vectors ``(direction, freq, mic)``, complex64, 1 at the reference microphone.

    Args:
        positions: ``(mic, 3)`` in metres, array frame.
        azimuth_deg: ``(direction,)``, elevation 0.
        frequency_hz: ``(freq,)``.
        reference: index of the reference microphone.
        speed_of_sound: metres per second.
    """
    directions = torch.from_numpy(direction_vector(azimuth_deg.numpy())).to(positions.device)
    lead_s = directions @ (positions.double() - positions[reference].double()).T / speed_of_sound
    phase = 2 * math.pi * frequency_hz.double()[None, :, None] * lead_s[:, None, :]
    return torch.polar(torch.ones_like(phase), phase).to(torch.complex64)


def diffuse_coherence(
    positions: Tensor, frequency_hz: Tensor, speed_of_sound: float = SPEED_OF_SOUND
) -> Tensor:
    """Coherence ``(freq, mic, mic)`` of a spherically diffuse field: sin(x)/x, x = 2π f d / c."""
    distance = torch.cdist(positions.double(), positions.double())
    return torch.sinc(2 * frequency_hz.double()[:, None, None] * distance / speed_of_sound).float()


def phase_normalise(spectrum: Tensor) -> Tensor:
    """Spectrum with unit magnitude in every bin (the phase transform)."""
    return spectrum / spectrum.abs().clamp_min(1e-8)


@full_precision
def steered_response(phases: Tensor, steering: Tensor) -> Tensor:
    """Steered response power ``(batch, direction, freq, frame)`` of every bin, in [0, 1].

    Args:
        phases: phase-normalised spectrum ``(batch, mic, freq, frame)``.
        steering: ``(direction, freq, mic)``.
    """
    batch, mics, freqs, frames = phases.shape
    by_freq = phases.permute(2, 1, 0, 3).reshape(freqs, mics, batch * frames)
    steered = steering.permute(1, 0, 2).conj() @ by_freq / mics
    power = steered.real.square() + steered.imag.square()
    return power.reshape(freqs, -1, batch, frames).permute(2, 1, 0, 3)


@full_precision
def weighted_covariance(spectrum: Tensor, weights: Tensor) -> Tensor:
    """Sum over frames of weight · x x^H: ``(batch, talker, freq, mic, mic)``.

    Args:
        spectrum: ``(batch, mic, freq, frame)``.
        weights: ``(batch, talker, freq, frame)``, real, not negative.
    """
    x = spectrum.permute(0, 2, 1, 3)[:, None]
    return (x * weights[:, :, :, None]) @ x.mH


@full_precision
def pooled_response(covariance: Tensor, steering: Tensor) -> Tensor:
    """Steered response ``(batch, talker, direction)`` summed over frequency, from covariances.

    Equal to the weighted sum of `steered_response` over bins when the covariance is that of phase-normalised
    spectra, but never forms the map of all bins and directions.

    Args:
        covariance: ``(batch, talker, freq, mic, mic)``.
        steering: ``(direction, freq, mic)``.
    """
    directions, freqs, mics = steering.shape
    outer = steering[..., :, None].conj() * steering[..., None, :]
    flat = outer.reshape(directions, -1)
    c = covariance.reshape(*covariance.shape[:2], freqs * mics * mics)
    # the sum over microphone pairs of a Hermitian form is real
    power = c.real @ flat.real.T - c.imag @ flat.imag.T
    return power / mics**2


@full_precision
def frame_response(phases: Tensor, weights: Tensor, steering: Tensor) -> Tensor:
    """Steered response ``(batch, slot, frame, direction)`` of every frame, summed over frequency.

    Args:
        phases: phase-normalised spectrum ``(batch, mic, freq, frame)``.
        weights: of each slot's bins, ``(batch, slot, freq, frame)``.
        steering: ``(direction, freq, mic)``.
    """
    power = steered_response(phases, steering)
    return (power.permute(0, 3, 1, 2) @ weights.permute(0, 3, 2, 1)).permute(0, 3, 1, 2)


def srp_phat(spectrum: Tensor, steering: Tensor) -> Tensor:
    """SRP-PHAT map ``(batch, direction)``: mean over all bins of the steered response (DiBiase 2000)."""
    phases = phase_normalise(spectrum)
    uniform = torch.ones_like(spectrum[:, :1].real)
    covariance = weighted_covariance(phases, uniform)
    return pooled_response(covariance, steering)[:, 0] / uniform[0, 0].numel()


def wrap_azimuth(azimuth_deg: Tensor) -> Tensor:
    """Azimuth in [0, 360) degrees; `remainder` alone rounds tiny negatives up to 360."""
    wrapped = azimuth_deg.remainder(360.0)
    return torch.where(wrapped >= 360.0, 0.0, wrapped)


def pick_peaks(response: Tensor, count: int, minimum_gap_deg: float = 15.0) -> Tensor:
    """The `count` highest peaks of maps over a full circle, ascending: azimuth ``(batch, count)`` in degrees.

    Takes what `highest_peaks` takes.
    """
    return highest_peaks(response, count, minimum_gap_deg).sort(dim=-1).values


def highest_peaks(response: Tensor, count: int, minimum_gap_deg: float = 15.0) -> Tensor:
    """The `count` highest peaks of maps over a full circle, the highest first: azimuth ``(batch, count)``.

    Local maxima come first, then any direction far enough from those taken; each peak is moved to the top of
    the parabola through its neighbours.

    Args:
        response: ``(batch, direction)``, directions evenly over [0, 360).
        count: number of peaks.
        minimum_gap_deg: no two peaks are closer.
    """
    batch, directions = response.shape
    step = 360.0 / directions
    before, after = response.roll(1, -1), response.roll(-1, -1)
    is_peak = (response >= before) & (response > after)
    spread = (response.amax(-1, keepdim=True) - response.amin(-1, keepdim=True)).clamp_min(1e-12)
    score = (response - response.amin(-1, keepdim=True)) / spread + is_peak  # any peak before any slope
    azimuth = torch.arange(directions, device=response.device) * step
    rows = torch.arange(batch, device=response.device)
    found = []
    for _ in range(count):
        best = score.argmax(-1)
        distance = (azimuth[None] - azimuth[best][:, None] + 180.0).remainder(360.0) - 180.0
        score = score.masked_fill(distance.abs() < minimum_gap_deg, -1.0)
        left, top, right = before[rows, best], response[rows, best], after[rows, best]
        curvature = left - 2 * top + right
        shift = torch.where(curvature < 0, 0.5 * (left - right) / curvature.clamp_max(-1e-12), 0.0)
        found.append((best + shift.clamp(-0.5, 0.5)) * step)
    return wrap_azimuth(torch.stack(found, dim=-1))


def seeded_logits(azimuth_deg: Tensor, directions: int) -> Tensor:
    """Log of a posterior ``(..., direction)`` that is sure of one azimuth each, up to a constant.

    A von Mises bump with a floor, so that evidence can still move it.
    """
    grid = torch.arange(directions, device=azimuth_deg.device) * (360.0 / directions)
    delta_rad = torch.deg2rad(grid - azimuth_deg[..., None])
    bump = SEED_CONCENTRATION * (delta_rad.cos() - 1.0)
    return torch.logaddexp(bump, torch.full_like(bump, SEED_FLOOR))


@full_precision
def steered_beam_weights(posterior: Tensor, steering: Tensor, coherence: Tensor) -> Tensor:
    """Weights ``(batch, talker, freq, mic)`` of beams steered by DoA posteriors, a soft null on the others.

    Talker s is looked for along d_s = Σ_k p_s(k) d_k and disturbed by diffuse noise and the other talkers,
    C_s = Γ + εI + Σ_{s'≠s} α Σ_k p_s'(k) d_k d_k^H; the weights are C_s⁻¹ d_s / (d_s^H C_s⁻¹ d_s) (MVDR).
    α is one minus the overlap (Bhattacharyya) of the two posteriors, so that a talker never nulls itself.

    Args:
        posterior: ``(batch, talker, direction)``, sums to one.
        steering: ``(direction, freq, mic)``.
        coherence: of the diffuse field, ``(freq, mic, mic)``.
    """
    directions, freqs, mics = steering.shape
    batch, talkers = posterior.shape[:2]
    flat = steering.reshape(directions, -1)
    p = posterior.to(flat.dtype)
    look = (p @ flat).reshape(batch, talkers, freqs, mics)
    outer = (steering[..., :, None] * steering[..., None, :].conj()).reshape(directions, -1)
    own = (p @ outer).reshape(batch, talkers, freqs, mics, mics)
    root = posterior.clamp_min(1e-12).sqrt()
    alpha = (1.0 - root @ root.mT).clamp_min(0.0) * (1.0 - torch.eye(talkers, device=posterior.device))
    others = torch.einsum("bst,btfmn->bsfmn", alpha.to(own.dtype), own)
    loading = DIAGONAL_LOADING * torch.eye(mics, device=posterior.device)
    disturbance = (coherence + loading).to(own.dtype) + others
    numerator = torch.linalg.solve(disturbance, look[..., None])[..., 0]
    gain = (look.conj() * numerator).sum(-1, keepdim=True).real
    weights: Tensor = numerator / gain.clamp_min(1e-6)
    return weights


@full_precision
def apply_beam(weights: Tensor, spectrum: Tensor) -> Tensor:
    """Beam outputs w^H x: ``(batch, talker, freq, frame)``.

    Args:
        weights: ``(batch, talker, freq, mic)``.
        spectrum: ``(batch, mic, freq, frame)``.
    """
    y = weights.permute(0, 2, 1, 3).conj() @ spectrum.permute(0, 2, 1, 3)
    return y.permute(0, 2, 1, 3)


@full_precision
def beam_of_frames(weights: Tensor, spectrum: Tensor) -> Tensor:
    """Beam outputs w^H x of a beam for each frame: ``(batch, talker, freq, frame)``.

    Args:
        weights: ``(batch, frame, talker, freq, mic)``.
        spectrum: ``(batch, mic, freq, frame)``.
    """
    x = spectrum.permute(0, 3, 2, 1)[:, :, None]
    return (weights.conj() * x).sum(-1).permute(0, 2, 3, 1)


def past_frames(spectrum: Tensor, frames: int) -> Tensor:
    """Each channel now, one frame ago and so on, ``(batch, frames * channel, freq, frame)``; zero before."""
    if frames == 1:
        return spectrum
    length = spectrum.shape[-1]
    return torch.cat([torch.nn.functional.pad(spectrum, (k, 0))[..., :length] for k in range(frames)], dim=1)


@full_precision
def wiener_filter(spectrum: Tensor, desired: Tensor, taps: int, loading: float = 1e-3) -> Tensor:
    """The least-squares linear filter of all microphones and `taps` frames that best gives `desired`.

    One filter a frequency and talker over the whole recording, applied: multichannel Wiener filter
    (with ``taps > 1``, a convolutive one that also removes reverberation).

    Args:
        spectrum: ``(batch, mic, freq, frame)``.
        desired: ``(batch, talker, freq, frame)``, an estimate of each talker.
        taps: this frame and ``taps - 1`` before.
        loading: of the diagonal, relative to its mean.
    """
    x = past_frames(spectrum, taps).permute(0, 2, 1, 3)
    y = desired.permute(0, 2, 1, 3)
    level = x.real.square().mean(2) + x.imag.square().mean(2)
    weight = 1.0 / (level + 0.01 * level.mean(-1, keepdim=True) + 1e-8)
    weighted = x * weight[:, :, None]
    covariance = weighted @ x.mH
    cross = weighted @ y.mH
    power = covariance.diagonal(dim1=-2, dim2=-1).real.mean(-1)
    eye = torch.eye(covariance.shape[-1], device=x.device)
    filters = torch.linalg.solve(covariance + (loading * power + 1e-8)[..., None, None] * eye, cross)
    filtered: Tensor = (filters.mH @ x).permute(0, 2, 1, 3)
    return filtered


def power_masks(estimates: Tensor, mixture: Tensor) -> Tensor:
    """Share ``(batch, talker, freq, frame)`` of each estimate in the power of itself and the rest, in [0, 1].

    Args:
        estimates: complex ``(batch, talker, freq, frame)``.
        mixture: complex ``(batch, freq, frame)`` at the same microphone; the rest is mixture less estimate.
    """
    power = estimates.abs().square()
    rest = (mixture[:, None] - estimates).abs().square()
    return (power + 1e-20) / (power + rest + 2e-20)


@full_precision
def masked_mvdr(
    spectrum: Tensor, masks: Tensor, reference: int, loading: float = 1e-4, causal: bool = False
) -> Tensor:
    """MVDR beams ``(batch, talker, freq, frame)`` by Souden et al. (IEEE TASLP 18(2), 2010), from torchaudio.

    A talker's covariance is weighted by its mask, the disturbance's by one less the mask.

    Args:
        spectrum: ``(batch, mic, freq, frame)``.
        masks: ``(batch, talker, freq, frame)`` in [0, 1].
        reference: index of the microphone at which the talkers are wanted.
        loading: of the disturbance's diagonal, relative to its trace.
        causal: a beam for each frame, from that frame and those before it.
    """
    if causal:
        beams: Tensor = masked_mvdr_so_far(spectrum, masks, reference, loading)[0]
        return beams
    wanted, rest = weighted_covariance(spectrum, masks), weighted_covariance(spectrum, 1.0 - masks)
    return apply_beam(_souden_weights(wanted, rest, reference, loading), spectrum)


@full_precision
def masked_mvdr_so_far(
    spectrum: Tensor,
    masks: Tensor,
    reference: int,
    loading: float = 1e-4,
    decay: float = 1.0,
    before: Memory = None,
) -> tuple[Tensor, Memory]:
    """`masked_mvdr` with a beam for each frame, from it and those before; and the memory of them.

    Args:
        spectrum: ``(batch, mic, freq, frame)``.
        masks: ``(batch, talker, freq, frame)`` in [0, 1].
        reference: index of the microphone at which the talkers are wanted.
        loading: of the disturbance's diagonal, relative to its trace.
        decay: weight of what is one frame older.
        before: memory of the frames before.
    """
    x = spectrum.permute(0, 3, 2, 1)[:, None]
    outer = x[..., :, None] * x[..., None, :].conj()
    share = masks.transpose(2, 3)[..., None, None]
    talkers, others = before or (None, None)
    wanted, talkers = sum_so_far(outer * share, 2, decay, talkers)
    rest, others = sum_so_far(outer * (1.0 - share), 2, decay, others)
    weights = _souden_weights(wanted.to(x.dtype), rest.to(x.dtype), reference, loading)
    return (weights.conj() * x).sum(-1).transpose(2, 3), (talkers, others)


def _souden_weights(wanted: Tensor, rest: Tensor, reference: int, loading: float) -> Tensor:
    """Weights ``(..., mic)`` from covariances ``(..., mic, mic)``."""
    from torchaudio.functional import mvdr_weights_souden

    # torchaudio guards against zero by constants, so what is quiet must not be small
    power = (wanted + rest).diagonal(dim1=-2, dim2=-1).real.mean(-1)[..., None, None].clamp_min(1e-20)
    weights: Tensor = mvdr_weights_souden(wanted / power, rest / power, reference, diag_eps=loading)
    return weights
