"""What the methods with masks share: ratio masks, and MVDR beams from them."""

from __future__ import annotations

import torch
from torch import Tensor

FLOOR = 1e-20
"""Power that keeps bins without sound from being 0 / 0."""


def wiener_masks(voices: Tensor, mixture: Tensor) -> Tensor:
    """Share ``(talker, freq, frame)`` of each voice in the power of voice and rest, in [0, 1].

    Args:
        voices: complex ``(talker, freq, frame)``.
        mixture: complex ``(freq, frame)``, at the microphone of the voices; the rest is mixture less voice.
    """
    power = voices.abs().square()
    rest = (mixture - voices).abs().square()
    shares: Tensor = (power + FLOOR) / (power + rest + 2 * FLOOR)
    return shares


def masked_mvdr(spectrum: Tensor, masks: Tensor, reference: int) -> Tensor:
    """MVDR beams ``(talker, freq, frame)`` by Souden et al. (IEEE TASLP 18(2), 2010), from torchaudio.

    A talker's covariance is weighted by its mask, the disturbance's by one less the mask.

    Args:
        spectrum: complex ``(mic, freq, frame)``.
        masks: ``(talker, freq, frame)`` in [0, 1].
        reference: index of the microphone at which the talkers are wanted.
    """
    from torchaudio.transforms import PSD, SoudenMVDR

    psd, beam = PSD(), SoudenMVDR()
    x, weights = spectrum.to(torch.complex128), masks.double()
    beams = [beam(x, psd(x, mask), psd(x, 1.0 - mask), reference) for mask in weights]
    return torch.stack(beams).to(spectrum.dtype)
