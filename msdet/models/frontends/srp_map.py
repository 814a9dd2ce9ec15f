"""SRP-PHAT maps over azimuth, time and bands, of any array: what a localizer sees, and where talkers are above it.

Networks on maps of steered responses serve arrays that they were not trained with (D. Diaz-Guerra, A. Miguel and
J. R. Beltran, "Robust sound source tracking using SRP-PHAT and 3D convolutional neural networks", IEEE/ACM TASLP 29,
2021): the geometry is in the map, not in the weights.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from msdet.conventions import class_azimuths_deg
from msdet.dsp.beamforming import inverse_coherence, superdirective
from msdet.dsp.spatial import srp_from_covariance, steering_towards, weighted_covariance
from msdet.models.frontends import FRONT_ENDS, ArrayGeometry, FrontEndOutput, FrontEndSizes, reference_level

BANDS_HZ = (100, 250, 400, 600, 800, 1050, 1350, 1700, 2200, 2800, 3600, 5000, 7500)
"""Edges of the bands; a bin outside is not looked at."""

ELEVATIONS_DEG = {"linear": (0.0,), "planar": (0.0, 15.0, 30.0, 45.0, 60.0), "spatial": tuple(range(-60, 61, 20))}
"""Where talkers are looked for above each azimuth. A planar array, taken to lie level, cannot tell above from below."""

LOADING = 0.05
"""Of superdirective responses, over diffuse noise: sensor noise and misplaced microphones."""

FLOOR = 0.03
"""Bins this far below the recording's level, 30 dB, count as noise without a direction: a band may be empty."""

MAX_MICROPHONES = 16
"""Of larger arrays so many, far from each other, make the map."""

PATTERN_CLASSES = (3, 12)
"""The array's own response so many classes of 5 degrees beside a direction tells how sharp its maps are."""


class SphereGrid(nn.Module):
    """Steering vectors and superdirective beams of an array on a grid of elevations and azimuth classes; no parameters.

    Attributes:
        channels: index ``(mic,)`` of the microphones used; the place of the reference among them is `at_reference`.
        first, second: the microphones of each pair ``(pair,)``, each with itself as well; it stands for both its
            `orders`: 2, or 1 with itself.
        elevations_deg: of the grid, ``(elevation,)``.
        steering: ``(elevation, class, freq, mic)``, of the bins within `BANDS_HZ`.
        beams: weights of superdirective beams, of the same shape.
        inside: the bins within `BANDS_HZ`.
        edges: first bin of each band among these, and the bin after the last.
        bins: of each band ``(band,)``, at least 1.
    """

    steering: Tensor
    beams: Tensor
    elevations_deg: Tensor
    channels: Tensor
    first: Tensor
    second: Tensor
    orders: Tensor
    bins: Tensor

    def __init__(self, geometry: ArrayGeometry) -> None:
        super().__init__()
        self.geometry = geometry
        for name in ("elevations_deg", "steering", "beams", "channels", "first", "second", "orders", "bins"):
            self.register_buffer(name, None, persistent=False)
        self.use_geometry()

    def use_geometry(self) -> None:
        """Compute everything from the geometry, which may have changed."""
        geometry = self.geometry
        device = geometry.steering.device
        classes, freqs, _ = geometry.steering.shape
        frequency_hz = torch.linspace(
            0.0, 0.5 * (freqs - 1) / geometry.frame_s, freqs, dtype=torch.float64, device=device
        )
        within = (frequency_hz >= BANDS_HZ[0]) & (frequency_hz < BANDS_HZ[-1])
        self.inside = slice(int(within.nonzero()[0]), int(within.nonzero()[-1]) + 1)
        frequency_hz = frequency_hz[self.inside]
        self.edges = [int((frequency_hz < edge).sum()) for edge in BANDS_HZ]
        bins = [max(stop - start, 1) for start, stop in itertools.pairwise(self.edges)]
        self.bins = torch.tensor(bins, device=device)
        channels = spread(geometry.positions, MAX_MICROPHONES)
        self.at_reference = channels.index(geometry.reference)
        self.channels = torch.tensor(channels, device=device)
        self.first, self.second = torch.triu_indices(len(channels), len(channels), device=device)
        self.orders = torch.where(self.first == self.second, 1.0, 2.0)
        offsets = geometry.positions[self.channels]
        elevations = torch.tensor(ELEVATIONS_DEG[geometry.shape], device=device)
        azimuths = torch.tensor(class_azimuths_deg(classes), device=device).expand(len(elevations), -1)
        steering = steering_towards(offsets, azimuths, elevations[:, None].expand_as(azimuths), frequency_hz)
        coherence = geometry.coherence[self.inside][:, self.channels][:, :, self.channels]
        beams = superdirective(steering, inverse_coherence(coherence, LOADING))
        self.elevations_deg, self.steering, self.beams = elevations, steering, beams


@FRONT_ENDS.register("srp_map")
class SrpMapFrontEnd(nn.Module):
    """Features of azimuth classes in place of frequencies, of groups of frames in place of frames.

    Of each direction they are, in each band, the steered response relative to its mean over directions, this mean, the
    response of a superdirective beam relative to its own, the band's level, and the array's pattern; besides, the
    elevation at which the response above that azimuth is highest, over the whole recording.

    Args:
        group: frames that are put together.
    """

    array_bound = False
    causal = False
    any_domain = True

    def __init__(self, sizes: FrontEndSizes, group: int = 4) -> None:
        super().__init__()
        if group < 1:
            raise ValueError(f"group is {group}, expected at least 1")
        self.geometry = sizes.geometry
        self.group = group
        self.grid = SphereGrid(sizes.geometry)
        self.features_out = (4 + len(PATTERN_CLASSES)) * (len(BANDS_HZ) - 1) + 1
        self.bins_out = len(sizes.geometry.steering)

    @torch.no_grad()
    def forward(self, spectrum: Tensor) -> FrontEndOutput:
        """Features of a spectrum ``(batch, mic, freq, frame)``."""
        grid = self.grid
        level = reference_level(spectrum[:, self.geometry.reference])
        seen = spectrum[:, grid.channels][:, :, grid.inside]
        phases = seen / (seen.abs().square() + (FLOOR * level[:, None]).square()).sqrt()
        gain = seen[:, grid.at_reference].abs()
        nearest, elevation_deg = self._elevations(phases, gain.sqrt())
        classes = torch.arange(self.bins_out, device=spectrum.device)
        steering, beams = grid.steering[nearest, classes], grid.beams[nearest, classes]
        total, pairs = self._grouped(phases, gain)
        responses = _band_responses(steering / phases.shape[1], pairs, total, grid)
        directive = _band_responses(beams, pairs, total, grid)
        mean = responses.mean(1, keepdim=True)
        sharp = directive - directive.mean(1, keepdim=True)
        energy = torch.log(total / grid.bins / self.group + 1e-2)[:, None]
        features = [4 * (responses - mean), mean, 4 * sharp, energy]
        features += [_pattern(steering, step, grid.edges)[:, :, None] for step in PATTERN_CLASSES]
        features.append(torch.deg2rad(elevation_deg).cos()[:, :, None, None])
        shape = (*responses.shape[:3], -1)
        joined = torch.cat([feature.expand(shape) for feature in features], dim=-1)
        return FrontEndOutput(spectrum, joined, None, level, elevation_deg=elevation_deg)

    def _elevations(self, phases: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Index of the grid's elevation, and elevation in degrees, ``(batch, class)``, where SRP-PHAT is highest."""
        grid = self.grid
        covariance = weighted_covariance(phases, weight[:, None])
        response = srp_from_covariance(covariance, grid.steering.flatten(0, 1))[:, 0]
        response = (response / weight.sum((-2, -1))[:, None]).unflatten(1, grid.steering.shape[:2])
        smooth = (response + 0.5 * (response.roll(1, -1) + response.roll(-1, -1))) / 2
        best = smooth.argmax(1)
        elevation_deg = grid.elevations_deg[best]
        count = len(grid.elevations_deg)
        if count == 1:
            return best, elevation_deg
        padded = nn.functional.pad(smooth, (0, 0, 1, 1), mode="replicate")
        below, top, above = (padded.gather(1, (best + step)[:, None])[:, 0] for step in range(3))
        curvature = below - 2 * top + above
        peaked = (curvature < 0) & (best > 0) & (best < count - 1)
        shift = torch.where(peaked, 0.5 * (below - above) / curvature.clamp_max(-1e-9), 0.0).clamp(-0.5, 0.5)
        return best, elevation_deg + shift * (grid.elevations_deg[1] - grid.elevations_deg[0])

    def _grouped(self, phases: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
        """Levels of bands ``(batch, group, band)``, and products of microphone pairs ``(batch, freq, group, pair)``."""
        frames = gain.shape[-1]
        missing = -frames % self.group
        gain = nn.functional.pad(gain, (0, missing))
        of_bins = gain.unflatten(-1, (-1, self.group)).sum(-1)
        bands = [of_bins[:, start:stop].sum(1) for start, stop in itertools.pairwise(self.grid.edges)]
        phases = nn.functional.pad(phases, (0, missing))
        weighted = phases * gain[:, None]
        first, second = torch.triu_indices(phases.shape[1], phases.shape[1]).tolist()
        pairs = [
            (weighted[:, i] * phases[:, j].conj() if i < j else gain.to(phases.dtype))
            .unflatten(-1, (-1, self.group))
            .sum(-1)
            for i, j in zip(first, second, strict=True)
        ]
        products = torch.stack(pairs, dim=-1)
        return torch.stack(bands, dim=-1) + 1e-6, torch.cat([products.real, products.imag], dim=-1)


def _band_responses(weights: Tensor, pairs: Tensor, total: Tensor, grid: SphereGrid) -> Tensor:
    """Power of beams relative to the microphones', ``(batch, class, group, band)``, at most 2.

    A sum over the pairs of microphones, bins and frames of a group, as one product of matrices a band.
    """
    products = weights[..., grid.first].conj() * weights[..., grid.second] * grid.orders
    filters = torch.cat([products.real, -products.imag], dim=-1)
    powers = [
        filters[:, :, start:stop].flatten(2) @ pairs[:, start:stop].transpose(2, 3).flatten(1, 2)
        for start, stop in itertools.pairwise(grid.edges)
    ]
    relative: Tensor = torch.stack(powers, dim=-1) / total[:, None]
    return relative.clamp(0.0, 2.0)


def _pattern(steering: Tensor, step: int, edges: list[int]) -> Tensor:
    """Delay-and-sum response ``(batch, class, band)`` to a direction some classes beside."""
    response = ((steering * steering.roll(step, 1).conj()).sum(-1).abs() / steering.shape[-1]).square()
    bands: Tensor = torch.stack(
        [response[:, :, start:stop].mean(2) for start, stop in itertools.pairwise(edges)], dim=-1
    )
    return bands.nan_to_num(0.0)


def spread(positions: Tensor, most: int) -> list[int]:
    """At most so many microphones, ascending: the reference, at the origin, then each the farthest from those taken."""
    if len(positions) <= most:
        return list(range(len(positions)))
    chosen = [int(positions.norm(dim=-1).argmin())]
    distance = (positions - positions[chosen[0]]).norm(dim=-1)
    while len(chosen) < most:
        chosen.append(int(distance.argmax()))
        distance = distance.minimum((positions - positions[chosen[-1]]).norm(dim=-1))
    return sorted(chosen)
