"""Encoders, one file each.

A module defines ``Encoder``, a `torch.nn.Module` built as ``Encoder(features_in, **options)``. It maps
features ``(batch, freq, frame, features_in)`` to ``(batch, freq, frame, features_out)`` and has two
attributes: ``features_out`` (int) and ``causal`` (bool: no output frame depends on a later input frame).

An encoder whose sizes follow from the number of frequencies names ``freqs`` among its constructor's
parameters, and is given it: sizes are derived, never asked of the user. Besides, a module may say

- ``TINY``, a module constant: options that make it small, for tests of what every encoder must do; without
  it the defaults are tested. Such tests find a new encoder by themselves;
- ``compiles``, a class attribute of the encoder: true if `torch.compile` traces it without a graph break.

An encoder made of blocks may show them (`BlockEncoder`), for the sharing schemes that work between blocks.

An encoder that is causal, or has an option ``causal``, may work on a stream: ``stream(features, memory) ->
(encoded, memory)`` takes the next frames, at least one, and what it returned as memory before, None at first.
Pieces in turn give what ``forward`` gives of them joined. A memory (`msdet.dsp.streaming_state`) is never
changed in place. One that shows its blocks has ``stream_start(features, memory)`` and ``stream_block(index,
state, memory)`` besides, which return a memory likewise; its ``finish`` works frame by frame.

Every encoder takes any number of frames, treats the items of a batch apart, and under bfloat16 autocast
stays within 5 % (RMS) of its float32 output.
"""

from __future__ import annotations

import inspect
from typing import Any, Protocol, cast

from torch import Tensor, nn

from msdet.components import Registry, build
from msdet.dsp.streaming_state import State
from msdet.errors import MsdetError

ENCODERS = Registry("encoder", __name__, network=True)


class EncoderLike(Protocol):
    """What every encoder offers."""

    features_out: int
    causal: bool

    def __call__(self, features: Tensor) -> Tensor:
        """Encode ``(batch, freq, frame, feature)``."""
        ...


class Exit(Protocol):
    """A way out of a state: a `torch.nn.Module`."""

    features_out: int

    def __call__(self, state: Tensor, features: Tensor) -> Tensor:
        """Features ``(batch, freq, frame, features_out)``, of a state and of what was entered."""
        ...


class BlockEncoder(EncoderLike, Protocol):
    """An encoder that shows its blocks: it is `start`, each `block` in turn, then `finish`.

    A state is ``(batch, ..., frame, width)``; the axes between may be frequencies, or groups of them.

    Attributes:
        depth: number of blocks.
    """

    depth: int

    def start(self, features: Tensor) -> Tensor:
        """State before the first block, of features ``(batch, freq, frame, features_in)``."""
        ...

    def block(self, index: int, state: Tensor) -> Tensor:
        """State after block `index`, from the state before."""
        ...

    def finish(self, state: Tensor, features: Tensor) -> Tensor:
        """Encoded features ``(batch, freq, frame, features_out)``, of the last state and what was entered."""
        ...

    def width(self, index: int) -> int:
        """Width of the state after block `index`."""
        ...

    def exit_after(self, index: int) -> Exit:
        """A new way out after block `index`, with parameters of its own if it has any."""
        ...


class StreamingEncoder(EncoderLike, Protocol):
    """An encoder that works on a stream."""

    def stream(self, features: Tensor, memory: State) -> tuple[Tensor, State]:
        """Encode the next frames ``(batch, freq, frame, feature)``."""
        ...


class StreamingBlockEncoder(BlockEncoder, StreamingEncoder, Protocol):
    """An encoder that shows the blocks by which it works on a stream."""

    def stream_start(self, features: Tensor, memory: State) -> tuple[Tensor, State]:
        """`start` of the next frames."""
        ...

    def stream_block(self, index: int, state: Tensor, memory: State) -> tuple[Tensor, State]:
        """`block` of the next frames."""
        ...


def streaming(encoder: nn.Module) -> StreamingEncoder:
    """An encoder that is known to work on a stream, as that."""
    return cast(StreamingEncoder, encoder)


BLOCK_MEMBERS = ("depth", "start", "block", "finish", "width", "exit_after")
"""What `BlockEncoder` has that other encoders have not."""


def build_encoder(
    name: str, options: dict[str, Any], features_in: int, freqs: int | None = None
) -> EncoderLike:
    """An encoder by name or by import path ``module:Class``.

    Args:
        name: of a file in this package, or an import path.
        options: what the encoder's constructor takes besides derived sizes.
        features_in: features of a bin.
        freqs: number of frequencies, given to an encoder that takes it.

    Raises:
        MsdetError: an unknown name or option, of which the nearest is offered; or an encoder that needs
            `freqs` where it is not given.
    """
    factory = ENCODERS.find(name)
    derived = {"features_in": features_in}
    parameter = inspect.signature(factory).parameters.get("freqs")
    if parameter is not None and freqs is not None:
        derived["freqs"] = freqs
    elif parameter is not None and parameter.default is inspect.Parameter.empty:
        raise MsdetError(f"encoder '{name}' needs the number of frequencies, which is not known here")
    encoder: EncoderLike = build(factory, options, f"encoder '{name}'", **derived)
    return encoder
