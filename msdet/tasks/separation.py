"""Separation: what each slot's talker says."""

from __future__ import annotations

import torch
from torch import Tensor

from msdet.dsp.stft import SeparationPasses
from msdet.losses.separation import SeparationLoss, si_sdr_db
from msdet.tasks.labels import BatchLabels, LabeledLoss


class SeparationTask:
    """Separation, by the mean loss of all passes.

    Args:
        criterion: loss of signals.
        consistency: weight of the same loss between the sums of all estimates and of all references, which
            keeps what is taken from one talker with the others (after Wisdom et al., "Differentiable
            consistency constraints", 2019).
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
