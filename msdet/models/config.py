"""Settings of a joint model; sizes follow from the array, the sample rate and these."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from msdet.conventions import DOA_CLASSES


@dataclass(frozen=True)
class ModelConfig:
    """Settings of a joint model.

    Attributes:
        talkers: number of output slots.
        doa_classes: azimuth classes over the full circle.
        window_s: length of an STFT frame; the hop is half of it.
        front_end: ``steered`` (responses and beams from coordinates) or ``real_imaginary``.
        encoder: a file name in ``msdet/models/encoders``, or your own ``module:Class``.
        encoder_options: what the encoder's constructor takes besides ``features_in``.
        doa_head: ``steered`` (mask-weighted SRP-PHAT) or ``pooled`` (classifier on pooled features).
        separation_head: ``steered_beam`` (beams steered by the DoA posterior, refined) or ``reference_mask``.
        separation_options: what the separation head's constructor takes besides sizes.
    """

    talkers: int = 2
    doa_classes: int = DOA_CLASSES
    window_s: float = 0.064
    front_end: str = "steered"
    encoder: str = "ft_gru"
    encoder_options: dict[str, Any] = field(default_factory=dict)
    doa_head: str = "steered"
    separation_head: str = "steered_beam"
    separation_options: dict[str, Any] = field(default_factory=dict)
