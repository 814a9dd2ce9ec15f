"""MVDR beams (Capon, Proc. IEEE 57(8), 1969): the least power of the whole mixture, each talker's unchanged.

The covariance holds the talker too, who is partly cancelled where the direction is not exact or the room
reflects; the loading keeps that small.
"""

from __future__ import annotations

from torch import Tensor

from msdet.arrays import MicrophoneArray
from msdet.evaluation.baselines import Oracle
from msdet.evaluation.baselines._beams import (
    DOA,
    WINDOW_S,
    beam_separator,
    check_loading,
    distortionless,
    loaded,
)
from msdet.inference.offline import Separator

LOADING = 0.1
"""Relative to the mixture's power."""


def separator(
    array: MicrophoneArray,
    sample_rate: int,
    talkers: int,
    doa: str | list[float] = DOA,
    loading: float = LOADING,
    window_s: float = WINDOW_S,
) -> Separator | Oracle:
    """Separate by beams; arguments and errors as `beam_separator`."""
    check_loading(loading)

    def weights(steering: Tensor, coherence: Tensor, covariance: Tensor) -> Tensor:
        return distortionless(loaded(covariance, loading), steering)

    return beam_separator(weights, array, sample_rate, talkers, doa, window_s)
