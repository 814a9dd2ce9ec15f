"""Recurrence across frequency, then across time: the fast default.

The order follows FT-JNF (Tesch and Gerkmann, IEEE/ACM TASLP 2023). Neighbouring bins share one step of the
recurrences, which divides their cost; a linear path keeps the resolution of single bins.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Encoder(nn.Module):
    """Blocks of two residual GRUs, across frequency (both ways) and across time.

    Args:
        features_in: features of a bin.
        hidden: units of each GRU, in each direction.
        blocks: number of blocks.
        group: neighbouring bins in one step.
        causal: run across time forwards only.
    """

    def __init__(
        self, features_in: int, hidden: int = 64, blocks: int = 1, group: int = 4, causal: bool = False
    ) -> None:
        super().__init__()
        self.causal = causal
        self.group = group
        self.width = 2 * hidden
        self.features_out = hidden
        self.enter = nn.Linear(group * features_in, self.width)
        self.blocks = nn.ModuleList(_Block(self.width, hidden, causal) for _ in range(blocks))
        self.leave = nn.Linear(self.width, group * self.features_out)
        self.bypass = nn.Linear(features_in, self.features_out)

    def forward(self, features: Tensor) -> Tensor:
        """Encode ``(batch, freq, frame, feature)``; keeps the first three axes."""
        batch, freqs, frames, width = features.shape
        groups = -(-freqs // self.group)
        padded = nn.functional.pad(features, (0, 0, 0, 0, 0, groups * self.group - freqs))
        grouped = padded.reshape(batch, groups, self.group, frames, width).permute(0, 1, 3, 2, 4)
        x = self.enter(grouped.flatten(-2))
        for block in self.blocks:
            x = block(x)
        x = self.leave(torch.relu(x)).unflatten(-1, (self.group, self.features_out))
        x = x.permute(0, 1, 3, 2, 4).reshape(batch, groups * self.group, frames, self.features_out)
        return torch.relu(x[:, :freqs] + self.bypass(features))


class _Block(nn.Module):
    """One GRU across frequency and one across time, each added to its input."""

    def __init__(self, width: int, hidden: int, causal: bool) -> None:
        super().__init__()
        self.norm_freq, self.norm_time = nn.LayerNorm(width), nn.LayerNorm(width)
        self.across_freq = nn.GRU(width, hidden, bidirectional=True)
        self.across_time = nn.GRU(width, width if causal else hidden, bidirectional=not causal)

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, freq, frame, width)`` to the same."""
        batch, freqs, frames, width = x.shape
        by_freq = self.norm_freq(x).transpose(0, 1).reshape(freqs, batch * frames, width)
        x = x + self.across_freq(by_freq)[0].reshape(freqs, batch, frames, width).transpose(0, 1)
        by_time = self.norm_time(x).permute(2, 0, 1, 3).reshape(frames, batch * freqs, width)
        over_time: Tensor = self.across_time(by_time)[0].reshape(frames, batch, freqs, width)
        return x + over_time.permute(1, 2, 0, 3)
