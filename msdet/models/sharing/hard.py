"""Hard sharing: one encoder serves both heads, as in MSDET."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from msdet.dsp.streaming_state import State
from msdet.models.encoders import streaming
from msdet.models.sharing import SHARING_SCHEMES, MakeEncoder, Shared, SharingSizes, as_module


@SHARING_SCHEMES.register("hard")
class HardSharing(nn.Module):
    """One encoder."""

    per_slot = False

    def __init__(self, make_encoder: MakeEncoder, sizes: SharingSizes) -> None:
        super().__init__()
        encoder = make_encoder()
        self.encoder = as_module(encoder)
        self.features_doa = self.features_separation = encoder.features_out
        self.causal = encoder.causal

    def forward(self, features: Tensor, localize: Callable[[Tensor], Tensor]) -> Shared:
        """The same features for both."""
        encoded = self.encoder(features)
        return Shared(encoded, localize(encoded), encoded)

    def stream(
        self, features: Tensor, localize: Callable[[Tensor], Tensor], memory: State
    ) -> tuple[Shared, State]:
        """The next frames, of a causal encoder."""
        encoded, memory = streaming(self.encoder).stream(features, memory)
        return Shared(encoded, localize(encoded), encoded), memory

    def penalty(self) -> Tensor | None:
        """None."""
        return None
