"""MVDR beams (Capon, Proc. IEEE 57(8), 1969): the least power of the whole mixture, each talker's unchanged.

The covariance holds the talker too, who is partly cancelled where the direction is not exact or the room
reflects; the loading keeps that small.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from msdet.evaluation.baselines._beams import distortionless_separator

LOADING = 0.1
"""Relative to the mixture's power."""

WINDOW_S = 0.016
"""Length of an STFT frame: longer ones cancel more of the talker, frames of 32 ms cost 0.4 dB."""


def mixture(coherence: Tensor, covariance: Tensor) -> Tensor:
    """The mixture's covariance ``(freq, mic, mic)``."""
    return covariance


separator = partial(distortionless_separator, mixture, loading=LOADING, window_s=WINDOW_S)
