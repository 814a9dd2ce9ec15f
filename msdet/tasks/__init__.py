"""Tasks of a joint model, one file each: head, target, loss and metric.

A module defines a class ``Task`` with

- ``Head``, a class attribute: a `torch.nn.Module` built as ``Head(sizes, **options)`` from `HeadSizes` and
  the options of ``model.tasks``. Its ``forward(features, observation)`` makes the prediction, a tensor, from
  the features that the DoA head sees, ``(batch, freq, frame, feature)``;
- ``loss(prediction, truth) -> Labelled``: the loss of each example or slot against `Truth`, which is in the
  order of slots, and which of them are labelled;
- ``scores(prediction, truth) -> dict[str, Tensor]``: what validation shows, each of any shape, NaN where it
  is not defined; names end in their unit.

It may say ``NEEDS``, the kind of label that it learns from: ``references``, ``directions`` or ``distances``.
Training data without a single one are then refused.

``Task`` is built without arguments; where it has some, a subclass in a file of your own sets them.
``separation`` and ``doa`` are always there and take the losses that the objective names; the others are
switched on by ``model.tasks`` and weighted by ``objective.task_weights``. Your own task works by its import
path, ``module:Task``.
"""

from __future__ import annotations

import inspect
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from msdet.components import build, component_names, find_component
from msdet.errors import MsdetError, UnknownNameError
from msdet.models.heads import HeadSizes
from msdet.tasks.truth import Labelled, Truth

MAIN = ("separation", "doa")
"""Tasks that every model has."""


class TaskLike(Protocol):
    """What every task offers."""

    def loss(self, prediction: Any, truth: Truth) -> Labelled:
        """Loss of each example or slot."""
        ...

    def scores(self, prediction: Any, truth: Truth) -> dict[str, Tensor]:
        """What validation shows."""
        ...


class AuxiliaryTask(TaskLike, Protocol):
    """What every auxiliary task offers."""

    Head: ClassVar[type[nn.Module]]


def auxiliary_names() -> list[str]:
    """Names of the auxiliary tasks that msdet ships."""
    return [name for name in component_names(__name__) if name not in (*MAIN, "truth")]


def find_task(name: str) -> type[AuxiliaryTask]:
    """An auxiliary task by name or import path ``module:Task``.

    Raises:
        UnknownNameError: no such task; the nearest name is offered.
    """
    if ":" not in name and name not in auxiliary_names():
        raise UnknownNameError("task", name, auxiliary_names())
    task: type[AuxiliaryTask] = find_component(__name__, name, "Task", "task")
    return task


def build_task_head(name: str, options: dict[str, Any], sizes: HeadSizes) -> nn.Module:
    """The head of an auxiliary task.

    Raises:
        MsdetError: an unknown name or option; the nearest is offered.
    """
    factory: Any = getattr(find_task(name), "Head", None)
    if not (inspect.isclass(factory) and issubclass(factory, nn.Module)):  # not anything else is called
        raise MsdetError(f"task '{name}' has no Head that is a torch.nn.Module")
    head: nn.Module = build(factory, options, f"task '{name}'", sizes=sizes)
    return head
