"""Real and imaginary parts of all microphones: the input of most multichannel networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from msdet.models.front_ends import FrontEndSizes
from msdet.models.frontend import Observation, levelled_so_far, reference_level
from msdet.running import Memory, decay_over


class FrontEnd(nn.Module):
    """Parts are turned so that the reference's phase is zero; the level of each bin is kept as its logarithm.

    Args:
        sizes: what its sizes follow from.
        causal: levels are relative to the recording so far.
        memory_s: time constant in seconds with which a causal front end forgets levels; null for never.
    """

    array_bound = True

    def __init__(self, sizes: FrontEndSizes, causal: bool = False, memory_s: float | None = None) -> None:
        super().__init__()
        self.geometry = sizes.geometry
        self.causal = causal
        self.decay = decay_over(memory_s, sizes.geometry.frame_s)
        self.features_out = 2 * sizes.geometry.microphones + 1

    def forward(self, spectrum: Tensor) -> Observation:
        """Features of a spectrum ``(batch, mic, freq, frame)``."""
        if self.causal:
            return self.stream(spectrum, None)[0]
        level = reference_level(spectrum[:, self.geometry.reference])
        return Observation(spectrum, self._features(spectrum), None, level)

    def stream(self, spectrum: Tensor, memory: Memory) -> tuple[Observation, Memory]:
        """The next frames, of a causal front end."""
        seen, level, memory = levelled_so_far(spectrum, self.geometry.reference, self.decay, memory)
        return Observation(spectrum, self._features(seen), None, level), memory

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
