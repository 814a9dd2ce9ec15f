"""Cross-stitch units: two encoders whose states mix after each block (Misra et al., CVPR 2016).

I. Misra, A. Shrivastava, A. Gupta and M. Hebert, "Cross-stitch networks for multi-task learning", CVPR 2016,
equation 1: what either encoder hands on is a learned linear combination of both, here with one 2 x 2 matrix
for each feature channel, as there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from msdet.dsp.streaming_state import State
from msdet.models.encoders import BlockEncoder, StreamingBlockEncoder
from msdet.models.sharing import SHARING_SCHEMES, MakeEncoder, Shared, SharingSizes, as_blocks


@SHARING_SCHEMES.register("cross_stitch")
class CrossStitchSharing(nn.Module):
    """Two encoders, one for each head, stitched together after each block.

    Args:
        make_encoder: gives a new encoder, which shows its blocks.
        sizes: what else sizes follow from.
        own: initial weight of an encoder's own state; the paper finds 0.9 with 0.1 for the other's good, its
            sum keeps the scale.
        other: initial weight of the other encoder's state.

    Raises:
        MsdetError: the encoder does not show its blocks.
    """

    per_slot = False
    needs_blocks = True

    encoder_doa: BlockEncoder
    encoder_separation: BlockEncoder

    def __init__(
        self, make_encoder: MakeEncoder, sizes: SharingSizes, own: float = 0.9, other: float = 0.1
    ) -> None:
        super().__init__()
        self.encoder_doa = as_blocks(make_encoder(), "cross_stitch")
        self.encoder_separation = as_blocks(make_encoder(), "cross_stitch")
        self.features_doa = self.features_separation = self.encoder_doa.features_out
        self.causal = self.encoder_doa.causal
        self.stitches = nn.ModuleList(
            _Stitch(self.encoder_doa.width(index), own, other) for index in range(self.encoder_doa.depth)
        )

    def forward(self, features: Tensor, localize: Callable[[Tensor], Tensor]) -> Shared:
        """Features of either encoder."""
        doa, separation = self.encoder_doa.start(features), self.encoder_separation.start(features)
        for index, stitch in enumerate(self.stitches):
            doa, separation = stitch(
                self.encoder_doa.block(index, doa), self.encoder_separation.block(index, separation)
            )
        encoded = self.encoder_doa.finish(doa, features)
        return Shared(encoded, localize(encoded), self.encoder_separation.finish(separation, features))

    def stream(
        self, features: Tensor, localize: Callable[[Tensor], Tensor], memory: State
    ) -> tuple[Shared, State]:
        """The next frames, of causal encoders."""
        encoders = [cast(StreamingBlockEncoder, e) for e in (self.encoder_doa, self.encoder_separation)]
        before = memory or [(None, None)] * (len(self.stitches) + 1)

        entered = [e.stream_start(features, past) for e, past in zip(encoders, before[0], strict=True)]
        (doa, separation), after = zip(*entered, strict=True)
        kept = [after]
        for index, stitch in enumerate(self.stitches):
            of_doa, of_separation = before[index + 1]
            doa, of_doa = encoders[0].stream_block(index, doa, of_doa)
            separation, of_separation = encoders[1].stream_block(index, separation, of_separation)
            doa, separation = stitch(doa, separation)
            kept.append((of_doa, of_separation))
        encoded = encoders[0].finish(doa, features)
        return Shared(encoded, localize(encoded), encoders[1].finish(separation, features)), kept

    def penalty(self) -> Tensor | None:
        """None."""
        return None


class _Stitch(nn.Module):
    """Mixes two states ``(..., width)``, each feature channel by a matrix of its own.

    Attributes:
        mix: ``(2, 2, width)``, from the second axis to the first; DoA comes first.
    """

    def __init__(self, width: int, own: float, other: float) -> None:
        super().__init__()
        mix = torch.tensor([[own, other], [other, own]])
        self.mix = nn.Parameter(mix[..., None].repeat(1, 1, width))

    def forward(self, doa: Tensor, separation: Tensor) -> tuple[Tensor, Tensor]:
        """Both states, mixed."""
        mix = self.mix
        return (
            mix[0, 0] * doa + mix[0, 1] * separation,
            mix[1, 0] * doa + mix[1, 1] * separation,
        )
