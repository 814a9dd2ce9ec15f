"""What a whole recording says about its room: statistics of beams, and a network from them to filters."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from msdet.dsp.beamforming import DIAGONAL_LOADING
from msdet.dsp.spatial import von_mises_logits
from msdet.models.frontends import ArrayGeometry

DIRECTIONS = 6
"""Beams around each talker, evenly over the circle, that reflections are looked for with."""

LAGS = 7
"""Frames of an estimate that are correlated with those beams: this one and those before."""

AGAIN = (3, 2)
"""Frames of the estimates and of the beams that the last filters of a head span."""

CLIP = 8.0
"""Statistics are limited to so many standard deviations."""


class RecordingStatistics(nn.Module):
    """Correlations over a whole recording: of what is to be filtered, and of directions around each talker.

    A bin counts for a talker by the square of its share of the estimates' power. Frames are weighted equally,
    by that mask, by mask over power, and by how much the estimate gets louder under the mask: an onset comes
    before its reflections. Each correlation is relative to the power of the talker's own estimate.

    Args:
        geometry: of the array.
        talkers: number of talkers.
        inputs: signals to be filtered for each talker; its own estimate comes first.
        freqs: number of frequencies, from the lowest.
        of_beams: also tell what the beams let through.
    """

    fan: Tensor

    def __init__(self, geometry: ArrayGeometry, talkers: int, inputs: int, freqs: int, of_beams: bool = True) -> None:
        super().__init__()
        self.geometry = geometry
        self.freqs = freqs
        self.of_beams = of_beams
        around = 2 * DIRECTIONS * (DIRECTIONS + 2 * LAGS)
        described = 2 + 3 * (talkers - 1) if of_beams else 2 * (talkers - 1)
        self.features_out = 4 * (inputs**2 + 1) + around + described
        self.register_buffer("fan", None, persistent=False)
        self.use_geometry()

    def use_geometry(self) -> None:
        """Compute the beams around talkers from the geometry, which may have changed."""
        geometry, freqs = self.geometry, self.freqs
        towards = geometry.steering[:, :freqs].permute(1, 2, 0)
        loading = DIAGONAL_LOADING * torch.eye(towards.shape[1], device=towards.device)
        fan = torch.linalg.solve((geometry.coherence[:freqs] + loading).to(towards.dtype), towards)
        fan = fan / (towards.conj() * fan).sum(1, keepdim=True).real
        self.fan = fan.permute(2, 0, 1).contiguous()

    def forward(
        self, spectrum: Tensor, estimates: Tensor, inputs: Tensor, azimuth_deg: Tensor, weights: Tensor
    ) -> Tensor:
        """Statistics ``(batch, talker, freq, statistic)``.

        Args:
            spectrum: ``(batch, mic, freq, frame)``.
            estimates: of the talkers, ``(batch, talker, freq, frame)``.
            inputs: that are to be filtered, ``(batch, talker, freq, input, frame)``.
            azimuth_deg: of the talkers, ``(batch, talker)``.
            weights: of the beams to them, ``(batch, talker, freq, mic)``.
        """
        power = estimates.abs().square()
        mask = (power / (power.sum(1, keepdim=True) + 1e-6)).square()
        found = own_correlations(estimates, inputs, mask)
        around = self._around(spectrum[:, :, : self.freqs], azimuth_deg)
        found += reflections(estimates, around, mask)
        described = self._described(weights[:, :, : self.freqs], azimuth_deg)
        return torch.cat(found + described, dim=-1)

    def _around(self, spectrum: Tensor, azimuth_deg: Tensor) -> Tensor:
        """Superdirective beams around each talker, ``(batch, talker, freq, direction, frame)``."""
        classes = len(self.fan)
        nearest = (azimuth_deg * (classes / 360.0)).round().long()[..., None]
        turned = torch.arange(DIRECTIONS, device=nearest.device) * (classes // DIRECTIONS)
        weights = self.fan[(nearest + turned) % classes]
        return torch.einsum("bskfm,bmft->bsfkt", weights.conj(), spectrum)

    def _described(self, weights: Tensor, azimuth_deg: Tensor) -> list[Tensor]:
        """What beams let through, of sensor noise, diffuse sound and other talkers; and where those are."""
        found = []
        steering = self.geometry.steering[:, : self.freqs]
        if self.of_beams:
            coherence = self.geometry.coherence[: self.freqs].to(weights.dtype)
            noise = weights.abs().square().sum(-1)
            diffuse = (weights.conj() * (coherence @ weights[..., None])[..., 0]).sum(-1).real
            found = [noise.clamp_min(1e-6).log(), diffuse.clamp_min(1e-6).log()]
            posterior = von_mises_logits(azimuth_deg, len(steering)).softmax(-1).to(steering.dtype)
            towards = (posterior @ steering.flatten(1)).reshape(weights.shape)
        for other in range(1, weights.shape[1]):
            if self.of_beams:
                found.append((weights.conj() * towards.roll(-other, 1)).sum(-1).abs())
            gap_rad = torch.deg2rad(azimuth_deg - azimuth_deg.roll(-other, 1))[..., None]
            found += [angle.expand(weights.shape[:-1]) for angle in (gap_rad.cos(), gap_rad.sin())]
        return [each[..., None] for each in found]


def own_correlations(estimates: Tensor, inputs: Tensor, mask: Tensor) -> list[Tensor]:
    """Correlations of what is to be filtered under four weightings of frames, each ``(batch, talker, freq, ...)``.

    Frames are weighted equally, by the talker's share of power (`mask`, as estimates ``(batch, talker, freq, frame)``),
    by it over power, and by onsets. Relative to the power of the first of inputs ``(batch, talker, freq, input,
    frame)``, whose logarithm follows each.
    """
    power = estimates.abs().square()
    flat = mask / (power + 0.05 * power.mean(-1, keepdim=True) + 1e-9)
    found = []
    for weight in (torch.ones_like(power), mask, flat, onsets(power, mask)):
        correlation = (inputs * weight[..., None, :]) @ inputs.mH
        total = correlation[..., 0, 0].real.clamp_min(1e-9)
        found.append(_real_parts(correlation / total[..., None, None]))
        found.append(torch.log(total / power.shape[-1] + 1e-6)[..., None])
    return found


def reflections(estimates: Tensor, around: Tensor, mask: Tensor) -> list[Tensor]:
    """Correlations of beams around each talker ``(batch, talker, freq, direction, frame)``, and with its past."""
    power = estimates.abs().square()
    past = torch.stack([delayed(estimates, lag) for lag in range(LAGS)], dim=3)
    found = []
    for weight in (mask, onsets(power, mask)):
        total = (power * weight).sum(-1).clamp_min(1e-9)[..., None, None]
        weighted = around * weight[..., None, :]
        across = ((weighted @ past.mH) / total).flatten(-2)
        found += [_real_parts((weighted @ around.mH) / total), across.real, across.imag]
    return found


def onsets(power: Tensor, mask: Tensor) -> Tensor:
    """How much louder each bin gets from one frame to the next, under a mask."""
    level = torch.log(power + 1e-3)
    return torch.relu(level - delayed(level, 1)) * mask


def filtered_bins(geometry: ArrayGeometry, bandwidth_hz: float) -> int:
    """Number of frequencies, from the lowest, up to a bandwidth: where there are filters fixed for the recording."""
    if bandwidth_hz <= 0:
        raise ValueError(f"bandwidth_hz is {bandwidth_hz}, expected above 0")
    return min(geometry.steering.shape[1], max(1, round(bandwidth_hz * 2 * geometry.frame_s)))


class FilterNetwork(nn.Module):
    """From statistics of each bin to a filter for each bin, which at first passes its first input alone.

    Args:
        features: statistics of a bin. Their means and scales are estimated while training.
        freqs: number of frequencies.
        outputs: complex coefficients of a filter.
        hidden: width.
        blocks: number of blocks.
    """

    def __init__(self, features: int, freqs: int, outputs: int, hidden: int, blocks: int) -> None:
        super().__init__()
        self.normalize = nn.BatchNorm1d(features, affine=False, momentum=0.01)
        self.enter = nn.Linear(features, hidden)
        self.frequency = nn.Parameter(0.02 * torch.randn(freqs, hidden))
        self.blocks = nn.ModuleList(_AcrossFrequency(hidden, freqs) for _ in range(blocks))
        self.norm = nn.LayerNorm(hidden)
        self.leave = nn.Linear(hidden, 2 * outputs)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, statistics: Tensor, inputs: Tensor) -> Tensor:
        """Inputs ``(batch, talker, freq, input, frame)``, filtered: ``(batch, talker, freq, frame)``.

        Args:
            statistics: ``(batch, talker, freq, features)``.
            inputs: as many as `outputs`.
        """
        x = statistics.flatten(0, 1)
        x = self.normalize(x.flatten(0, 1)).view_as(x).clamp(-CLIP, CLIP)
        x = self.enter(x) + self.frequency
        for block in self.blocks:
            x = block(x)
        real, imaginary = self.leave(self.norm(x)).float().chunk(2, dim=-1)
        first = torch.zeros_like(real[0, 0])
        first[0] = 1.0
        filters = torch.complex(real + first, imaginary.contiguous()).unflatten(0, statistics.shape[:2])
        filtered: Tensor = (filters.conj()[..., None] * inputs).sum(3)
        return filtered


class _AcrossFrequency(nn.Module):
    """Convolution over neighboring bins, a linear layer across all, a feed-forward; each added."""

    def __init__(self, hidden: int, freqs: int, squeezed: int = 16, dropout: float = 0.1) -> None:
        super().__init__()
        self.norm_conv, self.norm_full, self.norm_feed = (nn.LayerNorm(hidden) for _ in range(3))
        self.conv = nn.Conv1d(hidden, hidden, 3, padding=1)
        self.squeeze, self.expand = nn.Linear(hidden, squeezed), nn.Linear(squeezed, hidden)
        self.full = nn.Linear(freqs, freqs)
        self.feed_in, self.feed_out = nn.Linear(hidden, 2 * hidden), nn.Linear(2 * hidden, hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, freq, hidden)`` to the same."""
        gelu = nn.functional.gelu
        x = x + gelu(self.conv(self.norm_conv(x).transpose(1, 2))).transpose(1, 2)
        across = self.full(self.squeeze(self.norm_full(x)).transpose(1, 2))
        x = x + self.expand(gelu(across).transpose(1, 2))
        added: Tensor = x + self.dropout(self.feed_out(gelu(self.feed_in(self.norm_feed(x)))))
        return added


def in_turn(signals: Tensor, frames: int) -> Tensor:
    """Of each slot, its own signal, the next slot's and so on, then all of them one frame ago, and so on.

    Args:
        signals: ``(batch, talker, freq, frame)``.
        frames: this one and those before.

    Returns:
        ``(batch, talker, freq, talkers * frames, frame)``.
    """
    return with_past([signals.roll(-other, 1) for other in range(signals.shape[1])], frames)


def with_past(signals: Sequence[Tensor], frames: int) -> Tensor:
    """Signals ``(batch, talker, freq, frame)``, then all of them one frame ago, and so on, along a new fourth axis."""
    return torch.stack([delayed(signal, lag) for lag in range(frames) for signal in signals], dim=3)


def delayed(signals: Tensor, frames: int) -> Tensor:
    """Signals ``(..., frame)`` some frames later; zero before."""
    return nn.functional.pad(signals, (frames, 0))[..., : signals.shape[-1]] if frames else signals


def _real_parts(correlation: Tensor) -> Tensor:
    """The numbers ``(..., n²)`` that make up Hermitian matrices ``(..., n, n)``."""
    size, device = correlation.shape[-1], correlation.device
    upper, above = (torch.triu_indices(size, size, offset, device=device) for offset in (0, 1))
    real, imaginary = correlation[..., upper[0], upper[1]].real, correlation[..., above[0], above[1]].imag
    return torch.cat([real, imaginary], dim=-1)
