"""The direct sound in measured responses: when it arrives at each microphone, and what belongs to it."""

from __future__ import annotations

import numpy as np

from msdet.conventions import Array

ONSET_DB = -20.0
"""A response starts where it first comes this near to its maximum and is well above its noise (ISO 3382-1).

Its maximum itself may be a reflection, up to 50 ms late (Defrance, Daudet and Polack, JASA 2008).
"""

ABOVE_NOISE = 5.0
"""Well above: times the standard deviation of noise that would have the response's lower quartile."""

LEAST_SURE_DB = -6.0
"""A response that never is well above its noise starts where it comes this near to its maximum."""

_GAUSSIAN_QUARTILE = 0.3186
"""Lower quartile of the magnitude of Gaussian noise, in standard deviations."""

PEAK_SEARCH_S = 1e-3
"""The main peak of the direct sound follows its onset within this time."""

BEFORE_S, AFTER_S = 1e-3, 2.5e-3
"""The direct sound from before to after its arrival.

Long enough for what a loudspeaker adds, short enough for the floor: where talker and array are 1.2 m above it
and 1.5 m apart, its reflection comes 3.9 ms late. Below some 300 Hz, so short a window is blurred.
"""

FADE_S = 0.5e-3
"""Of the window, at both of its ends and within it."""

MOST_LAG_S = 0.5e-3
"""Correlation moves the peaks of two microphones against each other by no more than this."""

_LAG_RATE = 128_000
"""Correlations are interpolated to about this rate, and by a parabola beyond."""


def direct_arrivals(responses: Array, sample_rate: int) -> Array:
    """When the direct sound arrives at each microphone, ``(mic,)`` in samples and fractions of them.

    The main peak after a response's onset gives the time common to all microphones. The differences between
    them are those at which their direct sounds correlate best, with either sign, by least squares over all
    pairs: that is more exact than peaks are, and does not mind which of its peaks is the highest.

    Args:
        responses: ``(mic, tap)`` from one position; none silent.
        sample_rate: hertz.
    """
    peaks = _main_peaks(responses, sample_rate)
    reach = round(AFTER_S * sample_rate)
    padded = np.pad(responses, ((0, 0), (reach, reach)))
    around = np.arange(-reach, reach + 1)
    pieces = np.take_along_axis(padded, peaks[:, None] + reach + around, axis=1)
    pieces = pieces * direct_window(around / sample_rate)
    beside = np.abs(pieces[:, reach - 1 : reach + 2])
    exact_peaks = peaks + _vertex(beside[:, 0], beside[:, 1], beside[:, 2])
    relative = (peaks[:, None] - peaks + _lags(pieces, sample_rate)).mean(axis=1)
    arrivals: Array = relative + np.median(exact_peaks - relative)
    return arrivals


def direct_window(time_s: Array) -> Array:
    """Weight in [0, 1] of the direct sound at times relative to its arrival, any shape.

    >>> direct_window(np.array([-0.001, -0.0005, 0.0, 0.002, 0.00225, 0.0025])).round(3).tolist()
    [0.0, 1.0, 1.0, 1.0, 0.5, 0.0]
    """
    inside = np.minimum(time_s + BEFORE_S, AFTER_S - time_s) / FADE_S
    weight: Array = 0.5 - 0.5 * np.cos(np.pi * np.clip(inside, 0.0, 1.0))
    return weight


def _main_peaks(responses: Array, sample_rate: int) -> Array:
    magnitude = np.abs(responses)
    noise = np.nanquantile(np.where(magnitude > 0, magnitude, np.nan), 0.25, axis=-1) / _GAUSSIAN_QUARTILE
    low, high = (10 ** (level_db / 20) * magnitude.max(axis=-1) for level_db in (ONSET_DB, LEAST_SURE_DB))
    onsets = (magnitude >= np.clip(ABOVE_NOISE * noise, low, high)[:, None]).argmax(axis=-1)
    tap = np.arange(magnitude.shape[-1])
    searched = (tap >= onsets[:, None]) & (tap <= onsets[:, None] + round(PEAK_SEARCH_S * sample_rate))
    peaks: Array = np.where(searched, magnitude, -1.0).argmax(axis=-1)
    return peaks


def _lags(pieces: Array, sample_rate: int) -> Array:
    """How many samples later each piece ``(mic, tap)`` correlates with each other one, ``(mic, mic)``."""
    length = 2 ** int(np.ceil(np.log2(2 * pieces.shape[-1])))
    finer = max(1, round(_LAG_RATE / sample_rate))
    spectra = np.fft.rfft(pieces, length)
    first, second = np.triu_indices(len(pieces), 1)
    correlation = np.abs(np.fft.irfft(spectra[first] * spectra[second].conj(), length * finer))
    most = round(MOST_LAG_S * sample_rate * finer)
    near = np.take(correlation, np.arange(-most - 1, most + 2), axis=1, mode="wrap")
    best = 1 + near[:, 1:-1].argmax(axis=1)
    row = np.arange(len(near))
    lag = best - most - 1 + _vertex(near[row, best - 1], near[row, best], near[row, best + 1])
    lags = np.zeros((len(pieces), len(pieces)))
    lags[first, second] = lag / finer
    return lags - lags.T


def _vertex(left: Array, top: Array, right: Array) -> Array:
    """Where the parabola through three equally spaced values has its top, in [-0.5, 0.5] from the middle."""
    curvature = left - 2 * top + right
    bent = curvature < 0
    shift = np.where(bent, 0.5 * (left - right) / np.where(bent, curvature, 1.0), 0.0)
    clipped: Array = np.clip(shift, -0.5, 0.5)
    return clipped
