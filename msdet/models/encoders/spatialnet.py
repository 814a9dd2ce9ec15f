"""SpatialNet: cross-band blocks within a frame, narrow-band blocks within a frequency (Quan and Li 2024).

C. Quan and X. Li, "SpatialNet: extensively learning spatial information for multichannel joint speech separation,
denoising and dereverberation", IEEE/ACM TASLP 32, 2024. ``small`` and ``large`` are the paper's: 1.2 M and 6.5 M
parameters for 129 frequencies, 6 microphones and 2 talkers, with its output layer, which is the heads' here. Layers
and initialization are those of the authors' code (Audio-WestlakeU/NBSS, ``SpatialNet.py``), whose weights fit.

`causal` follows "Multichannel long-term streaming neural speech enhancement for static and moving speakers" (Quan and
Li, IEEE SPL 31, 2024) with masked self-attention: attention sees a bounded past, convolutions pad the past only, and
the group norm is over frequency within one frame. One `dropout` stands for the paper's three, which are all zero.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from msdet.dsp.streaming_state import State
from msdet.models.encoders import ENCODERS, StreamingBlockEncoder
from msdet.models.encoders.layers import AxesNorm, Conv, LayerNorm, PRelu, attend_past, past_mask, preset, run_block

SIZES = {
    "small": {"blocks": 8, "hidden": 96, "ffn": 192, "squeeze": 8},
    "large": {"blocks": 12, "hidden": 192, "ffn": 384, "squeeze": 16},
}

GROUPS = 8  # of all grouped convolutions

TINY = {"blocks": 2, "hidden": 16, "ffn": 16, "squeeze": 2, "context": 4}


@ENCODERS.register("spatialnet", tiny=TINY)
class SpatialNet(StreamingBlockEncoder):
    """Interleaved cross-band and narrow-band blocks; a pair counts as one block.

    Args:
        size: ``small`` or ``large``: what the next four are unless given.
        blocks: pairs of a cross-band and a narrow-band block.
        hidden: features of a bin throughout, a multiple of 8 and of `heads`.
        ffn: features inside the convolutional feed-forward, a multiple of 8.
        squeeze: features that the full-band linear layers see.
        heads: of the attention over frames.
    """

    compiles = True

    def __init__(
        self,
        features_in: int,
        freqs: int,
        size: str = "small",
        blocks: int | None = None,
        hidden: int | None = None,
        ffn: int | None = None,
        squeeze: int | None = None,
        heads: int = 4,
        dropout: float = 0.0,
        causal: bool = False,
        context: int = 251,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        sizes = preset(SIZES, size, blocks=blocks, hidden=hidden, ffn=ffn, squeeze=squeeze)
        if context < 1:
            raise ValueError(f"context {context} is less than 1 frame")
        self.features_out = width = sizes["hidden"]
        self.depth = sizes["blocks"]
        self.causal = causal
        self.context = context
        self.checkpoint = checkpoint
        self.enter = Conv(features_in, width, (1, 5), causal=causal)
        self.full_band = _FullBand(sizes["squeeze"], freqs)
        self.cross_band = nn.ModuleList(_CrossBand(width, sizes["squeeze"]) for _ in range(self.depth))
        narrow_band = (_NarrowBand(width, sizes["ffn"], heads, dropout, causal) for _ in range(self.depth))
        self.narrow_band = nn.ModuleList(narrow_band)

    def start(self, features: Tensor) -> Tensor:
        """``(batch, freq, frame, width)``."""
        return self.stream_start(features, None)[0]

    def block(self, index: int, x: Tensor) -> Tensor:
        """A cross-band and a narrow-band block."""
        mask = past_mask(x.shape[2], self.context, x.device) if self.causal else None
        x = run_block(self.cross_band[index], x, self.full_band, checkpoint=self.checkpoint)
        return run_block(self.narrow_band[index], x, mask, checkpoint=self.checkpoint)

    def stream_start(self, features: Tensor, state: State) -> tuple[Tensor, State]:
        """The next frames, of a causal encoder."""
        return self.enter.stream(features, state)

    def stream_block(self, index: int, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The next frames, of a causal encoder."""
        narrow = cast(_NarrowBand, self.narrow_band[index])
        return narrow.stream(self.cross_band[index](x, self.full_band), self.context, state)


class _FullBand(nn.Module):
    """A linear layer across all frequencies for each squeezed feature, shared by all blocks."""

    def __init__(self, squeeze: int, freqs: int) -> None:
        super().__init__()
        bound = 1.0 / freqs  # theirs: PyTorch takes both axes of a stack of matrices to be inputs
        self.weight = nn.Parameter(torch.empty(squeeze, freqs, freqs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(freqs, 1, squeeze).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bfts,sgf->bgts", x, self.weight) + self.bias


class _CrossBand(nn.Module):
    """Frequency convolution, full-band linear layer, frequency convolution, each added to its input."""

    def __init__(self, width: int, squeeze: int) -> None:
        super().__init__()
        self.before = _FrequencyConv(width)
        self.norm = LayerNorm(width)
        self.squeeze = nn.Linear(width, squeeze)
        self.expand = nn.Linear(squeeze, width)
        self.after = _FrequencyConv(width)

    def forward(self, x: Tensor, full_band: nn.Module) -> Tensor:
        x = x + self.before(x)
        squeezed = nn.functional.silu(self.squeeze(self.norm(x)))
        x = x + nn.functional.silu(self.expand(full_band(squeezed)))
        return cast(Tensor, x + self.after(x))


class _FrequencyConv(nn.Module):
    """Grouped convolution over 5 neighboring frequencies."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = LayerNorm(width)
        self.conv = Conv(width, width, (5, 1), GROUPS)
        self.rectify = PRelu(width, axis=3)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.rectify(self.conv(self.norm(x))))


class _NarrowBand(nn.Module):
    """Self-attention over frames, then the time-convolutional feed-forward, each added to its input."""

    def __init__(self, width: int, ffn: int, heads: int, dropout: float, causal: bool) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"hidden {width} is not a multiple of heads {heads}")
        self.heads = heads
        self.norm_attention, self.norm_ffn = LayerNorm(width), LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.query_key_value.weight)  # as `nn.MultiheadAttention`, which is theirs
        nn.init.zeros_(self.query_key_value.bias)
        nn.init.zeros_(self.mix.bias)
        self.enter = nn.Linear(width, ffn)
        self.convs = nn.ModuleList(Conv(ffn, ffn, (1, 3), GROUPS, causal) for _ in range(3))
        # over the features of a group and time, or frequency where time would look ahead
        self.norm_conv = AxesNorm((1, 4) if causal else (2, 4), GROUPS, ffn // GROUPS)
        self.leave = nn.Linear(ffn, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """``(batch, freq, frame, width)`` to the same; `mask` is bool ``(frame, frame)``."""
        query, key, value = self._attention_parts(self.norm_attention(x))
        x = x + self.dropout(self._attend(query, key, value, mask).view_as(x))
        return cast(Tensor, x + self.dropout(self._feed_forward(self.norm_ffn(x), [None] * 3)[0]))

    def stream(self, x: Tensor, context: int, state: State) -> tuple[Tensor, State]:
        """The same of the next frames, if it is causal; attention sees `context` frames."""
        attended, *convolved = state or [None] * 4
        query, key, value = self._attention_parts(self.norm_attention(x))
        key, value, mask, attended = attend_past(key, value, context, attended)
        x = x + self._attend(query, key, value, mask).view_as(x)
        fed, convolved = self._feed_forward(self.norm_ffn(x), convolved)
        return x + fed, [attended, *convolved]

    def _attention_parts(self, x: Tensor) -> Tensor:
        """Queries, keys and values ``(3, batch and freq, head, frame, width of a head)``."""
        parts: Tensor = self.query_key_value(x).flatten(0, 1).unflatten(-1, (3, self.heads, -1))
        return parts.permute(2, 0, 3, 1, 4)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        seen = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return cast(Tensor, self.mix(seen.transpose(1, 2).flatten(-2)))

    def _feed_forward(self, x: Tensor, states: list[State]) -> tuple[Tensor, list[State]]:
        silu = nn.functional.silu
        first, second, third = (cast(Conv, conv).stream for conv in self.convs)
        y, one = first(silu(self.enter(x)), states[0])
        y, two = second(silu(y), states[1])
        y = silu(self.norm_conv(y.unflatten(-1, (GROUPS, -1))).flatten(-2))
        y, three = third(y, states[2])
        return self.leave(silu(y)), [one, two, three]
