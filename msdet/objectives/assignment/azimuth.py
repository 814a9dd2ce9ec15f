"""Location-based training by azimuth (Taherian, Tan and Wang, 2022): slots ascend in [0, 360) degrees.

Seam: two talkers on either side of 0 degrees swap slots when one crosses it. Equal azimuths keep the order of
the references.
"""

from torch import Tensor

from msdet.objectives.assignment import Costs, Labels, in_order


def assign(labels: Labels, costs: Costs) -> Tensor:
    """Index of the reference of each slot, ``(batch, slot)``."""
    return in_order(labels.azimuth_deg.remainder(360.0), labels, costs)
