"""Losses of separation, one file each.

A module defines ``loss(estimate: Signals, reference: Signals, **options) -> Tensor``. Both hold signals of
any leading axes, say ``(batch, slot)``, that broadcast against each other, so that all pairs can be asked at
once; the loss has those axes. Signals are at unit mixture level: the mixture's RMS at the reference
microphone is 1. A silent reference (a slot that nobody fills) is all zero; a loss says what it does with one.

A module whose loss can be below zero says so by a constant, ``SIGNED = True``: what works with ratios or
logarithms of losses then refuses it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, Protocol

from torch import Tensor

from msdet.components import find_component
from msdet.errors import MsdetError, did_you_mean


class Signals:
    """Signals as spectra, and as waveforms if a loss asks.

    Args:
        spectrum: complex ``(..., freq, frame)``.
        to_waveform: resynthesis, of a spectrum ``(batch, channel, freq, frame)`` to ``(batch, channel,
        time)``. waveform: ``(..., time)``, where known; otherwise it is resynthesised.
    """

    def __init__(
        self, spectrum: Tensor, to_waveform: Callable[[Tensor], Tensor], waveform: Tensor | None = None
    ) -> None:
        self.spectrum = spectrum
        self.to_waveform = to_waveform
        if waveform is not None:
            self.waveform = waveform

    @cached_property
    def waveform(self) -> Tensor:
        """``(..., time)``."""
        spectrum = self.spectrum
        leading = spectrum.shape[:-2]
        flat = spectrum.reshape(leading.numel(), 1, *spectrum.shape[-2:])
        return self.to_waveform(flat).reshape(*leading, -1)

    def __getitem__(self, index: Any) -> Signals:
        """Some of the signals, or the same with new axes, as a tensor ``(batch, slot)`` is indexed."""
        known = self.__dict__.get("waveform")
        return Signals(self.spectrum[index], self.to_waveform, None if known is None else known[index])

    def sum(self, axis: int) -> Signals:
        """Signals added along a leading axis, given as counted from the front."""
        known = self.__dict__.get("waveform")
        return Signals(self.spectrum.sum(axis), self.to_waveform, None if known is None else known.sum(axis))


class SeparationLoss(Protocol):
    """What a loss of separation is."""

    def __call__(self, estimate: Signals, reference: Signals) -> Tensor:
        """Loss of each signal."""
        ...


def separation_loss(name: str, options: dict[str, Any] | None = None) -> SeparationLoss:
    """A loss by name or import path ``module:function``, with its options.

    Raises:
        UnknownNameError: no such loss; the nearest name is offered.
        MsdetError: an option that the loss does not have.
    """
    loss = find_component(__name__, name, "loss", "separation loss")
    allowed = list(inspect.signature(loss).parameters)[2:]
    for option in options or {}:
        if option not in allowed:
            raise MsdetError(
                f"separation loss '{name}' has no option '{option}'{did_you_mean(option, allowed)}"
            )
    chosen: SeparationLoss = partial(loss, **(options or {}))
    return chosen


def is_signed(name: str) -> bool:
    """Whether a loss that `separation_loss` finds can be below zero, as far as its module says."""
    loss = find_component(__name__, name, "loss", "separation loss")
    return bool(getattr(inspect.getmodule(loss), "SIGNED", False))
