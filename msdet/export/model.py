"""What is exported of a joint model: from a mixture, or its spectrum, to voices and DoA posteriors.

Spectra are real tensors ``(..., freq, frame, 2)``, real parts first, of the model's own STFT (`Stft`).
"""

from __future__ import annotations

import copy
import math
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from msdet.conventions import SPEED_OF_SOUND, class_azimuths_deg, direction_vector
from msdet.dsp.stft import Stft
from msdet.export import StftPlace
from msdet.models.frontends import ArrayGeometry
from msdet.models.joint import JointModel


class ExportedModel(nn.Module):
    """A copy of a joint model with one tensor for input and a few for outputs, of tasks ``activity`` alone.

    With the STFT ``inside``, as convolutions, waveforms ``(batch, mic, sample)`` become ``(batch, talker, sample)``.
    With it ``outside``, spectra ``(batch, mic, freq, frame, 2)`` become ``(batch, talker, freq, frame, 2)``, and the
    recording is taken to end with the last whole hop. `outputs` names what `forward` gives.
    """

    def __init__(self, model: JointModel, stft: StftPlace) -> None:
        super().__init__()
        transform = model.stft
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.model.stft = (_Convolutions if stft == "inside" else _Spectra)(transform.length)
        for part in self.model.modules():
            if isinstance(part, ArrayGeometry):
                _compute_steering(part, self.model)
        self.freqs = transform.freqs
        self.spectral = stft == "outside"
        self.outputs = ["estimates", "doa"]
        self.outputs += ["occupancy"] if model.config.variable_num_speakers else []
        self.outputs += ["activity"] if "activity" in model.config.tasks else []

    def forward(self, mixture: Tensor) -> tuple[Tensor, ...]:
        """Voices, and posteriors ``(batch, talker, class)`` of the azimuth.

        Further, where a model has them, the probability ``(batch, talker)`` that a slot is occupied, and
        that each speaks, ``(batch, talker, frame)``.
        """
        stft: Any = self.model.stft
        output = self.model(stft.as_waveform(mixture) if self.spectral else mixture)
        voices = stft.from_waveform(output.waveforms) if self.spectral else output.waveforms
        known = [voices, output.doa_logits.float().softmax(-1)]
        if "occupancy" in self.outputs:
            known.append(output.occupancy)
        if "activity" in self.outputs:
            known.append(output.predictions["activity"].float().sigmoid())
        return tuple(known)


class _Convolutions(Stft):
    """The STFT as a convolution, its inverse as a transposed one.

    Kernels are computed from the numbers of frequencies and samples: they would be most of a small file.
    """

    bins: Tensor
    samples: Tensor

    def __init__(self, window: int) -> None:
        super().__init__(window)
        self.register_buffer("bins", torch.arange(self.freqs), persistent=False)
        self.register_buffer("samples", torch.arange(window), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """``(batch, channel, time)`` to complex ``(batch, channel, freq, frame)``."""
        flat = waveform.flatten(0, 1)[:, None]
        # zeros at the end so that every sample lies in two frames; frames of zeros alone are not made
        padded = nn.functional.pad(flat, (self.hop, 2 * self.hop - 1))
        parts = nn.functional.conv1d(padded, self._kernel(), stride=self.hop)
        real, imag = parts.unflatten(0, waveform.shape[:2]).chunk(2, dim=2)
        return torch.complex(real.contiguous(), imag.contiguous())

    def inverse(self, spectrum: Tensor, samples: int) -> Tensor:
        """Complex ``(batch, channel, freq, frame)`` back to ``(batch, channel, samples)``.

        Squares of the windows sum to one, so there is nothing to divide by.
        """
        inner = (self.bins > 0) & (self.bins < self.freqs - 1)  # these have a negative one beside them
        weight = torch.where(inner, 2.0, 1.0).repeat(2)[:, None, None] / self.length
        parts = torch.cat([spectrum.real, spectrum.imag], dim=2).flatten(0, 1)
        long = nn.functional.conv_transpose1d(parts, self._kernel() * weight, stride=self.hop)
        return cast(Tensor, long[:, 0, self.hop : self.hop + samples].unflatten(0, spectrum.shape[:2]))

    def _kernel(self) -> Tensor:
        """Real, then imaginary parts of all frequencies, ``(2 freq, 1, sample)``."""
        turns = (self.bins[:, None] * self.samples).remainder(self.length)  # whole numbers: exact
        angle_rad = turns.float() * (2 * math.pi / self.length)
        return torch.cat([angle_rad.cos(), -angle_rad.sin()])[:, None] * self.window


class _Spectra(Stft):
    """Spectra in the place of waveforms.

    The model scales waveforms to unit RMS, transforms them, and scales what it transformed back. Here a
    "waveform" is the spectrum itself, its entries weighted so that their RMS is that of the samples
    (Parseval): with square-root Hann windows and half a window between frames, every sample is counted once.
    """

    def as_waveform(self, spectrum: Tensor) -> Tensor:
        """``(batch, channel, freq, frame, 2)`` to ``(batch, channel, entry)``."""
        return (spectrum * self._weights(spectrum)).flatten(2)

    def from_waveform(self, waveform: Tensor) -> Tensor:
        """The inverse of `as_waveform`."""
        spectrum: Tensor = waveform.unflatten(-1, (self.freqs, -1, 2))
        return spectrum / self._weights(spectrum)

    def forward(self, waveform: Tensor) -> Tensor:
        """Entries to complex ``(batch, channel, freq, frame)``."""
        return torch.view_as_complex(self.from_waveform(waveform).contiguous())

    def inverse(self, spectrum: Tensor, samples: int) -> Tensor:
        """Complex ``(batch, channel, freq, frame)`` back to entries."""
        return self.as_waveform(torch.view_as_real(spectrum))

    def _weights(self, spectrum: Tensor) -> Tensor:
        """Of each entry, ``(freq, 1, 1)``."""
        count = torch.full((self.freqs, 1, 1), 2.0)
        count[0] = count[-1] = 1.0  # all other frequencies have a negative one beside them
        frames = torch.ones_like(spectrum[0, 0, 0, :, 0]).sum()  # no Python number, so that any number goes
        samples = self.hop * (frames - 1.0)
        return (count / self.length * (2 * self.freqs * frames / samples)).sqrt()


class _ComputedGeometry(ArrayGeometry):
    """Computes its steering vectors from one number a direction and microphone: most of a small file else."""

    step_rad: Tensor
    bins: Tensor

    @property
    def steering(self) -> Tensor:  # type: ignore[override]
        """``(class, freq, mic)``."""
        phase_rad = self.bins[:, None] * self.step_rad[:, None]
        return torch.complex(phase_rad.cos(), phase_rad.sin())


def _compute_steering(geometry: ArrayGeometry, model: JointModel) -> None:
    """Have a geometry compute its steering vectors, if those are what it holds."""
    held = geometry.steering
    directions = direction_vector(class_azimuths_deg(len(held)))
    positions = model.array.positions
    lead_s = directions @ (positions - positions[geometry.reference]).T / SPEED_OF_SOUND
    step_hz = model.sample_rate / 2 / (held.shape[1] - 1)
    step_rad = torch.from_numpy(2 * np.pi * step_hz * lead_s).float()
    bins = torch.arange(held.shape[1], dtype=torch.float32)
    phase_rad = bins[:, None] * step_rad[:, None]
    if not torch.allclose(torch.complex(phase_rad.cos(), phase_rad.sin()), held, atol=1e-4):
        return
    del geometry._buffers["steering"]
    geometry.register_buffer("step_rad", step_rad, persistent=False)
    geometry.register_buffer("bins", bins, persistent=False)
    geometry.__class__ = _ComputedGeometry
