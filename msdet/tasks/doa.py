"""Direction of arrival: where each slot's talker is, and whether there is one.

With an output for nobody, the posterior is over azimuth classes and nobody together. Its loss falls into two
parts, whether somebody is there and where: -log p(active) + loss(azimuth | active), which for the
cross-entropy is the cross-entropy over all outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from msdet.conventions import wrap_signed_deg
from msdet.dsp.spatial import decode_azimuth
from msdet.losses.doa import DoaLoss
from msdet.models.heads import slot_occupancy
from msdet.tasks.labels import BatchLabels, LabeledLoss


class DoaTask:
    """DoA classification.

    Args:
        criterion: loss of azimuth logits.
        classes: number of azimuth classes; an output after them is nobody.
    """

    def __init__(self, criterion: DoaLoss, classes: int) -> None:
        self.criterion = criterion
        self.classes = classes

    def loss(self, prediction: Tensor, truth: BatchLabels) -> LabeledLoss:
        """Loss ``(batch, slot)`` of logits ``(batch, slot, outputs)``."""
        return self.between(prediction, truth.azimuth_deg, truth.active)

    def between(self, prediction: Tensor, azimuth_deg: Tensor, active: Tensor) -> LabeledLoss:
        """Loss of logits ``(..., outputs)`` for azimuths and activity ``(...)``."""
        logits = prediction[..., : self.classes].float()
        known = azimuth_deg.isfinite() & active
        value = self.criterion(logits, azimuth_deg.nan_to_num(0.0))
        if prediction.shape[-1] == self.classes:
            return LabeledLoss(value, known)
        somebody = torch.logsumexp(logits, -1) - prediction[..., self.classes].float()
        presence = torch.nn.functional.softplus(torch.where(active, -somebody, somebody))
        return LabeledLoss(presence + torch.where(known, value, 0.0), known | ~active)

    def scores(self, prediction: Tensor, truth: BatchLabels) -> dict[str, Tensor]:
        """Azimuth error of talkers that are there, and whether empty slots are known to be empty."""
        azimuth = decode_azimuth(prediction[..., : self.classes])[0]
        error = wrap_signed_deg(azimuth - truth.azimuth_deg)
        error = error.abs().masked_fill(~truth.active, torch.nan)
        found = {"doa_mae_deg": error}
        for limit in (5, 10):
            within = (error <= limit).float()
            found[f"accuracy_{limit}deg"] = within.masked_fill(error.isnan(), torch.nan)
        if prediction.shape[-1] > self.classes:
            occupied = slot_occupancy(prediction, self.classes) > 0.5
            found["vacancy_accuracy"] = (occupied == truth.active).float()
        return found
