"""Schemes that share whole encoders: one for both heads, or one for each, apart or kept close."""

from __future__ import annotations

import math
from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any, cast

import torch
from torch import Tensor, nn

from msdet.dsp.streaming_state import State
from msdet.errors import MsdetError
from msdet.models.sharing import SHARING_SCHEMES, Localize, MakeEncoder, Shared, Sharing, SharingSizes, as_module


@SHARING_SCHEMES.register("hard")
class HardSharing(Sharing):
    """One encoder serves both heads, as in MSDET."""

    def __init__(self, make_encoder: MakeEncoder, sizes: SharingSizes) -> None:
        super().__init__()
        encoder = make_encoder()
        self.encoder = as_module(encoder)
        self.features_doa = self.features_separation = encoder.features_out
        self.causal = encoder.causal

    def forward(self, features: Tensor, localize: Localize) -> Shared:
        """The same features for both."""
        encoded = self.encoder(features)
        return Shared(encoded, localize(encoded), encoded)

    def stream(self, features: Tensor, localize: Localize, state: State) -> tuple[Shared, State]:
        """The next frames, of a causal encoder."""
        encoded, state = cast(Any, self.encoder).stream(features, state)
        return Shared(encoded, localize(encoded), encoded), state


@SHARING_SCHEMES.register("none")
class NoSharing(Sharing):
    """Two encoders of the same kind, twice the parameters: the baseline that sharing is measured against."""

    def __init__(self, make_encoder: MakeEncoder, sizes: SharingSizes) -> None:
        super().__init__()
        encoder = make_encoder()
        self.encoder_doa, self.encoder_separation = as_module(encoder), as_module(make_encoder())
        self.features_doa = self.features_separation = encoder.features_out
        self.causal = encoder.causal

    def forward(self, features: Tensor, localize: Localize) -> Shared:
        """Features of either encoder."""
        encoded = self.encoder_doa(features)
        return Shared(encoded, localize(encoded), self.encoder_separation(features))

    def stream(self, features: Tensor, localize: Localize, state: State) -> tuple[Shared, State]:
        """The next frames, of causal encoders."""
        of_doa, of_separation = state or (None, None)
        doa, of_doa = cast(Any, self.encoder_doa).stream(features, of_doa)
        separation, of_separation = cast(Any, self.encoder_separation).stream(features, of_separation)
        return Shared(doa, localize(doa), separation), (of_doa, of_separation)


@SHARING_SCHEMES.register("soft", penalizes=True)
class SoftSharing(NoSharing):
    """Two encoders, one for each head, and a penalty on how far apart their weights are.

    L. Duong, T. Cohn, S. Bird and P. Cook, "Low resource dependency parsing: cross-lingual parameter sharing
    in a neural network parser", ACL-IJCNLP 2015: the squared L2 distance of the weights is added to the loss.

    Args:
        weight: of the penalty.
        parameters: which parameters are held together: one or more patterns of their names within the
            encoder, such as ``blocks.0.*``. Each names a group; the distances of groups are added.
        normalize: take a group's distance relative to the mean of its two squared norms, so that a weight
            means the same for any size of encoder: 2 for weights that have nothing in common. The norms are
            not trained by it.
        start_equal: start the second encoder from the weights of the first.

    Raises:
        MsdetError: a pattern that no parameter matches.
    """

    def __init__(
        self,
        make_encoder: MakeEncoder,
        sizes: SharingSizes,
        weight: float = 0.1,
        parameters: str | Sequence[str] = "*",
        normalize: bool = True,
        start_equal: bool = True,
    ) -> None:
        if not (weight >= 0.0 and math.isfinite(weight)):
            raise ValueError(f"weight {weight} is not 0 or more")
        patterns = [parameters] if isinstance(parameters, str) else parameters
        if not patterns:
            raise ValueError("parameters is empty: name at least one pattern")
        super().__init__(make_encoder, sizes)
        self.weight = weight
        self.normalize = normalize
        self.groups = [_matching(self.encoder_doa, pattern) for pattern in patterns]
        if start_equal:
            self.encoder_separation.load_state_dict(self.encoder_doa.state_dict())

    def penalty(self) -> Tensor:
        """Weighted sum of the groups' squared distances."""
        doa = dict(self.encoder_doa.named_parameters())
        separation = dict(self.encoder_separation.named_parameters())
        groups = ([(doa[name], separation[name]) for name in names] for names in self.groups)
        return self.weight * torch.stack([self._distance(pairs) for pairs in groups]).sum()

    def _distance(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        distance = torch.stack([(a - b).square().sum() for a, b in pairs]).sum()
        if not self.normalize:
            return distance
        with torch.no_grad():
            norm = torch.stack([(a.square() + b.square()).sum() / 2 for a, b in pairs]).sum()
        return distance / norm.clamp_min(torch.finfo(norm.dtype).tiny)


def _matching(encoder: nn.Module, pattern: str) -> list[str]:
    """Names of the trained parameters that match a pattern, at least one."""
    names = [name for name, parameter in encoder.named_parameters() if parameter.requires_grad]
    matching = [name for name in names if fnmatchcase(name, pattern)]
    if not matching:
        nearest = (*get_close_matches(pattern, names, n=1, cutoff=0.0), "none: it has none")[0]
        raise MsdetError(
            f"sharing scheme 'soft': no trained parameter of the encoder matches '{pattern}'; the nearest is {nearest}"
        )
    return matching
