"""A constant delay of a scene's estimates, such as of a system that looks ahead: found, and taken out."""

from __future__ import annotations

import numpy as np
import scipy

from msdet.conventions import Array

MAX_DELAY_S = 0.25
MIN_GAIN = 2.0  # ratio of signal to error with the delay taken out to that without it, from which on a delay is sure
MIN_SHARE = 0.1  # of an estimate's energy that the references explain, at least


def find_delay(references: Array, estimates: Array, sample_rate: int) -> int:
    """Samples by which the estimates ``(talker, time)`` of a scene all are late, or early if negative.

    The one lag at which the references correlate best with them, whoever is whose; 0 where no lag is
    surely better than none, by `MIN_GAIN`. Silent estimates and ones that hold NaN do not count.
    """
    samples, reach = references.shape[-1], min(round(MAX_DELAY_S * sample_rate), references.shape[-1] - 1)
    spectra = []
    for signals in (references, estimates):
        usable = signals[np.isfinite(signals).all(axis=-1) & signals.any(axis=-1)].astype(np.float64)
        usable /= np.linalg.norm(usable, axis=-1, keepdims=True)
        spectra.append(scipy.fft.rfft(usable, scipy.fft.next_fast_len(2 * samples, real=True)))
    if not all(map(len, spectra)):
        return 0
    lags = np.arange(-reach, reach + 1)
    products = spectra[1][:, None] * spectra[0].conj()
    correlation = scipy.fft.irfft(products, scipy.fft.next_fast_len(2 * samples, real=True))[..., lags]
    share = (correlation**2).max(axis=1).mean(axis=0)
    best, now = share.max(), share[reach]
    if best < MIN_SHARE or best * (1.0 - now) < MIN_GAIN * now * (1.0 - best):
        return 0
    return int(lags[share.argmax()])


def shifted(signals: Array, delay: int) -> Array:
    """Signals ``(..., time)`` with a delay in samples taken out, zeros where nothing is left.

    >>> shifted(np.array([1, 2, 3]), 1), shifted(np.array([1, 2, 3]), -1)
    (array([2, 3, 0]), array([0, 1, 2]))
    """
    moved = np.roll(signals, -delay, axis=-1)
    moved[..., moved.shape[-1] - delay if delay > 0 else 0 : None if delay > 0 else -delay] = 0
    return moved
