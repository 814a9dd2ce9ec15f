"""DoA methods of pyroomacoustics, which give azimuths alone: a grid of 1 degree, peaks between its points.

Of these, NormMUSIC is the most exact in simulated rooms, but as often far off as SRP-PHAT. CSSM and WAVES
focus from the beams of each frequency, which in rooms misleads them: weak methods there.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from msdet.arrays import MicrophoneArray
from msdet.conventions import SPEED_OF_SOUND, Array, wrap_deg
from msdet.dsp.stft import Stft, window_samples
from msdet.errors import MsdetError
from msdet.methods.base import AZIMUTHS, METHODS, Separation, Separator, check_talkers, find_peaks, spectrum_of
from msdet.methods.blind import fixed_global_seed

WINDOW_S = 0.032
BAND_HZ = (500.0, 4000.0)  # where directions are looked for, the default of pyroomacoustics

MAX_BYTES = 8_000_000_000
"""Memory that a method of pyroomacoustics may take for the products of all pairs of microphones."""

MAX_TALKERS = 8

GRID_OFFSET_DEG = 0.137
"""Keeps the grid off the axes of symmetry of usual arrays, on which CSSM and WAVES meet singular matrices."""

FRIDA_BANDS = 20  # frequencies that FRIDA uses, the loudest ones
FRIDA_HARMONICS = 4  # order of FRIDA's Fourier series over azimuth; more for more talkers, if the array allows it

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


def from_zero(method: Any, spectrum: Array) -> Array:
    """Frequencies from 0 on: TOPS takes them by place, which is right for no other beginning."""
    return np.arange(min(round(BAND_HZ[1] * method.nfft / method.fs), method.max_bin - 1))


def loudest(method: Any, spectrum: Array) -> Array:
    """The `FRIDA_BANDS` frequencies of the band with most power."""
    frequencies = band(method, spectrum)
    power = np.square(np.abs(spectrum[:, frequencies])).sum((0, 2))
    return np.sort(frequencies[np.argsort(power)[-FRIDA_BANDS:]])


def search(
    algorithm: str, bins: Bins, array: MicrophoneArray, sample_rate: int, talkers: int, window_s: float = WINDOW_S
) -> Separator:
    """A separator that gives azimuths alone: the highest peaks of a method's spatial spectrum.

    Peaks are at least 15 degrees apart and moved to the top of the parabola through their neighbors. `algorithm` is the
    method's name in ``pyroomacoustics.doa.algorithms``, `bins` chooses the frequencies, and `window_s` is the length of
    an STFT frame. Refuses an array that tells no azimuths apart.
    """
    check_array(algorithm, array, 180)
    most = MAX_TALKERS if algorithm == "SRP" else array.microphones - 1  # others need a noise subspace
    check_talkers(algorithm, talkers, most)
    stft = Stft(window_samples(window_s, sample_rate))
    azimuth_rad = np.deg2rad(np.arange(360) + GRID_OFFSET_DEG)

    def separate(mixture: Array) -> Separation:
        method = located(algorithm, mixture, stft, bins, array, sample_rate, num_src=talkers, azimuth=azimuth_rad)
        response = np.nan_to_num(method.grid.values, nan=0.0, posinf=1e12)  # a noiseless plane wave
        peaks = find_peaks(torch.from_numpy(response)[None], talkers, array, GRID_OFFSET_DEG)[0]
        return Separation(azimuth_deg=peaks.double().numpy())

    return separate


def located(
    algorithm: str, mixture: Array, stft: Stft, bins: Bins, array: MicrophoneArray, sample_rate: int, **options: Any
) -> Any:
    """The method of pyroomacoustics after it looked at a mixture; refuses one that would take too much memory."""
    import pyroomacoustics as pra

    spectrum = spectrum_of(stft, mixture)[0].numpy().astype(np.complex128)
    mics, freqs, frames = spectrum.shape
    products = 0 if algorithm == "SRP" else 16 * mics**2 * freqs * frames  # bytes, of every frame, at once
    if products > MAX_BYTES:
        raise MsdetError(
            f"{algorithm} would take {products / 1e9:.0f} GB for {mics} microphones and {frames} frames, "
            f"expected at most {MAX_BYTES / 1e9:.0f} GB; srp_beam takes any number, or choose some channels"
        )
    positions = (array.positions - array.centroid_m).T
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of ill-conditioned matrices on the way
        try:
            method = pra.doa.algorithms[algorithm](positions, sample_rate, stft.length, c=SPEED_OF_SOUND, **options)
            method.locate_sources(spectrum, freq_bins=bins(method, spectrum))
        # AttributeError: for NaN, pyroomacoustics 0.10 calls np.in1d, which NumPy 2.4 no longer has
        except (np.linalg.LinAlgError, ValueError, IndexError, UnboundLocalError, AttributeError) as error:
            raise MsdetError(f"{algorithm} finds no directions in this recording") from error
    return method


def check_array(algorithm: str, array: MicrophoneArray, span_deg: int) -> None:
    """Refuse an array that tells azimuths apart over less of the circle than `span_deg`."""
    domain = array.resolvable_domain
    if domain.azimuth_span_deg < span_deg:
        over = "the full circle" if span_deg == 360 else "half the circle at least"
        raise MsdetError(
            f"array '{array.name}' is {array.geometry}: {algorithm} looks for azimuths over {over}, "
            f"the array resolves {domain.words}"
        )


# DiBiase (2000): where the phase-normalized microphones add up best
srp_phat = METHODS.register("srp_phat", finds=(AZIMUTHS,))(partial(search, "SRP", band))

# Schmidt (IEEE Trans. AP 34(3), 1986), its spectra summed over frequency
music = METHODS.register("music", finds=(AZIMUTHS,))(partial(search, "MUSIC", band))

# Salvati et al. (IEEE Sig. Proc. Letters 21(5), 2014): MUSIC, each frequency's peak set to 1
norm_music = METHODS.register("norm_music", finds=(AZIMUTHS,))(partial(search, "NormMUSIC", band))

# coherent signal subspaces: Wang and Kaveh (IEEE Trans. ASSP 33(4), 1985)
cssm = METHODS.register("cssm", finds=(AZIMUTHS,))(partial(search, "CSSM", band_with_peaks))

# averaged signal subspaces: di Claudio and Parisi (IEEE Trans. SP 49(10), 2001)
waves = METHODS.register("waves", finds=(AZIMUTHS,))(partial(search, "WAVES", band_with_peaks))

# orthogonality of projected subspaces: Yoon et al. (IEEE Trans. SP 54(6), 2006)
tops = METHODS.register("tops", finds=(AZIMUTHS,))(partial(search, "TOPS", from_zero))


@METHODS.register("frida", finds=(AZIMUTHS,))
def frida(
    array: MicrophoneArray, sample_rate: int, talkers: int, window_s: float = WINDOW_S, seed: int = 0
) -> Separator:
    """FRIDA (Pan et al., ICASSP 2017): azimuths off any grid, by finite rate of innovation.

    Arguments and errors as `search`; the pairs of microphones limit the talkers. `seed` is of the random beginnings.
    """
    check_array("FRIDA", array, 360)
    max_harmonics = (_distinct_pairs(array) - 1) // 2
    check_talkers("FRIDA", talkers, min(MAX_TALKERS, max_harmonics))
    harmonics = min(max(FRIDA_HARMONICS, talkers + 1), max_harmonics)
    stft = Stft(window_samples(window_s, sample_rate))

    def separate(mixture: Array) -> Separation:
        for order in range(harmonics, talkers - 1, -1):
            options = {"num_src": talkers, "max_four": order}
            try:
                with fixed_global_seed(seed):
                    method = located("FRIDA", mixture, stft, loudest, array, sample_rate, **options)
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
