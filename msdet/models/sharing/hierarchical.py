"""Hierarchical sharing: localize from the lower blocks, then separate each slot knowing where its talker is.

A task of a lower level is supervised at lower layers (A. Søgaard and Y. Goldberg, "Deep multi-task learning
with low level tasks supervised at lower layers", ACL 2016), and what it found is given to those above
(V. Sanh, T. Wolf and S. Ruder, "A hierarchical multi-task approach for learning embeddings from semantic
tasks", AAAI 2019). That a direction steers a filter to the talker who is there is from K. Tesch and
T. Gerkmann, "Multi-channel speech separation using spatially selective deep non-linear filters", IEEE/ACM
TASLP 32, 2024. The conditioning is feature-wise linear modulation (E. Perez et al., AAAI 2018).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

from torch import Tensor, nn

from msdet.models.encoders import BlockEncoder
from msdet.models.frontends import final_frame_logits
from msdet.models.sharing import SHARING_SCHEMES, MakeEncoder, Shared, SharingSizes, as_blocks


@SHARING_SCHEMES.register("hierarchical")
class HierarchicalSharing(nn.Module):
    """One encoder: its lower blocks serve both heads, its upper ones run once for each slot.

    What localization sees leaves the encoder by a way out of its own (`BlockEncoder.exit_after`).

    Args:
        make_encoder: gives a new encoder, which shows its blocks.
        sizes: what else sizes follow from.
        after: number of lower blocks, at least 1 and not all; None for half of them.
        temperature: divides the logits: above 1 the posterior that conditions is flatter than the one that
            the DoA loss sees.
        detach: keep the separation loss from training localization through the posterior.

    Raises:
        MsdetError: the encoder does not show its blocks, or has only one.
    """

    per_slot = True
    causal = False  # the posterior is one word on the whole recording
    needs_blocks = True

    encoder: BlockEncoder

    def __init__(
        self,
        make_encoder: MakeEncoder,
        sizes: SharingSizes,
        after: int | None = None,
        temperature: float = 1.0,
        detach: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = as_blocks(make_encoder(), "hierarchical", at_least=2)
        self.after = self.encoder.depth // 2 if after is None else after
        if not 1 <= self.after < self.encoder.depth:
            depth = self.encoder.depth
            raise ValueError(f"after {after} is not 1 to {depth - 1}: the encoder has {depth} blocks")
        if not (temperature > 0.0 and math.isfinite(temperature)):
            raise ValueError(f"temperature {temperature} is not above 0")
        self.temperature = temperature
        self.detach = detach
        way_out = self.encoder.exit_after(self.after - 1)
        self.exit_doa = cast(nn.Module, way_out)
        self.features_doa = way_out.features_out
        self.features_separation = self.encoder.features_out
        self.condition = _Condition(sizes.doa_outputs, self.encoder.width(self.after - 1))

    def forward(self, features: Tensor, localize: Callable[[Tensor], Tensor]) -> Shared:
        """Features for localization, and features of each slot."""
        state = self.encoder.start(features)
        for index in range(self.after):
            state = self.encoder.block(index, state)
        encoded = self.exit_doa(state, features)
        logits = final_frame_logits(localize(encoded))
        posterior = (logits / self.temperature).softmax(-1)
        by_slot = self.condition(state, posterior.detach() if self.detach else posterior)
        slots = by_slot.shape[:2]
        state = by_slot.flatten(0, 1)
        for index in range(self.after, self.encoder.depth):
            state = self.encoder.block(index, state)
        again = features[:, None].expand(*slots, *features.shape[1:]).flatten(0, 1)
        return Shared(encoded, logits, self.encoder.finish(state, again).unflatten(0, slots))

    def penalty(self) -> Tensor | None:
        """None."""
        return None


class _Condition(nn.Module):
    """Scales and shifts a state, for each slot by what its posterior says.

    Each output of the DoA head has a learned scale and shift of every feature; a slot gets their mean under
    its posterior. They start at zero, so that the state of every slot is the one below.
    """

    def __init__(self, outputs: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Linear(outputs, 2 * width)
        nn.init.zeros_(self.embed.weight)
        nn.init.zeros_(self.embed.bias)

    def forward(self, state: Tensor, posterior: Tensor) -> Tensor:
        """``(batch, ..., width)`` and ``(batch, talker, outputs)`` to ``(batch, talker, ..., width)``."""
        found = self.embed(posterior)
        between = [1] * (state.dim() - 2)
        scale, shift = found.view(*found.shape[:2], *between, -1).chunk(2, dim=-1)
        conditioned: Tensor = state[:, None] * (1.0 + scale) + shift
        return conditioned
