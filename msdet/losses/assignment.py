"""Which reference each output slot answers for.

A rule is a function of `TalkerLabels`, `PairCosts` and options that returns the index of the reference of each slot,
``(batch, slot)``. No ordering of talkers around a circle is continuous everywhere (two unordered points on a circle
form a Möbius band); each rule states where its ordering jumps. Slots without a talker come last in every ordering, and
equal keys keep the order of the references. A scene without the labels takes the cheapest permutation (`in_order`).
"""

from __future__ import annotations

import functools
import itertools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from msdet.components import Registry
from msdet.errors import MsdetError

ASSIGNMENTS = Registry("assignment", __name__)

FEW = 4
"""Of so many slots all permutations are tried; of more, asteroid asks the Hungarian algorithm, on the host."""


class TalkerLabels(NamedTuple):
    """Where the talkers are, ``(batch, talker)``; NaN where it is not known, or there is no talker."""

    azimuth_deg: Tensor
    distance_m: Tensor
    active: Tensor | None = None
    """Bool, whether there is a talker; None where all are."""
    complete: bool = False
    """Whether it is known on the host that nothing is NaN: then nobody asks the device."""


class PairCosts(NamedTuple):
    """What each slot costs against each reference, ``(batch, slot, talker)``, computed only if a rule asks."""

    separation: Callable[[], Tensor]
    doa: Callable[[], Tensor]
    doa_weight: float
    """λ of the joint loss."""
    azimuth_deg: Callable[[], Tensor]
    """The model's own estimates ``(batch, slot)``."""

    def joint(self) -> Tensor:
        """Weighted average ``(batch, slot, talker)`` of both losses."""
        return (1.0 - self.doa_weight) * self.separation() + self.doa_weight * self.doa()


AssignmentRule = Callable[[TalkerLabels, PairCosts], Tensor]
"""A rule with its options."""


def assignment_rule(name: str, options: dict[str, Any] | None = None) -> AssignmentRule:
    """A rule by name or import path ``module:function``, with its options."""
    azimuth_deg, pairs = torch.tensor([[200.0, 10.0]]), torch.tensor([[[2.0, 1.0], [1.0, 3.0]]])
    labels = TalkerLabels(azimuth_deg, torch.tensor([[1.0, 2.0]]), torch.ones(1, 2, dtype=torch.bool))
    costs = PairCosts(lambda: pairs, lambda: pairs, 0.5, lambda: azimuth_deg)
    return ASSIGNMENTS.with_options(name, options or {}, (labels, costs))


class PITLoss(nn.Module):
    """Permutation invariant training with any loss of pairs (M. Kolbæk et al., IEEE/ACM TASLP 25, 2017).

    The loss is one of an estimate and a reference whose leading axes ``(batch, slot)`` broadcast, as `si_sdr_loss`.
    """

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, estimate: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss under the cheapest permutations, and these: the reference ``(batch, slot)`` of each slot."""
        with torch.no_grad():  # a choice has no gradient, and the losses of all pairs need not be kept
            permutation = cheapest_permutation(self.loss(estimate[:, :, None], reference[:, None]))
        rows = torch.arange(len(permutation), device=permutation.device)[:, None]
        return self.loss(estimate, reference[rows, permutation]).mean(), permutation


def cheapest_permutation(pairwise: Tensor) -> Tensor:
    """The assignment ``(batch, slot)`` with the smallest sum of costs ``(batch, slot, talker)``."""
    slots = pairwise.shape[-1]
    if slots <= FEW:
        orders = _permutations(slots, pairwise.device)
        sums = pairwise.detach()[:, torch.arange(slots, device=pairwise.device), orders].sum(-1)
        return orders[sums.argmin(-1)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of asteroid and its own dependencies
        from asteroid.losses import PITLossWrapper

        # asteroid gives the estimate of each target
        best: Tensor = PITLossWrapper.find_best_perm(pairwise.detach())[1]
    return best.argsort(dim=-1)


@functools.cache
def _permutations(slots: int, device: torch.device) -> Tensor:
    """All of them, ``(permutation, slot)``; kept, so that a device is not waited for."""
    return torch.tensor(list(itertools.permutations(range(slots))), device=device)


def in_order(keys: Tensor, labels: TalkerLabels, costs: PairCosts) -> Tensor:
    """Slots ascending in `keys` ``(batch, talker)``: index of the reference of each slot, ``(batch, slot)``.

    A scene in which the key of a talker is not known (NaN) takes the cheapest permutation of the joint loss.
    """
    active = torch.ones_like(keys, dtype=torch.bool) if labels.active is None else labels.active
    order = torch.where(active, keys, torch.inf).argsort(dim=-1, stable=True)
    unknown = (active & keys.isnan()).any(-1)
    if labels.complete or not unknown.any():
        return order
    return torch.where(unknown[:, None], cheapest_permutation(costs.joint()), order)


@ASSIGNMENTS.register("pit")
def pit_assignment(labels: TalkerLabels, costs: PairCosts) -> Tensor:
    """The smallest total separation loss: permutation invariant training (Kolbæk et al., 2017).

    Needs the loss of all N² pairs. Jumps nowhere in space, but slots carry no meaning.
    """
    return cheapest_permutation(costs.separation())


@ASSIGNMENTS.register("pit_joint")
def joint_pit_assignment(labels: TalkerLabels, costs: PairCosts) -> Tensor:
    """The smallest total of separation and DoA loss, so that one matching serves all heads.

    As in set prediction (N. Carion et al., ECCV 2020). Needs both losses of all N² pairs. Jumps nowhere, as `pit`.
    """
    return cheapest_permutation(costs.joint())


@ASSIGNMENTS.register("azimuth")
def azimuth_assignment(labels: TalkerLabels, costs: PairCosts) -> Tensor:
    """Slots ascend in azimuth, [0, 360): location-based training (Taherian, Tan and Wang, 2022).

    Jumps where one of two talkers on either side of 0 degrees crosses it.
    """
    return in_order(labels.azimuth_deg.remainder(360.0), labels, costs)


@ASSIGNMENTS.register("distance")
def distance_assignment(labels: TalkerLabels, costs: PairCosts) -> Tensor:
    """Slots ascend in distance: location-based training (Taherian, Tan and Wang, 2022).

    Jumps where two talkers are equally far away.
    """
    return in_order(labels.distance_m, labels, costs)


@ASSIGNMENTS.register("azimuth_or_distance")
def azimuth_or_distance_assignment(labels: TalkerLabels, costs: PairCosts, threshold_deg: float = 10.0) -> Tensor:
    """By azimuth, but by distance among talkers whose azimuths are close.

    Going around the circle, neighbors closer than the threshold form a group. Groups ascend in azimuth, talkers within
    a group in distance; a group across 0 degrees is the first. Jumps where one of two talkers farther apart than the
    threshold crosses 0 degrees, where a gap crosses the threshold, and at equal distances within a group.
    """
    if not 0.0 <= threshold_deg <= 360.0:
        raise MsdetError(f"threshold_deg is {threshold_deg}, expected 0 to 360")
    azimuth = labels.azimuth_deg.remainder(360.0)
    unknown = azimuth.isnan() | labels.distance_m.isnan()
    placed = torch.where(azimuth.isnan(), torch.inf, azimuth)  # an empty slot is a group of its own, the last
    around = placed.argsort(dim=-1, stable=True)
    ascending = placed.gather(-1, around)
    apart = ~(ascending.diff(dim=-1) < threshold_deg)
    group = torch.nn.functional.pad(apart.long().cumsum(-1), (1, 0))
    occupied = ascending.isfinite()
    last = torch.where(occupied, group, -1).amax(-1, keepdim=True)
    farthest = torch.where(occupied, ascending, -torch.inf).amax(-1, keepdim=True)
    across_zero = ascending[..., :1] + 360.0 - farthest < threshold_deg
    group = torch.where(across_zero & (group == last), 0, group)
    by_distance = labels.distance_m.gather(-1, around).argsort(dim=-1, stable=True)
    order = by_distance.gather(-1, group.gather(-1, by_distance).argsort(dim=-1, stable=True))
    rank = around.gather(-1, order).argsort(dim=-1).to(azimuth.dtype)
    return in_order(torch.where(unknown, torch.nan, rank), labels, costs)


@ASSIGNMENTS.register("folded")
def folded_assignment(labels: TalkerLabels, costs: PairCosts, axis_deg: float = 0.0) -> Tensor:
    """Slots ascend in the angle to an axis, |wrap(azimuth - axis)| in [0, 180] degrees (arXiv:2609.12629).

    Going around the circle never jumps; talkers that mirror each other about the axis swap slots. Two models
    with axes 90 degrees apart are each good where the other jumps, at twice the cost.
    """
    return in_order(_distance_deg(labels.azimuth_deg, axis_deg), labels, costs)


@ASSIGNMENTS.register("doa_anchored")
def doa_anchored_assignment(labels: TalkerLabels, costs: PairCosts) -> Tensor:
    """The smallest total azimuth error: each slot answers for the talker at the direction it points to.

    Needs no separation loss of a pair, and jumps nowhere in space; early in training the estimates decide little.
    """
    error = _distance_deg(costs.azimuth_deg().detach()[:, :, None], labels.azimuth_deg[:, None])
    anchored = cheapest_permutation(error.nan_to_num(0.0))
    unknown = labels.azimuth_deg.isnan() & (True if labels.active is None else labels.active)
    if labels.complete or not unknown.any():
        return anchored
    return torch.where(unknown.any(-1, keepdim=True), cheapest_permutation(costs.joint()), anchored)


def _distance_deg(azimuth_deg: Tensor, other_deg: Tensor | float) -> Tensor:
    """Angle between azimuths around the circle, 0 to 180."""
    difference = (azimuth_deg - other_deg).remainder(360.0)
    return difference.minimum(360.0 - difference)
