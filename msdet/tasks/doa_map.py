"""DoA map: for each direction the probability of a talker there, for all talkers together.

After He, Motlicek and Odobez, "Deep neural networks for multiple speaker detection and localization", ICRA 2018: it
needs no slots and no assignment, and the number of talkers is the number of its peaks. They train with the mean square
error; here it is the binary cross-entropy, as the outputs are probabilities.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from msdet.conventions import wrap_signed_deg
from msdet.dsp.spatial import map_peaks, phase_normalize, srp_from_covariance, weighted_covariance
from msdet.models.frontends import FrontEndOutput
from msdet.models.heads import TASKS, HeadSizes, circular_convolutions
from msdet.tasks.labels import BatchLabels, LabeledLoss, located
from msdet.tasks.pooled import pool_and_classifier

MATCHED_DEG = 10.0
"""A peak is a talker's if it is no further away."""


class DoaMapHead(nn.Module):
    """Steered response of the bins that a mask trusts, sharpened, and a classifier on pooled features."""

    def __init__(self, sizes: HeadSizes, hidden: int | None = None, channels: int = 16) -> None:
        super().__init__()
        self.geometry = sizes.geometry
        self.mask = nn.Linear(sizes.features, 1)
        self.sharpen = circular_convolutions(1, channels, 1)
        self.trust = nn.Parameter(torch.ones(()))
        self.pool, self.classify = pool_and_classifier(sizes, hidden, sizes.talkers, sizes.classes, joined=True)
        nn.init.constant_(self.classify[-1].bias, -2.0)  # type: ignore[arg-type] # most directions are empty

    def forward(self, features: Tensor, front_end: FrontEndOutput) -> Tensor:
        """Logits ``(batch, class)`` of a talker in the direction of each azimuth class."""
        spectrum = front_end.spectrum
        level = torch.log1p(spectrum[:, self.geometry.reference].abs())
        weights = (self.mask(features)[..., 0].sigmoid() * level)[:, None]
        covariance = weighted_covariance(phase_normalize(spectrum), weights)
        response = srp_from_covariance(covariance, self.geometry.steering)
        spread = response.std(-1, keepdim=True).clamp_min(1e-6)
        z = (response - response.mean(-1, keepdim=True)) / spread
        seen = self.classify(self.pool(features).flatten(1))
        return cast(Tensor, seen + (self.trust * z + self.sharpen(z))[:, 0])


@TASKS.register("doa_map")
class DoaMapTask:
    """Binary cross-entropy of every direction, in scenes where all talkers' azimuths are known.

    The target is a bump ``exp(-d² / width²)`` around each talker; in scores a peak from `threshold` on is a talker.
    """

    Head = DoaMapHead
    NEEDS = "directions"

    def __init__(self, width_deg: float = 8.0, threshold: float = 0.5) -> None:
        self.width_deg = width_deg
        self.threshold = threshold

    def loss(self, prediction: Tensor, truth: BatchLabels) -> LabeledLoss:
        """Loss ``(batch,)`` of logits ``(batch, class)``: the mean over directions."""
        target = self.target(truth, prediction.shape[-1])
        value = binary_cross_entropy_with_logits(prediction.float(), target, reduction="none").mean(-1)
        return LabeledLoss(value, located(truth))

    def target(self, truth: BatchLabels, classes: int) -> Tensor:
        """Bumps ``(batch, class)`` around the talkers, 1 at each; the higher one where two meet."""
        grid = torch.arange(classes, device=truth.azimuth_deg.device) * (360.0 / classes)
        distance = wrap_signed_deg(grid - truth.azimuth_deg[..., None])
        bumps = (-(distance / self.width_deg).square()).exp()
        there = truth.active & truth.azimuth_deg.isfinite()
        return torch.where(there[..., None], bumps, 0.0).amax(1)

    def scores(self, prediction: Tensor, truth: BatchLabels) -> dict[str, Tensor]:
        """F1 of a scene's peaks within 10 degrees, NaN without any or a talker, and whether their number is right."""
        found = matched_talkers(prediction, truth, self.threshold)
        return {name: score.masked_fill(~located(truth), torch.nan) for name, score in found}


def matched_talkers(logits: Tensor, truth: BatchLabels, threshold: float = 0.5) -> list[tuple[str, Tensor]]:
    """F1 ``(batch,)`` of the peaks of maps ``(batch, class)``, and whether there are as many as talkers, by name."""
    azimuth_deg = map_peaks(logits, threshold).azimuth_deg
    count = azimuth_deg.isfinite().sum(-1)
    talkers = truth.active.sum(-1)
    scenes = zip(azimuth_deg, truth.azimuth_deg, truth.active, strict=True)
    hits = [_matches(peaks[peaks.isfinite()], true[active]) for peaks, true, active in scenes]
    f1 = 2.0 * torch.tensor(hits, device=count.device) / (count + talkers)
    return [("map_f1", f1), ("map_count_accuracy", (count == talkers).float())]


def _matches(peaks_deg: Tensor, true_deg: Tensor) -> int:
    """The most pairs within `MATCHED_DEG`, each peak and each talker in one at most."""
    distance = wrap_signed_deg(peaks_deg[:, None] - true_deg[None])
    near = (distance.abs() <= MATCHED_DEG).cpu().numpy().astype(np.int64)
    rows, columns = linear_sum_assignment(near, maximize=True)
    return int(near[rows, columns].sum())
