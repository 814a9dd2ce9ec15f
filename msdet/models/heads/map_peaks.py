"""Slots from a map: the peaks of a map of talkers over azimuth, each with the probability that the map gives it.

Where the map says that two talkers are close together, one peak makes two slots.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from msdet.dsp.spatial import Peaks, fold_map, map_peaks, mirror_to_left, von_mises_logits, wrap_azimuth
from msdet.models.encoders.direction_cnn import DirectionMaps, split_maps
from msdet.models.frontends import ArrayGeometry, FrontEndOutput
from msdet.models.heads import DOA_HEADS, HeadSizes

LEAST, MOST = 1e-4, 1.0 - 1e-4
"""Bounds of a peak's probability, so that logits are finite."""

NEAR_DEG = 10.0
"""Peaks of two talkers are at least so far apart; closer ones share a peak."""


@DOA_HEADS.register("map_peaks")
class MapPeaksHead(nn.Module):
    """Slots are the highest peaks of the map that the features end in, ascending in azimuth, then those without one.

    The features are of directions, and end in maps (`msdet.models.encoders.direction_cnn`): whether a talker is there,
    and whether a second one is near, which makes one more slot, as probable as both together. A slot's posterior is
    narrow at its peak with the peak's probability, and uniform with the rest. That is also the probability that the
    slot has a talker, where slots may be empty: the number of talkers follows from the map. Of an array that cannot
    tell a side from its mirror image, peaks are those of the half circle counter-clockwise from its axis.

    `told` may be set to the number of talkers, where it is known: so many peaks are slots, and each is as probable as
    that it is one of these.

    Args:
        sizes: what its sizes follow from.
        gap_deg: no peak is within so many degrees of a higher one.
        calibration: scale and offset of the logits of peaks, and of those of a second talker there, so that
            probabilities are right (Platt scaling), found after training on other data.
    """

    any_domain = True
    of_directions = True
    causal = False

    def __init__(
        self, sizes: HeadSizes, gap_deg: float = NEAR_DEG, calibration: Sequence[float] = (1.0, 0.0, 1.0, 0.0)
    ) -> None:
        super().__init__()
        if len(calibration) != 4 or min(calibration[0::2]) <= 0.0:
            raise ValueError(f"calibration is {calibration}, expected a scale above 0 and an offset, twice")
        if not 0.0 < gap_deg <= 90.0:
            raise ValueError(f"gap_deg is {gap_deg}, expected above 0 to 90")
        self.geometry = sizes.geometry
        self.talkers, self.gap_deg, self.calibration = sizes.talkers, gap_deg, calibration
        self.variable_num_speakers = sizes.variable_num_speakers
        self.told: int | None = None

    def forward(self, features: Tensor, front_end: FrontEndOutput) -> Tensor:
        """Logits ``(batch, talker, outputs)`` of features ``(batch, direction, frame, feature)``."""
        maps = split_maps(features)
        azimuth_deg, probability, empty = self._slots(maps)
        probability = probability.clamp(LEAST, MOST)
        classes = maps.recording.shape[-1]
        there = von_mises_logits(azimuth_deg, classes).log_softmax(-1) + probability.log()[..., None]
        anywhere = torch.log1p(-probability)[..., None] - math.log(classes)
        of_classes = torch.logaddexp(there, anywhere.expand_as(there))
        if not self.variable_num_speakers:
            return of_classes
        occupied = probability if self.told is None else torch.where(empty, LEAST, MOST)
        nobody = torch.log1p(-occupied) - occupied.log()
        return torch.cat([of_classes, nobody[..., None]], dim=-1)

    def moments(self, features: Tensor) -> Tensor:
        """Logits ``(batch, class, moment)`` of a talker in each direction in each moment, in the array's domain."""
        logits = split_maps(features).moments
        return folded_map(logits.transpose(1, 2), self.geometry).transpose(1, 2)

    def peaks(self, maps: DirectionMaps) -> Peaks:
        """All peaks, also those that are too low for a slot, with calibrated probabilities."""
        scale, offset, _, _ = self.calibration
        return map_peaks(scale * folded_map(maps.recording, self.geometry) + offset, LEAST / 2, self.gap_deg)

    def pairs(self, maps: DirectionMaps, peaks: Peaks) -> tuple[Tensor, Tensor]:
        """Class of each peak, and calibrated probability that there are two talkers, ``(batch, peak)``."""
        classes = maps.recording.shape[-1]
        place = (peaks.azimuth_deg.nan_to_num(0.0) * (classes / 360.0)).round().long() % classes
        _, _, scale, offset = self.calibration
        return place, (scale * maps.second.float().gather(-1, place) + offset).sigmoid()

    def _slots(self, maps: DirectionMaps) -> tuple[Tensor, Tensor, Tensor]:
        """Azimuth in degrees, probability and whether empty, ``(batch, talker)``, of the most probable talkers."""
        peaks = self.peaks(maps)
        place, pairs = self.pairs(maps, peaks)
        joined = torch.cat([peaks.probability, peaks.probability * pairs], dim=-1)
        candidates = nn.functional.pad(joined, (0, 2 * self.talkers))
        probability, taken = candidates.sort(dim=-1, descending=True, stable=True)
        empty = probability[:, : self.talkers] < LEAST / 2
        if self.told is not None:
            probability = among(probability, self.told)
        probability, taken = probability[:, : self.talkers], taken[:, : self.talkers]
        if self.variable_num_speakers:
            rank = torch.arange(self.talkers, device=empty.device)
            empty = empty | (probability < 0.5 if self.told is None else rank >= self.told)
        azimuth = torch.cat(self._azimuths(peaks, place, maps, taken, empty), dim=-1)
        azimuth = nn.functional.pad(azimuth, (0, 2 * self.talkers)).gather(-1, taken)
        if self.geometry.domain.azimuth_span_deg < 360:
            azimuth = mirror_to_left(azimuth, self.geometry.axis_deg)
        order = torch.where(empty, torch.inf, azimuth).argsort(dim=-1, stable=True)
        return azimuth.gather(-1, order), probability.gather(-1, order), empty.gather(-1, order)

    def _azimuths(
        self, peaks: Peaks, place: Tensor, maps: DirectionMaps, taken: Tensor, empty: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Of each peak's first and second talker ``(batch, peak)``; the first is at the peak, if there is no second."""
        count = place.shape[1]
        step_deg = 360.0 / maps.recording.shape[-1]
        near = maps.offsets_deg.float().clamp(-NEAR_DEG, NEAR_DEG)
        offsets_deg = near.gather(1, place[..., None].expand(-1, -1, 2))
        both_deg = place[..., None] * step_deg + offsets_deg
        seconds = torch.arange(count, 2 * count, device=place.device)
        paired = ((taken[..., None] == seconds) & ~empty[..., None]).any(1)
        first_deg = torch.where(paired, both_deg[..., 0], peaks.azimuth_deg.nan_to_num(0.0))
        return wrap_azimuth(first_deg), wrap_azimuth(both_deg[..., 1])


def among(probability: Tensor, count: int) -> Tensor:
    """Probabilities ``(batch, candidate)`` of independent candidates, given that so many of them are true.

    Those of a conditional Bernoulli distribution (Chen and Liu, Statistica Sinica 7, 1997).

    >>> among(torch.tensor([[0.9, 0.5, 0.1]]), 2).double().round(decimals=2).tolist()
    [[0.99, 0.9, 0.11]]
    """
    odds = (probability.double().clamp(0.0, MOST) / (1.0 - probability.double().clamp(0.0, MOST))).unbind(-1)

    def ways(left_out: int | None) -> list[Tensor]:
        """Weight of each number of candidates being true, up to `count`, with one of them left out."""
        weights = [torch.ones_like(odds[0])] + [torch.zeros_like(odds[0]) for _ in range(count)]
        for index, odd in enumerate(odds):
            if index != left_out:
                weights = [weights[0], *(weights[k] + odd * weights[k - 1] for k in range(1, count + 1))]
        return weights

    every = ways(None)[count]
    given = [odd * ways(index)[count - 1] / every.clamp_min(1e-300) for index, odd in enumerate(odds)]
    return torch.where(every[:, None] > 0, torch.stack(given, dim=-1).to(probability.dtype), probability)


def folded_map(logits: Tensor, geometry: ArrayGeometry) -> Tensor:
    """A map ``(batch, class)`` as `fold_map` folds it, of an array whose resolvable domain is half the circle."""
    return logits if geometry.domain.azimuth_span_deg == 360 else fold_map(logits, geometry.axis_deg)
