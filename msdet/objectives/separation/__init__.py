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

import torch
from torch import Tensor

from msdet.components import find_component, with_options
from msdet.models.frontend import Stft


class Signals:
    """Signals as spectra, and as waveforms if a loss asks.

    Args:
        spectrum: complex ``(..., freq, frame)``.
        to_waveform: resynthesis, of a spectrum ``(batch, channel, freq, frame)`` to
            ``(batch, channel, time)``.
        waveform: ``(..., time)``, where known; otherwise it is resynthesised.
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
        flat = spectrum.reshape(-1, 1, *spectrum.shape[-2:])
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
        MsdetError: an option that the loss does not have, or a value that it cannot work with.
    """
    loss = find_component(__name__, name, "loss", "separation loss")
    chosen: SeparationLoss = with_options(loss, options or {}, f"separation loss '{name}'", 2, _try)
    return chosen


def _try(loss: SeparationLoss) -> None:
    """Take a loss of half a second at 8 kHz."""
    stft = Stft(512)
    waveform = torch.linspace(0.0, 2000.0, 8000).sin().reshape(1, 2, 4000)
    signals = Signals(stft(waveform), partial(stft.inverse, samples=4000), waveform)
    loss(Signals(0.5 * signals.spectrum, signals.to_waveform), signals)


def is_signed(name: str) -> bool:
    """Whether a loss that `separation_loss` finds can be below zero, as far as its module says."""
    loss = find_component(__name__, name, "loss", "separation loss")
    return bool(getattr(inspect.getmodule(loss), "SIGNED", False))
