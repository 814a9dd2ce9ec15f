"""AuxIVA (Ono, WASPAA 2011), independent vector analysis by auxiliary functions; pyroomacoustics."""

from __future__ import annotations

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array
from msdet.evaluation.baselines._bss import WINDOW_S, blind_separator, projected
from msdet.inference.offline import Separator


def separator(
    array: MicrophoneArray,
    sample_rate: int,
    talkers: int,
    iterations: int = 50,
    window_s: float = WINDOW_S,
    seed: int = 0,
) -> Separator:
    """Separate blindly; arguments and errors as `blind_separator`."""

    def images(components: Array) -> Array:
        from pyroomacoustics.bss import auxiva

        return projected(components, auxiva(components, n_iter=iterations, proj_back=False))

    return blind_separator("AuxIVA", images, array, sample_rate, talkers, iterations, window_s, seed)
