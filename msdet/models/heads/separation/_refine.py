"""Refinement that separation heads share: filters over a few frames, added to what a beamformer gave."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from msdet.models.heads import HeadSizes, SlotLinear, as_complex
from msdet.running import Memory, with_past
from msdet.spatial import past_frames


class BeamMasks(nn.Module):
    """Adds signals, filtered over a few frames, to each talker's beam; the filters start at zero.

    A filter over frames (deep filtering, Mack and Habets 2020) also removes reverberation, which a mask can
    only make quieter.

    Args:
        sizes: of the head.
        signals: number of signals besides the beam.
        frames: that the filters see, this one and the ones before; 1 makes them masks.
    """

    def __init__(self, sizes: HeadSizes, signals: int, frames: int) -> None:
        super().__init__()
        self.frames = at_least_one(frames, "frames")
        self.per_slot = sizes.per_slot
        self.filter = SlotLinear(sizes, 2 * signals * frames)
        self.filter.start_at_zero()

    def forward(self, features: Tensor, beams: Tensor, signals: list[Tensor]) -> Tensor:
        """Refined beams ``(batch, talker, freq, frame)``.

        Args:
            features: of the head.
            beams: ``(batch, talker, freq, frame)``.
            signals: to filter and add, each of every talker, or ``(batch, 1, freq, frame)``.
        """
        return self.stream(features, beams, signals, None)[0]

    def stream(
        self, features: Tensor, beams: Tensor, signals: list[Tensor], memory: Memory
    ) -> tuple[Tensor, Memory]:
        """The same of the next frames."""
        filters = as_complex(self.filter(features))
        joined, kept = [], []
        for signal, before in zip(signals, memory or [None] * len(signals), strict=True):
            past, after = with_past(signal, self.frames - 1, 3, before)
            joined.append(past)
            kept.append(after)
        if self.per_slot:  # one layer serves all slots: each finds its own signals first
            seen = torch.stack([self._filtered(own) for own in own_first(joined, beams)], dim=1)
        else:
            seen = self._filtered(joined)[:, None]
        refined: Tensor = beams + (filters * seen).sum(2)
        return refined, kept

    def _filtered(self, signals: list[Tensor]) -> Tensor:
        """What the filters see, ``(batch, frames * signal, freq, frame)``."""
        return past_frames(torch.cat(signals, dim=1), self.frames)[..., self.frames - 1 :]


def own_first(signals: list[Tensor], beams: Tensor) -> list[list[Tensor]]:
    """Of each slot, the signals with that talker's before the others'."""
    return [[signal.roll(-slot, 1) for signal in signals] for slot in range(beams.shape[1])]


def at_least_one(value: int, name: str) -> int:
    """The value of an option.

    Raises:
        ValueError: it is below 1.
    """
    if value < 1:
        raise ValueError(f"{name} is {value}, expected at least 1")
    return value
