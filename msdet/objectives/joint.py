"""The joint objective: assign references to slots, weigh separation against DoA."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from msdet.errors import MsdetError, UnknownNameError
from msdet.objectives.assignment import Costs, Labels, assignment_rule
from msdet.objectives.doa import decode_azimuth, doa_cross_entropy
from msdet.objectives.separation import LOSSES


@dataclass(frozen=True)
class ObjectiveConfig:
    """Settings of the objective.

    Attributes:
        assignment: which reference a slot answers for: ``azimuth``, ``distance``, ``azimuth_or_distance``,
            ``folded``, ``pit``, ``pit_joint``, ``doa_anchored``, or your own ``module:function``.
        assignment_options: what the rule takes besides labels and costs.
        separation_loss: ``l1_real_imaginary`` or ``l1_real_imaginary_magnitude``.
        doa_weight: λ of (1 - λ) · separation + λ · DoA.
    """

    assignment: str = "azimuth"
    assignment_options: dict[str, Any] = field(default_factory=dict)
    separation_loss: str = "l1_real_imaginary_magnitude"
    doa_weight: float = 0.25


class ObjectiveTerms(NamedTuple):
    """The joint loss and its terms (scalars), and the reference of each slot ``(batch, slot)``."""

    total: Tensor
    separation: Tensor
    doa: Tensor
    assignment: Tensor


class Objective:
    """Weighted average of separation and DoA loss under an assignment.

    Raises:
        MsdetError: an unknown name, or a weight outside [0, 1].
    """

    def __init__(self, config: ObjectiveConfig) -> None:
        if config.separation_loss not in LOSSES:
            raise UnknownNameError("separation loss", config.separation_loss, LOSSES)
        if not 0.0 <= config.doa_weight <= 1.0:
            raise MsdetError(f"doa_weight is {config.doa_weight}, expected 0 to 1")
        self.rule = assignment_rule(config.assignment, config.assignment_options)
        self.loss = LOSSES[config.separation_loss]
        self.doa_weight = config.doa_weight

    def __call__(
        self, estimates: tuple[Tensor, ...], references: Tensor, doa_logits: Tensor, labels: Labels
    ) -> ObjectiveTerms:
        """Cost of a batch.

        Args:
            estimates: spectra, each complex ``(batch, slot, freq, frame)``; their losses are averaged.
            references: complex ``(batch, talker, freq, frame)`` at the same level.
            doa_logits: ``(batch, slot, class)``.
            labels: where the talkers are.
        """
        talkers = labels.azimuth_deg.shape[1]
        costs = Costs(
            separation=lambda: self.loss(estimates[-1][:, :, None], references[:, None, :]),
            doa=lambda: doa_cross_entropy(
                doa_logits[:, :, None].expand(-1, -1, talkers, -1),
                labels.azimuth_deg[:, None].expand(-1, doa_logits.shape[1], -1),
            ),
            doa_weight=self.doa_weight,
            azimuth_deg=lambda: decode_azimuth(doa_logits)[0],
        )
        assignment = self.rule(labels, costs)
        wanted = references.gather(1, assignment[:, :, None, None].expand_as(references))
        separation = torch.stack([self.loss(e, wanted).mean() for e in estimates]).mean()
        doa = doa_cross_entropy(doa_logits, labels.azimuth_deg.gather(1, assignment)).mean()
        total = (1.0 - self.doa_weight) * separation + self.doa_weight * doa
        return ObjectiveTerms(total, separation, doa, assignment)
