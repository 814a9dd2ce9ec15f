"""Target distributions over azimuth classes."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from msdet.errors import MsdetError, UnknownNameError

SHAPES = ("von_mises", "gaussian")


def nearest_class(azimuth_deg: Tensor, classes: int) -> Tensor:
    """Class ``(...)`` nearest to each azimuth."""
    return (azimuth_deg * (classes / 360.0)).round().long() % classes


def soft_target(
    azimuth_deg: Tensor, classes: int, width_deg: float, shape: Literal["von_mises", "gaussian"] = "von_mises"
) -> Tensor:
    """A distribution ``(..., class)`` around each azimuth, which may lie between classes.

    Args:
        azimuth_deg: ``(...)``.
        classes: over the full circle.
        width_deg: standard deviation of the Gaussian; the von Mises has concentration 1 / width².
        shape: ``von_mises``, or ``gaussian`` of the angle around the circle.

    Raises:
        MsdetError: a width that is not above zero, or an unknown shape.
    """
    if not 0.0 < width_deg < math.inf:
        raise MsdetError(f"objective.doa_options.width_deg is {width_deg}, expected more than 0")
    if shape not in SHAPES:
        raise UnknownNameError("objective.doa_options.shape", shape, SHAPES)
    grid_deg = torch.arange(classes, device=azimuth_deg.device) * (360.0 / classes)
    offset = torch.deg2rad((grid_deg - azimuth_deg[..., None] + 180.0).remainder(360.0) - 180.0)
    width = math.radians(width_deg)
    # 1 - cos as a square, which keeps the precision of small angles
    exponent = -2.0 * (offset / 2).sin().square() if shape == "von_mises" else -offset.square() / 2
    return (exponent / width**2).softmax(-1)
