"""The classical chain: SRP-PHAT peaks, and on each a superdirective beam with a soft null on the others.

It is where the default model starts: untrained, that model gives exactly this at the same frame length.
"""

from __future__ import annotations

import torch

from msdet.arrays import MicrophoneArray
from msdet.conventions import DOA_CLASSES, Array
from msdet.dsp.beamforming import apply_beam, steered_beam_weights
from msdet.dsp.spatial import pick_peaks, srp_phat, von_mises_logits
from msdet.dsp.stft import Stft, window_samples
from msdet.errors import MsdetError
from msdet.losses.doa import decode_azimuth
from msdet.methods.base import AZIMUTHS, METHODS, VOICES, Separation, Separator
from msdet.models.frontends import ArrayGeometry

WINDOW_S = 0.032
"""Frame length of the default model; from 16 to 128 ms this chain does alike."""


@METHODS.register("srp_beam", finds=(VOICES, AZIMUTHS))
def srp_beam(array: MicrophoneArray, sample_rate: int, talkers: int, window_s: float = WINDOW_S) -> Separator:
    """Separate `talkers` talkers by beams towards the highest peaks of SRP-PHAT.

    The confidence of an azimuth is the SRP-PHAT map there: the mean steered response, 1 for a plane wave.

    Args:
        array: geometry of the microphones.
        sample_rate: hertz.
        talkers: number of peaks.
        window_s: length of an STFT frame.

    Raises:
        MsdetError: a number of talkers that has no peaks.
    """
    if not 1 <= talkers <= 8:
        raise MsdetError(f"talkers is {talkers}, expected 1 to 8")
    stft = Stft(window_samples(window_s, sample_rate))
    geometry = ArrayGeometry(array, stft.freqs, sample_rate, DOA_CLASSES)

    def separate(mixture: Array) -> Separation:
        with torch.inference_mode():
            spectrum = stft(torch.from_numpy(mixture)[None])
            response = srp_phat(spectrum, geometry.steering)
            peaks = pick_peaks(response, talkers)
            logits = von_mises_logits(peaks, DOA_CLASSES)
            weights = steered_beam_weights(logits.softmax(-1), geometry.steering, geometry.coherence)
            voices = stft.inverse(apply_beam(weights, spectrum), mixture.shape[-1])
            azimuth, _ = decode_azimuth(logits)
            height = response[0, (azimuth[0] * (DOA_CLASSES / 360.0)).round().long() % DOA_CLASSES]
        return Separation(voices[0].numpy(), azimuth[0].double().numpy(), height.double().numpy())

    return separate
