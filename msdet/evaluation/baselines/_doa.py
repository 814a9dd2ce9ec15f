"""What the DoA methods of pyroomacoustics share: a grid of 1 degree, peaks between its points, errors."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from msdet.arrays import MicrophoneArray
from msdet.conventions import SPEED_OF_SOUND, Array, wrap_deg
from msdet.errors import MsdetError
from msdet.evaluation.baselines import check_talkers
from msdet.inference.offline import Separation, Separator
from msdet.models.frontend import Stft, window_samples
from msdet.spatial import pick_peaks

WINDOW_S = 0.032
BAND_HZ = (500.0, 4000.0)
"""Where directions are looked for, the default of pyroomacoustics."""

GRID_OFFSET_DEG = 0.137
"""Keeps the grid off the axes of symmetry of usual arrays, on which CSSM and WAVES meet singular matrices."""

Bins = Callable[[Any, Array], Array]
"""Chooses frequencies for a method of pyroomacoustics and a spectrum ``(mic, freq, frame)``."""


def band(method: Any, spectrum: Array) -> Array:
    """Frequencies within `BAND_HZ`."""
    low, high = (round(f * method.nfft / method.fs) for f in BAND_HZ)
    return np.arange(low, min(high, method.max_bin - 1))


def band_with_peaks(method: Any, spectrum: Array) -> Array:
    """Frequencies within `BAND_HZ` whose delay-and-sum beam has a peak for every talker.

    CSSM and WAVES leave the others out by themselves, but then pair frequencies with the wrong covariances.
    """
    kept = []
    for k in band(method, spectrum):
        beams = method.mode_vec[k, :, :].conj().T @ spectrum[:, k]
        method.grid.set_values(np.square(np.abs(beams)).sum(-1))
        if len(method.grid.find_peaks(k=method.num_src)) == method.num_src:
            kept.append(k)
    return np.array(kept, dtype=np.int64)


def any_number(microphones: int) -> int:
    """The highest number of talkers for a method that any array serves."""
    return 8


def fewer_than_microphones(microphones: int) -> int:
    """The highest number of talkers that leaves a noise subspace."""
    return microphones - 1


def search(
    algorithm: str,
    most_talkers: Callable[[int], int],
    bins: Bins,
    array: MicrophoneArray,
    sample_rate: int,
    talkers: int,
    window_s: float = WINDOW_S,
) -> Separator:
    """A separator that gives azimuths alone: the highest peaks of a method's spatial spectrum.

    Peaks are at least 15 degrees apart and moved to the top of the parabola through their neighbours.

    Args:
        algorithm: its name in ``pyroomacoustics.doa.algorithms``.
        most_talkers: how many it finds with a number of microphones.
        bins: chooses the frequencies.
        array: geometry of the microphones.
        sample_rate: hertz.
        talkers: number of peaks.
        window_s: length of an STFT frame.

    Raises:
        MsdetError: too many talkers, or an array that cannot tell directions over the full circle.
    """
    check_array(algorithm, array)
    check_talkers(algorithm, talkers, most_talkers(array.microphones))
    stft = Stft(window_samples(window_s, sample_rate))
    azimuth_rad = np.deg2rad(np.arange(360) + GRID_OFFSET_DEG)

    def separate(mixture: Array) -> Separation:
        spectrum = stft(torch.from_numpy(mixture)[None])[0].numpy().astype(np.complex128)
        method = located(algorithm, spectrum, bins, array, sample_rate, num_src=talkers, azimuth=azimuth_rad)
        response = np.nan_to_num(method.grid.values, nan=0.0, posinf=1e12)  # a noiseless plane wave
        peaks = pick_peaks(torch.from_numpy(response)[None], talkers)[0].double().numpy()
        return Separation(azimuth_deg=np.sort(wrap_deg(peaks + GRID_OFFSET_DEG)))

    return separate


def located(
    algorithm: str, spectrum: Array, bins: Bins, array: MicrophoneArray, sample_rate: int, **options: Any
) -> Any:
    """The method of pyroomacoustics after it looked at a spectrum ``(mic, freq, frame)``.

    Raises:
        MsdetError: it fails on this spectrum.
    """
    import pyroomacoustics as pra

    window = 2 * (spectrum.shape[1] - 1)
    positions = (array.positions - array.centroid_m).T
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of ill-conditioned matrices on the way
        try:
            method = pra.doa.algorithms[algorithm](
                positions, sample_rate, window, c=SPEED_OF_SOUND, **options
            )
            method.locate_sources(spectrum, freq_bins=bins(method, spectrum))
        except (np.linalg.LinAlgError, ValueError, IndexError, UnboundLocalError) as error:
            raise MsdetError(f"{algorithm} finds no directions in this recording") from error
    return method


def check_array(algorithm: str, array: MicrophoneArray) -> None:
    """Refuse an array that cannot tell a talker from its mirror image.

    Raises:
        MsdetError: says what the array resolves.
    """
    domain = array.resolvable_domain
    if domain.azimuth_span_deg < 360:
        raise MsdetError(
            f"array '{array.name}' is {array.geometry}: {algorithm} looks for azimuths over the full circle, "
            f"the array resolves {domain.words}"
        )
