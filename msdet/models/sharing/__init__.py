"""Sharing schemes: how much of the encoder localization and separation have in common.

A scheme is a `Sharing` built as ``Scheme(make_encoder, sizes, **options)``: ``make_encoder()`` gives a new encoder,
`SharingSizes` what else sizes follow from. It registers itself, ``@SHARING_SCHEMES.register("hard")``, and says there
if it needs an encoder that shows its blocks (``needs_blocks``) and if it adds a penalty to the loss (``penalizes``). A
user's own scheme needs no base class, and says so by attributes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn

from msdet.components import Registry
from msdet.errors import MsdetError
from msdet.models.encoders import BLOCK_MEMBERS, ENCODERS, BlockEncoder, Encoder

MakeEncoder = Callable[[], Encoder]

Localize = Callable[[Tensor], Tensor]
"""The DoA head, from features to logits."""

SHARING_SCHEMES = Registry("sharing scheme", __name__, network=True)


class SharingSizes(NamedTuple):
    """What the sizes of a scheme follow from: the number of output slots, and of outputs of the DoA head for each."""

    talkers: int
    doa_outputs: int


class Shared(NamedTuple):
    """What a scheme gives."""

    doa: Tensor
    """Features that the DoA head saw, ``(batch, freq, frame, feature)``."""
    logits: Tensor
    """What it said, ``(batch, talker, outputs)``, or of a causal head ``(batch, talker, frame, outputs)``."""
    separation: Tensor
    """Features for the separation head, ``(batch, freq, frame, feature)``, with the axis talker where of each slot."""


class Sharing(nn.Module, ABC):
    """What every scheme offers: widths of the features that heads are given, and whether there are some of each slot.

    One whose encoders are causal may have ``stream(features, localize, state) -> (Shared, state)``, as these do.
    """

    features_doa: int
    features_separation: int
    per_slot = False
    causal: bool

    @abstractmethod
    def forward(self, features: Tensor, localize: Localize) -> Shared:
        """Features for either head; separation may depend on what `localize` says."""

    def penalty(self) -> Tensor | None:
        """A scalar added to the loss, if any."""
        return None


def as_encoder(encoder: Encoder) -> Any:
    """An encoder that says what every encoder says, and, if it can, works on a stream."""
    if not isinstance(encoder, nn.Module):
        raise MsdetError(f"encoder {type(encoder).__name__} is not a torch.nn.Module")
    for attribute in ("features_out", "causal"):
        if not hasattr(encoder, attribute):
            raise MsdetError(f"encoder {type(encoder).__name__} has no attribute '{attribute}'")
    return encoder


def as_blocks(encoder: Encoder, scheme: str, at_least: int = 1) -> BlockEncoder:
    """An encoder as the blocks that it is made of, if it shows them and has as many as a sharing scheme needs."""
    blocks: BlockEncoder = as_encoder(encoder)
    what, name = f"sharing scheme '{scheme}'", ENCODERS.name_of(type(encoder))
    missing = [member for member in BLOCK_MEMBERS if not hasattr(encoder, member)]
    if missing:
        others = [s for s in SHARING_SCHEMES.names() if not SHARING_SCHEMES.fact(s, "needs_blocks", False)]
        absent = f"encoder '{name}' does not show: it has no {', '.join(missing)}; it can do: {', '.join(others)}"
        raise MsdetError(f"{what} works between blocks, which {absent}")
    if blocks.depth < at_least:
        raise MsdetError(f"{what} needs at least {at_least} blocks, encoder '{name}' has {blocks.depth}")
    return blocks


def __getattr__(name: str) -> Any:  # from msdet.models.sharing import CrossStitchSharing
    return SHARING_SCHEMES.exported(name)
