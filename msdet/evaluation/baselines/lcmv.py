"""LCMV beams (Frost, Proc. IEEE 60(8), 1972): a null on each other talker, then the least diffuse noise."""

from __future__ import annotations

import torch
from torch import Tensor

from msdet.arrays import MicrophoneArray
from msdet.evaluation.baselines import Oracle, check_talkers
from msdet.evaluation.baselines._beams import DOA, WINDOW_S, beam_separator, check_loading, loaded
from msdet.inference.offline import Separator
from msdet.spatial import DIAGONAL_LOADING

SOFTNESS = 0.03
"""How far the constraints yield where talkers look alike, at low frequencies; nulls of 28 dB are left."""


def separator(
    array: MicrophoneArray,
    sample_rate: int,
    talkers: int,
    doa: str | list[float] = DOA,
    loading: float = DIAGONAL_LOADING,
    softness: float = SOFTNESS,
    window_s: float = WINDOW_S,
) -> Separator | Oracle:
    """Separate by beams; arguments and errors as `beam_separator`, and more talkers than microphones.

    With D the talkers' steering vectors and C the covariance of diffuse and sensor noise, talker s has
    the weights C⁻¹D (DᴴC⁻¹D + δI)⁻¹ e_s.
    """
    check_talkers("LCMV", talkers, array.microphones)
    check_loading(loading)

    def weights(steering: Tensor, coherence: Tensor, covariance: Tensor) -> Tensor:
        directions = steering.permute(1, 2, 0)
        filtered = torch.linalg.solve(loaded(coherence, loading), directions)
        gram = directions.mH @ filtered
        power = gram.diagonal(dim1=-2, dim2=-1).real.mean(-1)[:, None, None]
        eye = torch.eye(gram.shape[-1], dtype=gram.dtype)
        beams: Tensor = filtered @ torch.linalg.inv(gram + softness * power * eye)
        return beams.permute(2, 0, 1)

    return beam_separator(weights, array, sample_rate, talkers, doa, window_s)
