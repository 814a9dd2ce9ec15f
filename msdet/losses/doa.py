"""Losses of DoA: functions of logits ``(..., class)``, azimuths ``(...)`` and options to a loss ``(...)``.

Class k of the full circle is at k · 360° / classes. A bad value of an option is an `MsdetError`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from msdet.components import Registry
from msdet.conventions import wrap_signed_deg
from msdet.errors import MsdetError, UnknownNameError

DOA_LOSSES = Registry("DoA loss", __name__)

Shape = Literal["von_mises", "gaussian"]

DoaLoss = Callable[[Tensor, Tensor], Tensor]
"""A loss with its options, of logits and azimuths."""


def doa_loss(name: str, options: dict[str, Any] | None = None) -> DoaLoss:
    """A loss by name or import path ``module:function``, with its options."""
    example = torch.linspace(-1.0, 1.0, 144).reshape(1, 2, 72), torch.tensor([[10.0, 200.0]])
    return DOA_LOSSES.with_options(name, options or {}, example)


def nearest_class(azimuth_deg: Tensor, classes: int) -> Tensor:
    """Class ``(...)`` nearest to each azimuth."""
    return (azimuth_deg * (classes / 360.0)).round().long() % classes


def soft_target(azimuth_deg: Tensor, classes: int, width_deg: float, shape: Shape = "von_mises") -> Tensor:
    """A distribution ``(..., class)`` around each azimuth ``(...)``, which may lie between classes.

    The width is the standard deviation of the Gaussian around the circle; the von Mises has concentration 1 / width².
    """
    if not 0.0 < width_deg < math.inf:
        raise MsdetError(f"objective.doa_options.width_deg is {width_deg}, expected more than 0")
    if shape not in get_args(Shape):
        raise UnknownNameError("objective.doa_options.shape", shape, get_args(Shape))
    grid_deg = torch.arange(classes, device=azimuth_deg.device) * (360.0 / classes)
    offset = torch.deg2rad(wrap_signed_deg(grid_deg - azimuth_deg[..., None]))
    width = math.radians(width_deg)
    # 1 - cos as a square, which keeps the precision of small angles
    exponent = -2.0 * (offset / 2).sin().square() if shape == "von_mises" else -offset.square() / 2
    return (exponent / width**2).softmax(-1)


@DOA_LOSSES.register("cross_entropy")
def cross_entropy_loss(logits: Tensor, azimuth_deg: Tensor) -> Tensor:
    """Cross-entropy ``(...)`` of logits ``(..., class)`` against the nearest classes of azimuths."""
    return class_loss(logits, nearest_class(azimuth_deg, logits.shape[-1]))


def class_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy ``(...)`` of logits ``(..., class)`` against classes ``(...)``."""
    return -logits.float().log_softmax(-1).gather(-1, target[..., None])[..., 0]


@DOA_LOSSES.register("smoothed")
def smoothed_cross_entropy_loss(logits: Tensor, azimuth_deg: Tensor, smoothing: float = 0.1) -> Tensor:
    """Cross-entropy with label smoothing (Szegedy et al., "Rethinking the Inception architecture", 2016).

    `smoothing` is the probability that the target spreads over all classes alike; the rest is the nearest's.
    """
    if not 0.0 <= smoothing < 1.0:
        raise MsdetError(f"objective.doa_options.smoothing is {smoothing}, expected 0 or more and below 1")
    logarithm = logits.float().log_softmax(-1)
    nearest = logarithm.gather(-1, nearest_class(azimuth_deg, logits.shape[-1])[..., None])[..., 0]
    return -(1.0 - smoothing) * nearest - smoothing * logarithm.mean(-1)


@DOA_LOSSES.register("soft")
def soft_cross_entropy_loss(
    logits: Tensor, azimuth_deg: Tensor, width_deg: float = 5.0, shape: Shape = "von_mises"
) -> Tensor:
    """Cross-entropy ``(...)`` against a circular distribution around the azimuth (`soft_target`).

    Classes near the true one are less wrong than others (He, Motlicek and Odobez, ICRA 2018, use a Gaussian), and an
    azimuth between two classes keeps its place. The least possible value is the target's entropy.
    """
    target = soft_target(azimuth_deg, logits.shape[-1], width_deg, shape)
    return -(target * logits.float().log_softmax(-1)).sum(-1)


@DOA_LOSSES.register("earth_mover")
def earth_mover_loss(logits: Tensor, azimuth_deg: Tensor, width_deg: float = 0.0, squared: bool = False) -> Tensor:
    """How far probability has to travel around the circle, in radians ``(...)``: a near miss costs less.

    The target is a von Mises of a width; with 0 the nearest class alone. `squared` sums squares instead, with the mean
    taken off (after Hou, Yu and Samaras, "Squared earth mover's distance-based loss", 2016), which is smooth.
    """
    classes = logits.shape[-1]
    if width_deg:
        target = soft_target(azimuth_deg, classes, width_deg)
    else:
        target = torch.nn.functional.one_hot(nearest_class(azimuth_deg, classes), classes).float()
    return circular_distance(logits.float().softmax(-1), target, squared)


def circular_distance(first: Tensor, second: Tensor, squared: bool = False) -> Tensor:
    """Earth mover's distance ``(...)`` in radians of distributions ``(..., class)`` on a circle.

    That of a line, the sum of |differences of the cumulative distributions|, least over where the circle is cut: their
    median is taken off (Rabin, Delon and Gousseau, "Transportation distances on the circle", 2011).
    """
    classes = first.shape[-1]
    with torch.autocast(first.device.type, enabled=False):  # a `cumsum` that is repeatable on GPUs
        surplus = (first - second) @ first.new_ones(classes, classes).triu()
    step = 2.0 * math.pi / classes
    if squared:
        return step * (surplus - surplus.mean(-1, keepdim=True)).square().sum(-1)
    with torch.no_grad():  # half lie above and half below, so the cut has no gradient of its own
        cut = surplus.quantile(0.5, dim=-1, keepdim=True)
    return step * (surplus - cut).abs().sum(-1)
