"""Folded azimuth: slots ascend in the angle to an axis, |wrap(azimuth - axis)| in [0, 180] degrees.

After arXiv:2609.12629: going around the circle never jumps, so there is no seam at 0 degrees. Seam: talkers
that mirror each other about the axis, whose angles to it are equal. Two models with axes 90 degrees apart are
each good where the other has its seam; that doubles the budget of training and of inference.
"""

from __future__ import annotations

from torch import Tensor

from msdet.objectives.assignment import Costs, Labels, in_order


def assign(labels: Labels, costs: Costs, axis_deg: float = 0.0) -> Tensor:
    """Index of the reference of each slot, ``(batch, slot)``.

    Args:
        labels: where the talkers are.
        costs: asked for where azimuths are not known.
        axis_deg: azimuth that angles are measured from, on both sides.
    """
    wrapped = (labels.azimuth_deg - axis_deg).remainder(360.0)
    return in_order(wrapped.minimum(360.0 - wrapped), labels, costs)
