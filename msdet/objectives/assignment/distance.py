"""Location-based training by distance (Taherian, Tan and Wang, 2022): slots ascend in distance.

Seam: two talkers equally far away. Equal distances keep the order of the references.
"""

from torch import Tensor

from msdet.objectives.assignment import Costs, Labels, in_order


def assign(labels: Labels, costs: Costs) -> Tensor:
    """Index of the reference of each slot, ``(batch, slot)``."""
    return in_order(labels.distance_m, labels, costs)
