"""Encoders: networks from features of bins to features of bins.

An encoder is a `torch.nn.Module` built as ``Encoder(features_in, **options)``. It maps features
``(batch, freq, frame, features_in)`` to ``(batch, freq, frame, features_out)`` and has two attributes:
``features_out`` (int) and ``causal`` (bool: no output frame depends on a later input frame). It registers
itself, ``@ENCODERS.register("spatialnet", tiny=TINY)``, where ``tiny`` are options that make it small, for
the tests of what every encoder must do; without it the defaults are tested.

One for features of directions around the circle in place of frequencies registers with ``of_directions=True``. An
encoder whose sizes follow from the number of frequencies names ``freqs`` among its constructor's parameters, and is
given it. A class attribute ``compiles`` says that `torch.compile` traces it without a graph break. An encoder made of
blocks may show them (`BlockEncoder`), for the sharing schemes that work between blocks.

An encoder that is causal, or has an option ``causal``, may work on a stream: ``stream(features, state) ->
(encoded, state)`` takes the next frames, at least one, and the state that it returned before, None at first.
Pieces in turn give what ``forward`` gives of them joined. A state (`msdet.dsp.streaming_state`) is never
changed in place. One that shows its blocks has ``stream_start(features, state)`` and
``stream_block(index, x, state)`` besides, which return a state likewise; its ``finish`` works frame by frame.

Several have the options ``causal`` (see no later frame), ``context`` (frames that a causal attention sees, this one and
those before), ``dropout`` (share of features dropped) and ``checkpoint`` (compute activations again, to save memory).

Every encoder takes any number of frames, treats the items of a batch apart, and under bfloat16 autocast
stays within 5 % (RMS) of its float32 output.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import Any, cast

from torch import Tensor, nn

from msdet.components import Registry
from msdet.dsp.streaming_state import State
from msdet.errors import MsdetError

ENCODERS = Registry("encoder", __name__, network=True)

BLOCK_MEMBERS = ("depth", "start", "block", "finish", "width", "exit_after")
"""What `BlockEncoder` has that other encoders have not."""


class Encoder(nn.Module):
    """What every encoder offers; it needs no base class."""

    features_out: int
    causal: bool


class BlockEncoder(Encoder, ABC):
    """An encoder that shows its `depth` blocks: it is `start`, each `block` in turn, then `finish`.

    Between blocks ``x`` is ``(batch, ..., frame, width)``; as it stands, there are features of bins all the way.
    """

    depth: int

    def forward(self, features: Tensor) -> Tensor:
        """Encode ``(batch, freq, frame, feature)``; keeps the first three axes."""
        x = self.start(features)
        for index in range(self.depth):
            x = self.block(index, x)
        return self.finish(x, features)

    def start(self, features: Tensor) -> Tensor:
        """What enters the first block."""
        return features

    @abstractmethod
    def block(self, index: int, x: Tensor) -> Tensor:
        """What block `index` makes of what enters it."""

    def finish(self, x: Tensor, features: Tensor) -> Tensor:
        """Encoded features, of what the last block gave and of what was entered."""
        return x

    def width(self, index: int) -> int:
        """Width of what block `index` gives."""
        return self.features_out

    def exit_after(self, index: int) -> Any:
        """A new way out after block `index`: a module like `finish`, with ``features_out``."""
        return _Straight(self.width(index))


class StreamingBlockEncoder(BlockEncoder):
    """Blocks whose causal variant also works on a stream."""

    def stream(self, features: Tensor, state: State) -> tuple[Tensor, State]:
        """Encode the next frames ``(batch, freq, frame, feature)``."""
        first, *others = state or [None] * (self.depth + 1)
        x, first = self.stream_start(features, first)
        after = [first]
        for index, before in enumerate(others):
            x, now = self.stream_block(index, x, before)
            after.append(now)
        return self.finish(x, features), after

    def stream_start(self, features: Tensor, state: State) -> tuple[Tensor, State]:
        """`start` of the next frames; as it stands, it needs no frames before."""
        return self.start(features), None

    @abstractmethod
    def stream_block(self, index: int, x: Tensor, state: State) -> tuple[Tensor, State]:
        """`block` of the next frames."""


class _Straight(nn.Module):
    """A way out that leaves everything as it is."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.features_out = width

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """What the block gave."""
        return x


def build_encoder(name: str, options: dict[str, Any], features_in: int, freqs: int | None = None) -> Encoder:
    """An encoder by name or import path ``module:Class``, for features of a bin and a number of frequencies."""
    derived = {"features_in": features_in}
    parameter = inspect.signature(ENCODERS.find(name)).parameters.get("freqs")
    if parameter is not None and freqs is not None:
        derived["freqs"] = freqs
    elif parameter is not None and parameter.default is inspect.Parameter.empty:
        raise MsdetError(f"encoder '{name}' needs the number of frequencies, which is not known here")
    return cast(Encoder, ENCODERS.build(name, options, **derived))


def __getattr__(name: str) -> Any:  # from msdet.models.encoders import SpatialNet
    return ENCODERS.exported(name)
