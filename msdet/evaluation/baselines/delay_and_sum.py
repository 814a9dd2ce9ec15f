"""Delay and sum: the microphones are aligned towards each talker and averaged."""

from __future__ import annotations

from torch import Tensor

from msdet.arrays import MicrophoneArray
from msdet.evaluation.baselines import Oracle
from msdet.evaluation.baselines._beams import DOA, WINDOW_S, beam_separator
from msdet.inference.offline import Separator


def separator(
    array: MicrophoneArray,
    sample_rate: int,
    talkers: int,
    doa: str | list[float] = DOA,
    window_s: float = WINDOW_S,
) -> Separator | Oracle:
    """Separate by beams; arguments and errors as `beam_separator`."""

    def weights(steering: Tensor, coherence: Tensor, covariance: Tensor) -> Tensor:
        return steering / array.microphones

    return beam_separator(weights, array, sample_rate, talkers, doa, window_s)
