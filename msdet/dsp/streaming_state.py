"""State that causal computations carry from one piece of a signal to the next: sums, means, past frames.

A state is None before the first piece. States are never changed in place: one that was kept can be continued
again. Sums are in double precision, so that they do not drift over hours and are the same in pieces.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

State = Any
"""None, or nested tuples, lists and dictionaries of tensors and numbers."""

_BLOCK = 64  # frames that forget together


def decay_over(time_constant_s: float | None, frame_s: float) -> float:
    """Weight after a frame of `frame_s` of what came before it, by a time constant; None forgets nothing.

    >>> decay_over(None, 0.01), round(decay_over(1.0, 0.01), 4)
    (1.0, 0.99)
    """
    if time_constant_s is None:
        return 1.0
    if not 0.0 < time_constant_s < float("inf"):
        raise ValueError(f"time_constant_s is {time_constant_s}, expected above 0, or null to forget nothing")
    return math.exp(-frame_s / time_constant_s)


def running_sum(values: Tensor, axis: int, decay: float = 1.0, before: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Sum of each entry along an axis and all before it, older ones weighted by powers of `decay`.

    Returns the sums in double precision, of the shape of `values`, and the last of them, which is `before` of
    the next call.

    >>> running_sum(torch.tensor([4.0, 2.0, 0.0]), 0)[0].tolist()
    [4.0, 6.0, 6.0]
    >>> running_sum(torch.tensor([4.0, 2.0, 0.0]), 0, decay=0.5)[0].tolist()
    [4.0, 4.0, 2.0]
    """
    wide = values.movedim(axis, -1).to(torch.complex128 if values.is_complex() else torch.float64)
    repeatable = not wide.is_cuda or not torch.are_deterministic_algorithms_enabled()
    if decay == 1.0 and repeatable:
        sums = wide.cumsum(-1)
        if before is not None:
            sums = sums + before[..., None]
        return sums.movedim(-1, axis), sums[..., -1].clone()
    parts = []
    for block in wide.split(_BLOCK, dim=-1):
        age = torch.arange(block.shape[-1], device=wide.device)
        kernel = torch.where(age[:, None] >= age, decay ** (age[:, None] - age).double(), 0.0)
        part = block @ kernel.mT.to(wide.dtype)
        if before is not None:
            part = part + before[..., None] * decay ** (age + 1).double()
        before = part[..., -1]
        parts.append(part)
    return torch.cat(parts, dim=-1).movedim(-1, axis), parts[-1][..., -1].clone()


def running_mean(values: Tensor, axis: int, decay: float = 1.0, before: State = None) -> tuple[Tensor, State]:
    """Mean of each entry along an axis and all before it, in the precision of `values`; as `running_sum`.

    >>> running_mean(torch.tensor([4.0, 2.0, 0.0]), 0)[0].tolist()
    [4.0, 3.0, 2.0]
    """
    total, weight = before or (None, None)
    sums, total = running_sum(values, axis, decay, total)
    ones = torch.ones(values.shape[axis], device=values.device)
    weights, weight = running_sum(ones, 0, decay, weight)
    means = sums.movedim(axis, -1) / weights
    return means.movedim(-1, axis).to(values.dtype), (total, weight)


def with_past(signal: Tensor, frames: int, axis: int, past: Tensor | None) -> tuple[Tensor, Tensor]:
    """A signal after the last frames before it, zeros at the start; and the frames to keep for the next.

    >>> with_past(torch.tensor([1, 2, 3]), 2, 0, None)
    (tensor([0, 0, 1, 2, 3]), tensor([2, 3]))
    """
    if frames == 0:
        return signal, signal.narrow(axis, 0, 0)
    if past is None:
        shape = list(signal.shape)
        shape[axis] = frames
        past = signal.new_zeros(shape)
    joined = torch.cat([past, signal], dim=axis)
    length = joined.shape[axis]
    return joined, joined.narrow(axis, length - frames, frames).clone()


def sample_and_hold(
    make: Callable[[slice], tuple[Tensor, ...]], frames: int, update_interval: int, before: State
) -> tuple[tuple[Tensor, ...], State]:
    """Tensors ``(batch, frame, ...)`` made every `update_interval` frames, held in between; and the state.

    `make` gives tensors ``(batch, update, ...)`` for a slice of the `frames` that come. The interval
    counts from the very first frame, `before` is the state that an earlier call returned.
    """
    if frames < 1:
        raise ValueError("no frames, expected at least one")
    seen, last = before or (0, None)
    first = -seen % update_interval
    made = make(slice(first, frames, update_interval)) if first < frames else ()
    if last is not None:
        made = tuple(torch.cat(pair, dim=1) for pair in zip(last, made, strict=True)) if made else last
    device = made[0].device
    offset = seen // update_interval - int(last is not None and seen % update_interval == 0)
    index = torch.arange(seen, seen + frames, device=device) // update_interval - offset
    values = tuple(value[:, index] for value in made)
    return values, (seen + frames, tuple(value[:, -1:].clone() for value in values))
