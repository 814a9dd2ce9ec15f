"""The joint objective: assign references to slots, ask each task for its loss, balance the losses."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from msdet.data.example import Example
from msdet.dsp.spatial import decode_azimuth
from msdet.errors import MsdetError, UnknownNameError
from msdet.losses.assignment import PairCosts, TalkerLabels, assignment_rule
from msdet.losses.doa import doa_loss
from msdet.losses.gradients import Balanced, balanced_backward
from msdet.losses.separation import is_signed, separation_loss
from msdet.losses.weighting import BALANCERS, GradientBalancer, LossNormalization, penalty
from msdet.models.config import ModelConfig
from msdet.models.heads import TASKS
from msdet.models.joint import JointModel
from msdet.models.sharing import SHARING_SCHEMES
from msdet.tasks import MAIN, DoaTask, SeparationTask, TaskLike
from msdet.tasks.labels import BatchLabels, located
from msdet.training.config import ObjectiveConfig

AUXILIARY_WEIGHT = 0.1
"""Weight of an auxiliary task that `ObjectiveConfig.task_weights` does not name."""


BY_AZIMUTH = ("azimuth", "folded", "doa_anchored")
"""Assignments that ask for no separation where all azimuths are known."""


class ObjectiveTerms(NamedTuple):
    """Losses of a batch, whose gradients `backward` sets."""

    objective: Objective
    balanced: Tensor
    """The scalar that the objective's balancer makes of the tasks' losses."""
    losses: dict[str, Tensor]
    """Of each task, over what is labeled; zero where nothing is."""
    assignment: Tensor
    """The reference ``(batch, slot)`` that each slot answers for."""
    scaled: dict[str, Tensor]
    """The losses as they are balanced, on a common scale if that is asked for; zero where nothing is labeled."""
    labeled: dict[str, int]
    """Number of losses, of examples or slots, that each task's is the mean of."""
    finite: bool
    """Whether all losses are."""

    @property
    def total(self) -> Tensor:
        """The scalar to minimize; its backward pass is refused where that is not all of a step, as `backward` is."""
        total: Tensor = _OfBackward.apply(self.balanced, self.objective.beyond_total)  # type: ignore[no-untyped-call]
        return total

    def backward(self, model: JointModel) -> Tensor:
        """Add a step's gradients to ``grad`` of all parameters that learn; gives the total with penalties to log."""
        penalties = list(self.objective.penalties(model).values())
        total = sum(penalties, self.balanced)
        balancer = self.objective.balancer
        if isinstance(balancer, GradientBalancer):
            balanced_backward(balancer, Balanced(total, self.scaled, penalties), total, list(model.parameters()))
        else:
            total.backward()
        return total.detach()


class _OfBackward(torch.autograd.Function):
    """The same scalar; its backward pass raises if there is a reason to."""

    @staticmethod
    def forward(ctx: Any, scalar: Tensor, reason: str | None) -> Tensor:
        ctx.reason = reason
        return scalar.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        if ctx.reason:
            raise MsdetError(f"total.backward(): {ctx.reason}; call terms.backward(model) instead")
        return gradients[0], None


class Objective(nn.Module):
    """Losses of all tasks of a model, each the mean over what is labeled, under an assignment, balanced."""

    def __init__(self, config: ObjectiveConfig, model: ModelConfig = ModelConfig()) -> None:  # noqa: B008
        super().__init__()
        self.weights = task_weights(config, model)
        self.doa_weight = config.doa_weight
        self.by_separation = config.assignment not in BY_AZIMUTH
        self.rule = assignment_rule(config.assignment, config.assignment_options)
        criterion = separation_loss(config.separation_loss, config.separation_options)
        self.separation = SeparationTask(criterion, config.consistency)
        self.doa = DoaTask(doa_loss(config.doa_loss, config.doa_options), model.doa_classes)
        self.tasks: dict[str, TaskLike] = {"separation": self.separation, "doa": self.doa}
        self.tasks |= {name: TASKS.find(name)() for name in model.tasks}
        self.normalization = LossNormalization(config.normalize, list(self.weights))
        self.balancer = BALANCERS.build(config.balance, config.balance_options, weights=self.weights)
        _check_sign(config, getattr(self.balancer, "POSITIVE", False))
        if config.log_cosine_every < 0:
            raise MsdetError(f"objective.log_cosine_every is {config.log_cosine_every}, expected 0 or more")
        self.regularization = config.regularization
        self.beyond_total: str | None = None
        if isinstance(self.balancer, GradientBalancer):
            self.beyond_total = f"objective.balance '{config.balance}' sets gradients of its own"
        elif config.regularization or SHARING_SCHEMES.fact(model.sharing, "penalizes", False):
            self.beyond_total = "the total has no penalties on the model's parameters"
        self.log_cosine_every = config.log_cosine_every

    def forward(self, predictions: dict[str, Any], truth: BatchLabels) -> ObjectiveTerms:
        """Cost of a batch, of predictions as `JointOutput` has them and labels in any order of talkers."""
        assignment = self.assign(predictions, truth)
        wanted = truth.in_slots(assignment)
        tasks = {name: task for name, task in self.tasks.items() if name in predictions}
        of_slots = {name: task.loss(predictions[name], wanted) for name, task in tasks.items()}
        losses = {name: each.mean() for name, each in of_slots.items()}
        numbers = [each.known.sum() for each in of_slots.values()]
        *counts, finite = torch.stack([*numbers, torch.stack([*losses.values()]).isfinite().all()]).tolist()
        labeled = dict(zip(of_slots, counts, strict=True))
        known = {name: loss for name, loss in losses.items() if labeled[name]}
        scaled = self.normalization(known)
        blank = [losses[name] for name in losses if name not in known]  # zero, but their heads are reached
        balanced: Tensor = sum(blank, self.balancer(scaled))
        if torch.distributed.is_initialized():  # which waits for the gradient of every parameter
            balanced = sum((0.0 * p.sum() for p in self.balancer.parameters()), balanced)
        return ObjectiveTerms(self, balanced, losses, assignment, losses | scaled, labeled, bool(finite))

    def may_skip_separation(self, batch: Example) -> bool:
        """Whether nothing is learned from separation, nor assigned by it, in a batch; several processes never skip."""
        if torch.distributed.is_initialized() or self.doa_weight < 1.0 or self.by_separation:
            return False  # several processes would wait for gradients
        return batch.get("complete") or bool((batch["azimuth_deg"].isfinite() | ~batch["active"]).all())

    def penalties(self, model: JointModel) -> dict[str, Tensor]:
        """What a model's parameters cost besides the tasks: of its sharing scheme, and of `regularization`."""
        parts = {"penalty": model.penalty(), "regularization": penalty(self.regularization, model)}
        return {name: part for name, part in parts.items() if part is not None}

    def start_epoch(self, epoch: int) -> None:
        """Tell a balancer that wants to know that an epoch of training starts."""
        if hasattr(self.balancer, "start_epoch"):
            self.balancer.start_epoch(epoch)

    def balance_weights(self) -> dict[str, Tensor]:
        """What each task's loss is multiplied with at present, of a balancer that changes it."""
        present = getattr(self.balancer, "task_weights", None)
        return {} if present is None else dict(zip(self.weights, present(), strict=True))

    @torch.no_grad()  # a choice has no gradient, and the losses of all pairs need not be kept
    def assign(self, predictions: dict[str, Any], truth: BatchLabels) -> Tensor:
        """The reference ``(batch, slot)`` of each slot; a scene without references takes DoA costs, and vice versa."""

        def separation() -> Tensor:
            pairs = self.separation.pairs(predictions["separation"], truth)
            all_known = truth.complete or truth.referenced.all()
            return pairs if all_known else torch.where(referenced, pairs, doa_pairs())

        def doa() -> Tensor:
            if truth.complete or known.all():
                return doa_pairs()
            pairs = self.separation.pairs(predictions["separation"], truth)
            return torch.where(known, doa_pairs(), torch.where(referenced, pairs, 0.0))

        def doa_pairs() -> Tensor:
            return self.doa.pairs(predictions["doa"], truth)

        def azimuth_deg() -> Tensor:
            return decode_azimuth(predictions["doa"][..., : self.doa.classes])[0]

        referenced, known = truth.referenced[:, None, None], located(truth)[:, None, None]
        costs = PairCosts(separation, doa, self.doa_weight, azimuth_deg)
        labels = TalkerLabels(truth.azimuth_deg, truth.distance_m, truth.active, truth.complete)
        return self.rule(labels, costs)


def _check_sign(config: ObjectiveConfig, positive: bool) -> None:
    """Refuse losses that can be below zero where ratios or logarithms of losses are taken."""
    needs = "normalize 'log'" if config.normalize == "log" else f"balance '{config.balance}'"
    if (positive or config.normalize == "log") and is_signed(config.separation_loss):
        signed = f"those of separation_loss '{config.separation_loss}' can be below"
        raise MsdetError(f"objective.{needs} needs losses above zero; {signed}")
    if positive and config.normalize == "log":
        raise MsdetError(f"objective.balance '{config.balance}' needs losses above zero; normalize 'log' can be below")


def task_weights(config: ObjectiveConfig, model: ModelConfig) -> dict[str, float]:
    """Weight of each task of a model; an error for one outside its range, or of a task that the model does not have."""
    if not 0.0 <= config.doa_weight <= 1.0:
        raise MsdetError(f"doa_weight is {config.doa_weight}, expected 0 to 1")
    for name, weight in config.task_weights.items():
        if name not in model.tasks:
            expected = list(model.tasks) or ["(model.tasks names none)"]
            raise UnknownNameError("task in task_weights:", name, expected)
        if not 0.0 <= weight < float("inf"):
            raise MsdetError(f"task_weights.{name} is {weight}, expected 0 or more")
    if not 0.0 <= config.consistency < float("inf"):
        raise MsdetError(f"consistency is {config.consistency}, expected 0 or more")
    main = dict(zip(MAIN, (1.0 - config.doa_weight, config.doa_weight), strict=True))
    return main | {name: config.task_weights.get(name, AUXILIARY_WEIGHT) for name in model.tasks}
