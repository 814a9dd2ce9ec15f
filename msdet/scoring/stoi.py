"""STOI and ESTOI in parts, so that what a reference or an estimate needs is computed once for all pairs.

Taal et al., "An algorithm for intelligibility prediction of time-frequency weighted noisy speech", IEEE
TASLP 19(7), 2011; Jensen and Taal, "An algorithm for predicting the intelligibility of speech masked by
modulated noise maskers", IEEE/ACM TASLP 24(11), 2016. Resampling and bands are pystoi's, and values are
too, but for the dither that pystoi adds in ESTOI.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from msdet.conventions import Array
from msdet.errors import UndefinedMetricError

RATE = 10_000

FRAME, HOP, FFT = 256, 128, 512

SEGMENT = 30
"""Frames that are correlated at a time."""

RANGE_DB = 40.0
"""Frames of the reference so much below its loudest one are left out."""

CLIP = 1.0 + 10 ** (15.0 / 20)
"""Largest ratio of the estimate's to the reference's band, from a lower bound of -15 dB."""

MIN_S = (FRAME + SEGMENT * HOP) / RATE

_WINDOW = np.hanning(FRAME + 2)[1:-1]

_EPS = np.finfo(np.float64).eps


def frames(signal: Array, sample_rate: int) -> Array:
    """Windowed frames ``(frame, FRAME)`` of a signal ``(time,)`` at 10 kHz.

    Raises:
        UndefinedMetricError: shorter than `MIN_S`.
    """
    from pystoi.utils import resample_oct

    if signal.size < MIN_S * sample_rate:
        raise _too_short()
    at_rate = signal if sample_rate == RATE else resample_oct(signal, RATE, sample_rate)
    return _framed(at_rate) * _WINDOW


def speech_frames(reference_frames: Array) -> Array:
    """Which frames ``(frame,)`` of a reference hold speech."""
    level_db = 20 * np.log10(np.linalg.norm(reference_frames, axis=1) + _EPS)
    speech: Array = level_db > level_db.max() - RANGE_DB
    return speech


def segments(signal_frames: Array, speech: Array) -> Array:
    """Third-octave magnitudes ``(band, segment, SEGMENT)`` of the speech frames, put together again.

    Raises:
        UndefinedMetricError: fewer than `SEGMENT` frames.
    """
    from pystoi.stoi import OBM

    kept = signal_frames[speech]
    if len(kept) <= SEGMENT:  # one more than there are frames of what is put together
        raise _too_short()
    together = np.zeros((len(kept) + 1, HOP))
    together[:-1] += kept[:, :HOP]
    together[1:] += kept[:, HOP:]
    spectrum = np.fft.rfft(_framed(together.ravel()) * _WINDOW, FFT)
    bands = np.sqrt(OBM @ (spectrum.real**2 + spectrum.imag**2).T)
    return sliding_window_view(bands, SEGMENT, axis=1)


def stoi(reference: Array, estimate: Array) -> float:
    """STOI from the `segments` of a reference and an estimate."""
    level = _norm(reference) / (_norm(estimate) + _EPS)
    clipped = np.minimum(estimate * level, reference * CLIP)
    return float(np.sum(_standardized(clipped) * _standardized(reference)) / level.size)


def estoi(reference: Array, estimate: Array) -> float:
    """Extended STOI from the `segments` of a reference and an estimate."""
    x, y = (_unit(_unit(signal, 2), 0) for signal in (reference, estimate))
    return float(np.sum(x * y) / (SEGMENT * reference.shape[1]))


def _framed(signal: Array) -> Array:
    """Frames ``(frame, FRAME)`` of a signal, without the one that would end with it, as pystoi has it."""
    count = -(-(signal.size - FRAME) // HOP)
    return sliding_window_view(signal, FRAME)[::HOP][:count]


def _norm(values: Array) -> Array:
    norm: Array = np.sqrt(np.einsum("bst,bst->bs", values, values))[..., None]
    return norm


def _standardized(values: Array) -> Array:
    """Segments less their mean over time, divided by their norm."""
    centered: Array = values - values.mean(axis=2, keepdims=True)
    centered /= _norm(centered) + _EPS
    return centered


def _unit(values: Array, axis: int) -> Array:
    """Values less their mean over an axis, divided by their norm; what does not vary becomes 0."""
    centered = values - values.mean(axis=axis, keepdims=True)
    norm = np.linalg.norm(centered, axis=axis, keepdims=True)
    unit: Array = np.divide(centered, norm, out=np.zeros_like(centered), where=norm > 0.0)
    return unit


def _too_short() -> UndefinedMetricError:
    return UndefinedMetricError(f"too little speech for the {SEGMENT} frames of STOI")
