"""Layers that several encoders share: norms, convolutions, recurrence, attention to the past, checkpoints.

All of them take and give ``(batch, freq, frame, feature)`` unless they say otherwise.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from msdet.dsp.streaming_state import State, with_past
from msdet.errors import UnknownNameError


class LayerNorm(nn.LayerNorm):
    """Layer normalization over the last axis, in float32 whatever the precision around it."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize ``(..., feature)``."""
        weight, bias = self.weight.float(), self.bias.float()
        return nn.functional.layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps).to(x.dtype)


class AxesNorm(nn.Module):
    """Zero mean and unit variance over `axes`, then a learned scale and offset of a shape; in float32."""

    def __init__(self, axes: tuple[int, ...], *shape: int) -> None:
        super().__init__()
        self.axes = axes
        self.scale = nn.Parameter(torch.ones(shape))
        self.offset = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize a tensor of any shape."""
        wide = x.float()
        centered = wide - wide.mean(self.axes, keepdim=True)
        variance = centered.square().mean(self.axes, keepdim=True)  # faster than `var` on the CPU
        scale = (variance + 1e-5).rsqrt() * self.scale.float()
        return (centered * scale + self.offset.float()).to(x.dtype)


class PRelu(nn.Module):
    """ReLU whose slope below zero is learned, one slope for each of the entries of an axis."""

    def __init__(self, entries: int, axis: int) -> None:
        super().__init__()
        self.axis = axis
        self.slope = nn.Parameter(torch.full((entries,), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        """A tensor of any shape to the same."""
        return nn.functional.prelu(x.movedim(self.axis, 1), self.slope).movedim(1, self.axis)


class Conv(nn.Module):
    """Convolution across frequency and time; zeros pad the edges, so that both lengths stay.

    Args:
        features_out: of a bin of the output.
        kernel: width in bins and in frames, odd.
        groups: groups of features that do not mix.
        causal: no frame sees a later one.
    """

    def __init__(
        self,
        features_in: int,
        features_out: int,
        kernel: tuple[int, int] = (1, 1),
        groups: int = 1,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.past = kernel[1] - 1 if causal else 0
        sides = (kernel[0] // 2, 0 if causal else kernel[1] // 2)
        self.conv = nn.Conv2d(features_in, features_out, kernel, padding=sides, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, freq, frame, features_in)`` to ``(batch, freq, frame, features_out)``."""
        return self.stream(x, None)[0]

    def stream(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The next frames, of a causal convolution."""
        joined, kept = with_past(x, self.past, 2, state)
        convolved: Tensor = self.conv(joined.permute(0, 3, 1, 2))  # no copy: this is PyTorch's channels-last order
        return convolved.permute(0, 2, 3, 1), kept


def run_rnn(layer: nn.Module, sequence: Tensor, state: State = None) -> tuple[Tensor, State]:
    """Run an LSTM or GRU in float32 whatever the precision around it, from the state of an earlier call.

    Autocast would run it in half precision throughout, sums over time included, and not every CPU can. Gives the
    output, of the precision around it, and the state after it, for the next call.
    """
    kind = sequence.device.type
    if not torch.is_autocast_enabled(kind):
        output, state = layer(sequence, state)
        return output, state
    with torch.autocast(kind, enabled=False):
        output, state = layer(sequence.float(), state)
    return output.to(torch.get_autocast_dtype(kind)), state


def run_rnn_along(layer: nn.Module, x: Tensor, axis: int, state: State = None) -> tuple[Tensor, State]:
    """`run_rnn` along one axis of ``(batch, freq, frame, feature)``: 1 for frequency, 2 for time."""
    sequence = x.movedim(axis, 0)
    if getattr(layer, "many_axes", False):  # of the batch
        output, state = run_rnn(layer, sequence, state)
        return output.movedim(0, axis), state
    output, state = run_rnn(layer, sequence.flatten(1, 2), state)
    return output.reshape(*sequence.shape[:3], output.shape[-1]).movedim(0, axis), state


def past_mask(frames: int, context: int, device: torch.device, before: int = 0) -> Tensor:
    """Which frames a causal attention sees: itself and those before it, `context` in all.

    Bool ``(frame, before + frame)``, row by query, where `before` is the number of frames before those that ask.

    >>> past_mask(3, 2, torch.device("cpu")).int()
    tensor([[1, 0, 0],
            [1, 1, 0],
            [0, 1, 1]], dtype=torch.int32)
    >>> past_mask(1, 2, torch.device("cpu"), before=2).int()
    tensor([[0, 1, 1]], dtype=torch.int32)
    """
    position = torch.arange(before + frames, device=device)
    age = position[before:, None] - position
    return (age >= 0) & (age < context)


def attend_past(key: Tensor, value: Tensor, context: int, state: State) -> tuple[Tensor, Tensor, Tensor, State]:
    """What the next frames of a causal attention see: keys, values and `past_mask`; and the state for the next call.

    Of keys and values ``(batch, head, frame, feature)`` of these frames, each of which sees `context`.
    """
    frames = key.shape[2]
    if state is not None:
        key, value = (torch.cat(pair, dim=2) for pair in zip(state, (key, value), strict=True))
    mask = past_mask(frames, context, key.device, key.shape[2] - frames)
    first = max(0, key.shape[2] - context + 1)
    return key, value, mask, (key[:, :, first:].clone(), value[:, :, first:].clone())


def run_block(block: nn.Module, x: Tensor, *shared: Any, checkpoint: bool) -> Tensor:
    """Apply a block; with `checkpoint`, its activations are computed again in the backward pass, not kept."""
    y: Tensor
    if checkpoint and torch.is_grad_enabled():
        y = recompute(block, x, *shared, use_reentrant=False)
    else:
        y = block(x, *shared)
    return y


def preset(sizes: dict[str, dict[str, int]], size: str, **given: int | None) -> dict[str, int]:
    """Numbers of a named size, each replaced by the one that is given.

    >>> preset({"small": {"blocks": 4, "hidden": 8}}, "small", blocks=None, hidden=3)
    {'blocks': 4, 'hidden': 3}
    """
    if size not in sizes:
        raise UnknownNameError("size", size, sizes)
    for name, number in given.items():
        if number is not None and number < 1:
            raise ValueError(f"{name} {number} is less than 1")
    return {**sizes[size], **{name: number for name, number in given.items() if number is not None}}
