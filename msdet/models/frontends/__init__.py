"""Front ends: what the encoder sees of the spectrum.

A front end is a `torch.nn.Module` built as ``FrontEnd(sizes, **options)`` with `FrontEndSizes`. It maps a
spectrum ``(batch, mic, freq, frame)`` to a `FrontEndOutput`, registers itself,
``@FRONT_ENDS.register("steered")``, and has the attributes

- ``features_out`` (int): features of a bin;
- ``causal`` (bool): no frame of the features depends on a later frame, nor on the level of the whole
  recording. ``seed_logits`` are those of the whole recording either way;
- ``array_bound`` (bool): the weights belong to one array. If false, a checkpoint serves any array: the
  features' width and meaning do not depend on it, nor on the order of the other microphones.

One that serves arrays whose resolvable domain is half the circle says ``any_domain = True``, as heads do. One whose
features are not of frequencies, ``(batch, direction, frame, feature)``, says how many directions by ``bins_out``. One
whose features show each bin's own phase, not only phases relative to the reference's, says ``keeps_phase = True``,
also in what it gives. A causal one may work on a stream, at any level, as `msdet.models.encoders` says:
``stream(spectrum, state) -> (FrontEndOutput, state)``, with ``frame_seed_logits`` if it has a localizer.

Separation by a causal front end, encoder and separation head is causal but for the STFT's window: the model
scales the mixture by its level, and such a front end looks past that scale.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from msdet.arrays import MicrophoneArray
from msdet.components import Registry
from msdet.conventions import class_azimuths_deg
from msdet.dsp.spatial import diffuse_coherence, steering_vectors
from msdet.dsp.streaming_state import State, decay_over, running_mean
from msdet.errors import MsdetError

FRONT_ENDS = Registry("front end", __name__, network=True)


class ArrayGeometry(nn.Module):
    """Steering vectors and diffuse coherence of an array at the STFT's frequencies; no parameters.

    Refuses an array whose resolvable domain is half the circle, unless `any_domain`; one that tells no azimuths apart
    in any case.

    Attributes:
        steering: ``(class, freq, mic)`` towards each DoA class, relative to the reference microphone.
        coherence: ``(freq, mic, mic)`` of a spherically diffuse field.
        positions: ``(mic, 3)`` in meters, seen from the reference microphone.
        reference: index of the reference microphone.
        frame_s: seconds from one STFT frame to the next.
        domain: what directions the array can tell apart.
        axis_deg: azimuth of the line of a linear array, or along an upright plane; 0 of others.
        shape: linear, planar or spatial.
    """

    steering: Tensor
    coherence: Tensor
    positions: Tensor

    def __init__(
        self, array: MicrophoneArray, freqs: int, sample_rate: int, classes: int, any_domain: bool = False
    ) -> None:
        super().__init__()
        self._made_with = freqs, sample_rate, classes, any_domain
        self.frame_s = (freqs - 1) / sample_rate
        for name in ("steering", "coherence", "positions"):
            self.register_buffer(name, None, persistent=False)
        self.place(array)

    def place(self, array: MicrophoneArray) -> None:
        """Change the array; what else was computed from it is not (`msdet.models.joint.JointModel.place`)."""
        freqs, sample_rate, classes, any_domain = self._made_with
        domain = array.resolvable_domain
        if domain.azimuth_span_deg < (180 if any_domain else 360):
            problem = f"array '{array.name}' is {array.geometry}: it cannot tell a talker from the mirror image"
            raise MsdetError(f"{problem}; azimuth over the full circle is needed, and it resolves {domain.words}")
        self.reference = array.reference
        self.domain = domain
        self.axis_deg = array.mirror_axis_deg or 0.0
        self.shape: str = array.geometry
        positions = torch.tensor(array.positions)
        frequency_hz = torch.linspace(0.0, sample_rate / 2, freqs, dtype=torch.float64)
        azimuth_deg = torch.tensor(class_azimuths_deg(classes))
        steering = steering_vectors(positions, azimuth_deg, frequency_hz, array.reference)
        device = None if self.steering is None else self.steering.device
        self.steering = steering.to(device)
        self.coherence = diffuse_coherence(positions, frequency_hz).to(device)
        self.positions = (positions - positions[array.reference]).float().to(device)

    @property
    def microphones(self) -> int:
        """Number of microphones."""
        return len(self.positions)


class FrontEndSizes(NamedTuple):
    """What a front end's sizes follow from: the array's geometry, and the number of output slots."""

    geometry: ArrayGeometry
    talkers: int


class FrontEndOutput(NamedTuple):
    """What a front end gives.

    Attributes:
        spectrum: of the mixture, complex ``(batch, mic, freq, frame)``, unit level at the reference.
        features: for the encoder, ``(batch, freq, frame, feature)``.
        seed_logits: DoA logits ``(batch, talker, class)`` of a classical localizer, if the front end has one.
        level: that the features are relative to, `reference_level`; None stands for the whole recording's.
        frame_seed_logits: of a causal one, in each frame on what came before it, ``(batch, talker, frame, class)``.
        keeps_phase: whether the features show the phase of each bin itself, not relative to the reference's.
        elevation_deg: of a talker at each azimuth class, ``(batch, class)``, if the front end looks for it.
    """

    spectrum: Tensor
    features: Tensor
    seed_logits: Tensor | None
    level: Tensor | None = None
    frame_seed_logits: Tensor | None = None
    keeps_phase: bool = False
    elevation_deg: Tensor | None = None


def build_front_end(name: str, options: dict[str, Any], sizes: FrontEndSizes) -> nn.Module:
    """A front end by name or import path ``module:Class``."""
    front_end: nn.Module = FRONT_ENDS.build(name, options, sizes=sizes)
    for attribute in ("features_out", "causal", "array_bound"):
        if not hasattr(front_end, attribute):
            raise MsdetError(f"front end '{name}' has no attribute '{attribute}'")
    return front_end


class LeveledFrontEnd(nn.Module):
    """Features of each bin by itself, relative to the level of the recording, or if causal of it so far.

    `time_constant_s` is in seconds, with which a causal front end forgets; null for never.
    """

    def __init__(self, sizes: FrontEndSizes, causal: bool, time_constant_s: float | None) -> None:
        super().__init__()
        self.geometry = sizes.geometry
        self.causal = causal
        self.decay = decay_over(time_constant_s, sizes.geometry.frame_s)

    def forward(self, spectrum: Tensor) -> FrontEndOutput:
        """Features of a spectrum ``(batch, mic, freq, frame)``."""
        if self.causal:
            return self.stream(spectrum, None)[0]
        return self.output(spectrum, spectrum, reference_level(spectrum[:, self.geometry.reference]))

    def stream(self, spectrum: Tensor, state: State) -> tuple[FrontEndOutput, State]:
        """The next frames, of a causal front end."""
        leveled, level, state = running_rms_normalize(spectrum, self.geometry.reference, self.decay, state)
        return self.output(spectrum, leveled, level), state

    def output(self, spectrum: Tensor, leveled: Tensor, level: Tensor) -> FrontEndOutput:
        """Of a spectrum, the same leveled, and its level."""
        return FrontEndOutput(spectrum, self.features(leveled), None, level)

    def features(self, leveled: Tensor) -> Tensor:
        """Features ``(batch, freq, frame, feature)`` of a leveled spectrum ``(batch, mic, freq, frame)``."""
        raise NotImplementedError


def reference_level(reference: Tensor) -> Tensor:
    """RMS ``(batch, 1, 1)`` of the bins of a spectrum ``(batch, freq, frame)``; of silence, very little."""
    return reference.abs().square().mean(1, keepdim=True).mean(-1, keepdim=True).clamp_min(1e-16).sqrt()


def running_rms_normalize(
    spectrum: Tensor, reference: int, decay: float = 1.0, state: State = None
) -> tuple[Tensor, Tensor, State]:
    """The next frames of a spectrum, each scaled as if the recording so far had unit RMS; its level, and the state.

    The model has scaled the recording to unit RMS. A causal part must not know that scale, and a stream has none.
    Unit RMS is an RMS of the bins of ``sqrt(freqs - 1)``. The level is the RMS ``(batch, 1, frame)`` of the bins at the
    reference; `decay` is the weight of what is one frame older.
    """
    power = spectrum[:, reference].abs().square().mean(1, keepdim=True)
    mean, state = running_mean(power, -1, decay, state)
    level = mean.clamp_min(1e-16).sqrt()
    return spectrum * ((spectrum.shape[2] - 1) ** 0.5 / level[:, None]), level, state


def final_frame_logits(logits: Tensor) -> Tensor:
    """DoA logits ``(batch, talker, outputs)`` of the whole recording, or those of its last frame."""
    return logits if logits.dim() == 3 else logits[:, :, -1]


def beam_features(beams: Tensor, reference: Tensor) -> list[Tensor]:
    """Beams ``(batch, talker, freq, frame)`` seen from the reference microphone: level, real, imaginary.

    Each is of the same shape; the ratio to the reference is squashed to stay below 1, the level is the beam's own.
    """
    level = reference.abs()[:, None].clamp_min(1e-8)
    relative = beams * (reference.conj()[:, None] / level.square())
    squashed = relative / (1.0 + relative.abs())
    return [torch.log1p(beams.abs()), squashed.real, squashed.imag]


def elevation_at(elevation_deg: Tensor | None, azimuth_deg: Tensor) -> Tensor:
    """Elevation ``(batch, talker)`` of the classes ``(batch, class)`` nearest to azimuths; 0 where none is known."""
    if elevation_deg is None:
        return torch.zeros_like(azimuth_deg)
    classes = elevation_deg.shape[-1]
    nearest = (azimuth_deg * (classes / 360.0)).round().long() % classes
    return elevation_deg.gather(1, nearest)


def __getattr__(name: str) -> Any:  # from msdet.models.frontends import SteeredFrontEnd
    return FRONT_ENDS.exported(name)
