"""Real and imaginary parts of all microphones: the input of most multichannel networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from msdet.models.front_ends import FrontEndSizes
from msdet.models.frontend import Observation, levelled


class FrontEnd(nn.Module):
    """Parts are turned so that the reference's phase is zero; the level of each bin is kept as its logarithm.

    Args:
        sizes: what its sizes follow from.
        causal: levels are relative to the recording so far.
    """

    array_bound = True

    def __init__(self, sizes: FrontEndSizes, causal: bool = False) -> None:
        super().__init__()
        self.geometry = sizes.geometry
        self.causal = causal
        self.features_out = 2 * sizes.geometry.microphones + 1

    def forward(self, spectrum: Tensor) -> Observation:
        """Features of a spectrum ``(batch, mic, freq, frame)``."""
        seen, level = levelled(spectrum, self.geometry.reference, self.causal)
        parts = torch.cat(relative_parts(seen, self.geometry.reference), dim=1)
        return Observation(spectrum, parts.permute(0, 2, 3, 1), None, level)


def relative_parts(spectrum: Tensor, reference: int) -> list[Tensor]:
    """Real and imaginary parts ``(batch, mic, freq, frame)`` relative to the reference, and its log level.

    Parts are squashed to stay below 1; the level is ``(batch, 1, freq, frame)``.
    """
    at_reference = spectrum[:, reference : reference + 1]
    magnitude = at_reference.abs()
    relative = spectrum * (at_reference.conj() / magnitude.clamp_min(1e-8).square())
    squashed = relative / (1.0 + relative.abs())
    return [squashed.real, squashed.imag, torch.log1p(magnitude)]
