"""Soft sharing: two encoders whose weights are held close to each other (Duong et al., ACL 2015).

L. Duong, T. Cohn, S. Bird and P. Cook, "Low resource dependency parsing: cross-lingual parameter sharing in a
neural network parser", ACL-IJCNLP 2015: the squared L2 distance of the weights is added to the loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from msdet.dsp.streaming_state import State
from msdet.errors import MsdetError
from msdet.models.encoders import streaming
from msdet.models.sharing import SHARING_SCHEMES, MakeEncoder, Shared, SharingSizes, as_module


@SHARING_SCHEMES.register("soft")
class SoftSharing(nn.Module):
    """Two encoders, one for each head, and a penalty on how far apart they are.

    Args:
        make_encoder: gives a new encoder.
        sizes: what else sizes follow from.
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

    per_slot = False

    def __init__(
        self,
        make_encoder: MakeEncoder,
        sizes: SharingSizes,
        weight: float = 0.1,
        parameters: str | Sequence[str] = "*",
        normalize: bool = True,
        start_equal: bool = True,
    ) -> None:
        super().__init__()
        if not (weight >= 0.0 and math.isfinite(weight)):
            raise ValueError(f"weight {weight} is not 0 or more")
        patterns = [parameters] if isinstance(parameters, str) else parameters
        if not patterns:
            raise ValueError("parameters is empty: name at least one pattern")
        self.weight = weight
        self.normalize = normalize
        encoder = make_encoder()
        self.encoder_doa, self.encoder_separation = as_module(encoder), as_module(make_encoder())
        self.features_doa = self.features_separation = encoder.features_out
        self.causal = encoder.causal
        self.groups = [_matching(self.encoder_doa, pattern) for pattern in patterns]
        if start_equal:
            self.encoder_separation.load_state_dict(self.encoder_doa.state_dict())

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
            f"sharing scheme 'soft': no trained parameter of the encoder matches '{pattern}'; "
            f"the nearest is {nearest}"
        )
    return matching
