"""Beamformers on spectra: steered by a DoA posterior, by masks, or per frame; multi-frame Wiener filters.

A `spectrum` is complex ``(batch, mic, freq, frame)``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from msdet.dsp.spatial import full_precision, weighted_covariance
from msdet.dsp.streaming_state import State, running_sum

DIAGONAL_LOADING = 0.01  # of the disturbance, over diffuse noise: sensor noise and misplaced microphones


def inverse_coherence(coherence: Tensor, loading: float) -> Tensor:
    """Inverse ``(freq, mic, mic)``, complex, of a diffuse field's coherence with `loading` on its diagonal."""
    loaded = coherence.double() + loading * torch.eye(coherence.shape[-1], device=coherence.device)
    inverse: Tensor = torch.linalg.inv(loaded)
    return inverse.to(torch.complex64)


def solve(matrix: Tensor, right: Tensor) -> Tensor:
    """`torch.linalg.solve` without its check of every batch, for which a device would have to be waited for.

    For matrices with loading on the diagonal, which are never singular; not finite in, not finite out.
    """
    solution: Tensor = torch.linalg.solve_ex(matrix, right)[0]
    return solution


def superdirective(steering: Tensor, inverse: Tensor) -> Tensor:
    """Weights of superdirective beams along steering vectors ``(..., freq, mic)``, from `inverse_coherence`."""
    numerator = torch.einsum("fmn,...fn->...fm", inverse, steering)
    weights: Tensor = numerator / (steering.conj() * numerator).sum(-1, keepdim=True).real
    return weights


@full_precision
def steered_beam_weights(posterior: Tensor, steering: Tensor, coherence: Tensor) -> Tensor:
    """Weights ``(batch, talker, freq, mic)`` of beams steered by DoA posteriors, a soft null on the others.

    Talker s is looked for along d_s = Σ_k p_s(k) d_k and disturbed by diffuse noise and the other talkers,
    C_s = Γ + εI + Σ_{s'≠s} α Σ_k p_s'(k) d_k d_k^H; the weights are C_s⁻¹ d_s / (d_s^H C_s⁻¹ d_s) (MVDR).
    α is one minus the overlap (Bhattacharyya) of the two posteriors, so that a talker never nulls itself.

    Posteriors ``(batch, talker, direction)`` sum to one, the coherence ``(freq, mic, mic)`` is the diffuse field's.
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
    numerator = solve(disturbance, look[..., None])[..., 0]
    gain = (look.conj() * numerator).sum(-1, keepdim=True).real
    weights: Tensor = numerator / gain.clamp_min(1e-6)
    return weights


@full_precision
def apply_beam(weights: Tensor, spectrum: Tensor) -> Tensor:
    """Outputs w^H x ``(batch, talker, freq, frame)`` of beams with weights ``(batch, talker, freq, mic)``."""
    y = weights.permute(0, 2, 1, 3).conj() @ spectrum.permute(0, 2, 1, 3)
    return y.permute(0, 2, 1, 3)


@full_precision
def apply_beam_per_frame(weights: Tensor, spectrum: Tensor) -> Tensor:
    """`apply_beam` with weights ``(batch, frame, talker, freq, mic)`` of each frame."""
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
    (with ``taps > 1``, a convolutive one that also removes reverberation). `desired` ``(batch, talker, freq, frame)``
    is an estimate of each talker; `loading` of the diagonal is relative to its mean.
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
    filters = solve(covariance + (loading * power + 1e-8)[..., None, None] * eye, cross)
    filtered: Tensor = (filters.mH @ x).permute(0, 2, 1, 3)
    return filtered


def power_masks(estimates: Tensor, mixture: Tensor) -> Tensor:
    """Power of each estimate ``(batch, talker, freq, frame)`` over that of itself and the rest, in [0, 1].

    The rest is the mixture ``(batch, freq, frame)`` at the same microphone, less the estimate.
    """
    power = estimates.abs().square()
    rest = (mixture[:, None] - estimates).abs().square()
    return (power + 1e-20) / (power + rest + 2e-20)


@full_precision
def masked_mvdr(spectrum: Tensor, masks: Tensor, reference: int, loading: float = 1e-4, causal: bool = False) -> Tensor:
    """MVDR beams ``(batch, talker, freq, frame)`` by Souden et al. (IEEE TASLP 18(2), 2010), from torchaudio.

    A talker's covariance is weighted by its mask ``(batch, talker, freq, frame)`` in [0, 1], the disturbance's by one
    less the mask; `loading` of its diagonal is relative to its trace. The talkers are wanted at microphone `reference`.
    If `causal`, there is a beam for each frame, from it and those before it.
    """
    if causal:
        beams: Tensor = causal_masked_mvdr(spectrum, masks, reference, loading)[0]
        return beams
    wanted, rest = weighted_covariance(spectrum, masks), weighted_covariance(spectrum, 1.0 - masks)
    return apply_beam(_souden_weights(wanted, rest, reference, loading), spectrum)


@full_precision
def causal_masked_mvdr(
    spectrum: Tensor, masks: Tensor, reference: int, loading: float = 1e-4, decay: float = 1.0, before: State = None
) -> tuple[Tensor, State]:
    """`masked_mvdr` with a beam for each frame, from it and those before; and the state for the next frames.

    `decay` is the weight of covariances one frame older, `before` the state of the frames before.
    """
    x = spectrum.permute(0, 3, 2, 1)[:, None]
    outer = x[..., :, None] * x[..., None, :].conj()
    mask = masks.transpose(2, 3)[..., None, None]
    talkers, others = before or (None, None)
    wanted, talkers = running_sum(outer * mask, 2, decay, talkers)
    rest, others = running_sum(outer * (1.0 - mask), 2, decay, others)
    weights = _souden_weights(wanted.to(x.dtype), rest.to(x.dtype), reference, loading)
    return (weights.conj() * x).sum(-1).transpose(2, 3), (talkers, others)


def _souden_weights(wanted: Tensor, rest: Tensor, reference: int, loading: float) -> Tensor:
    """Weights ``(..., mic)`` from covariances ``(..., mic, mic)``."""
    from torchaudio.functional import mvdr_weights_souden

    # torchaudio guards against zero by constants, so what is quiet must not be small
    power = (wanted + rest).diagonal(dim1=-2, dim2=-1).real.mean(-1)[..., None, None].clamp_min(1e-20)
    weights: Tensor = mvdr_weights_souden(wanted / power, rest / power, reference, diag_eps=loading)
    return weights
