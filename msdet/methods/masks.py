"""What the methods with masks share: ratio masks, and MVDR beams from them."""

from __future__ import annotations

import torch
from torch import Tensor

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array
from msdet.dsp.stft import Stft, window_samples
from msdet.errors import MsdetError
from msdet.methods import initial_method
from msdet.methods.base import METHODS, ORACLE, VOICES, Oracle, OracleInput, Separation, Separator

MASK_FLOOR = 1e-20
"""Power that keeps bins without sound from being 0 / 0."""


def wiener_masks(voices: Tensor, mixture: Tensor) -> Tensor:
    """Share ``(talker, freq, frame)`` of each voice in the power of voice and rest, in [0, 1].

    Args:
        voices: complex ``(talker, freq, frame)``.
        mixture: complex ``(freq, frame)``, at the microphone of the voices; the rest is mixture less voice.
    """
    power = voices.abs().square()
    rest = (mixture - voices).abs().square()
    shares: Tensor = (power + MASK_FLOOR) / (power + rest + 2 * MASK_FLOOR)
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


# --- Mask-based MVDR: covariances weighted by masks, of any baseline's voices or of the references.

MASKS = "srp_beam"

WINDOW_S = 0.032


@METHODS.register("mask_mvdr")
def mask_mvdr(
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

    def told(mixture: Array, truth: OracleInput) -> Separation:
        return Separation(beams(mixture, truth.references))

    if masks == ORACLE:
        return Oracle(told)
    first = initial_method("masks", masks, VOICES, array, sample_rate, talkers)

    def separate(mixture: Array) -> Separation:
        found = first(mixture)
        if found.estimates is None:
            raise MsdetError(f"masks '{masks}' gives no voices")
        return Separation(beams(mixture, found.estimates), found.azimuth_deg, found.confidence)

    return separate


# --- Mask-based MVDR with masks of the references: about the best that one fixed beam a talker can do.


@METHODS.register("oracle_mvdr", finds=())
def oracle_mvdr(
    array: MicrophoneArray, sample_rate: int, talkers: int, window_s: float = WINDOW_S
) -> Separator | Oracle:
    """As `mask_mvdr.separator` with oracle masks."""
    return mask_mvdr(array, sample_rate, talkers, ORACLE, window_s)


# --- The oracle ideal ratio mask of the literature; masks that know the phase as well can do better.


IRM_WINDOW_S = 0.032


@METHODS.register("oracle_irm", finds=())
def oracle_irm(
    array: MicrophoneArray, sample_rate: int, talkers: int, window_s: float = IRM_WINDOW_S
) -> Oracle:
    """Mask the mixture by √(S² / (S² + N²)), N all but the reference S (Wang et al., TASLP 22(12), 2014)."""
    stft = Stft(window_samples(window_s, sample_rate))

    def separate(mixture: Array, truth: OracleInput) -> Separation:
        with torch.inference_mode():
            spectrum = stft(torch.from_numpy(mixture)[None, array.reference, None])[0, 0]
            references = stft(torch.from_numpy(truth.references)[None])[0]
            masked = wiener_masks(references, spectrum).sqrt() * spectrum
            voices: Array = stft.inverse(masked[None], mixture.shape[-1])[0].numpy()
        return Separation(voices)

    return Oracle(separate)
