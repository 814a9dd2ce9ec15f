"""By azimuth, but by distance among talkers whose azimuths are close.

Talkers form groups: going around the circle, neighbours closer than the threshold share one. Groups ascend in
azimuth, talkers within a group in distance. A group across 0 degrees is the first.

Seam: two talkers on either side of 0 degrees and farther apart than the threshold, a gap that crosses the
threshold, and equal distances within a group.
"""

from __future__ import annotations

import torch
from torch import Tensor

from msdet.errors import MsdetError
from msdet.objectives.assignment import Costs, Labels, in_order


def assign(labels: Labels, costs: Costs, threshold_deg: float = 10.0) -> Tensor:
    """Index of the reference of each slot, ``(batch, slot)``.

    Args:
        labels: where the talkers are.
        costs: asked for where labels are not known.
        threshold_deg: neighbours closer than this are told apart by distance.

    Raises:
        MsdetError: a threshold outside 0 to 360.
    """
    if not 0.0 <= threshold_deg <= 360.0:
        raise MsdetError(f"threshold_deg is {threshold_deg}, expected 0 to 360")
    azimuth = labels.azimuth_deg.remainder(360.0)
    unknown = azimuth.isnan() | labels.distance_m.isnan()
    placed = torch.where(azimuth.isnan(), torch.inf, azimuth)  # nobody is a group of its own, the last
    around = placed.argsort(dim=-1, stable=True)
    ascending = placed.gather(-1, around)
    apart = ~(ascending.diff(dim=-1) < threshold_deg)
    group = torch.nn.functional.pad(apart.long().cumsum(-1), (1, 0))
    somebody = ascending.isfinite()
    last = torch.where(somebody, group, -1).amax(-1, keepdim=True)
    farthest = torch.where(somebody, ascending, -torch.inf).amax(-1, keepdim=True)
    across_zero = ascending[..., :1] + 360.0 - farthest < threshold_deg
    group = torch.where(across_zero & (group == last), 0, group)
    by_distance = labels.distance_m.gather(-1, around).argsort(dim=-1, stable=True)
    order = by_distance.gather(-1, group.gather(-1, by_distance).argsort(dim=-1, stable=True))
    rank = around.gather(-1, order).argsort(dim=-1).to(azimuth.dtype)
    return in_order(torch.where(unknown, torch.nan, rank), labels, costs)
