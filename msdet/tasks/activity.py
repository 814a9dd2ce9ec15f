"""Speech activity: when each slot's talker speaks, frame by frame."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from msdet.dsp.streaming_state import State
from msdet.models.frontends import FrontEndOutput
from msdet.models.heads import TASKS, HeadSizes
from msdet.tasks.labels import BatchLabels, LabeledLoss
from msdet.tasks.pooling import Pool, classifier, hidden_width

THRESHOLD_DB = 40.0
"""A frame is speech if it is no further below the loudest one, as STOI counts frames (Taal et al. 2011)."""


class ActivityHead(nn.Module):
    """One logit a slot and frame, from features pooled over frequency.

    Args:
        sizes: what its sizes follow from.
        hidden: width of the pooled features; that of the features, 32 at most, if not given.
    """

    def __init__(self, sizes: HeadSizes, hidden: int | None = None) -> None:
        super().__init__()
        width = hidden_width(sizes, hidden)
        self.pool = Pool(sizes, sizes.talkers, width)
        self.classify = classifier(self.pool.features_out, width, 1)

    def forward(self, features: Tensor, front_end: FrontEndOutput) -> Tensor:
        """Logits ``(batch, slot, frame)`` on the frames of the model's STFT."""
        logits: Tensor = self.classify(self.pool.of_frames(features))
        return logits[..., 0]

    def stream(self, features: Tensor, front_end: FrontEndOutput, state: State) -> tuple[Tensor, State]:
        """The next frames, each for itself."""
        return self(features, front_end), None


@TASKS.register("activity")
class ActivityTask:
    """Binary cross-entropy of every slot and frame, where the references are known.

    Args:
        threshold_db: of `speech_activity`.
    """

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
        """Whether the slot's talker speaks, bool ``(batch, slot, frame)``; nobody is silent."""
        return speech_activity(truth.references.spectrum, self.threshold_db) & truth.active[..., None]

    def scores(self, prediction: Tensor, truth: BatchLabels) -> dict[str, Tensor]:
        """F1 of speech over the frames of each talker, and the share of frames that are right in a slot."""
        found, wanted = prediction > 0.0, self.target(truth)
        both = (found & wanted).sum(-1)
        f1 = 2.0 * both / (found.sum(-1) + wanted.sum(-1))  # NaN where there is no speech, found or true
        unknown = ~truth.referenced[:, None]
        return {
            "activity_f1": f1.masked_fill(unknown | ~truth.active, torch.nan),
            "activity_accuracy": (found == wanted).float().mean(-1).masked_fill(unknown, torch.nan),
        }


def speech_activity(spectrum: Tensor, threshold_db: float = THRESHOLD_DB) -> Tensor:
    """Frames ``(..., frame)`` within `threshold_db` of the loudest frame's energy; none of a silent signal.

    Args:
        spectrum: of signals without noise, complex ``(..., freq, frame)``.
        threshold_db: decibels.
    """
    energy = (spectrum.real.square() + spectrum.imag.square()).sum(-2)
    least = energy.amax(-1, keepdim=True) * 10.0 ** (-threshold_db / 10.0)
    speaks: Tensor = (energy >= least) & (energy > 0.0)
    return speaks
