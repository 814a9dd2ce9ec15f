"""The spectra of all microphones: as they are, or turned by the reference's phase."""

from __future__ import annotations

import torch
from torch import Tensor

from msdet.models.frontends import FRONT_ENDS, FrontEndOutput, FrontEndSizes, LeveledFrontEnd


@FRONT_ENDS.register("stft")
class StftFrontEnd(LeveledFrontEnd):
    """Real parts of all microphones, then imaginary parts, at unit RMS at the reference.

    What SpatialNet (Quan and Li, IEEE/ACM TASLP 32, 2024), TF-GridNet (Wang et al., IEEE/ACM TASLP 31, 2023) and
    FT-JNF (Tesch and Gerkmann, IEEE/ACM TASLP 31, 2023) see. It keeps the phase from frame to frame, by which sound
    can be told from its own reverberation; front ends that turn every bin by the reference's phase lose it.
    """

    array_bound = True
    keeps_phase = True

    def __init__(self, sizes: FrontEndSizes, causal: bool = False, time_constant_s: float | None = None) -> None:
        super().__init__(sizes, causal, time_constant_s)
        self.features_out = 2 * sizes.geometry.microphones

    def output(self, spectrum: Tensor, leveled: Tensor, level: Tensor) -> FrontEndOutput:
        """Of the spectrum whose bins at the reference have unit RMS."""
        return FrontEndOutput(spectrum, self.features(spectrum / level[:, None]), None, level, keeps_phase=True)

    def features(self, leveled: Tensor) -> Tensor:
        """Features ``(batch, freq, frame, feature)`` of a leveled spectrum ``(batch, mic, freq, frame)``."""
        return torch.cat([leveled.real, leveled.imag], dim=1).permute(0, 2, 3, 1)


@FRONT_ENDS.register("real_imaginary")
class RealImaginaryFrontEnd(LeveledFrontEnd):
    """Parts are turned so that the reference's phase is zero; the level of each bin is kept as its logarithm."""

    array_bound = True

    def __init__(self, sizes: FrontEndSizes, causal: bool = False, time_constant_s: float | None = None) -> None:
        super().__init__(sizes, causal, time_constant_s)
        self.features_out = 2 * sizes.geometry.microphones + 1

    def features(self, leveled: Tensor) -> Tensor:
        """Features ``(batch, freq, frame, feature)`` of a leveled spectrum ``(batch, mic, freq, frame)``."""
        return torch.cat(relative_parts(leveled, self.geometry.reference), dim=1).permute(0, 2, 3, 1)


def relative_parts(spectrum: Tensor, reference: int) -> list[Tensor]:
    """Parts ``(batch, mic, freq, frame)`` relative to the reference, squashed below 1, and its log level."""
    at_reference = spectrum[:, reference : reference + 1]
    magnitude = at_reference.abs()
    relative = spectrum * (at_reference.conj() / magnitude.clamp_min(1e-8).square())
    squashed = relative / (1.0 + relative.abs())
    return [squashed.real, squashed.imag, torch.log1p(magnitude)]
