"""Recurrence across frequency, then across time.

The order follows FT-JNF (Tesch and Gerkmann, IEEE/ACM TASLP 2023). Neighboring bins share one step of the
recurrences, which divides their cost; a linear path keeps the resolution of single bins.

For 45 features of a bin and 257 frequencies at 8 kHz, the sizes have 59 k, 209 k, 1.4 M and 7.4 M parameters
and take 0.13, 0.45, 2.9 and 31 G multiply-accumulates per second of audio; the last is for a GPU.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from msdet.dsp.streaming_state import State
from msdet.models.encoders import ENCODERS, StreamingBlockEncoder
from msdet.models.encoders.layers import preset, run_block, run_rnn_along

SIZES = {
    "tiny": {"hidden": 32, "blocks": 1, "group": 4},
    "small": {"hidden": 64, "blocks": 1, "group": 4},
    "medium": {"hidden": 128, "blocks": 2, "group": 4},
    "large": {"hidden": 256, "blocks": 3, "group": 2},
}

TINY = {"hidden": 8, "blocks": 2, "group": 8}


@ENCODERS.register("ft_gru", tiny=TINY)
class FTGRU(StreamingBlockEncoder):
    """Blocks of two residual GRUs, across frequency (both ways) and across time.

    Args:
        size: ``tiny``, ``small``, ``medium`` or ``large``: what the next three are unless given.
        hidden: units of each GRU, in each direction; features of a bin that come out.
        blocks: number of blocks.
        group: neighboring bins in one step.
    """

    RECURRENCE: Any = nn.GRU

    def __init__(
        self,
        features_in: int,
        size: str = "small",
        hidden: int | None = None,
        blocks: int | None = None,
        group: int | None = None,
        causal: bool = False,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        sizes = preset(SIZES, size, hidden=hidden, blocks=blocks, group=group)
        units = sizes["hidden"]
        self.causal = causal
        self.checkpoint = checkpoint
        self.features_in, self.features_out = features_in, units
        self.group = sizes["group"]
        self.depth = sizes["blocks"]
        self.enter = nn.Linear(self.group * features_in, 2 * units)
        self.blocks = nn.ModuleList(
            RecurrentBlock(2 * units, units, causal, self.RECURRENCE) for _ in range(self.depth)
        )
        self.leave = nn.Linear(2 * units, self.group * units)
        self.bypass = nn.Linear(features_in, units)

    def start(self, features: Tensor) -> Tensor:
        """``(batch, group of bins, frame, width)``."""
        batch, freqs, frames, width = features.shape
        groups = -(-freqs // self.group)
        padded = nn.functional.pad(features, (0, 0, 0, 0, 0, groups * self.group - freqs))
        grouped = padded.reshape(batch, groups, self.group, frames, width).permute(0, 1, 3, 2, 4)
        return cast(Tensor, self.enter(grouped.flatten(-2)))

    def block(self, index: int, x: Tensor) -> Tensor:
        """Two recurrences."""
        return run_block(self.blocks[index], x, checkpoint=self.checkpoint)

    def stream_block(self, index: int, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The next frames, of a causal encoder."""
        return cast(RecurrentBlock, self.blocks[index]).stream(x, state)

    def finish(self, x: Tensor, features: Tensor) -> Tensor:
        """Bins of every group, and the linear path."""
        return _to_bins(x, features, self.leave, self.bypass)

    def width(self, index: int) -> int:
        """Both directions."""
        return 2 * self.features_out

    def exit_after(self, index: int) -> nn.Module:
        """Another of the kind that the encoder itself ends with."""
        return _Exit(self.features_in, self.width(index), self.group, self.features_out)


class _Exit(nn.Module):
    """From groups of bins ``(batch, group, frame, width)`` to bins ``(batch, freq, frame, features_out)``."""

    def __init__(self, features_in: int, width: int, group: int, features_out: int) -> None:
        super().__init__()
        self.features_out = features_out
        self.leave = nn.Linear(width, group * features_out)
        self.bypass = nn.Linear(features_in, features_out)

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        return _to_bins(x, features, self.leave, self.bypass)


def _to_bins(x: Tensor, features: Tensor, leave: nn.Module, bypass: nn.Module) -> Tensor:
    """Features of the bins of each group, each with a linear path from its own."""
    past: Tensor = bypass(features)
    bins = leave(torch.relu(x)).unflatten(-1, (-1, past.shape[-1]))
    bins = bins.permute(0, 1, 3, 2, 4).flatten(1, 2)
    return torch.relu(bins[:, : features.shape[1]] + past)


class RecurrentBlock(nn.Module):
    """One GRU across frequency and one across time, each added to its input; `recurrence` is their kind."""

    def __init__(self, width: int, hidden: int, causal: bool, recurrence: Any = nn.GRU) -> None:
        super().__init__()
        self.norm_freq, self.norm_time = nn.LayerNorm(width), nn.LayerNorm(width)
        self.across_freq = recurrence(width, hidden, bidirectional=True)
        self.across_time = recurrence(width, width if causal else hidden, bidirectional=not causal)

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, freq, frame, width)`` to the same."""
        return self.stream(x, None)[0]

    def stream(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The same of the next frames, if it is causal."""
        x = x + run_rnn_along(self.across_freq, self.norm_freq(x), 1)[0]
        over_time, state = run_rnn_along(self.across_time, self.norm_time(x), 2, state)
        return x + over_time, state
