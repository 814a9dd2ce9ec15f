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
from msdet.spatial import masked_mvdr


class Head(nn.Module):
    """Each bin is shared among the talkers and noise, by masks that add up to one.

    A beam is refined by complex masks on all beams and the reference, which start at zero.

    Args:
        sizes: what its sizes follow from.
        frames: that the refining filters see, this one and the ones before; 1 makes them masks.
        loading: of the disturbance's diagonal, relative to its trace.
        causal: a beam for each frame, from covariances of that frame and those before it. Takes memory for a
            covariance of every bin.
    """

    def __init__(
        self, sizes: HeadSizes, frames: int = 1, loading: float = 1e-4, causal: bool = False
    ) -> None:
        super().__init__()
        if not 0 < loading < float("inf"):
            raise ValueError(f"loading is {loading}, expected above 0")
        self.reference = sizes.geometry.reference
        self.loading = loading
        self.causal = causal
        self.share = SlotLinear(sizes, 1)
        self.refine = BeamMasks(sizes, sizes.talkers + 1, frames)

    def masks(self, features: Tensor) -> Tensor:
        """Shares ``(batch, talker, freq, frame)`` of the talkers; what is left to one is noise."""
        talkers = self.share(features)[..., 0].float()
        return torch.cat([talkers, torch.zeros_like(talkers[:, :1])], dim=1).softmax(1)[:, :-1]

    def forward(self, features: Tensor, observation: Observation, doa_logits: Tensor) -> tuple[Tensor, ...]:
        """One estimate ``(batch, talker, freq, frame)``."""
        spectrum = observation.spectrum
        beams = masked_mvdr(spectrum, self.masks(features), self.reference, self.loading, self.causal)
        signals = [beams, spectrum[:, self.reference : self.reference + 1]]
        return (self.refine(features, beams, signals),)
