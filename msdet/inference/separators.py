"""What every system is: a function from the mixture, or a block of it, to voices and directions."""

from __future__ import annotations

import dataclasses

import torch

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array
from msdet.dsp.stft import Stft, window_samples
from msdet.errors import MsdetError
from msdet.losses.doa import decode_azimuth
from msdet.methods.base import Separation, Separator
from msdet.models.joint import JointModel, JointOutput
from msdet.tasks.elevation import decode_elevation
from msdet.tasks.tracking import decode_track


def model_separator(model: JointModel) -> Separator:
    """A separator that runs a joint model on its own device; slots that nobody fills are left out.

    Of the auxiliary tasks, ``activity``, ``elevation`` and ``tracking`` are used where a model has them.
    """
    device = next(model.parameters()).device

    def separate(mixture: Array) -> Separation:
        with torch.inference_mode():
            output = model(torch.from_numpy(mixture)[None].to(device))
            azimuth, confidence = decode_azimuth(output.doa_logits)
            known = _auxiliary(output)
        there = (output.occupancy[0] > 0.5).cpu().numpy()
        there[int(output.occupancy[0].argmax())] = True  # somebody is, or there were nothing to write
        return Separation(
            output.waveforms[0].float().cpu().numpy()[there],
            azimuth[0].cpu().double().numpy()[there],
            confidence[0].cpu().double().numpy()[there],
            **{name: value[0].cpu().double().numpy()[there] for name, value in known.items()},
        )

    return separate


def _auxiliary(output: JointOutput) -> dict[str, torch.Tensor]:
    """What auxiliary tasks say, as `Separation` has it."""
    found = {}
    if "activity" in output.predictions:
        found["activity"] = output.predictions["activity"].float().sigmoid()
    if "elevation" in output.predictions:
        found["elevation_deg"] = decode_elevation(output.predictions["elevation"])[0]
    if "tracking" in output.predictions:
        found["track_deg"] = decode_track(output.predictions["tracking"], found.get("activity"))[0]
    return found


# --- Voices estimated once more by a beamformer: linear, so free of the artifacts that masks leave.
# Each voice of a system, against all else at the reference microphone, gives a mask; the masks give spatial
# covariances of the talker and of everything else, and those an MVDR beamformer in the form of Souden et al.
# (2010), which needs no steering vector. Directions and activity stay the system's own.

WINDOW_S = 0.064

LOADING = 1e-3
"""Of the covariance of what disturbs, relative to its mean power."""


def mvdr_separator(separator: Separator, array: MicrophoneArray, sample_rate: int) -> Separator:
    """A separator whose voices are those of an MVDR beamformer driven by another one's.

    Args:
        separator: gives voices.
        array: geometry of the microphones.
        sample_rate: hertz.
    """
    stft = Stft(window_samples(WINDOW_S, sample_rate))

    def separate(mixture: Array) -> Separation:
        found = separator(mixture)
        if found.estimates is None:
            raise MsdetError("beamform needs voices, and this system gives directions alone")
        return dataclasses.replace(
            found, estimates=_beamformed(stft, mixture, found.estimates, array.reference)
        )

    return separate


def _beamformed(stft: Stft, mixture: Array, voices: Array, reference: int) -> Array:
    """Voices ``(talker, time)`` of the beamformer."""
    from torchaudio.functional import apply_beamforming, mvdr_weights_souden, psd

    with torch.inference_mode():
        x = torch.from_numpy(mixture)
        level = x[reference].square().mean().sqrt().clamp_min(1e-8)
        spectrum = stft(x[None] / level)[0].to(torch.complex128)
        wanted = stft(torch.from_numpy(voices)[None] / level)[0].to(torch.complex128)
        power = wanted.abs().square()
        rest = (spectrum[reference] - wanted.sum(0)).abs().square()
        masks = power / (power.sum(0) + rest + 1e-10)
        beams = []
        for mask in masks:
            talker, others = psd(spectrum, mask), psd(spectrum, 1.0 - mask)
            weights = mvdr_weights_souden(talker, others, reference, diag_eps=LOADING)
            beams.append(apply_beamforming(weights, spectrum))
        beamed = stft.inverse(torch.stack(beams)[None].to(torch.complex64), mixture.shape[-1])[0]
        waveforms: Array = (beamed * level).numpy()
    return waveforms
