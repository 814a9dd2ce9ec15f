"""Directions and activity over time, as they come."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array
from msdet.errors import MsdetError
from msdet.inference.blocks import Block, BlockOptions, Grid, cut
from msdet.inference.sources import RecordingSource, Scan, prepared
from msdet.inference.stitching import Frames, Piece, Stitcher
from msdet.methods.base import Separation, Separator

BLOCK = 6000
"""Frames that memory is taken for at once: ten minutes."""


class FrameLog:
    """Keeps numbers of frames, ``(column, slot, frame)`` float32, in few large blocks.

    A small array that is kept every second comes to lie between large ones that come and go, and holds the
    memory around it: a process that kept 320 bytes a second grew by 90 MB an hour.

    Args:
        columns: numbers of a slot in a frame.
        slots: how many.
    """

    def __init__(self, columns: int, slots: int) -> None:
        self._shape = (columns, slots, BLOCK)
        self._blocks: list[Array] = []
        self._free = 0

    def append(self, frames: Array) -> None:
        """Keep the next frames ``(column, slot, frame)``."""
        while frames.shape[-1]:
            if not self._free:
                self._blocks.append(np.empty(self._shape, dtype=np.float32))
                self._free = BLOCK
            taken = frames[..., : self._free]
            start = BLOCK - self._free
            self._blocks[-1][..., start : start + taken.shape[-1]] = taken
            self._free -= taken.shape[-1]
            frames = frames[..., taken.shape[-1] :]

    def joined(self) -> Array:
        """All of them.

        >>> log = FrameLog(1, 2)
        >>> log.append(np.array([[[1.0], [2.0]]])); log.append(np.array([[[3.0, 5.0], [4.0, 6.0]]]))
        >>> log.joined().tolist()
        [[[1.0, 3.0, 5.0], [2.0, 4.0, 6.0]]]
        """
        nothing = np.empty((*self._shape[:2], 0), dtype=np.float32)
        kept = np.concatenate([nothing, *self._blocks], axis=-1)
        return kept[..., : kept.shape[-1] - self._free]


# --- From a recording of any length to voices and directions, in memory that does not grow with it.

_SILENCE = 1e-6  # level of the noise that digital silence is replaced by, 120 dB below full scale


@dataclass(frozen=True)
class RecordingSystem:
    """What separates, and what it needs to know.

    Attributes:
        separator: of a block.
        array: geometry of the microphones.
        sample_rate: that it works at, hertz.
        slots: most talkers that it finds.
        name: for people.
    """

    separator: Separator
    array: MicrophoneArray
    sample_rate: int
    slots: int
    name: str


@dataclass(frozen=True)
class LocatedTalkers:
    """Where the talkers of a recording are, ascending in azimuth.

    Attributes:
        slots: ``(talker,)`` of the pieces, in this order.
        azimuth_deg: ``(talker,)``, where each is heard most; None of a system without directions.
        confidence: ``(talker,)``; None where it is not known.
        elevation_deg: ``(talker,)``; None where it is not known.
        frames: over time, in this order.
        frame_s: length of a frame.
    """

    slots: Array
    azimuth_deg: Array | None
    confidence: Array | None
    elevation_deg: Array | None
    frames: Frames
    frame_s: float

    @property
    def time_s(self) -> Array:
        """Centers ``(frame,)`` of the frames."""
        times: Array = (np.arange(self.frames.activity.shape[1]) + 0.5) * self.frame_s
        return times


class Inference:
    """Goes through a recording once: `pieces` gives what is final, then `talkers` the order of slots.

    Args:
        system: what separates.
        source: the recording.
        found: of its first pass.
        options: of cutting and joining.

    Attributes:
        system: what separates.
    """

    def __init__(
        self, system: RecordingSystem, source: RecordingSource, found: Scan, options: BlockOptions
    ) -> None:
        self.system = system
        self._source = source
        self._scan = found
        self._grid = Grid.of(options, system.sample_rate)
        reference = system.array.reference
        self._stitcher = Stitcher(system.slots, options, system.sample_rate, found.levels, reference)
        self._frames = FrameLog(4, system.slots)

    def pieces(self) -> Iterator[Piece]:
        """What is final, from start to end.

        Raises:
            MsdetError: the recording cannot be read to its end, or the system cannot separate it.
        """
        mixture = prepared(self._source, self._scan, self.system.sample_rate)
        for block in cut(mixture, self._grid):
            piece = self._stitcher.push(block, self.system.separator(self._audible(block)))
            f = piece.frames
            columns = (f.azimuth_deg, f.confidence, f.elevation_deg, f.activity)
            self._frames.append(np.stack(columns))
            yield piece

    def talkers(self) -> LocatedTalkers:
        """Who was found, after the last piece."""
        azimuth, confidence, elevation = self._stitcher.overall.overall()
        filled = np.flatnonzero(self._stitcher.filled)
        order = filled[np.argsort(azimuth[filled], kind="stable")]  # NaN, of no direction, last
        azimuths, confidences, elevations, activity = self._frames.joined()[:, order]
        return LocatedTalkers(
            order,
            _known(azimuth[order]),
            _known(confidence[order]),
            _known(elevation[order]),
            Frames(azimuths, confidences, elevations, activity),
            self._grid.frame / self.system.sample_rate,
        )

    def _audible(self, block: Block) -> Array:
        """The mixture of a block; digital silence, to which some methods have no answer, as faint noise."""
        if block.mixture[self.system.array.reference].any():
            return block.mixture
        noise = np.random.default_rng(0).standard_normal(block.mixture.shape, dtype=np.float32)
        audible: Array = block.mixture + np.float32(_SILENCE) * noise
        return audible


def _known(values: Array) -> Array | None:
    return values if np.isfinite(values).any() else None


# --- Systems that do without dead channels: a silent one spoils every beam, fewer microphones hardly do.
# Measured on simulated conversations with one of six channels silent: left in, it cost both `srp_beam` and a
# trained model 6 to 11 dB of SI-SDR; left out, 0.4 dB.

MakeSystem = Callable[[MicrophoneArray], RecordingSystem]
"""Makes a system for an array; raises `MsdetError` if it cannot serve that one."""


def drop_dead_channels(make: MakeSystem, array: MicrophoneArray, found: Scan) -> tuple[RecordingSystem, Scan]:
    """The system for a recording, made for the microphones that are alive if it can be.

    Args:
        make: the system.
        array: all microphones.
        found: of the recording; returned with another warning if the system needs all channels.
    """
    if not found.dead:
        return make(array), found
    alive = [m for m in range(array.microphones) if m not in found.dead]
    positions = tuple(array.positions_m[m] for m in alive)
    try:
        system = make(MicrophoneArray(array.name, positions, alive.index(array.reference)))
    except MsdetError as error:
        warning = f"the dead channels are used all the same, expect much worse voices ({error})"
        return make(array), dataclasses.replace(found, warnings=(*found.warnings, warning))
    inner = system.separator

    def separate(mixture: Array) -> Separation:
        return inner(mixture[alive])

    return dataclasses.replace(system, separator=separate, array=array), found
