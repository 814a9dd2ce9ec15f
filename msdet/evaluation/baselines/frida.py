"""FRIDA (Pan et al., ICASSP 2017): azimuths off any grid, by finite rate of innovation; pyroomacoustics."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array, wrap_deg
from msdet.errors import MsdetError
from msdet.evaluation.baselines import AZIMUTHS, check_talkers
from msdet.evaluation.baselines._doa import WINDOW_S, any_number, band, check_array, located
from msdet.evaluation.baselines._random import fixed_global_seed
from msdet.inference.offline import Separation, Separator
from msdet.models.frontend import Stft, window_samples

FINDS = (AZIMUTHS,)

BANDS = 20
"""Frequencies that are used, the loudest ones."""

HARMONICS = 4
"""Order of the Fourier series over azimuth; more for more talkers, less where the array allows no more."""


def separator(
    array: MicrophoneArray, sample_rate: int, talkers: int, window_s: float = WINDOW_S, seed: int = 0
) -> Separator:
    """Find azimuths alone.

    Args:
        array: geometry of the microphones.
        sample_rate: hertz.
        talkers: number of azimuths.
        window_s: length of an STFT frame.
        seed: of the random beginnings.

    Raises:
        MsdetError: too many talkers for the pairs of microphones, or an array that cannot tell directions
            over the full circle.
    """
    check_array("FRIDA", array)
    most_harmonics = (_distinct_pairs(array) - 1) // 2
    check_talkers("FRIDA", talkers, min(any_number(array.microphones), most_harmonics))
    harmonics = min(max(HARMONICS, talkers + 1), most_harmonics)
    stft = Stft(window_samples(window_s, sample_rate))

    def separate(mixture: Array) -> Separation:
        spectrum = stft(torch.from_numpy(mixture)[None])[0].numpy().astype(np.complex128)
        for order in range(harmonics, talkers - 1, -1):
            options = {"num_src": talkers, "max_four": order}
            try:
                with fixed_global_seed(seed):
                    method = located("FRIDA", spectrum, loudest, array, sample_rate, **options)
                break
            except MsdetError:
                if order == talkers:
                    raise
        return Separation(azimuth_deg=np.sort(wrap_deg(np.rad2deg(method.azimuth_recon))))

    return separate


def _distinct_pairs(array: MicrophoneArray) -> int:
    """Number of ordered pairs of microphones, parallel ones of the same length counted once."""
    first, second = np.nonzero(~np.eye(array.microphones, dtype=bool))
    offsets = (array.positions[first] - array.positions[second])[:, :2] / array.aperture_m
    return len(np.unique(offsets.round(3) + 0.0, axis=0))


def loudest(method: Any, spectrum: Array) -> Array:
    """The `BANDS` frequencies of the band with most power."""
    frequencies = band(method, spectrum)
    power = np.square(np.abs(spectrum[:, frequencies])).sum((0, 2))
    return np.sort(frequencies[np.argsort(power)[-BANDS:]])
