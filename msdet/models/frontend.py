"""From a mixture to what front ends work on: the STFT, the array's geometry, and what a front end gives."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from msdet.arrays import MicrophoneArray
from msdet.conventions import class_azimuths_deg
from msdet.errors import MsdetError
from msdet.running import Memory, mean_so_far
from msdet.spatial import diffuse_coherence, steering_vectors

LONGEST_WINDOW_S = 1.0
"""No STFT frame of a model is longer."""


def window_samples(window_s: float, sample_rate: int) -> int:
    """Length of an STFT frame in samples, even, so that frames overlap by half.

    Raises:
        MsdetError: a frame of less than 16 samples, or of more than a second, in which speech is not
            stationary and whose spectra are large.
    """
    if not window_s <= LONGEST_WINDOW_S:
        raise MsdetError(f"window_s is {window_s}, expected at most {LONGEST_WINDOW_S:g} s")
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
        positions: ``(mic, 3)`` in metres, seen from the reference microphone.
        reference: index of the reference microphone.
        frame_s: seconds from one STFT frame to the next.
        domain: what directions the array can tell apart.
    """

    steering: Tensor
    coherence: Tensor
    positions: Tensor

    def __init__(self, array: MicrophoneArray, freqs: int, sample_rate: int, classes: int) -> None:
        super().__init__()
        domain = array.resolvable_domain
        if domain.azimuth_span_deg < 360:
            raise MsdetError(
                f"array '{array.name}' is {array.geometry}: it cannot tell a talker from the mirror image; "
                f"azimuth over the full circle is needed, and it resolves {domain.words}"
            )
        self.reference = array.reference
        self.frame_s = (freqs - 1) / sample_rate
        self.domain = domain
        positions = torch.tensor(array.positions)
        frequency_hz = torch.linspace(0.0, sample_rate / 2, freqs, dtype=torch.float64)
        azimuth_deg = torch.tensor(class_azimuths_deg(classes))
        steering = steering_vectors(positions, azimuth_deg, frequency_hz, array.reference)
        self.register_buffer("steering", steering, persistent=False)
        self.register_buffer("coherence", diffuse_coherence(positions, frequency_hz), persistent=False)
        self.register_buffer("positions", (positions - positions[array.reference]).float(), persistent=False)

    @property
    def microphones(self) -> int:
        """Number of microphones."""
        return len(self.positions)


class Observation(NamedTuple):
    """What the front end saw.

    Attributes:
        spectrum: of the mixture, complex ``(batch, mic, freq, frame)``, unit level at the reference.
        features: for the encoder, ``(batch, freq, frame, feature)``.
        seed_logits: DoA logits ``(batch, talker, class)`` of a classical localiser, if the front end has one.
        level: that the features are relative to, `reference_level`; None stands for the whole recording's.
        seeds_so_far: of a causal front end with a localiser, its logits in each frame from what came so far,
            ``(batch, talker, frame, class)``.
    """

    spectrum: Tensor
    features: Tensor
    seed_logits: Tensor | None
    level: Tensor | None = None
    seeds_so_far: Tensor | None = None


def reference_level(reference: Tensor) -> Tensor:
    """RMS ``(batch, 1, 1)`` of the bins of a spectrum ``(batch, freq, frame)``; of silence, very little."""
    return reference.abs().square().mean(1, keepdim=True).mean(-1, keepdim=True).clamp_min(1e-16).sqrt()


def level_so_far(reference: Tensor, decay: float = 1.0, before: Memory = None) -> tuple[Tensor, Memory]:
    """RMS ``(batch, 1, frame)`` of the bins of each frame and those before it, and the memory of it.

    Args:
        reference: the next frames of a spectrum at the reference microphone, ``(batch, freq, frame)``.
        decay: weight of what is one frame older.
        before: memory of the frames before.
    """
    power = reference.abs().square().mean(1, keepdim=True)
    mean, memory = mean_so_far(power, -1, decay, before)
    return mean.clamp_min(1e-16).sqrt(), memory


def levelled_so_far(
    spectrum: Tensor, reference: int, decay: float = 1.0, before: Memory = None
) -> tuple[Tensor, Tensor, Memory]:
    """A spectrum, each frame scaled as if the recording so far had unit RMS; the level of that; its memory.

    The model has scaled the recording to unit RMS. A causal part must not know that scale, and a stream has
    none. Unit RMS is an RMS of the bins of ``sqrt(freqs - 1)``. Takes what `level_so_far` takes.
    """
    level, memory = level_so_far(spectrum[:, reference], decay, before)
    return spectrum * ((spectrum.shape[2] - 1) ** 0.5 / level[:, None]), level, memory


def last_word(logits: Tensor) -> Tensor:
    """DoA logits ``(batch, talker, outputs)`` on the whole recording, of it all or of its last frame."""
    return logits if logits.dim() == 3 else logits[:, :, -1]


def beam_features(beams: Tensor, reference: Tensor) -> list[Tensor]:
    """Beams ``(batch, talker, freq, frame)`` seen from the reference microphone: level, real, imaginary.

    Each is ``(batch, talker, freq, frame)``; the ratio to the reference ``(batch, freq, frame)`` is squashed
    to stay below 1, the level is that of the beam itself.
    """
    level = reference.abs()[:, None].clamp_min(1e-8)
    relative = beams * (reference.conj()[:, None] / level.square())
    squashed = relative / (1.0 + relative.abs())
    return [torch.log1p(beams.abs()), squashed.real, squashed.imag]
