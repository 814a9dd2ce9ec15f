"""Maskers of asteroid as encoders: frequencies are folded into channels, and unfolded again."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn


class GlobalNorm(nn.Module):
    """Norm over channels and time of `FoldedMasker`'s maskers, asteroid's ``gLN`` with its parameters' names.

    asteroid's own counts the axes by a tensor, which can be neither traced nor exported.

    Args:
        channels: number of channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Norm of ``(batch, channel, ...)``."""
        return nn.functional.group_norm(x, 1, self.gamma, self.beta, eps=1e-8)


class FoldedMasker(nn.Module):
    """A network over ``(batch, channel, frame)`` whose channels are the features of all frequencies.

    Each bin is projected to `per_bin` features, all frequencies of a frame are one vector, and what the
    masker gives for it is split into bins again. A linear path keeps the resolution of single bins, which the
    masker's bottleneck takes. The heads make the masks, so its activation is left out.

    Args:
        masker: name of a class in ``asteroid.masknn``.
        features_in: features of a bin.
        freqs: number of frequencies.
        per_bin: features of a bin that the masker sees.
        features_out: features of a bin that it gives.
        causal: whether the masker is.
        dropout: share dropped before and after the masker, whose own, within one-layer LSTMs, does nothing.
        options: of the masker, besides its numbers of channels.
    """

    def __init__(
        self,
        masker: str,
        features_in: int,
        freqs: int,
        per_bin: int,
        features_out: int,
        causal: bool,
        dropout: float,
        options: dict[str, Any],
    ) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of asteroid and its own dependencies
            from asteroid import masknn
        self.causal = causal
        self.features_out = features_out
        self.project = nn.Linear(features_in, per_bin)
        self.dropout = nn.Dropout(dropout)
        self.bypass = nn.Linear(features_in, features_out)
        self.masker: nn.Module = getattr(masknn, masker)(
            freqs * per_bin, n_src=1, out_chan=freqs * features_out, mask_act="linear", **options
        )

    def forward(self, features: Tensor) -> Tensor:
        """Encode ``(batch, freq, frame, feature)``; keeps the first three axes."""
        return self._unfolded(self.masker(self._folded(features))[:, 0], features)

    def _folded(self, features: Tensor) -> Tensor:
        """``(batch, channel, frame)`` for the masker."""
        folded: Tensor = self.dropout(self.project(features)).transpose(2, 3).flatten(1, 2)
        return folded

    def _unfolded(self, found: Tensor, features: Tensor) -> Tensor:
        """Bins ``(batch, freq, frame, feature)`` of what the masker gave, with the linear path."""
        masked = self.dropout(found)
        unfolded = masked.unflatten(1, (features.shape[1], self.features_out)).transpose(2, 3)
        return nn.functional.relu(unfolded + self.bypass(features))
