"""From a mixture to features: the STFT, and what the encoder sees of the spectrum."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from msdet.arrays import MicrophoneArray
from msdet.conventions import class_azimuths_deg
from msdet.errors import MsdetError
from msdet.spatial import (
    apply_beam,
    diffuse_coherence,
    phase_normalise,
    pick_peaks,
    seeded_logits,
    srp_phat,
    steered_beam_weights,
    steered_response,
    steering_vectors,
)


def window_samples(window_s: float, sample_rate: int) -> int:
    """Length of an STFT frame in samples, even, so that frames overlap by half.

    Raises:
        MsdetError: a frame of less than 16 samples.
    """
    samples = 2 * round(window_s * sample_rate / 2)
    if samples < 16:
        raise MsdetError(f"window_s is {window_s}, which is {samples} samples at {sample_rate} Hz: too short")
    return samples


class Stft(nn.Module):
    """Short-time Fourier transform with a square-root Hann window and half-overlapping frames.

    Args:
        window: length in samples; the hop is half of it.
    """

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
        spectrum = torch.stft(
            flat, self.length, self.hop, window=self.window, pad_mode="constant", return_complex=True
        )
        unflat: Tensor = spectrum.unflatten(0, waveform.shape[:2])
        return unflat

    def inverse(self, spectrum: Tensor, samples: int) -> Tensor:
        """Complex ``(batch, channel, freq, frame)`` back to ``(batch, channel, samples)``."""
        flat = spectrum.flatten(0, 1)
        waveform = torch.istft(flat, self.length, self.hop, window=self.window, length=samples)
        unflat: Tensor = waveform.unflatten(0, spectrum.shape[:2])
        return unflat


class ArrayGeometry(nn.Module):
    """Steering vectors and diffuse coherence of an array at the STFT's frequencies; no parameters.

    Refuses a linear array (`MsdetError`), whose resolvable domain is half the circle.

    Attributes:
        steering: ``(class, freq, mic)`` towards each DoA class, relative to the reference microphone.
        coherence: ``(freq, mic, mic)`` of a spherically diffuse field.
    """

    steering: Tensor
    coherence: Tensor

    def __init__(self, array: MicrophoneArray, freqs: int, sample_rate: int, classes: int) -> None:
        super().__init__()
        domain = array.resolvable_domain
        if domain.azimuth_span_deg < 360:
            raise MsdetError(
                f"array '{array.name}' is {array.geometry}: it cannot tell a talker from the mirror image; "
                f"azimuth over the full circle is needed, and it resolves {domain.words}"
            )
        self.reference = array.reference
        positions = torch.tensor(array.positions)
        frequency_hz = torch.linspace(0.0, sample_rate / 2, freqs, dtype=torch.float64)
        azimuth_deg = torch.tensor(class_azimuths_deg(classes))
        steering = steering_vectors(positions, azimuth_deg, frequency_hz, array.reference)
        self.register_buffer("steering", steering, persistent=False)
        self.register_buffer("coherence", diffuse_coherence(positions, frequency_hz), persistent=False)


class Observation(NamedTuple):
    """What the front end saw.

    Attributes:
        spectrum: of the mixture, complex ``(batch, mic, freq, frame)``, unit level at the reference.
        features: for the encoder, ``(batch, freq, frame, feature)``.
        seed_logits: DoA logits ``(batch, talker, class)`` of a classical localiser, if the front end has one.
    """

    spectrum: Tensor
    features: Tensor
    seed_logits: Tensor | None


class RealImaginary(nn.Module):
    """Real and imaginary parts of all microphones, rotated so that the reference's phase is zero.

    The level of each bin is kept as its logarithm. Ties the model to one array.
    """

    def __init__(self, geometry: ArrayGeometry, microphones: int, talkers: int) -> None:
        super().__init__()
        self.geometry = geometry
        self.features_out = 2 * microphones + 1

    def forward(self, spectrum: Tensor) -> Observation:
        """Features of a spectrum ``(batch, mic, freq, frame)``."""
        reference = spectrum[:, self.geometry.reference : self.geometry.reference + 1]
        level = reference.abs()
        relative = spectrum * (reference.conj() / level.clamp_min(1e-8).square())
        squashed = relative / (1.0 + relative.abs())
        parts = torch.cat([squashed.real, squashed.imag, torch.log1p(level)], dim=1)
        return Observation(spectrum, parts.permute(0, 2, 3, 1), None)


class Steered(nn.Module):
    """Steered responses, and beams at the SRP-PHAT peaks: features that come from the array's coordinates.

    A bin's features are the steered response at every second class, the level at the reference, and for each
    peak the response there and the beam towards it relative to the reference. Peaks ascend in azimuth, and
    the beams null each other's directions softly.
    """

    def __init__(self, geometry: ArrayGeometry, microphones: int, talkers: int) -> None:
        super().__init__()
        self.geometry = geometry
        self.talkers = talkers
        classes = len(geometry.steering)
        self.features_out = len(range(0, classes, 2)) + 1 + 4 * talkers

    def forward(self, spectrum: Tensor) -> Observation:
        """Features of a spectrum ``(batch, mic, freq, frame)``."""
        steering = self.geometry.steering
        with torch.no_grad():
            phases = phase_normalise(spectrum)
            seed_logits = seeded_logits(pick_peaks(srp_phat(spectrum, steering), self.talkers), len(steering))
            posterior = seed_logits.softmax(-1)
            weights = steered_beam_weights(posterior, steering, self.geometry.coherence)
            beams = apply_beam(weights, spectrum)
            response = steered_response(phases, steering[::2])
            response_there = torch.einsum("bsk,bkft->bsft", posterior[..., ::2] * 2.0, response)
            level = torch.log1p(spectrum[:, self.geometry.reference].abs())[:, None]
            features = torch.cat(
                [
                    response,
                    level,
                    response_there,
                    *beam_features(beams, spectrum[:, self.geometry.reference]),
                ],
                1,
            )
        return Observation(spectrum, features.permute(0, 2, 3, 1), seed_logits)


def beam_features(beams: Tensor, reference: Tensor) -> list[Tensor]:
    """Beams ``(batch, talker, freq, frame)`` seen from the reference microphone: level, real, imaginary.

    Each is ``(batch, talker, freq, frame)``; the ratio to the reference ``(batch, freq, frame)`` is squashed
    to stay below 1, the level is that of the beam itself.
    """
    level = reference.abs()[:, None].clamp_min(1e-8)
    relative = beams * (reference.conj()[:, None] / level.square())
    squashed = relative / (1.0 + relative.abs())
    return [torch.log1p(beams.abs()), squashed.real, squashed.imag]


FRONT_ENDS = {"real_imaginary": RealImaginary, "steered": Steered}
