"""ILRMA, independent low-rank matrix analysis (Kitamura et al., TASLP 24(9), 2016); pyroomacoustics."""

from __future__ import annotations

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array
from msdet.evaluation.baselines import check_at_least_one
from msdet.evaluation.baselines._bss import WINDOW_S, blind_separator, projected
from msdet.inference.offline import Separator


def separator(
    array: MicrophoneArray,
    sample_rate: int,
    talkers: int,
    iterations: int = 50,
    bases: int = 2,
    window_s: float = WINDOW_S,
    seed: int = 0,
) -> Separator:
    """Separate blindly; arguments and errors as `blind_separator`, `bases` are the spectra a talker has."""
    check_at_least_one("bases", bases)

    def images(components: Array) -> Array:
        from pyroomacoustics.bss import ilrma

        voices = ilrma(components, n_iter=iterations, proj_back=False, n_components=bases)
        return projected(components, voices)

    return blind_separator("ILRMA", images, array, sample_rate, talkers, iterations, window_s, seed)
