"""No sharing: two encoders of the same kind, one for each head; only the front end is common."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from msdet.dsp.streaming_state import State
from msdet.models.encoders import streaming
from msdet.models.sharing import SHARING_SCHEMES, MakeEncoder, Shared, SharingSizes, as_module


@SHARING_SCHEMES.register("none")
class NoSharing(nn.Module):
    """Two encoders, so twice the parameters: the baseline that sharing is measured against."""

    per_slot = False

    def __init__(self, make_encoder: MakeEncoder, sizes: SharingSizes) -> None:
        super().__init__()
        encoder = make_encoder()
        self.encoder_doa, self.encoder_separation = as_module(encoder), as_module(make_encoder())
        self.features_doa = self.features_separation = encoder.features_out
        self.causal = encoder.causal

    def forward(self, features: Tensor, localize: Callable[[Tensor], Tensor]) -> Shared:
        """Features of either encoder."""
        encoded = self.encoder_doa(features)
        return Shared(encoded, localize(encoded), self.encoder_separation(features))

    def stream(
        self, features: Tensor, localize: Callable[[Tensor], Tensor], memory: State
    ) -> tuple[Shared, State]:
        """The next frames, of causal encoders."""
        of_doa, of_separation = memory or (None, None)
        doa, of_doa = streaming(self.encoder_doa).stream(features, of_doa)
        separation, of_separation = streaming(self.encoder_separation).stream(features, of_separation)
        return Shared(doa, localize(doa), separation), (of_doa, of_separation)

    def penalty(self) -> Tensor | None:
        """None."""
        return None
