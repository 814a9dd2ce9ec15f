"""Slots are anchored by the model's own DoA: each answers for the talker at the direction it points to.

The permutation with the smallest sum of azimuth errors, so neither a separation loss of any pair nor an
ordering of the circle is needed. Seam: none in space; early in training the estimates decide little. A slot
answers for nobody if the others' directions fit better; a scene of unknown azimuths takes the cheapest
permutation of the joint loss.
"""

from __future__ import annotations

import torch
from torch import Tensor

from msdet.objectives.assignment import Costs, Labels
from msdet.objectives.assignment.pit import cheapest


def assign(labels: Labels, costs: Costs) -> Tensor:
    """Index of the reference of each slot, ``(batch, slot)``, with the smallest total azimuth error."""
    estimated = costs.azimuth_deg().detach()
    difference = (estimated[:, :, None] - labels.azimuth_deg[:, None]).remainder(360.0)
    anchored = cheapest(difference.minimum(360.0 - difference).nan_to_num(0.0))
    unknown = labels.azimuth_deg.isnan()
    if labels.active is not None:
        unknown = unknown & labels.active
    if not unknown.any():
        return anchored
    return torch.where(unknown.any(-1, keepdim=True), cheapest(costs.joint()), anchored)
