"""Masks, spatial covariances, MVDR, complex masks: a beamformer steered by masks, trained through.

Masks for covariances as in Heymann, Drude and Haeb-Umbach (ICASSP 2016), the beamformer by Souden et al.
(IEEE TASLP 18(2), 2010).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from msdet.models.frontend import Observation
from msdet.models.heads import HeadSizes, SlotLinear
from msdet.models.heads.separation._refine import BeamMasks
from msdet.running import Memory, decay_over
from msdet.spatial import masked_mvdr, masked_mvdr_so_far


class Head(nn.Module):
    """Each bin is shared among the talkers and noise, by masks that add up to one.

    A beam is refined by complex masks on all beams and the reference, which start at zero.

    Args:
        sizes: what its sizes follow from.
        frames: that the refining filters see, this one and the ones before; 1 makes them masks.
        loading: of the disturbance's diagonal, relative to its trace; if not given 1e-4, and 1e-3 of a causal
            head, whose first covariances are of few frames.
        causal: a beam for each frame, from covariances of that frame and those before it. Takes memory for a
            covariance of every bin.
        memory_s: time constant in seconds with which a causal head forgets; null for never.
    """

    def __init__(
        self,
        sizes: HeadSizes,
        frames: int = 1,
        loading: float | None = None,
        causal: bool = False,
        memory_s: float | None = None,
    ) -> None:
        super().__init__()
        loading = (1e-3 if causal else 1e-4) if loading is None else loading
        if not 0 < loading < float("inf"):
            raise ValueError(f"loading is {loading}, expected above 0")
        self.reference = sizes.geometry.reference
        self.loading = loading
        self.causal = causal
        self.decay = decay_over(memory_s, sizes.geometry.frame_s)
        self.share = SlotLinear(sizes, 1)
        self.refine = BeamMasks(sizes, sizes.talkers + 1, frames)

    def masks(self, features: Tensor) -> Tensor:
        """Shares ``(batch, talker, freq, frame)`` of the talkers; what is left to one is noise."""
        talkers = self.share(features)[..., 0].float()
        return torch.cat([talkers, torch.zeros_like(talkers[:, :1])], dim=1).softmax(1)[:, :-1]

    def forward(self, features: Tensor, observation: Observation, doa_logits: Tensor) -> tuple[Tensor, ...]:
        """One estimate ``(batch, talker, freq, frame)``."""
        if self.causal:
            return self.stream(features, observation, doa_logits, None)[0]
        spectrum = observation.spectrum
        beams = masked_mvdr(spectrum, self.masks(features), self.reference, self.loading)
        signals = [beams, spectrum[:, self.reference : self.reference + 1]]
        return (self.refine(features, beams, signals),)

    def stream(
        self, features: Tensor, observation: Observation, doa_logits: Tensor, memory: Memory
    ) -> tuple[tuple[Tensor, ...], Memory]:
        """The next frames, of a causal head."""
        covariances, refining = memory or (None, None)
        spectrum = observation.spectrum
        beams, covariances = masked_mvdr_so_far(
            spectrum, self.masks(features), self.reference, self.loading, self.decay, covariances
        )
        signals = [beams, spectrum[:, self.reference : self.reference + 1]]
        refined, refining = self.refine.stream(features, beams, signals, refining)
        return (refined,), (covariances, refining)
