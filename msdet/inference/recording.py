"""From a recording of any length to voices and directions, in memory that does not grow with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array
from msdet.inference.blocks import Block, BlockOptions, Grid, cut
from msdet.inference.frame_log import FrameLog
from msdet.inference.offline import Separator
from msdet.inference.sources import Scan, Source, prepared
from msdet.inference.stitching import Frames, Piece, Stitcher

_SILENCE = 1e-6  # level of the noise that digital silence is replaced by, 120 dB below full scale


@dataclass(frozen=True)
class System:
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
class Talkers:
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
        """Centres ``(frame,)`` of the frames."""
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

    def __init__(self, system: System, source: Source, found: Scan, options: BlockOptions) -> None:
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

    def talkers(self) -> Talkers:
        """Who was found, after the last piece."""
        azimuth, confidence, elevation = self._stitcher.overall.overall()
        filled = np.flatnonzero(self._stitcher.filled)
        order = filled[np.argsort(azimuth[filled], kind="stable")]  # NaN, of no direction, last
        azimuths, confidences, elevations, activity = self._frames.joined()[:, order]
        return Talkers(
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
