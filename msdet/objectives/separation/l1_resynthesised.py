"""`l1_real_imaginary_magnitude` of the estimate as it sounds: resynthesised, and transformed anew.

An estimate need not be the spectrum of any signal; what is heard is its projection on those that are (Wisdom
et al., "Differentiable consistency constraints for improved deep speech enhancement", ICASSP 2019). Several
windows make it a multi-resolution loss (Yamamoto, Song and Kim, "Parallel WaveGAN", 2020). Defined for a
silent reference: the mean magnitude of what should not be there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from msdet.errors import MsdetError
from msdet.models.frontend import Stft
from msdet.objectives.separation import Signals
from msdet.objectives.separation.l1_real_imaginary_magnitude import loss as l1_real_imaginary_magnitude


def loss(estimate: Signals, reference: Signals, windows: Sequence[int] | None = None) -> Tensor:
    """Loss of each signal, over frequencies and frames; its mean over resolutions.

    Args:
        estimate: what was separated.
        reference: what was meant.
        windows: lengths of the STFT windows in samples, each with half overlap; by default the model's own.
            Spectra of all are scaled to the size that noise has with the model's.

    Raises:
        MsdetError: a window that is not an even number of samples.
    """
    own = 2 * (estimate.spectrum.shape[-2] - 1)
    found = [
        l1_real_imaginary_magnitude(_again(estimate, window, own), _again(reference, window, own))
        for window in windows or (own,)
    ]
    return torch.stack(found).mean(0)


def _again(signals: Signals, window: int, own: int) -> Signals:
    """Signals by the spectra of their waveforms."""
    if window < 2 or window % 2:
        raise MsdetError(
            f"objective.separation_options.windows: {window} samples, expected an even number of 2 or more"
        )
    waveform = signals.waveform
    stft = Stft(window).to(waveform.device)
    leading = waveform.shape[:-1]
    spectrum = stft(waveform.reshape(leading.numel(), 1, -1)) * (own / window) ** 0.5
    return Signals(spectrum.reshape(*leading, *spectrum.shape[-2:]), signals.to_waveform, waveform)
