"""Encoders, one file each.

A module defines ``Encoder``, a `torch.nn.Module` built as ``Encoder(features_in, **options)``. It maps
features ``(batch, freq, frame, features_in)`` to ``(batch, freq, frame, features_out)`` and has two
attributes: ``features_out`` (int) and ``causal`` (bool: no output frame depends on a later input frame).
"""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from msdet.components import build, find_component


class EncoderLike(Protocol):
    """What every encoder offers."""

    features_out: int
    causal: bool

    def __call__(self, features: Tensor) -> Tensor:
        """Encode ``(batch, freq, frame, feature)``."""
        ...


def build_encoder(name: str, options: dict[str, Any], features_in: int) -> EncoderLike:
    """An encoder by name or by import path ``module:Class``.

    Raises:
        MsdetError: an unknown name or option; the nearest is offered.
    """
    factory = find_component(__name__, name, "Encoder", "encoder")
    encoder: EncoderLike = build(factory, options, f"encoder '{name}'", features_in=features_in)
    return encoder
