"""Array kernels that models, methods and inference share: steering, SRP-PHAT, covariances, peaks.

A far-field source in direction u reaches a microphone at p earlier by p·u/c, so its spectrum there is
exp(+j 2π f p·u / c) times that at the array's origin. Steering vectors ``(direction, freq, mic)`` are
relative to the reference microphone; a `spectrum`, or its phases, is complex ``(batch, mic, freq, frame)``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor

from msdet.conventions import SPEED_OF_SOUND, direction_vector, wrap_signed_deg

CONCENTRATION = 300.0  # von Mises concentration of a posterior around one known azimuth: about 3.3 degrees wide
LOGIT_FLOOR = -8.0  # log probability, relative to the peak's, of every direction far from a seeded one
_MAX_PRODUCTS = 2**25  # of steering vectors at once, 256 MB
_HALVES = (torch.bfloat16, torch.float16)

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def full_precision(kernel: Kernel) -> Kernel:
    """Runs a kernel in 32 bits under autocast: half precision moves SRP peaks and breaks small solves."""

    @functools.wraps(kernel)
    def wrapped(*tensors: Any, **options: Any) -> Any:
        wide = [t.float() if isinstance(t, Tensor) and t.dtype in _HALVES else t for t in tensors]
        with torch.autocast(tensors[0].device.type, enabled=False):
            return kernel(*wide, **options)

    return cast(Kernel, wrapped)


def steering_vectors(positions: Tensor, azimuth_deg: Tensor, frequency_hz: Tensor, reference: int) -> Tensor:
    """Far-field steering vectors ``(direction, freq, mic)``, complex64, 1 at the reference microphone.

    Azimuths are ``(direction,)`` at elevation 0, positions ``(mic, 3)`` in the array's frame, frequencies ``(freq,)``.
    """
    directions = torch.from_numpy(direction_vector(azimuth_deg.numpy())).to(positions.device)
    lead_s = directions @ (positions.double() - positions[reference].double()).T / SPEED_OF_SOUND
    phase = 2 * math.pi * frequency_hz.double()[None, :, None] * lead_s[:, None, :]
    return torch.polar(torch.ones_like(phase), phase).to(torch.complex64)


@full_precision
def steering_towards(offsets: Tensor, azimuth_deg: Tensor, elevation_deg: Tensor, frequency_hz: Tensor) -> Tensor:
    """Far-field steering vectors ``(..., freq, mic)``, complex64, towards any azimuths and elevations ``(...)``.

    Offsets ``(mic, 3)`` are positions relative to the reference microphone, frequencies ``(freq,)``.
    """
    azimuth, elevation = torch.deg2rad(azimuth_deg.double()), torch.deg2rad(elevation_deg.double())
    level = elevation.cos()
    towards = torch.stack([level * azimuth.cos(), level * azimuth.sin(), elevation.sin()], dim=-1)
    lead_s = towards @ offsets.double().T / SPEED_OF_SOUND
    phase = 2 * math.pi * frequency_hz.double()[:, None] * lead_s[..., None, :]
    return torch.polar(torch.ones_like(phase), phase).to(torch.complex64)


def diffuse_coherence(positions: Tensor, frequency_hz: Tensor) -> Tensor:
    """Coherence ``(freq, mic, mic)`` of a spherically diffuse field: sin(x)/x, x = 2π f d / c."""
    distance = torch.cdist(positions.double(), positions.double())
    return torch.sinc(2 * frequency_hz.double()[:, None, None] * distance / SPEED_OF_SOUND).float()


def phase_normalize(spectrum: Tensor) -> Tensor:
    """Spectrum with unit magnitude in every bin (the phase transform)."""
    return spectrum / spectrum.abs().clamp_min(1e-8)


@full_precision
def steered_response(phases: Tensor, steering: Tensor) -> Tensor:
    """Steered response power ``(batch, direction, freq, frame)`` of every bin, in [0, 1]."""
    batch, mics, freqs, frames = phases.shape
    by_freq = phases.permute(2, 1, 0, 3).reshape(freqs, mics, batch * frames)
    steered = steering.permute(1, 0, 2).conj() @ by_freq / mics
    power = steered.real.square() + steered.imag.square()
    return power.reshape(freqs, -1, batch, frames).permute(2, 1, 0, 3)


@full_precision
def weighted_covariance(spectrum: Tensor, weights: Tensor) -> Tensor:
    """Sum over frames of weight ``(batch, talker, freq, frame)`` times x x^H: ``(…, freq, mic, mic)``."""
    x = spectrum.permute(0, 2, 1, 3)[:, None]
    return (x * weights[:, :, :, None]) @ x.mH


@full_precision
def srp_from_covariance(covariance: Tensor, steering: Tensor) -> Tensor:
    """Steered response ``(batch, talker, direction)`` summed over frequency, from covariances.

    Equal to the weighted sum of `steered_response` over bins when the covariance ``(batch, talker, freq, mic,
    mic)`` is that of phase-normalized spectra, but never forms the map of all bins and directions.
    """
    directions, freqs, mics = steering.shape
    step = max(1, _MAX_PRODUCTS // (directions * mics**2))  # of hundreds of microphones, all would be gigabytes
    powers = []
    for start in range(0, freqs, step):
        part = steering[:, start : start + step]
        flat = (part[..., :, None].conj() * part[..., None, :]).flatten(1)
        c = covariance[:, :, start : start + step].flatten(2)
        # the sum over microphone pairs of a Hermitian form is real
        powers.append(c.real @ flat.real.T - c.imag @ flat.imag.T)
    return functools.reduce(torch.add, powers) / mics**2


@full_precision
def frame_response(phases: Tensor, weights: Tensor, steering: Tensor) -> Tensor:
    """Steered response ``(batch, slot, frame, direction)`` of every frame, summed over frequency.

    The bins of each slot have weights ``(batch, slot, freq, frame)``.
    """
    power = steered_response(phases, steering)
    return (power.permute(0, 3, 1, 2) @ weights.permute(0, 3, 2, 1)).permute(0, 3, 1, 2)


def srp_phat(spectrum: Tensor, steering: Tensor) -> Tensor:
    """SRP-PHAT map ``(batch, direction)``: mean over all bins of the steered response (DiBiase 2000)."""
    phases = phase_normalize(spectrum)
    uniform = torch.ones_like(spectrum[:, :1].real)
    covariance = weighted_covariance(phases, uniform)
    return srp_from_covariance(covariance, steering)[:, 0] / uniform[0, 0].numel()


def wrap_azimuth(azimuth_deg: Tensor) -> Tensor:
    """Azimuth in [0, 360) degrees; `remainder` alone rounds tiny negatives up to 360."""
    wrapped = azimuth_deg.remainder(360.0)
    return torch.where(wrapped >= 360.0, 0.0, wrapped)


def pick_peaks(response: Tensor, count: int, minimum_gap_deg: float = 15.0) -> Tensor:
    """`highest_peaks` in ascending order of azimuth."""
    return highest_peaks(response, count, minimum_gap_deg).sort(dim=-1).values


def highest_peaks(response: Tensor, count: int, minimum_gap_deg: float = 15.0) -> Tensor:
    """The highest peaks of a response ``(batch, direction)`` over the circle: azimuth ``(batch, count)``.

    Local maxima come first, then any direction far enough from those taken: no two are closer than the
    minimum gap. Each peak is moved to the top of the parabola through its neighbors.
    """
    batch, directions = response.shape
    step = 360.0 / directions
    before, after = response.roll(1, -1), response.roll(-1, -1)
    is_peak = (response >= before) & (response > after)
    spread = (response.amax(-1, keepdim=True) - response.amin(-1, keepdim=True)).clamp_min(1e-12)
    score = (response - response.amin(-1, keepdim=True)) / spread + is_peak  # any peak before any slope
    azimuth = torch.arange(directions, device=response.device) * step
    rows = torch.arange(batch, device=response.device)
    peaks = []
    for _ in range(count):
        best = score.argmax(-1)
        distance = wrap_signed_deg(azimuth[None] - azimuth[best][:, None])
        score = score.masked_fill(distance.abs() < minimum_gap_deg, -1.0)
        left, top, right = before[rows, best], response[rows, best], after[rows, best]
        curvature = left - 2 * top + right
        shift = torch.where(curvature < 0, 0.5 * (left - right) / curvature.clamp_max(-1e-12), 0.0)
        peaks.append((best + shift.clamp(-0.5, 0.5)) * step)
    return wrap_azimuth(torch.stack(peaks, dim=-1))


def fold_map(values: Tensor, axis_deg: float, first_deg: float = 0.0) -> Tensor:
    """A map ``(..., direction)`` of mirror images, folded: the mean of both sides, on the left of the axis.

    Elsewhere it has its least value. Directions are evenly over the circle, the first one at `first_deg`; left is
    counter-clockwise, up to 180 degrees from the axis and a little beyond, so that there can be a peak at its ends.
    """
    directions = values.shape[-1]
    step = 360.0 / directions
    azimuth = first_deg + torch.arange(directions, device=values.device) * step
    mirrored = wrap_azimuth(2 * axis_deg - azimuth - first_deg) / step
    below = mirrored.floor()
    first, share = below.long() % directions, (mirrored - below).to(values.dtype)
    image = (1.0 - share) * values[..., first] + share * values[..., (first + 1) % directions]
    beside = wrap_azimuth(azimuth - axis_deg)
    inside = (beside <= 180.0 + 0.6 * step) | (beside >= 360.0 - 0.6 * step)
    return torch.where(inside, 0.5 * (values + image), values.amin(-1, keepdim=True))


def mirror_to_left(azimuth_deg: Tensor, axis_deg: float) -> Tensor:
    """Azimuths ``(...)`` in degrees, those on the right of an axis as their mirror images on its left."""
    return wrap_azimuth(axis_deg + wrap_signed_deg(azimuth_deg - axis_deg).abs())


class Peaks(NamedTuple):
    """Peaks of maps, ``(batch, peak)``, the most probable first; after a map's last one NaN, and probability 0."""

    azimuth_deg: Tensor
    probability: Tensor


def map_peaks(logits: Tensor, threshold: float = 0.5, gap_deg: float = 8.0) -> Peaks:
    """Peaks of maps of logits ``(batch, class)`` around the circle, of at least the probability `threshold`.

    None within `gap_deg` is higher (He et al., ICRA 2018, eq. 3); its azimuth is the top of the parabola through the
    logits.
    """
    logits = logits.float()
    batch, classes = logits.shape
    reach = max(1, math.floor(gap_deg * classes / 360.0 + 1e-6))
    is_peak = logits >= math.log(threshold / (1.0 - threshold))
    for step in range(1, min(reach, (classes - 1) // 2) + 1):
        is_peak &= (logits >= logits.roll(step, -1)) & (logits > logits.roll(-step, -1))
    left, right = logits.roll(1, -1), logits.roll(-1, -1)
    curvature = left - 2 * logits + right
    shift = torch.where(curvature < 0, 0.5 * (left - right) / curvature.clamp_max(-1e-12), 0.0)
    place = torch.arange(classes, device=logits.device) + shift.clamp(-0.5, 0.5)
    order = logits.masked_fill(~is_peak, -torch.inf).argsort(dim=-1, descending=True, stable=True)
    order = order[:, : int(is_peak.sum(-1).max()) if batch else 0]
    taken = is_peak.gather(-1, order)
    azimuth = wrap_azimuth(place * (360.0 / classes)).gather(-1, order)
    probability = logits.sigmoid().gather(-1, order)
    return Peaks(azimuth.masked_fill(~taken, torch.nan), probability.masked_fill(~taken, 0.0))


def von_mises_logits(azimuth_deg: Tensor, directions: int) -> Tensor:
    """Log of a posterior ``(..., direction)`` that is sure of one azimuth each, up to a constant.

    A von Mises bump with a floor, so that evidence can still move it.
    """
    grid = torch.arange(directions, device=azimuth_deg.device) * (360.0 / directions)
    delta_rad = torch.deg2rad(grid - azimuth_deg[..., None])
    bump = CONCENTRATION * (delta_rad.cos() - 1.0)
    return torch.logaddexp(bump, torch.full_like(bump, LOGIT_FLOOR))


def decode_azimuth(logits: Tensor, half_width: int = 2) -> tuple[Tensor, Tensor]:
    """Azimuth in degrees and confidence, each ``(...)``, of logits ``(..., class)``.

    The azimuth is the circular mean of the posterior over the peak class and `half_width` classes on either
    side, which resolves directions between classes; the confidence is the probability of those classes.
    """
    posterior = logits.float().softmax(-1)
    classes = logits.shape[-1]
    offset = torch.arange(-half_width, half_width + 1, device=logits.device)
    nearby = (posterior.argmax(-1, keepdim=True) + offset) % classes
    weight = posterior.gather(-1, nearby)
    angle_rad = nearby * (2 * torch.pi / classes)
    mean_rad = torch.atan2((weight * angle_rad.sin()).sum(-1), (weight * angle_rad.cos()).sum(-1))
    return wrap_azimuth(torch.rad2deg(mean_rad)), weight.sum(-1)
