"""The oracle ideal ratio mask of the literature; masks that know the phase as well can do better."""

from __future__ import annotations

import torch

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array
from msdet.evaluation.baselines import Oracle, Truth
from msdet.evaluation.baselines._masks import wiener_masks
from msdet.inference.offline import Separation
from msdet.models.frontend import Stft, window_samples

FINDS = ()

WINDOW_S = 0.032


def separator(array: MicrophoneArray, sample_rate: int, talkers: int, window_s: float = WINDOW_S) -> Oracle:
    """Mask the mixture by √(S² / (S² + N²)), N all but the reference S (Wang et al., TASLP 22(12), 2014)."""
    stft = Stft(window_samples(window_s, sample_rate))

    def separate(mixture: Array, truth: Truth) -> Separation:
        with torch.inference_mode():
            spectrum = stft(torch.from_numpy(mixture)[None, array.reference, None])[0, 0]
            references = stft(torch.from_numpy(truth.references)[None])[0]
            masked = wiener_masks(references, spectrum).sqrt() * spectrum
            voices: Array = stft.inverse(masked[None], mixture.shape[-1])[0].numpy()
        return Separation(voices)

    return Oracle(separate)
