"""A learned filter over microphones and frames, one a bin and talker: sum over m, l of w_ml X_m(t-l).

Over frames it is deep filtering (Mack and Habets, IEEE SPL 27, 2020), over microphones filter-and-sum; over
both, the filter of multi-channel multi-frame networks (Z. Zhang et al., "Multi-channel multi-frame ADL-MVDR",
TASLP 2021), here given by the network itself.
"""

from __future__ import annotations

from torch import Tensor, nn

from msdet.errors import UnknownNameError
from msdet.models.frontend import Observation
from msdet.models.heads import HeadSizes, SlotLinear, as_complex
from msdet.models.heads.separation._refine import at_least_one
from msdet.running import Memory, with_past
from msdet.spatial import past_frames


class Head(nn.Module):
    """The weights are not bounded. Those of all microphones belong to one array.

    Args:
        sizes: what its sizes follow from.
        frames: that the filters see, this one and the ones before.
        microphones: ``all``, or ``reference`` alone, which any array has.
    """

    causal = True

    def __init__(self, sizes: HeadSizes, frames: int = 3, microphones: str = "all") -> None:
        super().__init__()
        if microphones not in ("all", "reference"):
            raise UnknownNameError("choice of microphones", microphones, ("all", "reference"))
        self.array_bound = microphones == "all"
        self.reference = sizes.geometry.reference
        self.frames = at_least_one(frames, "frames")
        heard = sizes.geometry.microphones if self.array_bound else 1
        self.filter = SlotLinear(sizes, 2 * heard * frames)

    def forward(self, features: Tensor, observation: Observation, doa_logits: Tensor) -> tuple[Tensor, ...]:
        """One estimate ``(batch, talker, freq, frame)``."""
        return self.stream(features, observation, doa_logits, None)[0]

    def stream(
        self, features: Tensor, observation: Observation, doa_logits: Tensor, memory: Memory
    ) -> tuple[tuple[Tensor, ...], Memory]:
        """The next frames."""
        heard = observation.spectrum
        if not self.array_bound:
            heard = heard[:, self.reference : self.reference + 1]
        weights = as_complex(self.filter(features))
        joined, memory = with_past(heard, self.frames - 1, 3, memory)
        past = past_frames(joined, self.frames)[..., self.frames - 1 :]
        return ((weights * past[:, None]).sum(2),), memory
