"""Directions and activity over time, as they come."""

from __future__ import annotations

import numpy as np

from msdet.conventions import Array

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
