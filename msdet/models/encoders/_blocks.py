"""The part that encoders made of blocks have in common (`msdet.models.encoders.BlockEncoder`)."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from msdet.models.encoders import Exit
from msdet.running import Memory


class Blocks(nn.Module, ABC):
    """`start`, each `block` in turn, `finish`; as it stands, states are features of bins all the way.

    Attributes:
        depth: number of blocks.
        features_out: width of the encoded features.
        causal: whether no output frame depends on a later input frame.
    """

    depth: int
    features_out: int
    causal: bool

    def forward(self, features: Tensor) -> Tensor:
        """Encode ``(batch, freq, frame, feature)``; keeps the first three axes."""
        state = self.start(features)
        for index in range(self.depth):
            state = self.block(index, state)
        return self.finish(state, features)

    def start(self, features: Tensor) -> Tensor:
        """The features themselves."""
        return features

    @abstractmethod
    def block(self, index: int, state: Tensor) -> Tensor:
        """State after block `index`, from the state before."""

    def finish(self, state: Tensor, features: Tensor) -> Tensor:
        """The last state itself."""
        return state

    def width(self, index: int) -> int:
        """Width of the state after block `index`."""
        return self.features_out

    def exit_after(self, index: int) -> Exit:
        """The state after block `index` itself."""
        return _Straight(self.width(index))


class StreamingBlocks(Blocks):
    """Blocks whose causal variant also takes a signal in pieces."""

    def stream(self, features: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Encode the next frames ``(batch, freq, frame, feature)``."""
        first, *others = memory or [None] * (self.depth + 1)
        state, first = self.stream_start(features, first)
        kept = [first]
        for index, before in enumerate(others):
            state, after = self.stream_block(index, state, before)
            kept.append(after)
        return self.finish(state, features), kept

    def stream_start(self, features: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """`start` of the next frames; as it stands, it needs no frames before."""
        return self.start(features), None

    @abstractmethod
    def stream_block(self, index: int, state: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """`block` of the next frames."""


class _Straight(nn.Module):
    """A state that needs no way out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.features_out = width

    def forward(self, state: Tensor, features: Tensor) -> Tensor:
        """The state."""
        return state
