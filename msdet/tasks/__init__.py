"""Tasks of a joint model: head, target, loss and metric.

An auxiliary task is a class that registers itself, ``@TASKS.register("activity")``, with

- ``Head``, a class attribute: a `torch.nn.Module` built as ``Head(sizes, **options)`` from `HeadSizes` and
  the options of ``model.tasks``. Its ``forward(features, front_end)`` makes the prediction, a tensor, from
  the features that the DoA head sees, ``(batch, freq, frame, feature)``;
- ``loss(prediction, truth) -> LabeledLoss``: the loss of each example or slot against `BatchLabels`, which
  is in the order of slots, and which of them are labeled;
- ``scores(prediction, truth) -> dict[str, Tensor]``: what validation shows, each of any shape, NaN where it
  is not defined; names end in their unit.

It may say ``NEEDS``, the kind of label that it learns from: ``references``, ``directions`` or ``distances``.
Training data without a single one are then refused.

``Task`` is built without arguments; where it has some, a subclass in a file of your own sets them. ``separation`` and
``doa`` are always there and take the losses that the objective names; the others are switched on by ``model.tasks`` and
weighted by ``objective.task_weights``. Your own task works by its import path, ``module:Task``.
"""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from msdet.tasks.labels import BatchLabels, LabeledLoss

MAIN = ("separation", "doa")
"""Tasks that every model has."""


class TaskLike(Protocol):
    """What every task offers."""

    def loss(self, prediction: Any, truth: BatchLabels) -> LabeledLoss:
        """Loss of each example or slot."""

    def scores(self, prediction: Any, truth: BatchLabels) -> dict[str, Tensor]:
        """What validation shows."""
