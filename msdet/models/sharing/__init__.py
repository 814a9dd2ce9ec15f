"""Sharing schemes: how much of the encoder localization and separation have in common; one file each.

A module defines ``Sharing``, a `torch.nn.Module` built as ``Sharing(make_encoder, sizes, **options)``:
``make_encoder()`` gives a new encoder, `SharingSizes` what else sizes follow from. It has the attributes

- ``features_doa`` and ``features_separation``: widths of the features that it gives to either head;
- ``per_slot``: whether the separation head is given features of each slot;
- ``causal``: whether no frame of the features depends on a later one.

``forward(features, localize) -> Shared``: ``localize`` is the DoA head, from features to logits, so that a
scheme may let separation depend on what localization found. ``penalty() -> Tensor | None`` is a scalar added
to the loss.

A causal scheme may work on a stream: ``stream(features, localize, memory) -> (Shared, memory)`` takes the
next frames; the memories are those of its encoders (`msdet.models.encoders`).

A scheme that works between the blocks of an encoder says ``needs_blocks = True`` and gets them by
`as_blocks`, which refuses an encoder that shows none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, cast

from torch import Tensor, nn

from msdet.components import Registry, build
from msdet.errors import MsdetError
from msdet.models.encoders import BLOCK_MEMBERS, BlockEncoder, EncoderLike

MakeEncoder = Callable[[], EncoderLike]


SHARING_SCHEMES = Registry("sharing scheme", __name__, network=True)


class SharingSizes(NamedTuple):
    """What the sizes of a scheme follow from.

    Attributes:
        talkers: number of output slots.
        doa_outputs: of the DoA head, for each slot.
    """

    talkers: int
    doa_outputs: int


class Shared(NamedTuple):
    """What a scheme gives.

    Attributes:
        doa: features that the DoA head saw, ``(batch, freq, frame, feature)``.
        logits: what it said, ``(batch, talker, outputs)``, or of a causal head ``(batch, talker, frame,
            outputs)``.
        separation: features for the separation head, ``(batch, freq, frame, feature)`` or, of each slot,
            ``(batch, talker, freq, frame, feature)``.
    """

    doa: Tensor
    logits: Tensor
    separation: Tensor


class SharingLike(Protocol):
    """What every scheme offers."""

    features_doa: int
    features_separation: int
    per_slot: bool
    causal: bool

    def __call__(self, features: Tensor, localize: Callable[[Tensor], Tensor]) -> Shared:
        """Features for either head, and what the DoA head said of them."""
        ...

    def penalty(self) -> Tensor | None:
        """A scalar added to the loss, if any."""
        ...


def as_module(encoder: EncoderLike) -> nn.Module:
    """An encoder as the module that it is.

    Raises:
        MsdetError: it is none, or does not say what every encoder says.
    """
    if not isinstance(encoder, nn.Module):
        raise MsdetError(f"encoder {type(encoder).__name__} is not a torch.nn.Module")
    for attribute in ("features_out", "causal"):
        if not hasattr(encoder, attribute):
            raise MsdetError(f"encoder {type(encoder).__name__} has no attribute '{attribute}'")
    return encoder


def as_blocks(encoder: EncoderLike, scheme: str, at_least: int = 1) -> BlockEncoder:
    """An encoder as the blocks that it is made of.

    Args:
        encoder: any.
        scheme: name of the sharing scheme that asks.
        at_least: number of blocks that it needs.

    Raises:
        MsdetError: the encoder does not show its blocks, or has too few.
    """
    as_module(encoder)
    kind = type(encoder)
    package, _, module = kind.__module__.rpartition(".")
    name = module if package == "msdet.models.encoders" else f"{kind.__module__}:{kind.__qualname__}"
    missing = [member for member in BLOCK_MEMBERS if not hasattr(encoder, member)]
    if missing:
        others = [s for s in SHARING_SCHEMES.names() if not getattr(_scheme(s), "needs_blocks", False)]
        raise MsdetError(
            f"sharing scheme '{scheme}' works between blocks, which encoder '{name}' does not show: it has no"
            f" {', '.join(missing)}; it can do: {', '.join(others)}"
        )
    blocks = cast(BlockEncoder, encoder)
    if blocks.depth < at_least:
        raise MsdetError(
            f"sharing scheme '{scheme}' needs at least {at_least} blocks, encoder '{name}' has {blocks.depth}"
        )
    return blocks


def _scheme(name: str) -> Any:
    return SHARING_SCHEMES.find(name)


def build_sharing(
    name: str, options: dict[str, Any], make_encoder: MakeEncoder, sizes: SharingSizes
) -> SharingLike:
    """A scheme by name or import path ``module:Class``.

    Args:
        name: of a file in this package, or an import path.
        options: what the scheme's constructor takes besides the encoder and sizes.
        make_encoder: gives a new encoder at each call.
        sizes: what else sizes follow from.

    Raises:
        MsdetError: an unknown name or option, of which the nearest is offered; or an encoder that the scheme
            cannot work with.
    """
    sharing: SharingLike = build(
        _scheme(name), options, f"sharing scheme '{name}'", make_encoder=make_encoder, sizes=sizes
    )
    return sharing
