"""Tasks about each slot's talker: when they speak, how far away they are, and how high."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from msdet.dsp.streaming_state import State
from msdet.errors import MsdetError
from msdet.losses.doa import class_loss
from msdet.models.frontends import FrontEndOutput
from msdet.models.heads import TASKS, HeadSizes
from msdet.tasks.labels import BatchLabels, LabeledLoss
from msdet.tasks.pooling import LogHead, log_loss, pool_and_classifier

THRESHOLD_DB = 40.0
"""A frame is speech if it is no further below the loudest one, as STOI counts frames (Taal et al. 2011)."""


class ActivityHead(nn.Module):
    """One logit a slot and frame, from features pooled over frequency."""

    def __init__(self, sizes: HeadSizes, hidden: int | None = None) -> None:
        super().__init__()
        self.pool, self.classify = pool_and_classifier(sizes, hidden, sizes.talkers, 1)

    def forward(self, features: Tensor, front_end: FrontEndOutput) -> Tensor:
        """Logits ``(batch, slot, frame)`` on the frames of the model's STFT."""
        logits: Tensor = self.classify(self.pool.of_frames(features))
        return logits[..., 0]

    def stream(self, features: Tensor, front_end: FrontEndOutput, state: State) -> tuple[Tensor, State]:
        """The next frames, each for itself."""
        return self(features, front_end), None


@TASKS.register("activity")
class ActivityTask:
    """Binary cross-entropy of speech in every slot and frame, where the references are known."""

    Head = ActivityHead
    NEEDS = "references"

    def __init__(self, threshold_db: float = THRESHOLD_DB) -> None:
        self.threshold_db = threshold_db

    def loss(self, prediction: Tensor, truth: BatchLabels) -> LabeledLoss:
        """Loss ``(batch, slot, frame)`` of logits of the same shape."""
        target = self.target(truth).float()
        value = binary_cross_entropy_with_logits(prediction.float(), target, reduction="none")
        return LabeledLoss(value, truth.referenced[:, None, None].expand_as(value))

    def target(self, truth: BatchLabels) -> Tensor:
        """Whether the slot's talker speaks, bool ``(batch, slot, frame)``; false of an empty slot."""
        return speech_activity(truth.references.spectrum, self.threshold_db) & truth.active[..., None]

    def scores(self, prediction: Tensor, truth: BatchLabels) -> dict[str, Tensor]:
        """F1 of speech over the frames of each talker, and the share of frames that are right in a slot."""
        estimated, wanted = prediction > 0.0, self.target(truth)
        both = (estimated & wanted).sum(-1)
        f1 = 2.0 * both / (estimated.sum(-1) + wanted.sum(-1))  # NaN without speech, estimated or true
        unknown = ~truth.referenced[:, None]
        return {
            "activity_f1": f1.masked_fill(unknown | ~truth.active, torch.nan),
            "activity_accuracy": (estimated == wanted).float().mean(-1).masked_fill(unknown, torch.nan),
        }


def speech_activity(spectrum: Tensor, threshold_db: float = THRESHOLD_DB) -> Tensor:
    """Frames ``(..., frame)`` of clean spectra ``(..., freq, frame)`` near the loudest one; none of silence."""
    energy = (spectrum.real.square() + spectrum.imag.square()).sum(-2)
    least = energy.amax(-1, keepdim=True) * 10.0 ** (-threshold_db / 10.0)
    return cast(Tensor, (energy >= least) & (energy > 0.0))


@TASKS.register("distance")
class DistanceTask:
    """Smooth L1 loss of the logarithm of meters, which the ratio of direct sound to reverberation follows."""

    Head = LogHead
    NEEDS = "distances"

    def loss(self, prediction: Tensor, truth: BatchLabels) -> LabeledLoss:
        """Loss ``(batch, slot)`` of logarithms of the same shape."""
        return log_loss(prediction, truth.distance_m, truth.active)

    def scores(self, prediction: Tensor, truth: BatchLabels) -> dict[str, Tensor]:
        """Absolute error of each talker, in meters and relative to the true distance."""
        distance_m = truth.distance_m.masked_fill(~truth.active, torch.nan)
        error_m = (prediction.float().exp() - distance_m).abs()
        return {"distance_error_m": error_m, "distance_error_percent": 100.0 * error_m / distance_m}


class ElevationHead(nn.Module):
    """A classifier on pooled features of arrays that tell up from down: a class every `width_deg` from -90 to 90."""

    def __init__(self, sizes: HeadSizes, width_deg: float = 10.0, hidden: int | None = None) -> None:
        super().__init__()
        domain = sizes.geometry.domain
        if domain.axis is not None:
            raise MsdetError(f"task 'elevation' needs microphones that span space; these resolve {domain.words}")
        steps = round(180.0 / width_deg) if width_deg > 0 else 0
        if steps < 1 or abs(steps * width_deg - 180.0) > 1e-6:
            raise ValueError(f"width_deg is {width_deg}, expected to divide 180")
        self.pool, self.classify = pool_and_classifier(sizes, hidden, sizes.talkers, steps + 1)

    def forward(self, features: Tensor, front_end: FrontEndOutput) -> Tensor:
        """Logits ``(batch, slot, class)``."""
        return cast(Tensor, self.classify(self.pool(features)))


@TASKS.register("elevation")
class ElevationTask:
    """Cross-entropy of the nearest class, of talkers whose elevation is known."""

    Head = ElevationHead
    NEEDS = "directions"

    def loss(self, prediction: Tensor, truth: BatchLabels) -> LabeledLoss:
        """Loss ``(batch, slot)`` of logits ``(batch, slot, class)``."""
        target = elevation_to_class(truth.elevation_deg.nan_to_num(0.0), prediction.shape[-1])
        return LabeledLoss(class_loss(prediction, target), truth.elevation_deg.isfinite() & truth.active)

    def scores(self, prediction: Tensor, truth: BatchLabels) -> dict[str, Tensor]:
        """Absolute error of each talker."""
        error = (decode_elevation(prediction)[0] - truth.elevation_deg).abs()
        return {"elevation_mae_deg": error.masked_fill(~truth.active, torch.nan)}


def elevation_to_class(elevation_deg: Tensor, classes: int) -> Tensor:
    """The class whose center is nearest; half-way, the upper one.

    >>> elevation_to_class(torch.tensor([-90.0, -85.1, -85.0, 0.0, 84.9, 90.0]), 19).tolist()
    [0, 0, 1, 9, 17, 18]
    """
    place = (elevation_deg + 90.0) * ((classes - 1) / 180.0)
    return (place + 0.5).floor().long().clamp(0, classes - 1)


def decode_elevation(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Elevation in degrees, a mean over the peak class and its neighbors, their probability, of ``(..., class)``."""
    posterior = logits.float().softmax(-1)
    classes = logits.shape[-1]
    index = torch.arange(classes, device=logits.device)
    nearby = (index - posterior.argmax(-1, keepdim=True)).abs() <= 1
    weight = posterior * nearby
    confidence = weight.sum(-1)
    return (weight * index).sum(-1) / confidence * (180.0 / (classes - 1)) - 90.0, confidence
