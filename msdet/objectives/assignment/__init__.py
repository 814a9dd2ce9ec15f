"""Assignment of references to output slots, one rule a file.

A module defines ``assign(labels: Labels, costs: Costs, **options) -> Tensor``: ``(batch, slot)``, the index
of the reference each slot answers for. No ordering of talkers around a circle is continuous everywhere (two
unordered points on a circle form a Möbius band); each rule states its seam.

Slots that nobody fills come last in every ordering. A scene without the labels that a rule orders by takes
the cheapest permutation of what is labelled (`in_order`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from msdet.components import find_component, with_options


class Labels(NamedTuple):
    """Where the talkers are.

    Attributes:
        azimuth_deg: ``(batch, talker)``; NaN where it is not known, or nobody is there.
        distance_m: ``(batch, talker)``, likewise.
        active: bool ``(batch, talker)``, whether there is a talker; None where all are.
    """

    azimuth_deg: Tensor
    distance_m: Tensor
    active: Tensor | None = None


class Costs(NamedTuple):
    """What each slot costs against each reference, computed only if a rule asks.

    Attributes:
        separation: separation loss ``(batch, slot, talker)``.
        doa: DoA loss ``(batch, slot, talker)``.
        doa_weight: λ of the joint loss.
        azimuth_deg: the model's own estimates ``(batch, slot)``.
    """

    separation: Callable[[], Tensor]
    doa: Callable[[], Tensor]
    doa_weight: float
    azimuth_deg: Callable[[], Tensor]

    def joint(self) -> Tensor:
        """Weighted average ``(batch, slot, talker)`` of both losses."""
        return (1.0 - self.doa_weight) * self.separation() + self.doa_weight * self.doa()


class Assignment(Protocol):
    """What an assignment rule is."""

    def __call__(self, labels: Labels, costs: Costs) -> Tensor:
        """Index of the reference of each slot, ``(batch, slot)``."""
        ...


def assignment_rule(name: str, options: dict[str, Any] | None = None) -> Assignment:
    """A rule by name or import path ``module:function``, with its options.

    Raises:
        UnknownNameError: no such rule; the nearest name is offered.
        MsdetError: an option that the rule does not have, or a value that it cannot work with.
    """
    rule = find_component(__name__, name, "assign", "assignment")
    chosen: Assignment = with_options(rule, options or {}, f"assignment '{name}'", 2, _try)
    return chosen


def _try(rule: Assignment) -> None:
    """Assign two talkers."""
    azimuth_deg = torch.tensor([[200.0, 10.0]])
    pairs = torch.tensor([[[2.0, 1.0], [1.0, 3.0]]])
    labels = Labels(azimuth_deg, torch.tensor([[1.0, 2.0]]), torch.ones(1, 2, dtype=torch.bool))
    rule(labels, Costs(lambda: pairs, lambda: pairs, 0.5, lambda: azimuth_deg))


def in_order(keys: Tensor, labels: Labels, costs: Costs) -> Tensor:
    """Slots ascending in `keys` ``(batch, talker)``: index of the reference of each slot, ``(batch, slot)``.

    Equal keys keep the order of the references; nobody comes last. A scene in which the key of a talker is
    not known (NaN) takes the cheapest permutation of the joint loss.
    """
    active = torch.ones_like(keys, dtype=torch.bool) if labels.active is None else labels.active
    order = torch.where(active, keys, torch.inf).argsort(dim=-1, stable=True)
    unknown = (active & keys.isnan()).any(-1)
    if not unknown.any():
        return order
    from msdet.objectives.assignment.pit import cheapest

    return torch.where(unknown[:, None], cheapest(costs.joint()), order)
