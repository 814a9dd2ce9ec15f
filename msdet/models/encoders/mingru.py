"""Encoders of minimal GRUs, whose gates see the input alone: as good after as many steps, and faster on a CPU.

A minimal GRU (Feng et al., "Were RNNs All We Needed?", arXiv:2410.01201, 2024, here with tanh) is a GRU without weights
from its state: update gate z = σ(W x + b), candidate c = tanh(V x + d), state h ← z h + (1 - z) c. What is left of the
loop over steps is one product of elements, so on a CPU a few steps are done while their numbers are in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from msdet.dsp.streaming_state import State
from msdet.models.encoders import ENCODERS
from msdet.models.encoders.band_gru import TINY as TINY_BANDS
from msdet.models.encoders.band_gru import BandGRU
from msdet.models.encoders.ft_gru import FTGRU, TINY

STEPS_IN_CACHE = 8
"""Steps that are done together on a CPU."""

sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
tanh_backward = torch.ops.aten.tanh_backward.grad_input


class MinGRU(nn.Module):
    """One layer of minimal GRU that is called like `torch.nn.GRU`, with any number of axes of the batch.

    Args:
        width: of the input.
        hidden: units in each direction.
        bidirectional: also run from the end; the output is then ``(step, batch, 2 * hidden)``.

    It works on views as they are: no copy is made of an input whose steps are not in a row.
    """

    many_axes = True

    def __init__(self, width: int, hidden: int, bidirectional: bool = False) -> None:
        super().__init__()
        self.hidden_size, self.bidirectional = hidden, bidirectional
        limit, directions = 1 / math.sqrt(width), 1 + bidirectional
        self.weight = nn.Parameter(torch.empty(directions, 2 * hidden, width).uniform_(-limit, limit))
        self.bias = nn.Parameter(torch.empty(directions, 2 * hidden).uniform_(-limit, limit))

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # as PyTorch's own recurrences are left as they are
    def forward(self, sequence: Tensor, state: State = None) -> tuple[Tensor, Tensor]:
        """Outputs for ``(step, batch, width)``, and states ``(direction, batch, hidden)`` after the last steps."""
        if state is None:
            state = sequence.new_zeros(len(self.weight), *sequence.shape[1:-1], self.hidden_size)
        output: Tensor = _Recurrence.apply(sequence, self.weight, self.bias, state)  # type: ignore[no-untyped-call]
        forwards, *backwards = output.split(self.hidden_size, dim=-1)
        return output, torch.stack([forwards[-1], *(half[0] for half in backwards)])

    def as_gru(self) -> nn.GRU:
        """The same as a layer of PyTorch, for exports: its weights from the state are zero."""
        directions, units, width = len(self.weight), self.hidden_size, self.weight.shape[-1]
        gru = nn.GRU(width, units, bidirectional=self.bidirectional)
        with torch.no_grad():
            for parameter in gru.parameters():
                parameter.zero_()
            for direction in range(directions):
                end = "_reverse" if direction else ""
                getattr(gru, f"weight_ih_l0{end}")[units:] = self.weight[direction]  # the reset gate comes first
                getattr(gru, f"bias_ih_l0{end}")[units:] = self.bias[direction]
        return gru


class _Recurrence(torch.autograd.Function):
    """All steps of a minimal GRU: a few at a time on a CPU, so that they stay in the cache, together on a GPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, start: Tensor) -> Tensor:
        directions, units = len(weight), weight.shape[1] // 2
        gates = x.new_empty(directions, *x.shape[:-1], 2 * units)
        output = _like(x, directions * units)
        for direction in range(directions):
            to_gates, offsets = _doubled(weight[direction]).t(), _doubled(bias[direction])
            own, state = output[..., direction * units : (direction + 1) * units], start[direction]
            for part in _parts(x, reverse=direction == 1):
                z, c = gates[direction, part].split(units, dim=-1)
                torch.addmm(offsets, x[part].flatten(0, -2), to_gates, out=gates[direction, part].flatten(0, -2))
                gates[direction, part].sigmoid_()
                c.mul_(2).sub_(1)  # tanh x = 2 σ(2 x) - 1, which is faster
                for step in _steps(len(z), reverse=direction == 1):
                    state = torch.lerp(c[step], state, z[step], out=own[part][step])
        ctx.save_for_backward(x, weight, start, gates, output)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x, weight, start, gates, output = ctx.saved_tensors
        units = weight.shape[1] // 2
        of_x, of_weight = torch.empty_like(x), torch.zeros_like(weight)
        of_bias, of_start = x.new_zeros(weight.shape[:2]), torch.zeros_like(start)
        for direction in range(len(weight)):
            reverse = direction == 1
            own = slice(direction * units, (direction + 1) * units)
            for part in _parts(x, not reverse):
                z, c = gates[direction, part].split(units, dim=-1)
                of_state = torch.empty_like(c)
                for step in _steps(len(z), not reverse):
                    torch.add(gradient[part][step][..., own], of_start[direction], out=of_state[step])
                    torch.mul(of_state[step], z[step], out=of_start[direction])
                past = _past(output[..., own], start[direction], part, reverse)
                of_gates = torch.empty_like(gates[direction, part])
                of_z, of_c = of_gates.split(units, dim=-1)
                sigmoid_backward(of_state * (past - c), z, grad_input=of_z)
                tanh_backward(of_state.addcmul_(of_state, z, value=-1), c, grad_input=of_c)
                rows = of_gates.flatten(0, -2)
                of_weight[direction].addmm_(rows.t(), x[part].flatten(0, -2))
                of_bias[direction].add_(rows.sum(0))
                of_inputs = (rows @ weight[direction]).view_as(x[part])
                of_x[part].add_(of_inputs) if reverse else of_x[part].copy_(of_inputs)
        return of_x, of_weight, of_bias, of_start


def _like(x: Tensor, width: int) -> Tensor:
    """An empty tensor of another width whose axes stand in memory as those of `x` do."""
    order = sorted(range(x.dim() - 1), key=lambda axis: x.stride()[axis], reverse=True)
    placed = x.new_empty(*(x.shape[axis] for axis in order), width)
    return placed.permute(*(order.index(axis) for axis in range(len(order))), len(order))


def _doubled(rows: Tensor) -> Tensor:
    """Weights of the gates, those of the candidate doubled."""
    gate, candidate = rows.chunk(2)
    return torch.cat([gate, 2 * candidate])


def _parts(x: Tensor, reverse: bool) -> Iterator[slice]:
    """Steps that are done together, in order or from the last."""
    size = STEPS_IN_CACHE if x.device.type == "cpu" else max(len(x), 1)
    starts = range(0, len(x), size)
    return (slice(start, min(start + size, len(x))) for start in (reversed(starts) if reverse else starts))


def _steps(count: int, reverse: bool) -> Iterator[int]:
    return reversed(range(count)) if reverse else iter(range(count))


def _past(output: Tensor, start: Tensor, part: slice, reverse: bool) -> Tensor:
    """The states that each step of a part started from."""
    if reverse:
        later = output[part.start + 1 : part.stop + 1]
        return later if part.stop < len(output) else torch.cat([later, start[None]])
    if part.start > 0:
        return output[part.start - 1 : part.stop - 1]
    return torch.cat([start[None], output[: part.stop - 1]])


@ENCODERS.register("ft_mingru", tiny=TINY)
class FTMinGRU(FTGRU):
    """`FTGRU` of minimal GRUs: the default, for speed."""

    RECURRENCE = MinGRU


@ENCODERS.register("band_mingru", tiny=TINY_BANDS)
class BandMinGRU(BandGRU):
    """`BandGRU` of minimal GRUs."""

    RECURRENCE = MinGRU
