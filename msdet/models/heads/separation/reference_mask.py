"""A complex ratio mask for each talker on the reference microphone (Williamson et al., 2016)."""

from __future__ import annotations

from torch import Tensor, nn

from msdet.models.frontend import Observation
from msdet.models.heads import HeadSizes, SlotLinear, as_complex
from msdet.running import Memory


class Head(nn.Module):
    """The mask is not bounded."""

    causal = True

    def __init__(self, sizes: HeadSizes) -> None:
        super().__init__()
        self.reference = sizes.geometry.reference
        self.mask = SlotLinear(sizes, 2)

    def forward(self, features: Tensor, observation: Observation, doa_logits: Tensor) -> tuple[Tensor, ...]:
        """One estimate ``(batch, talker, freq, frame)``."""
        mask = as_complex(self.mask(features))[:, :, 0]
        return (mask * observation.spectrum[:, self.reference, None],)

    def stream(
        self, features: Tensor, observation: Observation, doa_logits: Tensor, memory: Memory
    ) -> tuple[tuple[Tensor, ...], Memory]:
        """The next frames."""
        return self(features, observation, doa_logits), None
