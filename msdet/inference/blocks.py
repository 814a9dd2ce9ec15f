"""Long recordings in blocks that overlap, and what is made of them joined again by cross-fades.

A block starts every ``block_s - overlap_s`` seconds; the last one takes what remains, up to a hop more than
the others. So a recording shorter than a block and a hop is one block: nothing is cut, nothing faded. In an
overlap the block before fades out as the next one fades in, by sin² and cos²: their sum is one, and what both
blocks hold alike passes unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from msdet.conventions import Array
from msdet.errors import MsdetError

MAX_BLOCK_SAMPLES = 40_000_000  # of all microphones; what is computed of them takes some 50 bytes each
FRAME_S = 0.1  # length of a frame of directions and activity; blocks and overlaps are whole frames

Match = Literal["both", "overlap", "direction"]
"""What keeps talkers in their slots (`msdet.inference.tracking`)."""

Beamformer = Literal["mvdr"]
"""What estimates voices once more (`msdet.methods.masks`)."""


@dataclass(frozen=True)
class BlockOptions:
    """How a recording is cleaned of rumble, and a long one cut and joined.

    Attributes:
        block_s: length of a block; longer ones give models more to go by, and cost memory. On conversations of two,
            12 s gave voices 0.7 dB better (SI-SDR) than 8 s and 1.3 dB better than 4 s; 16 s added 0.2 dB.
        overlap_s: of two blocks; 0 to half a block. Costs ``block_s / (block_s - overlap_s)`` in time; from
            1 s on, more did not give better voices.
        match: what keeps talkers in their slots: ``both`` overlap and direction, or one of them alone.
        gate: silence a slot in blocks without speech in it.
        highpass_hz: what is below is taken away before anything is separated; 0 for nothing. No voice is as low as
            60 Hz, but wind, footsteps and traffic are, and a loud hum there hides who speaks.
    """

    block_s: float = 12.0
    overlap_s: float = 2.0
    match: Match = "both"
    gate: bool = True
    highpass_hz: float = 60.0

    def __post_init__(self) -> None:
        if not 1.0 <= self.block_s <= 600.0:
            raise MsdetError(f"block_s is {self.block_s:g}, expected 1 to 600")
        if not 0.0 <= self.overlap_s <= self.block_s / 2:
            raise MsdetError(f"overlap_s is {self.overlap_s:g}, expected 0 to {self.block_s / 2:g}, half of block_s")
        check_highpass(self.highpass_hz)

    def fitting(self, samples_per_s: int) -> BlockOptions:
        """Shorter blocks, down to a second, of recordings with so many samples of all microphones in a second.

        >>> BlockOptions().fitting(256 * 48_000)
        BlockOptions(block_s=3.2, overlap_s=1.6, match='both', gate=True, highpass_hz=60.0)
        """
        most_s = max(1.0, MAX_BLOCK_SAMPLES * 10 // samples_per_s / 10)
        if self.block_s <= most_s:
            return self
        return replace(self, block_s=most_s, overlap_s=min(self.overlap_s, most_s / 2))


def check_highpass(highpass_hz: float) -> None:
    """Refuse a cutoff that is none, or would take away voices."""
    if highpass_hz != 0 and not 10.0 <= highpass_hz <= 300.0:
        raise MsdetError(f"highpass_hz is {highpass_hz:g}, expected 10 to 300, or 0 for none")


@dataclass(frozen=True)
class Grid:
    """A recording's frames and blocks in samples."""

    frame: int
    hop: int  # from the start of a block to that of the next
    overlap: int  # that two blocks share

    @classmethod
    def of(cls, options: BlockOptions, sample_rate: int) -> Grid:
        """The grid at a sample rate.

        >>> Grid.of(BlockOptions(), 8000)
        Grid(frame=800, hop=80000, overlap=16000)
        """
        frame = round(FRAME_S * sample_rate)
        overlap = round(options.overlap_s / FRAME_S)
        hop = max(1, round(options.block_s / FRAME_S) - overlap)
        return cls(frame, hop * frame, overlap * frame)

    @property
    def shared(self) -> int:
        """Frames that two blocks share."""
        return self.overlap // self.frame


@dataclass(frozen=True)
class Block:
    """A block of a mixture."""

    mixture: Array  # (mic, time)
    first: bool  # nothing comes before
    last: bool  # nothing comes after

    @property
    def whole(self) -> bool:
        """Whether it is all there is."""
        return self.first and self.last


def cut(pieces: Iterable[Array], grid: Grid) -> Iterator[Block]:
    """Blocks of a mixture that comes in pieces ``(mic, time)``; no more is held than a block, a hop and a piece."""
    size = grid.hop + grid.overlap
    waiting: list[Array] = []
    count, first = 0, True
    for piece in pieces:
        waiting.append(piece)
        count += piece.shape[-1]
        while count >= size + grid.hop:  # what is left then is a block at least
            joined = np.concatenate(waiting, axis=-1)
            yield Block(joined[:, :size], first, last=False)
            waiting, count, first = [joined[:, grid.hop :]], count - grid.hop, False
    if count:
        yield Block(np.concatenate(waiting, axis=-1), first, last=True)


def fade_in(samples: int) -> Array:
    """Weights ``(samples,)`` of what begins in an overlap; those of what ends are one minus these."""
    ramp: Array = np.sin(np.pi / 2 * (np.arange(samples) + 0.5) / max(samples, 1)) ** 2
    return ramp.astype(np.float32)
