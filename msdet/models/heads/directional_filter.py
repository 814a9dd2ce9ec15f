"""One talker at a time, along a direction: a beam, filters fixed for the recording, filters frame by frame.

What `msdet.models.heads.recording_filter` does for slots together is done here for each talker alone, who hears the
sum of the others as one. So the same weights serve any number of talkers, and, as beams and statistics come from
coordinates, any array.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from msdet.dsp.beamforming import DIAGONAL_LOADING, apply_beam, inverse_coherence, solve, superdirective
from msdet.dsp.spatial import decode_azimuth, steering_towards
from msdet.models.encoders import build_encoder
from msdet.models.frontends import ArrayGeometry, FrontEndOutput, beam_features, elevation_at
from msdet.models.heads import SEPARATION_HEADS, HeadSizes, as_complex, slot_occupancy, start_at_zero
from msdet.models.heads.separation import at_least_one
from msdet.models.heads.statistics import (
    AGAIN,
    DIRECTIONS,
    LAGS,
    FilterNetwork,
    delayed,
    filtered_bins,
    own_correlations,
    reflections,
    with_past,
)

MOST = 50.0
"""Bound of statistics, which are relative to the power of a talker who may hardly be there."""

SILENT = 1e-6
"""Power of a beam without a sound, of a mixture at unit level."""

NULL_WIDTH_DEG = 3.3
"""How exactly a direction is known, as a standard deviation.

Two talkers a gap apart overlap (Bhattacharyya) by exp(-gap² / 8 width²); a beam nulls the rest of the other, as in
`steered_beam_weights`.
"""


class TalkerBeams(NamedTuple):
    """Beams to each talker, and what describes them, ``(batch, talker, ...)``."""

    own: Tensor
    """``(batch, talker, freq, frame)``."""
    described: list[Tensor]
    """Of each bin: what noise, diffuse sound and other talkers come through, and where the nearest other is."""
    azimuth_deg: Tensor
    elevation_deg: Tensor
    active: Tensor


@SEPARATION_HEADS.register("directional_filter")
class DirectionalFilterHead(nn.Module):
    """A beam to each talker, fixed filters, filters frame by frame, and fixed filters once more.

    Each stage starts as what changes nothing, so an untrained head gives the beams, each with soft nulls on the other
    talkers. Slots without a talker give silence, and cost nothing where no scene of a batch fills them.

    Args:
        sizes: what its sizes follow from.
        taps: frames that the first filters span, this one and those before.
        bandwidth_hz: up to where there are fixed filters.
        hidden: width of the networks that predict them, the first and the last.
        blocks: number of blocks of these networks.
        frames: that the filters frame by frame span, this one and the ones before.
        refiner: encoder of these, by name or ``module:Class``.
        refiner_options: what that encoder's constructor takes besides derived sizes.
    """

    any_domain = True
    of_directions = True
    sees_occupancy = True

    def __init__(
        self,
        sizes: HeadSizes,
        taps: int = 4,
        bandwidth_hz: float = 2000.0,
        hidden: Sequence[int] = (88, 56),
        blocks: Sequence[int] = (4, 2),
        frames: int = 2,
        refiner: str = "band_gru",
        refiner_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.geometry = sizes.geometry
        self.classes = sizes.classes
        self.taps, self.frames = at_least_one(taps, "taps"), at_least_one(frames, "frames")
        freqs = sizes.geometry.steering.shape[1]
        self.low = filtered_bins(sizes.geometry, bandwidth_hz)
        self.steer = _Steering(sizes.geometry, freqs, self.low)
        inputs = 2 * taps, 2 * sum(AGAIN)
        widths = [4 * (n**2 + 1) + 2 * DIRECTIONS * (DIRECTIONS + 2 * LAGS) for n in inputs]
        self.predict = FilterNetwork(widths[0] + 5, self.low, inputs[0], hidden[0], blocks[0])
        options = {"hidden": 64, "outputs": 32} if refiner_options is None else refiner_options
        encoder = build_encoder(refiner, options, 13, freqs)
        self.encode = cast(nn.Module, encoder)
        self.filter = nn.Linear(encoder.features_out, 2 * 5 * frames)
        start_at_zero(self.filter)
        self.again = FilterNetwork(widths[1] + 2, self.low, inputs[1], hidden[1], blocks[1])

    def forward(self, features: Tensor, front_end: FrontEndOutput, doa_logits: Tensor) -> tuple[Tensor, ...]:
        """Beams filtered, refined, and filtered again, each ``(batch, talker, freq, frame)``.

        The logits ``(batch, talker, outputs)`` may have one more output than classes, for a slot without a talker.
        """
        azimuth_deg = decode_azimuth(doa_logits[..., : self.classes])[0]
        active = slot_occupancy(doa_logits, self.classes) > 0.5
        active[..., 0] |= ~active.any(-1)  # somebody is always looked for
        elevation_deg = elevation_at(front_end.elevation_deg, azimuth_deg)
        filled = active.any(0).nonzero()[:, 0]
        estimates = self.towards(
            front_end.spectrum, azimuth_deg[:, filled], elevation_deg[:, filled], active[:, filled]
        )
        silence = torch.zeros_like(front_end.spectrum[:, :1]).expand(-1, active.shape[1], -1, -1)
        return tuple(silence.index_copy(1, filled, estimate) for estimate in estimates)

    def towards(
        self, spectrum: Tensor, azimuth_deg: Tensor, elevation_deg: Tensor, active: Tensor
    ) -> tuple[Tensor, ...]:
        """The same of talkers ``(batch, talker)`` in given directions; silence of those who are not active."""
        reference = spectrum[:, self.geometry.reference]
        with torch.no_grad():
            beams = self.steer(spectrum, azimuth_deg, elevation_deg, active)
            own, others = beams.own, sum_of_others(beams.own)
            inputs = with_past([own[:, :, : self.low], others[:, :, : self.low]], self.taps)
            found = self._statistics(spectrum, beams, beams.own, others, inputs, beams.described)
        there = active[..., None, None]
        filtered = torch.cat([_of_talkers(self.predict, found, inputs, active), own[:, :, self.low :]], dim=2) * there
        refined = self._refined(filtered, sum_of_others(filtered), own, others, reference)
        refined = refined * there
        of_others = sum_of_others(refined)
        latest = (refined[:, :, : self.low], of_others[:, :, : self.low])
        low_beams = (own[:, :, : self.low], others[:, :, : self.low])
        inputs = torch.cat([with_past(latest, AGAIN[0]), with_past(low_beams, AGAIN[1])], dim=3)
        with torch.no_grad():
            found = self._statistics(spectrum, beams, refined, of_others, inputs, beams.described[-2:])
        again = torch.cat([_of_talkers(self.again, found, inputs, active), refined[:, :, self.low :]], dim=2)
        return filtered, refined, again * there

    def along(self, spectrum: Tensor, azimuth_deg: Tensor, elevation_deg: Tensor, window: int) -> Tensor:
        """Talkers who move: ``(talker, freq, frame)`` of a spectrum ``(1, mic, freq, frame)``.

        Directions ``(talker, frame)`` are taken as fixed within windows of so many frames, by half of which the next
        one starts; voices fade from one to the next.
        """
        frames = spectrum.shape[-1]
        hop = max(min(window // 2, -(-frames // 2)), 1)
        count = max(1, -(-(frames - hop) // hop))
        missing = (count + 1) * hop - frames
        windows = nn.functional.pad(spectrum[0], (0, missing)).unfold(-1, 2 * hop, hop).permute(2, 0, 1, 3)
        angles = nn.functional.pad(torch.stack([azimuth_deg, elevation_deg]), (0, missing), mode="replicate")
        azimuth, elevation = angles.unfold(-1, 2 * hop, hop)
        radians = torch.deg2rad(azimuth)
        middle = torch.rad2deg(torch.atan2(radians.sin().mean(-1), radians.cos().mean(-1))).T
        heard = torch.ones_like(middle, dtype=torch.bool)
        voices = self.towards(windows, middle, elevation.mean(-1).T, heard)[-1]
        fade = (torch.arange(2 * hop, device=spectrum.device) + 0.5) * (torch.pi / 2 / hop)
        weight = fade.sin().square().repeat(count, 1)
        weight[0, :hop] = weight[-1, hop:] = 1.0
        weighted = voices * weight[:, None, None]
        joined = voices.new_zeros(*voices.shape[1:3], (count + 1) * hop)
        for number in range(count):
            joined[..., number * hop : (number + 2) * hop] += weighted[number]
        return joined[..., :frames]

    def _statistics(
        self, spectrum: Tensor, beams: TalkerBeams, own: Tensor, others: Tensor, inputs: Tensor, described: list[Tensor]
    ) -> Tensor:
        """Of each bin, ``(batch, talker, freq, statistic)``."""
        own, others = own[:, :, : self.low], others[:, :, : self.low]
        power = own.abs().square()
        mask = (power / (power + others.abs().square() + 1e-6)).square()
        around = self.steer.around(spectrum[:, :, : self.low], beams.azimuth_deg, beams.elevation_deg)
        found = own_correlations(own, inputs, mask) + reflections(own, around, mask)
        joined = torch.cat([*found, *(each[..., None] for each in described)], dim=-1)
        return joined.clamp(-MOST, MOST)

    def _refined(self, filtered: Tensor, others: Tensor, beams: Tensor, beam_of_others: Tensor, mix: Tensor) -> Tensor:
        """Filtered frame by frame: ``(batch, talker, freq, frame)``."""
        talkers = filtered.shape[1]
        reference = mix[:, None].expand_as(filtered)
        with torch.no_grad():
            flat = reference.flatten(0, 1)
            pairs = [torch.stack(pair, dim=2).flatten(0, 1) for pair in ((filtered, others), (beams, beam_of_others))]
            level = torch.log1p(flat.abs())[:, None]
            seen = torch.cat([level, *beam_features(pairs[0], flat), *beam_features(pairs[1], flat)], dim=1)
        encoded = self.encode(seen.permute(0, 2, 3, 1))
        filters = as_complex(self.filter(encoded)).unflatten(0, (-1, talkers))
        signals = torch.stack([filtered, others, beams, beam_of_others, reference], dim=2)
        signals = torch.cat([delayed(signals, lag) for lag in range(self.frames)], dim=2)
        refined: Tensor = filtered + (filters * signals).sum(2)
        return refined


class _Steering(nn.Module):
    """Beams to talkers anywhere, and beams around them that reflections are looked for with."""

    frequency_hz: Tensor
    inverse: Tensor

    def __init__(self, geometry: ArrayGeometry, freqs: int, low: int) -> None:
        super().__init__()
        self.geometry = geometry
        self.low = low
        nyquist_hz = 0.5 * (freqs - 1) / geometry.frame_s
        frequency_hz = torch.linspace(0.0, nyquist_hz, freqs, dtype=torch.float64)
        self.register_buffer("frequency_hz", frequency_hz, persistent=False)
        self.register_buffer("inverse", None, persistent=False)
        self.use_geometry()

    def use_geometry(self) -> None:
        """Compute from the geometry, which may have changed."""
        self.inverse = inverse_coherence(self.geometry.coherence[: self.low], DIAGONAL_LOADING)

    def forward(self, spectrum: Tensor, azimuth_deg: Tensor, elevation_deg: Tensor, active: Tensor) -> TalkerBeams:
        """Beams of a spectrum ``(batch, mic, freq, frame)`` to talkers ``(batch, talker)``, and what describes them.

        A beam leaves its talker unchanged and lets through the least of diffuse noise and the other talkers (MVDR).
        """
        g, low = self.geometry, self.low
        towards = steering_towards(g.positions, azimuth_deg, elevation_deg, self.frequency_hz)
        cosine = _cosines(azimuth_deg, elevation_deg)
        gap_deg = torch.rad2deg(torch.acos(cosine))
        share = (1.0 - (-gap_deg.square() / (8 * NULL_WIDTH_DEG**2)).exp()) * active[:, None]
        share = share * (1.0 - torch.eye(share.shape[-1], device=share.device))
        outer = towards[..., :, None] * towards[..., None, :].conj()
        loading = DIAGONAL_LOADING * torch.eye(g.microphones, device=share.device)
        disturbance = (g.coherence + loading).to(outer.dtype)
        disturbance = disturbance + torch.einsum("bst,btfmn->bsfmn", share.to(outer.dtype), outer)
        numerator = solve(disturbance, towards[..., None])[..., 0]
        weights = numerator / (towards.conj() * numerator).sum(-1, keepdim=True).real.clamp_min(1e-6)
        own = apply_beam(weights, spectrum) * active[..., None, None]
        weights, towards = weights[:, :, :low], towards[:, :, :low]
        coherent = torch.einsum("fmn,bsfn->bsfm", g.coherence[:low].to(weights.dtype), weights)
        noise, diffuse = weights.abs().square().sum(-1), (weights.conj() * coherent).sum(-1).real
        leaked = torch.einsum("bsfm,btfm->bstf", weights.conj(), towards).abs()
        leaked = (leaked * (share > 0)[..., None]).amax(2)
        near, other = torch.where(share > 0, cosine, -2.0).max(-1)
        gap_rad = torch.deg2rad(azimuth_deg - azimuth_deg.gather(1, other))
        alone = near < -1.5
        angles = torch.where(alone, -1.0, gap_rad.cos()), torch.where(alone, 0.0, gap_rad.sin())
        described = [noise.clamp_min(1e-6).log(), diffuse.clamp_min(1e-6).log(), leaked]
        described += [angle[..., None].expand_as(noise) for angle in angles]
        return TalkerBeams(own, described, azimuth_deg, elevation_deg, active)

    def around(self, spectrum: Tensor, azimuth_deg: Tensor, elevation_deg: Tensor) -> Tensor:
        """Superdirective beams around each talker, ``(batch, talker, freq, direction, frame)``, of low frequencies."""
        turns = torch.arange(DIRECTIONS, device=spectrum.device) * (360.0 / DIRECTIONS)
        azimuths = azimuth_deg[..., None] + turns
        elevations = elevation_deg[..., None].expand_as(azimuths)
        towards = steering_towards(self.geometry.positions, azimuths, elevations, self.frequency_hz[: self.low])
        weights = superdirective(towards, self.inverse)
        return torch.einsum("bskfm,bmft->bsfkt", weights.conj(), spectrum)


def _of_talkers(network: nn.Module, found: Tensor, inputs: Tensor, active: Tensor) -> Tensor:
    """Own signals ``(batch, talker, freq, frame)``, filtered where there are any.

    The networks learn means and scales of statistics, which silence would blur.
    """
    own = inputs[:, :, :, 0]
    there = active & (own.abs().square().sum((-2, -1)) > SILENT)
    place = there.flatten().nonzero()[:, 0]
    if not len(place):
        return own
    found, inputs = (x.flatten(0, 1).index_select(0, place)[:, None] for x in (found, inputs))
    filtered: Tensor = own.flatten(0, 1).index_copy(0, place, network(found, inputs)[:, 0])
    return filtered.view_as(own)


def _cosines(azimuth_deg: Tensor, elevation_deg: Tensor) -> Tensor:
    """Cosines ``(batch, talker, talker)`` of the angles between directions."""
    azimuth, elevation = torch.deg2rad(azimuth_deg), torch.deg2rad(elevation_deg)
    turned = (azimuth[:, :, None] - azimuth[:, None]).cos()
    sines, levels = elevation.sin(), elevation.cos()
    cosine = sines[:, :, None] * sines[:, None] + levels[:, :, None] * levels[:, None] * turned
    return cosine.clamp(-1.0, 1.0)


def sum_of_others(signals: Tensor) -> Tensor:
    """Of each talker the sum of the others' signals, ``(batch, talker, freq, frame)``."""
    return signals.sum(1, keepdim=True) - signals
