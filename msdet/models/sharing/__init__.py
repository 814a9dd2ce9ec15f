"""Sharing schemes: how much of the encoder localisation and separation have in common; one file each.

A module defines ``Sharing``, a `torch.nn.Module` built as ``Sharing(make_encoder, sizes, **options)``:
``make_encoder()`` gives a new encoder, `SharingSizes` what else sizes follow from. It has the attributes

- ``features_doa`` and ``features_separation``: widths of the features that it gives to either head;
- ``per_slot``: whether the separation head is given features of each slot.

``forward(features, localise) -> Shared``: ``localise`` is the DoA head, from features to logits, so that a
scheme may let separation depend on what localisation found. ``penalty() -> Tensor | None`` is a scalar added
to the loss.

Some schemes work between the blocks of an encoder (`BlockEncoder`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn

from msdet.components import build, find_component
from msdet.errors import MsdetError
from msdet.models.encoders import EncoderLike

MakeEncoder = Callable[[], EncoderLike]


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
        logits: what it said, ``(batch, talker, outputs)``.
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

    def __call__(self, features: Tensor, localise: Callable[[Tensor], Tensor]) -> Shared:
        """Features for either head, and what the DoA head said of them."""
        ...

    def penalty(self) -> Tensor | None:
        """A scalar added to the loss, if any."""
        ...


@runtime_checkable
class BlockEncoder(Protocol):
    """An encoder that shows its blocks: ``forward`` is `enter`, each `block` in turn, `leave`.

    Attributes:
        depth: number of blocks.
    """

    depth: int

    def enter(self, features: Tensor) -> Tensor:
        """State ``(batch, ..., frame, width)`` of features ``(batch, freq, frame, feature)``."""
        ...

    def block(self, index: int, state: Tensor) -> Tensor:
        """State after block `index`, from the state before."""
        ...

    def leave(self, state: Tensor, features: Tensor) -> Tensor:
        """Encoded features, of the last state and of what was entered."""
        ...

    def width(self, index: int) -> int:
        """Width of the state after block `index`."""
        ...


def as_module(encoder: EncoderLike) -> nn.Module:
    """An encoder as the module that it is.

    Raises:
        MsdetError: it is none.
    """
    if not isinstance(encoder, nn.Module):
        raise MsdetError(f"encoder {type(encoder).__name__} is not a torch.nn.Module")
    return encoder


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
    factory = find_component(__name__, name, "Sharing", "sharing scheme")
    sharing: SharingLike = build(
        factory, options, f"sharing scheme '{name}'", make_encoder=make_encoder, sizes=sizes
    )
    return sharing
