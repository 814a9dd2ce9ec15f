"""Complex spectral mapping: each talker's spectrum itself, not a mask (Wang, Wang and Wang, TASLP 2021).

"Multi-microphone Complex Spectral Mapping for Utterance-wise and Continuous Speech Separation".
"""

from __future__ import annotations

from torch import Tensor, nn

from msdet.models.frontend import Observation, reference_level
from msdet.models.heads import HeadSizes, SlotLinear, as_complex
from msdet.running import Memory
from msdet.spatial import phase_normalise


class Head(nn.Module):
    """The map is scaled by the level of the recording at the reference, and turned by each bin's phase there.

    Front ends show phases relative to the reference's; a phase of its own could not be mapped to.
    """

    causal = True

    def __init__(self, sizes: HeadSizes) -> None:
        super().__init__()
        self.reference = sizes.geometry.reference
        self.map = SlotLinear(sizes, 2)

    def forward(self, features: Tensor, observation: Observation, doa_logits: Tensor) -> tuple[Tensor, ...]:
        """One estimate ``(batch, talker, freq, frame)``."""
        reference = observation.spectrum[:, self.reference]
        level = reference_level(reference) if observation.level is None else observation.level
        mapped = as_complex(self.map(features))[:, :, 0]
        return (mapped * (level * phase_normalise(reference))[:, None],)

    def stream(
        self, features: Tensor, observation: Observation, doa_logits: Tensor, memory: Memory
    ) -> tuple[tuple[Tensor, ...], Memory]:
        """The next frames; a causal front end gives their level."""
        return self(features, observation, doa_logits), None
