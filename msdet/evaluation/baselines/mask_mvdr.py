"""Mask-based MVDR: covariances weighted by masks, of any baseline's voices or of the references."""

from __future__ import annotations

import torch

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array
from msdet.errors import MsdetError
from msdet.evaluation.baselines import ORACLE, VOICES, Oracle, Truth, first_stage
from msdet.evaluation.baselines._masks import masked_mvdr, wiener_masks
from msdet.inference.offline import Separation, Separator
from msdet.models.frontend import Stft, window_samples

MASKS = "srp_beam"
WINDOW_S = 0.032


def separator(
    array: MicrophoneArray,
    sample_rate: int,
    talkers: int,
    masks: str = MASKS,
    window_s: float = WINDOW_S,
) -> Separator | Oracle:
    """Separate by one beam a talker.

    Args:
        array: geometry of the microphones.
        sample_rate: hertz.
        talkers: number of voices.
        masks: the baseline whose voices give the masks, or ``oracle``.
        window_s: length of an STFT frame.

    Raises:
        MsdetError: `masks` is no baseline that finds voices.
    """
    stft = Stft(window_samples(window_s, sample_rate))

    def beams(mixture: Array, voices: Array) -> Array:
        with torch.inference_mode():
            spectrum = stft(torch.from_numpy(mixture)[None])[0]
            estimates = stft(torch.from_numpy(voices)[None])[0]
            found = wiener_masks(estimates, spectrum[array.reference])
            beam = masked_mvdr(spectrum, found, array.reference)
            waveforms: Array = stft.inverse(beam[None], mixture.shape[-1])[0].numpy()
        return waveforms

    def told(mixture: Array, truth: Truth) -> Separation:
        return Separation(beams(mixture, truth.references))

    if masks == ORACLE:
        return Oracle(told)
    first = first_stage("masks", masks, VOICES, array, sample_rate, talkers)

    def separate(mixture: Array) -> Separation:
        found = first(mixture)
        if found.voices is None:
            raise MsdetError(f"masks '{masks}' gives no voices")
        return Separation(beams(mixture, found.voices), found.azimuth_deg, found.confidence)

    return separate
