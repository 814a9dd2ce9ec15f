"""Assignment of references to output slots, one rule a file.

A module defines ``assign(labels: Labels, pairwise: Pairwise) -> Tensor``: ``(batch, slot)``, the index of the
reference each slot answers for. No rule is continuous everywhere on the circle; each states its seam.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import Tensor

from msdet.components import find_component


class Labels(NamedTuple):
    """Where the talkers are: ``azimuth_deg`` and ``distance_m``, each ``(batch, talker)``."""

    azimuth_deg: Tensor
    distance_m: Tensor


Pairwise = Callable[[], Tensor]
"""Computes, only if called, the loss ``(batch, slot, talker)`` of every slot against every reference."""


class Assignment(Protocol):
    """What an assignment rule is."""

    def __call__(self, labels: Labels, pairwise: Pairwise) -> Tensor:
        """Index of the reference of each slot, ``(batch, slot)``."""
        ...


def assignment_rule(name: str) -> Assignment:
    """A rule by name or import path ``module:function``.

    Raises:
        UnknownNameError: no such rule; the nearest name is offered.
    """
    rule: Assignment = find_component(__name__, name, "assign", "assignment")
    return rule
