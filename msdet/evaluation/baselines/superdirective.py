"""Superdirective beams (Bitzer and Simmer, in Microphone Arrays, Springer, 2001): the least diffuse noise."""

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
from msdet.spatial import DIAGONAL_LOADING


def separator(
    array: MicrophoneArray,
    sample_rate: int,
    talkers: int,
    doa: str | list[float] = DOA,
    loading: float = DIAGONAL_LOADING,
    window_s: float = WINDOW_S,
) -> Separator | Oracle:
    """Separate by beams; arguments and errors as `beam_separator`, `loading` is the power of sensor noise."""
    check_loading(loading)

    def weights(steering: Tensor, coherence: Tensor, covariance: Tensor) -> Tensor:
        return distortionless(loaded(coherence, loading), steering)

    return beam_separator(weights, array, sample_rate, talkers, doa, window_s)
