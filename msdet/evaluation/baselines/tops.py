"""TOPS, orthogonality of projected subspaces (Yoon et al., IEEE Trans. SP 54(6), 2006); pyroomacoustics."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from msdet.conventions import Array
from msdet.evaluation.baselines import AZIMUTHS
from msdet.evaluation.baselines._doa import BAND_HZ, fewer_than_microphones, search


def from_zero(method: Any, spectrum: Array) -> Array:
    """Frequencies from 0 on: pyroomacoustics takes them by place, which is right for no other beginning."""
    return np.arange(min(round(BAND_HZ[1] * method.nfft / method.fs), method.max_bin - 1))


FINDS = (AZIMUTHS,)

separator = partial(search, "TOPS", fewer_than_microphones, from_zero)
