"""Real and imaginary parts of all microphones: the input of most multichannel networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from msdet.dsp.streaming_state import State, decay_over
from msdet.models.frontends import (
    FRONT_ENDS,
    FrontEndOutput,
    FrontEndSizes,
    reference_level,
    running_rms_normalize,
)


@FRONT_ENDS.register("real_imaginary")
class RealImaginaryFrontEnd(nn.Module):
    """Parts are turned so that the reference's phase is zero; the level of each bin is kept as its logarithm.

    Args:
        sizes: what its sizes follow from.
        causal: levels are relative to the recording so far.
        time_constant_s: time constant in seconds with which a causal front end forgets levels; null for
            never.
    """

    array_bound = True

    def __init__(
        self, sizes: FrontEndSizes, causal: bool = False, time_constant_s: float | None = None
    ) -> None:
        super().__init__()
        self.geometry = sizes.geometry
        self.causal = causal
        self.decay = decay_over(time_constant_s, sizes.geometry.frame_s)
        self.features_out = 2 * sizes.geometry.microphones + 1

    def forward(self, spectrum: Tensor) -> FrontEndOutput:
        """Features of a spectrum ``(batch, mic, freq, frame)``."""
        if self.causal:
            return self.stream(spectrum, None)[0]
        level = reference_level(spectrum[:, self.geometry.reference])
        return FrontEndOutput(spectrum, self._features(spectrum), None, level)

    def stream(self, spectrum: Tensor, memory: State) -> tuple[FrontEndOutput, State]:
        """The next frames, of a causal front end."""
        seen, level, memory = running_rms_normalize(spectrum, self.geometry.reference, self.decay, memory)
        return FrontEndOutput(spectrum, self._features(seen), None, level), memory

    def _features(self, seen: Tensor) -> Tensor:
        parts = torch.cat(relative_parts(seen, self.geometry.reference), dim=1)
        return parts.permute(0, 2, 3, 1)


def relative_parts(spectrum: Tensor, reference: int) -> list[Tensor]:
    """Real and imaginary parts ``(batch, mic, freq, frame)`` relative to the reference, and its log level.

    Parts are squashed to stay below 1; the level is ``(batch, 1, freq, frame)``.
    """
    at_reference = spectrum[:, reference : reference + 1]
    magnitude = at_reference.abs()
    relative = spectrum * (at_reference.conj() / magnitude.clamp_min(1e-8).square())
    squashed = relative / (1.0 + relative.abs())
    return [squashed.real, squashed.imag, torch.log1p(magnitude)]
