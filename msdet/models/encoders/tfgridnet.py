"""TF-GridNet: recurrences within frames and within frequencies, attention across frames (Wang et al. 2023).

Z.-Q. Wang, S. Cornell, S. Choi, Y. Lee, B.-Y. Kim and S. Watanabe, "TF-GridNet: integrating full- and sub-band modeling
for speech separation", IEEE/ACM TASLP 31, 2023. With the paper's letters, ``large`` is D 64, B 6, I 4, J 1, H 256, L 4
(14.4 M parameters as published), ``small`` D 48, B 6, H 192 (8.2 M). The output layer is the heads' here.

As in the authors' code (ESPnet, ``tfgridnetv2_separator.py``), whose weights give the same here, a block pads its
input with zeros before the first norm, so that edges lie in as many windows as the middle, and cuts them off before
the attention. `causal`, which the paper has not, runs across time forwards only, on windows of the past that are
padded after the norm, lets attention see a bounded past, and takes the first norm within a frame.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from msdet.dsp.streaming_state import State, with_past
from msdet.models.encoders import ENCODERS, StreamingBlockEncoder
from msdet.models.encoders.layers import (
    AxesNorm,
    Conv,
    LayerNorm,
    PRelu,
    attend_past,
    past_mask,
    preset,
    run_block,
    run_rnn,
)

SIZES = {"small": {"blocks": 6, "width": 48, "hidden": 192}, "large": {"blocks": 6, "width": 64, "hidden": 256}}

TINY = {"blocks": 1, "width": 8, "hidden": 6, "heads": 2, "window": 3, "similarity": 20, "context": 4}


@ENCODERS.register("tfgridnet", tiny=TINY)
class TFGridNet(StreamingBlockEncoder):
    """Blocks of three residual modules: full-band BLSTM, sub-band BLSTM, self-attention across frames.

    Args:
        size: ``small`` or ``large``: what the next three are unless given.
        blocks: number of blocks (B).
        width: features of a bin throughout (D), a multiple of `heads`.
        hidden: units of each LSTM in each direction (H).
        window: neighboring bins in one step of the LSTMs (I).
        stride: bins from one step to the next (J), at most `window`; more is faster.
        heads: of the attention (L).
        similarity: features of a frame that queries and keys have, about (E times frequencies).
    """

    def __init__(
        self,
        features_in: int,
        freqs: int,
        size: str = "small",
        blocks: int | None = None,
        width: int | None = None,
        hidden: int | None = None,
        window: int = 4,
        stride: int = 1,
        heads: int = 4,
        similarity: int = 512,
        dropout: float = 0.0,
        causal: bool = False,
        context: int = 251,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        sizes = preset(SIZES, size, blocks=blocks, width=width, hidden=hidden)
        self.features_out = features = sizes["width"]
        if features % heads:
            raise ValueError(f"width {features} is not a multiple of heads {heads}")
        if context < 1:
            raise ValueError(f"context {context} is less than 1 frame")
        if not 1 <= stride <= window:
            raise ValueError(f"stride {stride} is not between 1 and window {window}")
        self.depth = sizes["blocks"]
        self.causal = causal
        self.context = context
        self.checkpoint = checkpoint
        self.enter = Conv(features_in, features, (3, 3), causal=causal)
        self.norm = AxesNorm((1, 3) if causal else (1, 2, 3), features)
        recurrence = (features, sizes["hidden"], window, stride)
        attention = (freqs, features, heads, -(-similarity // freqs))
        self.blocks = nn.ModuleList(_Block(recurrence, attention, dropout, causal) for _ in range(self.depth))

    def start(self, features: Tensor) -> Tensor:
        """``(batch, freq, frame, width)``."""
        return self.stream_start(features, None)[0]

    def block(self, index: int, x: Tensor) -> Tensor:
        """The three modules."""
        mask = past_mask(x.shape[2], self.context, x.device) if self.causal else None
        return run_block(self.blocks[index], x, mask, checkpoint=self.checkpoint)

    def stream_start(self, features: Tensor, state: State) -> tuple[Tensor, State]:
        """The next frames, of a causal encoder."""
        entered, state = self.enter.stream(features, state)
        return self.norm(entered), state

    def stream_block(self, index: int, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The next frames, of a causal encoder."""
        return cast(_Block, self.blocks[index]).stream(x, self.context, state)


class _Block(nn.Module):
    """The three modules, each added to its input."""

    def __init__(
        self, recurrence: tuple[int, int, int, int], attention: tuple[int, int, int, int], dropout: float, causal: bool
    ) -> None:
        super().__init__()
        self.across_freq = _Recurrence(1, *recurrence, forwards=False)
        self.across_time = _Recurrence(2, *recurrence, forwards=causal)
        self.attention = _FrameAttention(*attention)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """``(batch, freq, frame, width)`` to the same; `mask` is bool ``(frame, frame)``."""
        freqs, frames = (layer.padding(x.shape[layer.axis]) for layer in (self.across_freq, self.across_time))
        padded = nn.functional.pad(x, (0, 0, *frames, *freqs))
        padded = padded + self.dropout(self.across_freq(padded))
        padded = padded + self.dropout(self.across_time(padded))
        x = padded[:, freqs[0] :, frames[0] :][:, : x.shape[1], : x.shape[2]]
        return cast(Tensor, x + self.dropout(self.attention(x, mask)))

    def stream(self, x: Tensor, context: int, state: State) -> tuple[Tensor, State]:
        """The same of the next frames, if it is causal; attention sees `context` frames."""
        recurred, attended = state or (None, None)
        freqs = self.across_freq.padding(x.shape[1])
        padded = nn.functional.pad(x, (0, 0, 0, 0, *freqs))
        padded = padded + self.across_freq(padded)
        y, recurred = self.across_time.stream(padded, recurred)
        x = (padded + y)[:, freqs[0] :][:, : x.shape[1]]
        y, attended = self.attention.stream(x, context, attended)
        return x + y, (recurred, attended)


class _Recurrence(nn.Module):
    """An LSTM along one axis whose steps are windows of neighboring bins; overlap-add brings bins back."""

    def __init__(self, axis: int, width: int, hidden: int, window: int, stride: int, forwards: bool) -> None:
        super().__init__()
        self.axis, self.window, self.stride, self.forwards = axis, window, stride, forwards
        self.norm = LayerNorm(width)
        self.lstm = nn.LSTM(width * window, hidden, bidirectional=not forwards)
        directions = 1 if forwards else 2
        self.leave = nn.ConvTranspose1d(directions * hidden, width, window, stride)

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, freq, frame, width)``, padded by `padding`, to the same."""
        past = self.window - 1 if self.forwards else 0  # a window ends where its first output lies
        sequence = nn.functional.pad(self.norm(x).movedim(self.axis, -1), (past, 0))
        bins = self.leave(run_rnn(self.lstm, self._steps(sequence))[0].permute(1, 2, 0))
        added: Tensor = bins[..., : x.shape[self.axis]].unflatten(0, sequence.shape[:2])
        return added.movedim(-1, self.axis)

    def stream(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The next frames, if it runs forwards across time: a step each `stride` frames, whose later part is kept."""
        count, past, hidden, ahead = state or (0, None, None, None)
        length, reach = x.shape[2], self.window - 1
        joined, past = with_past(self.norm(x).movedim(2, -1), reach, -1, past)
        first = -count % self.stride  # frame of the first step
        shape = (x.shape[0] * x.shape[1], x.shape[3], length + reach)
        sums = x.new_zeros(shape)
        if ahead is not None:
            sums[..., :reach] += ahead
        if first < length:
            outputs, hidden = run_rnn(self.lstm, self._steps(joined[..., first:]), hidden)
            weight = self.leave.weight
            given = nn.functional.conv_transpose1d(outputs.permute(1, 2, 0), weight, stride=self.stride)
            sums[..., first : first + given.shape[-1]] += given
        bias = cast(Tensor, self.leave.bias)
        bins = (sums[..., :length] + bias[:, None]).unflatten(0, x.shape[:2])
        return bins.movedim(-1, 2), (count + length, past, hidden, sums[..., length:].clone())

    def _steps(self, sequence: Tensor) -> Tensor:
        """``(step, batch and other, width and window)`` of a sequence ``(batch, other, width, bin)``."""
        windows = sequence.unfold(-1, self.window, self.stride)
        return windows.permute(3, 0, 1, 2, 4).flatten(3).flatten(1, 2)

    def padding(self, length: int) -> tuple[int, int]:
        """Bins of zeros that a block adds before and after; none where it runs forwards."""
        if self.forwards:
            return 0, 0
        overlap = self.window - self.stride
        steps = max(0, -(-(length + 2 * overlap - self.window) // self.stride)) + 1
        return overlap, (steps - 1) * self.stride + self.window - length - overlap


class _FrameAttention(nn.Module):
    """Self-attention between frames of ``(batch, freq, frame, width)``: a query, key or value holds all frequencies."""

    def __init__(self, freqs: int, width: int, heads: int, similarity: int) -> None:
        super().__init__()
        self.query = _Heads(freqs, width, heads, similarity)
        self.key = _Heads(freqs, width, heads, similarity)
        self.value = _Heads(freqs, width, heads, width // heads)
        self.mix = _Heads(freqs, width, 1, width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        query, key, value = self._parts(x)
        return self._attend(x, query, key, value, mask)

    def stream(self, x: Tensor, context: int, state: State) -> tuple[Tensor, State]:
        query, key, value = self._parts(x)
        key, value, mask, state = attend_past(key, value, context, state)
        return self._attend(x, query, key, value, mask), state

    def _parts(self, x: Tensor) -> list[Tensor]:
        """Query, key and value, each ``(batch, head, frame, freq and feature)``."""
        return [heads(x).permute(0, 3, 2, 1, 4).flatten(3) for heads in (self.query, self.key, self.value)]

    def _attend(self, x: Tensor, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        seen = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        by_bin = seen.unflatten(3, (x.shape[1], -1)).permute(0, 3, 2, 1, 4).flatten(3)
        return cast(Tensor, self.mix(by_bin).flatten(3))


class _Heads(nn.Module):
    """Linear layer, PReLU and norm over frequencies and features, apart for each head."""

    def __init__(self, freqs: int, width: int, heads: int, size: int) -> None:
        super().__init__()
        self.heads = heads
        self.linear = nn.Linear(width, heads * size)
        self.rectify = PRelu(heads, axis=3)
        self.norm = AxesNorm((1, 4), freqs, 1, heads, size)

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, freq, frame, width)`` to ``(batch, freq, frame, head, size)``."""
        y = self.linear(x).unflatten(-1, (self.heads, -1))
        return cast(Tensor, self.norm(self.rectify(y)))
