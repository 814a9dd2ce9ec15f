"""Circular earth mover's distance between the posterior and the target, in radians.

How far probability has to travel around the circle, so that a near miss costs less than a far one. On a
circle the cost is that of the line, the sum of |differences of the cumulative distributions|, least over the
point where the circle is cut: their median is taken off (Werman, Peleg and Rosenfeld, 1985; Rabin, Delon and
Gousseau, "Transportation distances on the circle", 2011).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from msdet.objectives.doa._targets import nearest_class, soft_target


def loss(logits: Tensor, azimuth_deg: Tensor, width_deg: float = 0.0, squared: bool = False) -> Tensor:
    """Loss ``(...)`` of logits ``(..., class)`` against azimuths ``(...)``; a class is 2π / classes wide.

    Args:
        logits: of azimuth classes.
        azimuth_deg: where the talker is.
        width_deg: of a von Mises target; 0 for the nearest class alone.
        squared: sum the squares instead, with the mean taken off (after Hou, Yu and Samaras, "Squared earth
            mover's distance-based loss", 2016), which is smooth.

    Raises:
        MsdetError: a width below zero.
    """
    classes = logits.shape[-1]
    if width_deg:
        target = soft_target(azimuth_deg, classes, width_deg)
    else:
        target = torch.nn.functional.one_hot(nearest_class(azimuth_deg, classes), classes).float()
    return circular_distance(logits.float().softmax(-1), target, squared)


def circular_distance(first: Tensor, second: Tensor, squared: bool = False) -> Tensor:
    """Earth mover's distance ``(...)`` in radians of distributions ``(..., class)`` on a circle."""
    surplus = (first - second).cumsum(-1)
    step = 2.0 * math.pi / first.shape[-1]
    if squared:
        return step * (surplus - surplus.mean(-1, keepdim=True)).square().sum(-1)
    with torch.no_grad():  # half lie above and half below, so the cut has no gradient of its own
        cut = surplus.quantile(0.5, dim=-1, keepdim=True)
    return step * (surplus - cut).abs().sum(-1)
