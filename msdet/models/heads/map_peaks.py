"""Slots from a map: the peaks of a map of talkers over azimuth, each with the probability that the map gives it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from msdet.dsp.spatial import fold_map, map_peaks, mirror_to_left, von_mises_logits
from msdet.models.frontends import ArrayGeometry, FrontEndOutput
from msdet.models.heads import DOA_HEADS, HeadSizes

LEAST, MOST = 1e-4, 1.0 - 1e-4
"""Bounds of a peak's probability, so that logits are finite."""


@DOA_HEADS.register("map_peaks")
class MapPeaksHead(nn.Module):
    """Slots are the highest peaks of the map that the features end in, ascending in azimuth, then those without one.

    The features are of directions, and their last one is the logit of a talker there in the recording
    (`msdet.models.encoders.direction_cnn`). A slot's posterior is narrow at its peak with the peak's probability, and
    uniform with the rest. That is also the probability that the slot has a talker, where slots may be empty: the number
    of talkers follows from the map. Of an array that cannot tell a side from its mirror image, peaks are those of the
    half circle counter-clockwise from its axis.

    `told` may be set to the number of talkers, where it is known: so many peaks are slots, however probable.

    Args:
        sizes: what its sizes follow from.
        gap_deg: no peak is within so many degrees of a higher one.
    """

    any_domain = True
    of_directions = True
    causal = False

    def __init__(self, sizes: HeadSizes, gap_deg: float = 10.0) -> None:
        super().__init__()
        if not 0.0 < gap_deg <= 90.0:
            raise ValueError(f"gap_deg is {gap_deg}, expected above 0 to 90")
        self.geometry = sizes.geometry
        self.talkers, self.gap_deg = sizes.talkers, gap_deg
        self.variable_num_speakers = sizes.variable_num_speakers
        self.told: int | None = None

    def forward(self, features: Tensor, front_end: FrontEndOutput) -> Tensor:
        """Logits ``(batch, talker, outputs)`` of features ``(batch, direction, frame, feature)``."""
        logits = folded_map(features[..., -1].mean(-1), self.geometry)
        azimuth_deg, probability, empty = self._slots(logits)
        probability = probability.clamp(LEAST, MOST)
        classes = logits.shape[-1]
        there = von_mises_logits(azimuth_deg, classes).log_softmax(-1) + probability.log()[..., None]
        anywhere = torch.log1p(-probability)[..., None] - math.log(classes)
        of_classes = torch.logaddexp(there, anywhere.expand_as(there))
        if not self.variable_num_speakers:
            return of_classes
        occupied = probability if self.told is None else torch.where(empty, LEAST, MOST)
        nobody = torch.log1p(-occupied) - occupied.log()
        return torch.cat([of_classes, nobody[..., None]], dim=-1)

    def _slots(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Azimuth in degrees, probability, and whether empty, each ``(batch, talker)``, of the highest peaks."""
        peaks = map_peaks(logits, LEAST / 2, self.gap_deg)
        azimuth = peaks.azimuth_deg
        if self.geometry.domain.azimuth_span_deg < 360:
            azimuth = mirror_to_left(azimuth, self.geometry.axis_deg)
        missing = max(0, self.talkers - azimuth.shape[1])
        azimuth = nn.functional.pad(azimuth, (0, missing), value=torch.nan)[:, : self.talkers]
        probability = nn.functional.pad(peaks.probability, (0, missing))[:, : self.talkers]
        empty = azimuth.isnan()
        if self.variable_num_speakers:
            rank = torch.arange(self.talkers, device=azimuth.device)
            empty |= probability < 0.5 if self.told is None else rank >= self.told
        order = torch.where(empty, torch.inf, azimuth).argsort(dim=-1, stable=True)
        return azimuth.nan_to_num(0.0).gather(-1, order), probability.gather(-1, order), empty.gather(-1, order)


def folded_map(logits: Tensor, geometry: ArrayGeometry) -> Tensor:
    """A map ``(batch, class)`` as `fold_map` folds it, of an array whose resolvable domain is half the circle."""
    return logits if geometry.domain.azimuth_span_deg == 360 else fold_map(logits, geometry.axis_deg)
