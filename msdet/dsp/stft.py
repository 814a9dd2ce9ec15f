"""The STFT of models and methods, and signals as spectra and waveforms."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from msdet.errors import MsdetError

MAX_WINDOW_S = 1.0  # no STFT frame of a model is longer


def window_samples(window_s: float, sample_rate: int) -> int:
    """Length of an STFT frame in samples, even, so that frames overlap by half; 16 samples to a second."""
    if not window_s <= MAX_WINDOW_S:
        raise MsdetError(f"window_s is {window_s}, expected at most {MAX_WINDOW_S:g} s")
    samples = 2 * round(window_s * sample_rate / 2)
    if samples < 16:
        raise MsdetError(f"window_s is {window_s}, which is {samples} samples at {sample_rate} Hz: too short")
    return samples


class Stft(nn.Module):
    """Short-time Fourier transform with a square-root Hann window of so many samples, frames overlapping by half."""

    window: Tensor

    def __init__(self, window: int) -> None:
        super().__init__()
        self.length = window
        self.hop = window // 2
        self.register_buffer("window", torch.hann_window(window).sqrt(), persistent=False)

    @property
    def freqs(self) -> int:
        """Number of frequencies."""
        return self.length // 2 + 1

    def forward(self, waveform: Tensor) -> Tensor:
        """``(batch, channel, time)`` to complex ``(batch, channel, freq, frame)``.

        The end is padded so that every sample lies in two frames: the inverse divides by the windows' sum of
        squares, which must not vanish under a sample.
        """
        padding = -waveform.shape[-1] % self.hop
        flat = nn.functional.pad(waveform.flatten(0, 1), (0, padding))
        spectrum = torch.stft(flat, self.length, self.hop, window=self.window, pad_mode="constant", return_complex=True)
        unflat: Tensor = spectrum.unflatten(0, waveform.shape[:2])
        return unflat

    def inverse(self, spectrum: Tensor, samples: int) -> Tensor:
        """Complex ``(batch, channel, freq, frame)`` back to ``(batch, channel, samples)``, zero after the last frame.

        The squares of the windows over a sample sum to one, so nothing is divided by; `torch.istft` asks the device.
        """
        frames = torch.fft.irfft(spectrum.mT, self.length) * self.window
        halves = frames.unflatten(-1, (2, self.hop))
        waveform = (halves[..., 1:, 0, :] + halves[..., :-1, 1, :]).flatten(-2)
        return nn.functional.pad(waveform, (0, samples - waveform.shape[-1]))


class Signals:
    """Signals as spectra ``(..., freq, frame)``, and as waveforms ``(..., time)`` if a loss asks.

    Where these are not known they are resynthesized, by `to_waveform` of a spectrum ``(batch, channel, freq, frame)``.
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
        flat = self.spectrum.reshape(-1, 1, *self.spectrum.shape[-2:])
        return self.to_waveform(flat).reshape(*self.spectrum.shape[:-2], -1)

    def __getitem__(self, index: Any) -> Signals:
        """Some of the signals, or the same with new axes, as a tensor ``(batch, slot)`` is indexed."""
        known = self.__dict__.get("waveform")
        return Signals(self.spectrum[index], self.to_waveform, None if known is None else known[index])

    def sum(self, axis: int) -> Signals:
        """Signals added along a leading axis, given as counted from the front."""
        known = self.__dict__.get("waveform")
        return Signals(self.spectrum.sum(axis), self.to_waveform, None if known is None else known.sum(axis))


class SeparationPasses(NamedTuple):
    """Estimates ``(batch, slot)`` of each pass at unit mixture level, the last one final."""

    passes: tuple[Signals, ...]
