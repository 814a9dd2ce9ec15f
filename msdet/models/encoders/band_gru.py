"""Recurrence across bands and across time, the bands narrow at low and wide at high frequency.

As in band-split networks (Luo and Yu, IEEE/ACM TASLP 31, 2023), bins of a band share one step, with layers
of their own for bands of one width. Most energy of speech, and most of what reverberation leaves wrong, is
in the lowest bins; so steps are spent there.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from msdet.dsp.streaming_state import State
from msdet.models.encoders import ENCODERS, StreamingBlockEncoder
from msdet.models.encoders.ft_gru import RecurrentBlock
from msdet.models.encoders.layers import run_block

Zone = tuple[int, int, int]
"""First bin, bin after the last, and bins in a band."""

TINY = {"hidden": 8, "blocks": 2, "limits": [8], "widths": [2, 8]}


@ENCODERS.register("band_gru", tiny=TINY)
class BandGRU(StreamingBlockEncoder):
    """Blocks of two residual GRUs, across bands (both ways) and across time.

    Args:
        features_in: features of a bin.
        freqs: number of frequencies.
        hidden: units of each GRU, in each direction.
        outputs: features of a bin that come out; as many if not given.
        blocks: number of blocks.
        limits: bins, ascending, at which the next width begins.
        widths: bins in a band, up to each limit and after the last.
        causal: run across time forwards only.
        checkpoint: compute activations again in the backward pass, which saves memory.
    """

    RECURRENCE: Any = nn.GRU

    def __init__(
        self,
        features_in: int,
        freqs: int,
        hidden: int = 64,
        outputs: int | None = None,
        blocks: int = 1,
        limits: Sequence[int] = (64, 128),
        widths: Sequence[int] = (2, 4, 8),
        causal: bool = False,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        if hidden < 1 or blocks < 1:
            raise ValueError(f"hidden {hidden} and blocks {blocks}, expected at least 1")
        if len(widths) != len(limits) + 1 or min(widths) < 1:
            raise ValueError(f"widths {list(widths)}, expected one at least 1 for each zone of limits {list(limits)}")
        if list(limits) != sorted(set(limits)) or (limits and limits[0] < 1):
            raise ValueError(f"limits are {list(limits)}, expected ascending bins above 0")
        edges = [0, *(limit for limit in limits if limit < freqs), freqs]
        self.zones = [
            (start, stop, width) for (start, stop), width in zip(itertools.pairwise(edges), widths, strict=False)
        ]
        self.causal = causal
        self.checkpoint = checkpoint
        self.features_in, self.features_out = features_in, outputs or hidden
        self.state_width = 2 * hidden
        self.depth = blocks
        self.enter = nn.ModuleList(nn.Linear(width * features_in, 2 * hidden) for _, _, width in self.zones)
        self.blocks = nn.ModuleList(RecurrentBlock(2 * hidden, hidden, causal, self.RECURRENCE) for _ in range(blocks))
        self.leave = _Exit(self.zones, features_in, 2 * hidden, self.features_out)

    def start(self, features: Tensor) -> Tensor:
        """``(batch, band, frame, width)``."""
        batch, _, frames, width = features.shape
        bands = []
        for (start, stop, bins), enter in zip(self.zones, self.enter, strict=True):
            zone = nn.functional.pad(features[:, start:stop], (0, 0, 0, 0, 0, (start - stop) % bins))
            zone = zone.reshape(batch, -1, bins, frames, width).transpose(2, 3)
            bands.append(enter(zone.flatten(-2)))
        return torch.cat(bands, dim=1)

    def block(self, index: int, x: Tensor) -> Tensor:
        """Two recurrences."""
        return run_block(self.blocks[index], x, checkpoint=self.checkpoint)

    def stream_block(self, index: int, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The next frames, of a causal encoder."""
        return cast(RecurrentBlock, self.blocks[index]).stream(x, state)

    def finish(self, x: Tensor, features: Tensor) -> Tensor:
        """Bins of every band, each with a linear path from its own features."""
        finished: Tensor = self.leave(x, features)
        return finished

    def width(self, index: int) -> int:
        """Both directions."""
        return self.state_width

    def exit_after(self, index: int) -> nn.Module:
        """Another of the kind that the encoder itself ends with."""
        return _Exit(self.zones, self.features_in, self.width(index), self.features_out)


class _Exit(nn.Module):
    """From bands to bins.

    Args:
        zones: first bin, bin after the last and bins in a band, of each zone.
        features_in: features of a bin.
        width: of what the last block gave.
        outputs: features of a bin that come out.
    """

    def __init__(self, zones: list[Zone], features_in: int, width: int, outputs: int) -> None:
        super().__init__()
        self.zones = zones
        self.features_out = outputs
        self.bins = nn.ModuleList(nn.Linear(width, bins * outputs) for _, _, bins in zones)
        self.bypass = nn.Linear(features_in, outputs)

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """``(batch, band, frame, width)`` to ``(batch, freq, frame, features_out)``."""
        parts = torch.relu(x).split([-(-(stop - start) // bins) for start, stop, bins in self.zones], dim=1)
        zones = []
        for (start, stop, bins), layer, part in zip(self.zones, self.bins, parts, strict=True):
            zone = layer(part).unflatten(-1, (bins, -1)).transpose(2, 3).flatten(1, 2)
            zones.append(zone[:, : stop - start])
        left: Tensor = torch.relu(torch.cat(zones, dim=1) + self.bypass(features))
        return left
