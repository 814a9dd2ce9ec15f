"""Tasks of a joint model: head, target, loss and metric.

An auxiliary task is a class that registers itself, ``@TASKS.register("activity")``, with

- ``Head``, a class attribute: a `torch.nn.Module` built as ``Head(sizes, **options)`` from `HeadSizes` and
  the options of ``model.tasks``. Its ``forward(features, front_end)`` makes the prediction, a tensor, from
  the features that the DoA head sees, ``(batch, freq, frame, feature)``;
- ``loss(prediction, truth) -> LabeledLoss``: the loss of each example or slot against `BatchLabels`, which
  is in the order of slots, and which of them are labeled;
- ``scores(prediction, truth) -> dict[str, Tensor]``: what validation shows, each of any shape, NaN where it
  is not defined; names end in their unit.

It may say ``NEEDS``, the kind of label that it learns from: ``references``, ``directions`` or ``distances``; training
data without one are refused. It is built without arguments; a subclass in a file of your own sets those it has. Your
own task works by its import path, ``module:Task``. ``separation`` and ``doa`` are always there and take the losses that
the objective names; others are switched on by ``model.tasks`` and weighted by ``objective.task_weights``.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from msdet.conventions import wrap_signed_deg
from msdet.dsp.spatial import decode_azimuth
from msdet.dsp.stft import SeparationPasses
from msdet.losses.doa import DoaLoss
from msdet.losses.separation import SeparationLoss, si_sdr_db
from msdet.models.heads import slot_occupancy
from msdet.tasks.labels import BatchLabels, LabeledLoss, walks

MAIN = ("separation", "doa")
"""Tasks that every model has."""


class TaskLike(Protocol):
    """What every task offers."""

    def loss(self, prediction: Any, truth: BatchLabels) -> LabeledLoss:
        """Loss of each example or slot."""

    def scores(self, prediction: Any, truth: BatchLabels) -> dict[str, Tensor]:
        """What validation shows."""


class SeparationTask:
    """Separation, by the mean loss of all passes.

    `consistency` is the weight of the same loss between the sums of all estimates and of all references, which keeps
    what is taken from one talker with the others (after Wisdom et al., "Differentiable consistency constraints", 2019).
    """

    def __init__(self, criterion: SeparationLoss, consistency: float = 0.0) -> None:
        self.criterion = criterion
        self.consistency = consistency

    def loss(self, prediction: SeparationPasses, truth: BatchLabels) -> LabeledLoss:
        """Loss ``(batch, slot)``."""
        value = torch.stack([self.criterion(p, truth.references) for p in prediction.passes]).mean(0)
        if self.consistency:
            together = self.criterion(prediction.passes[-1].sum(1), truth.references.sum(1))
            value = value + self.consistency * together[:, None]
        return LabeledLoss(value, truth.referenced[:, None].expand_as(value))

    def pairs(self, prediction: SeparationPasses, truth: BatchLabels) -> Tensor:
        """Loss ``(batch, slot, talker)`` of the final estimates against each reference."""
        return self.criterion(prediction.passes[-1][:, :, None], truth.references[:, None])

    def scores(self, prediction: SeparationPasses, truth: BatchLabels) -> dict[str, Tensor]:
        """SI-SDR improvement over the mixture, of talkers that are there."""
        references = truth.references.waveform
        gain = si_sdr_db(prediction.passes[-1].waveform, references)
        gain = gain - si_sdr_db(truth.mixture[:, None].expand_as(references), references)
        known = truth.active & truth.referenced[:, None]
        return {"si_sdr_improvement_db": gain.masked_fill(~known, torch.nan)}


class DoaTask:
    """DoA classification: where each slot's talker is and, with an output after all classes, whether there is one.

    The posterior is then over azimuth classes and the empty slot together, and the loss falls into two parts:
    -log p(active) + loss(azimuth | active), which for the cross-entropy is that over all outputs.
    """

    def __init__(self, criterion: DoaLoss, classes: int) -> None:
        self.criterion = criterion
        self.classes = classes

    def loss(self, prediction: Tensor, truth: BatchLabels) -> LabeledLoss:
        """Loss ``(batch, slot)`` of logits ``(batch, slot, outputs)``; of who walks, only that somebody is there."""
        azimuth_deg = truth.azimuth_deg.masked_fill(walks(truth), torch.nan)
        return self._between(prediction, azimuth_deg, truth.active)

    def pairs(self, prediction: Tensor, truth: BatchLabels) -> Tensor:
        """Loss ``(batch, slot, talker)`` of each slot's logits for each talker; zero where nothing is labeled."""
        logits = prediction[:, :, None].expand(-1, -1, truth.active.shape[1], -1)
        azimuth_deg, active = (x[:, None].expand(logits.shape[:-1]) for x in (truth.azimuth_deg, truth.active))
        return self._between(logits, azimuth_deg, active).masked()

    def _between(self, prediction: Tensor, azimuth_deg: Tensor, active: Tensor) -> LabeledLoss:
        """Loss of logits ``(..., outputs)`` for azimuths and activity ``(...)``."""
        logits = prediction[..., : self.classes].float()
        known = azimuth_deg.isfinite() & active
        value = self.criterion(logits, azimuth_deg.nan_to_num(0.0))
        if prediction.shape[-1] == self.classes:
            return LabeledLoss(value, known)
        log_odds = torch.logsumexp(logits, -1) - prediction[..., self.classes].float()
        presence = torch.nn.functional.softplus(torch.where(active, -log_odds, log_odds))
        return LabeledLoss(presence + torch.where(known, value, 0.0), known | ~active)

    def scores(self, prediction: Tensor, truth: BatchLabels) -> dict[str, Tensor]:
        """Azimuth error of talkers that are there, and whether empty slots are known to be empty."""
        azimuth = decode_azimuth(prediction[..., : self.classes])[0]
        error = wrap_signed_deg(azimuth - truth.azimuth_deg).abs().masked_fill(~truth.active, torch.nan)
        scores = {"doa_mae_deg": error}
        scores |= {f"accuracy_{n}deg": (error <= n).float().masked_fill(error.isnan(), torch.nan) for n in (5, 10)}
        if prediction.shape[-1] > self.classes:
            occupied = slot_occupancy(prediction, self.classes) > 0.5
            scores["vacancy_accuracy"] = (occupied == truth.active).float()
        return scores
