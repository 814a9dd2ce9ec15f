"""The classical chain: SRP-PHAT peaks, and on each a superdirective beam with a soft null on the others.

It is where the default model starts: untrained, that model gives exactly this.
"""

from __future__ import annotations

import torch

from msdet.arrays import MicrophoneArray
from msdet.conventions import DOA_CLASSES, Array
from msdet.errors import MsdetError
from msdet.inference.offline import Separation, Separator
from msdet.models.config import ModelConfig
from msdet.models.frontend import ArrayGeometry, Stft
from msdet.objectives.doa import decode_azimuth
from msdet.spatial import apply_beam, pick_peaks, seeded_logits, srp_phat, steered_beam_weights


def separator(array: MicrophoneArray, sample_rate: int, talkers: int) -> Separator:
    """Separate `talkers` talkers by beams towards the highest peaks of SRP-PHAT.

    Raises:
        MsdetError: a number of talkers that has no peaks.
    """
    if not 1 <= talkers <= 8:
        raise MsdetError(f"talkers is {talkers}, expected 1 to 8")
    stft = Stft(2 * round(ModelConfig.window_s * sample_rate / 2))
    geometry = ArrayGeometry(array, stft.freqs, sample_rate, DOA_CLASSES)

    def separate(mixture: Array) -> Separation:
        with torch.inference_mode():
            spectrum = stft(torch.from_numpy(mixture)[None])
            peaks = pick_peaks(srp_phat(spectrum, geometry.steering), talkers)
            logits = seeded_logits(peaks, DOA_CLASSES)
            weights = steered_beam_weights(logits.softmax(-1), geometry.steering, geometry.coherence)
            voices = stft.inverse(apply_beam(weights, spectrum), mixture.shape[-1])
            azimuth, confidence = decode_azimuth(logits)
        return Separation(voices[0].numpy(), azimuth[0].double().numpy(), confidence[0].double().numpy())

    return separate
