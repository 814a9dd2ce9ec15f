"""Permutation invariant training on the joint cost, separation and DoA, as set prediction does.

After Carion et al., "End-to-end object detection with transformers", ECCV 2020: one matching serves all
heads. Needs N² of both losses. No seam in space, but slots carry no meaning.
"""

from __future__ import annotations

from torch import Tensor

from msdet.objectives.assignment import Costs, Labels
from msdet.objectives.assignment.pit import cheapest


def assign(labels: Labels, costs: Costs) -> Tensor:
    """Index of the reference of each slot, ``(batch, slot)``, with the smallest total joint loss."""
    return cheapest(costs.joint())
