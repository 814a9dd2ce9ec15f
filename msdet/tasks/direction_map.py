"""Direction map: for each direction whether a talker is there, in each moment and in the recording, as one map each.

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
from msdet.models.frontends import ArrayGeometry, FrontEndOutput
from msdet.models.heads import TASKS, HeadSizes
from msdet.models.heads.map_peaks import folded_map
from msdet.tasks.doa_map import matched_talkers
from msdet.tasks.labels import BatchLabels, LabeledLoss, located
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

QUIET_DB = 30.0
"""A talker is silent where this much below his loudest moment."""


class DirectionMaps(NamedTuple):
    """Logits of a talker: ``recording (batch, class)``, ``moments (batch, class, moment)``; and of which array."""

    recording: Tensor
    moments: Tensor
    geometry: ArrayGeometry


class DirectionMapHead(nn.Module):
    """The maps that the features end in; it has no weights of its own."""

    of_directions = True

    def __init__(self, sizes: HeadSizes) -> None:
        super().__init__()
        self.geometry = sizes.geometry

    def forward(self, features: Tensor, front_end: FrontEndOutput) -> DirectionMaps:
        """Maps, of features ``(batch, direction, moment, feature)``."""
        return DirectionMaps(features[..., -1].mean(-1), features[..., -2], self.geometry)


@TASKS.register("direction_map")
class DirectionMapTask:
    """Binary cross-entropy of both maps, in scenes where all talkers' directions are known.

    The target is a bump around each talker, and around the mirror image where the array cannot tell them apart; in a
    moment, around talkers who speak in it, where references tell.
    """

    Head = DirectionMapHead
    NEEDS = "directions"

    def loss(self, prediction: DirectionMaps, truth: BatchLabels) -> LabeledLoss:
        """Loss ``(batch,)``."""
        classes, moments = prediction.moments.shape[1:]
        there = truth.active & truth.azimuth_deg.isfinite()
        image_deg = prediction.geometry.axis_deg if prediction.geometry.domain.azimuth_span_deg < 360 else None
        recording = _weighted(prediction.recording, _bumps(truth.azimuth_deg, there, classes, image_deg), True)
        frames = truth.references.spectrum.shape[-1]
        speaks = speech_activity(truth.references.spectrum, QUIET_DB) & there[..., None]
        speaks = interpolate(speaks.float(), moments, mode="area") > 0.5 if moments < frames else speaks
        place = torch.linspace(0, frames - 1, moments, device=speaks.device).round().long()
        track_deg = frame_track_deg(truth, frames)[..., place]
        target = _bumps(track_deg, speaks & track_deg.isfinite(), classes, image_deg)
        of_moments = _weighted(prediction.moments.transpose(1, 2), target, False).mean(1)
        of_moments = torch.where(truth.referenced, of_moments, 0.0)
        return LabeledLoss(recording + MOMENTS * of_moments, located(truth))

    def scores(self, prediction: DirectionMaps, truth: BatchLabels) -> dict[str, Tensor]:
        """F1 of peaks within 10 degrees of a talker, NaN without any, and whether their number is right."""
        logits = folded_map(prediction.recording, prediction.geometry)
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
