"""Direction map: for each direction whether a talker is there, in each moment and in the recording, as one map each.

Of a direction with a talker it is also learned whether another one is close by, and where both are.

It teaches an encoder whose features end in these maps (`msdet.models.encoders.direction_cnn`), so that the slots that
`msdet.models.heads.map_peaks` makes of them find every talker and nobody else. After He, Motlicek and Odobez, "Deep
neural networks for multiple speaker detection and localization", ICRA 2018, with cross-entropy.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate

from msdet.conventions import wrap_signed_deg
from msdet.dsp.spatial import mirror_to_left
from msdet.models.encoders.direction_cnn import DirectionMaps, split_maps
from msdet.models.frontends import ArrayGeometry, FrontEndOutput
from msdet.models.heads import TASKS, HeadSizes
from msdet.models.heads.map_peaks import NEAR_DEG, folded_map
from msdet.tasks.doa_map import matched_talkers
from msdet.tasks.labels import BatchLabels, LabeledLoss, located, walks
from msdet.tasks.pooled import speech_activity
from msdet.tasks.tracking import frame_track_deg

WIDTH_DEG = 6.0
"""Standard deviation of the bump around a talker."""

NEAR = 0.3
"""Of a bump's height; directions where the target is higher weigh more, as they are few."""

MORE_OF_RECORDING, MORE_OF_MOMENTS = 4.0, 2.0
"""How much more."""

MOMENTS = 0.5
"""Weight of the map of moments, relative to the recording's."""

PAIRS, DEGREE = 1.0, 0.1
"""Weight of whether there are two talkers in a direction, and of each degree that their directions are off."""

APART_DEG = 4.0
"""Of two closer than this nobody can tell: it is not learned."""

QUIET_DB = 30.0
"""A talker is silent where this much below his loudest moment."""


class PlacedMaps(NamedTuple):
    """Maps, and of which array they are."""

    maps: DirectionMaps
    geometry: ArrayGeometry


class DirectionMapHead(nn.Module):
    """The maps that the features end in; it has no weights of its own."""

    of_directions = True

    def __init__(self, sizes: HeadSizes) -> None:
        super().__init__()
        self.geometry = sizes.geometry

    def forward(self, features: Tensor, front_end: FrontEndOutput) -> PlacedMaps:
        """Maps, of features ``(batch, direction, moment, feature)``."""
        return PlacedMaps(split_maps(features), self.geometry)


@TASKS.register("direction_map")
class DirectionMapTask:
    """Binary cross-entropy of both maps, in scenes where all talkers' directions are known.

    The target is a bump around each talker, and around the mirror image where the array cannot tell them apart; in a
    moment, around talkers who speak in it, where references tell. Of talkers who move it is the mean over time.
    """

    Head = DirectionMapHead
    NEEDS = "directions"

    def loss(self, prediction: PlacedMaps, truth: BatchLabels) -> LabeledLoss:
        """Loss ``(batch,)``."""
        maps, geometry = prediction
        classes, moments = maps.moments.shape[1:]
        there = truth.active & truth.azimuth_deg.isfinite()
        axis_deg = geometry.axis_deg if geometry.domain.azimuth_span_deg < 360 else None
        frames = truth.references.spectrum.shape[-1]
        place = torch.linspace(0, frames - 1, moments, device=there.device).round().long()
        track_deg = frame_track_deg(truth, frames)[..., place]
        always = there[..., None] & track_deg.isfinite()
        bumps = _bumps(track_deg, always, classes, axis_deg).mean(1)
        recording = _weighted(maps.recording, bumps, True)
        nobody_walks = ~(walks(truth) & there).any(-1)
        pairs = _of_pairs(maps, truth.azimuth_deg, there, bumps > NEAR, axis_deg) * nobody_walks
        speaks = speech_activity(truth.references.spectrum, QUIET_DB) & there[..., None]
        speaks = interpolate(speaks.float(), moments, mode="area") > 0.5 if moments < frames else speaks
        target = _bumps(track_deg, speaks & track_deg.isfinite(), classes, axis_deg)
        of_moments = _weighted(maps.moments.transpose(1, 2), target, False).mean(1)
        of_moments = torch.where(truth.referenced, of_moments, 0.0)
        return LabeledLoss(recording + MOMENTS * of_moments + PAIRS * pairs, located(truth))

    def scores(self, prediction: PlacedMaps, truth: BatchLabels) -> dict[str, Tensor]:
        """F1 of peaks within 10 degrees of a talker, NaN without any, and whether their number is right."""
        logits = folded_map(prediction.maps.recording, prediction.geometry)
        return {name: score.masked_fill(~located(truth), torch.nan) for name, score in matched_talkers(logits, truth)}


def _weighted(logits: Tensor, target: Tensor, recording: bool) -> Tensor:
    """Cross-entropy ``(...)`` of maps ``(..., class)``, more of it near talkers."""
    weight = 1.0 + (MORE_OF_RECORDING if recording else MORE_OF_MOMENTS) * (target > NEAR)
    return (binary_cross_entropy_with_logits(logits.float(), target, reduction="none") * weight).mean(-1)


def _bumps(azimuth_deg: Tensor, there: Tensor, classes: int, axis_deg: float | None) -> Tensor:
    """Highest of the bumps around talkers ``(batch, talker, ...)`` who are there: ``(batch, ..., class)``."""
    grid = torch.arange(classes, device=azimuth_deg.device) * (360.0 / classes)
    images = [azimuth_deg] if axis_deg is None else [azimuth_deg, 2 * axis_deg - azimuth_deg]
    heights = [(-0.5 * (wrap_signed_deg(grid - image[..., None]) / WIDTH_DEG).square()).exp() for image in images]
    bump = torch.stack(heights).amax(0)
    return torch.where(there[..., None], bump, 0.0).amax(1)


def _of_pairs(maps: DirectionMaps, azimuth_deg: Tensor, there: Tensor, near: Tensor, axis_deg: float | None) -> Tensor:
    """Loss ``(batch,)`` of who else is close by, in directions ``(batch, class)`` that are near a talker.

    The talkers are at azimuths ``(batch, talker)``. Where the array cannot tell them from their mirror images, those on
    the side of the direction count.
    """
    grid = torch.arange(near.shape[1], device=azimuth_deg.device) * (360.0 / near.shape[1])
    placed_deg = azimuth_deg.nan_to_num(0.0)[..., None].expand(-1, -1, len(grid))
    if axis_deg is not None:
        left_deg = mirror_to_left(placed_deg, axis_deg)
        placed_deg = torch.where(wrap_signed_deg(grid - axis_deg) >= 0, left_deg, 2 * axis_deg - left_deg)
    offset_deg = wrap_signed_deg(placed_deg - grid)
    within = there[..., None] & (offset_deg.abs() <= NEAR_DEG)
    two = within.sum(1) > 1
    lowest = offset_deg.masked_fill(~within, torch.inf).amin(1)
    highest = offset_deg.masked_fill(~within, -torch.inf).amax(1)
    error_deg = (maps.offsets_deg - torch.stack([lowest, highest], dim=-1)).abs().sum(-1)
    loss = binary_cross_entropy_with_logits(maps.second.float(), two.float(), reduction="none")
    loss = loss * (~two | (highest - lowest >= APART_DEG))
    loss = loss + DEGREE * torch.where(two, error_deg, 0.0)
    counted = near & within.any(1)
    return torch.where(counted, loss, 0.0).sum(-1) / counted.sum(-1).clamp_min(1)
