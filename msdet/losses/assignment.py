"""Assignment of references to output slots, one rule a file.

A module defines ``assign(labels: Labels, costs: Costs, **options) -> Tensor``: ``(batch, slot)``, the index
of the reference each slot answers for. No ordering of talkers around a circle is continuous everywhere (two
unordered points on a circle form a Möbius band); each rule states its seam.

Slots that nobody fills come last in every ordering. A scene without the labels that a rule orders by takes
the cheapest permutation of what is labeled (`in_order`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from msdet.components import Registry, with_options
from msdet.errors import MsdetError

ASSIGNMENTS = Registry("assignment", __name__)


class TalkerLabels(NamedTuple):
    """Where the talkers are.

    Attributes:
        azimuth_deg: ``(batch, talker)``; NaN where it is not known, or nobody is there.
        distance_m: ``(batch, talker)``, likewise.
        active: bool ``(batch, talker)``, whether there is a talker; None where all are.
    """

    azimuth_deg: Tensor
    distance_m: Tensor
    active: Tensor | None = None


class PairCosts(NamedTuple):
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


class AssignmentRule(Protocol):
    """What an assignment rule is."""

    def __call__(self, labels: TalkerLabels, costs: PairCosts) -> Tensor:
        """Index of the reference of each slot, ``(batch, slot)``."""
        ...


def assignment_rule(name: str, options: dict[str, Any] | None = None) -> AssignmentRule:
    """A rule by name or import path ``module:function``, with its options.

    Raises:
        UnknownNameError: no such rule; the nearest name is offered.
        MsdetError: an option that the rule does not have, or a value that it cannot work with.
    """
    rule = ASSIGNMENTS.find(name)
    chosen: AssignmentRule = with_options(rule, options or {}, f"assignment '{name}'", 2, _try_assignment)
    return chosen


def _try_assignment(rule: AssignmentRule) -> None:
    """Assign two talkers."""
    azimuth_deg = torch.tensor([[200.0, 10.0]])
    pairs = torch.tensor([[[2.0, 1.0], [1.0, 3.0]]])
    labels = TalkerLabels(azimuth_deg, torch.tensor([[1.0, 2.0]]), torch.ones(1, 2, dtype=torch.bool))
    rule(labels, PairCosts(lambda: pairs, lambda: pairs, 0.5, lambda: azimuth_deg))


def in_order(keys: Tensor, labels: TalkerLabels, costs: PairCosts) -> Tensor:
    """Slots ascending in `keys` ``(batch, talker)``: index of the reference of each slot, ``(batch, slot)``.

    Equal keys keep the order of the references; nobody comes last. A scene in which the key of a talker is
    not known (NaN) takes the cheapest permutation of the joint loss.
    """
    active = torch.ones_like(keys, dtype=torch.bool) if labels.active is None else labels.active
    order = torch.where(active, keys, torch.inf).argsort(dim=-1, stable=True)
    unknown = (active & keys.isnan()).any(-1)
    if not unknown.any():
        return order
    from msdet.losses.assignment import cheapest_permutation

    return torch.where(unknown[:, None], cheapest_permutation(costs.joint()), order)


# --- Permutation invariant training (Kolbæk et al., 2017) by asteroid's `PITLossWrapper`.
# Needs the loss of all pairs, N² of them. No seam in space, but slots carry no meaning.


@ASSIGNMENTS.register("pit")
def pit_assignment(labels: TalkerLabels, costs: PairCosts) -> Tensor:
    """Index of the reference of each slot, ``(batch, slot)``, with the smallest total separation loss."""
    return cheapest_permutation(costs.separation())


def cheapest_permutation(pairwise: Tensor) -> Tensor:
    """The assignment ``(batch, slot)`` with the smallest sum of costs ``(batch, slot, talker)``."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of asteroid and its own dependencies
        from asteroid.losses import PITLossWrapper

        # asteroid gives the estimate of each target
        best: Tensor = PITLossWrapper.find_best_perm(pairwise.detach())[1]
    return best.argsort(dim=-1)


# --- Location-based training by azimuth (Taherian, Tan and Wang, 2022): slots ascend in [0, 360) degrees.
# Seam: two talkers on either side of 0 degrees swap slots when one crosses it. Equal azimuths keep the order
# of the references.


@ASSIGNMENTS.register("azimuth")
def azimuth_assignment(labels: TalkerLabels, costs: PairCosts) -> Tensor:
    """Index of the reference of each slot, ``(batch, slot)``."""
    return in_order(labels.azimuth_deg.remainder(360.0), labels, costs)


# --- Location-based training by distance (Taherian, Tan and Wang, 2022): slots ascend in distance.
# Seam: two talkers equally far away. Equal distances keep the order of the references.


@ASSIGNMENTS.register("distance")
def distance_assignment(labels: TalkerLabels, costs: PairCosts) -> Tensor:
    """Index of the reference of each slot, ``(batch, slot)``."""
    return in_order(labels.distance_m, labels, costs)


# --- By azimuth, but by distance among talkers whose azimuths are close.
# Talkers form groups: going around the circle, neighbors closer than the threshold share one. Groups ascend
# in azimuth, talkers within a group in distance. A group across 0 degrees is the first.
#
# Seam: two talkers on either side of 0 degrees and farther apart than the threshold, a gap that crosses the
# threshold, and equal distances within a group.


@ASSIGNMENTS.register("azimuth_or_distance")
def azimuth_or_distance_assignment(
    labels: TalkerLabels, costs: PairCosts, threshold_deg: float = 10.0
) -> Tensor:
    """Index of the reference of each slot, ``(batch, slot)``.

    Args:
        labels: where the talkers are.
        costs: asked for where labels are not known.
        threshold_deg: neighbors closer than this are told apart by distance.

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


# --- Folded azimuth: slots ascend in the angle to an axis, |wrap(azimuth - axis)| in [0, 180] degrees.
# After arXiv:2609.12629: going around the circle never jumps, so there is no seam at 0 degrees. Seam: talkers
# that mirror each other about the axis, whose angles to it are equal. Two models with axes 90 degrees apart
# are each good where the other has its seam; that doubles the budget of training and of inference.


@ASSIGNMENTS.register("folded")
def folded_assignment(labels: TalkerLabels, costs: PairCosts, axis_deg: float = 0.0) -> Tensor:
    """Index of the reference of each slot, ``(batch, slot)``.

    Args:
        labels: where the talkers are.
        costs: asked for where azimuths are not known.
        axis_deg: azimuth that angles are measured from, on both sides.
    """
    wrapped = (labels.azimuth_deg - axis_deg).remainder(360.0)
    return in_order(wrapped.minimum(360.0 - wrapped), labels, costs)


# --- Permutation invariant training on the joint cost, separation and DoA, as set prediction does.
# After Carion et al., "End-to-end object detection with transformers", ECCV 2020: one matching serves all
# heads. Needs N² of both losses. No seam in space, but slots carry no meaning.


@ASSIGNMENTS.register("pit_joint")
def joint_pit_assignment(labels: TalkerLabels, costs: PairCosts) -> Tensor:
    """Index of the reference of each slot, ``(batch, slot)``, with the smallest total joint loss."""
    return cheapest_permutation(costs.joint())


# --- Slots are anchored by the model's own DoA: each answers for the talker at the direction it points to.
# The permutation with the smallest sum of azimuth errors, so neither a separation loss of any pair nor an
# ordering of the circle is needed. Seam: none in space; early in training the estimates decide little. A slot
# answers for nobody if the others' directions fit better; a scene of unknown azimuths takes the cheapest
# permutation of the joint loss.


@ASSIGNMENTS.register("doa_anchored")
def doa_anchored_assignment(labels: TalkerLabels, costs: PairCosts) -> Tensor:
    """Index of the reference of each slot, ``(batch, slot)``, with the smallest total azimuth error."""
    estimated = costs.azimuth_deg().detach()
    difference = (estimated[:, :, None] - labels.azimuth_deg[:, None]).remainder(360.0)
    anchored = cheapest_permutation(difference.minimum(360.0 - difference).nan_to_num(0.0))
    unknown = labels.azimuth_deg.isnan()
    if labels.active is not None:
        unknown = unknown & labels.active
    if not unknown.any():
        return anchored
    return torch.where(unknown.any(-1, keepdim=True), cheapest_permutation(costs.joint()), anchored)
