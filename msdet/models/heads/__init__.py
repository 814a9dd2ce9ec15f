"""Heads: from features to DoA logits and to each talker's spectrum.

A head is a `torch.nn.Module` built as ``Head(sizes, **options)`` with `HeadSizes`, and registers itself,
``@DOA_HEADS.register("steered")``. A DoA head maps features and `FrontEndOutput` to logits ``(batch, talker,
outputs)``. A separation head maps features, `FrontEndOutput` and azimuth logits ``(batch, talker, class)`` to
estimates, each complex ``(batch, talker, freq, frame)``, one a pass, the last one final. Features are
``(batch, freq, frame, feature)``; where `HeadSizes.per_slot` says so, a separation head is given features of
each slot, ``(batch, talker, freq, frame, feature)``.

A head whose weights belong to one array says ``array_bound = True``, a head none of whose frames depends on a
later one ``causal = True``. A DoA head gives logits of the whole recording; a causal one gives them in each
frame on what came so far, ``(batch, talker, frame, outputs)``, and a separation head is handed these. A
separation head that needs them says ``needs_causal_doa = True``.

Options of causal heads are ``time_constant_s`` (in seconds, with which they forget; null for never) and
``update_interval`` (frames from one estimate to the next; more is faster). A causal head may work on a stream, as
`msdet.models.encoders` says: ``stream(..., state)`` is ``forward`` of the next frames, and gives a state besides.
"""

from __future__ import annotations

import inspect
import itertools
from contextlib import suppress
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from msdet.components import Registry, build
from msdet.dsp.streaming_state import State
from msdet.errors import MsdetError
from msdet.models.frontends import ArrayGeometry

DOA_HEADS = Registry("DoA head", __name__, network=True)
SEPARATION_HEADS = Registry("separation head", __name__, network=True)
TASKS = Registry("task", "msdet.tasks")
"""Auxiliary tasks register with the models whose heads they are; `msdet.tasks` says what a task is."""

Streamed = tuple[tuple[Tensor, ...], State]
"""Estimates of a separation head of the next frames, and the state after them."""


class HeadSizes(NamedTuple):
    """What a head's sizes follow from.

    Attributes:
        geometry: of the array; ``geometry.steering`` is ``(class, freq, mic)``.
        features: width of a bin's features.
        talkers: number of output slots.
        variable_num_speakers: whether a slot may be empty; a DoA head then has one more output, after its classes.
        per_slot: whether a separation head is given features of each slot.
    """

    geometry: ArrayGeometry
    features: int
    talkers: int
    variable_num_speakers: bool = False
    per_slot: bool = False

    @property
    def classes(self) -> int:
        """Number of azimuth classes."""
        return len(self.geometry.steering)


def build_head(task: str, name: str, options: dict[str, Any], sizes: HeadSizes) -> nn.Module:
    """A head of ``doa`` or ``separation``, by name or import path ``module:Class``."""
    return cast(nn.Module, {"doa": DOA_HEADS, "separation": SEPARATION_HEADS}[task].build(name, options, sizes=sizes))


class SlotLinear(nn.Module):
    """A linear layer that gives each slot its outputs for a bin, from features of all or of each slot."""

    def __init__(self, sizes: HeadSizes, outputs: int) -> None:
        super().__init__()
        self.talkers = sizes.talkers
        self.per_slot = sizes.per_slot
        self.linear = nn.Linear(sizes.features, outputs if sizes.per_slot else sizes.talkers * outputs)

    def forward(self, features: Tensor) -> Tensor:
        """``(batch, talker, freq, frame, outputs)``."""
        outputs: Tensor = self.linear(features)
        return outputs if self.per_slot else outputs.unflatten(-1, (self.talkers, -1)).movedim(-2, 1)


def start_at_zero(layer: Any) -> None:
    """Make the first outputs of a linear or convolutional layer zero."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)


def circular_convolutions(*channels: int) -> nn.Sequential:
    """Convolutions over 9 neighboring directions around the circle, with ReLUs between; numbers of channels."""
    layers: list[nn.Module] = []
    for entering, leaving in itertools.pairwise(channels):
        layers += [nn.Conv1d(entering, leaving, 9, padding=4, padding_mode="circular"), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def as_complex(features: Tensor) -> Tensor:
    """``(..., freq, frame, 2 n)`` to complex ``(..., n, freq, frame)``; real parts come first."""
    real, imaginary = features.float().movedim(-1, -3).chunk(2, dim=-3)
    return torch.complex(real.contiguous(), imaginary.contiguous())


def slot_occupancy(prediction: Tensor, classes: int) -> Tensor:
    """Probability ``(...)`` that a slot has a talker, from logits ``(..., outputs)``; 1 of azimuths alone."""
    if prediction.shape[-1] == classes:
        return torch.ones_like(prediction[..., 0], dtype=torch.float32)
    return 1.0 - prediction.float().softmax(-1)[..., classes]


def build_task_head(name: str, options: dict[str, Any], sizes: HeadSizes) -> nn.Module:
    """The head of an auxiliary task, by its name or import path ``module:Task``."""
    factory: Any = getattr(TASKS.find(name), "Head", None)
    if not (inspect.isclass(factory) and issubclass(factory, nn.Module)):  # not anything else is called
        raise MsdetError(f"task '{name}' has no Head that is a torch.nn.Module")
    return cast(nn.Module, build(factory, options, f"task '{name}'", sizes=sizes))


def __getattr__(name: str) -> Any:  # from msdet.models.heads import SteeredBeamHead
    for registry in (DOA_HEADS, SEPARATION_HEADS):
        with suppress(AttributeError):
            return registry.exported(name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
