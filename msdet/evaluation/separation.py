"""Separation metrics on waveforms: SI-SDR, BSS-eval SDR, STOI and ESTOI.

Every metric first scales each signal to a peak of 1 in double precision, so that none depends on the
level of what it is given. Where a metric has no value `UndefinedMetricError` says why; no other
exception and no NaN comes out of a degenerate signal. No metric removes the mean.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from msdet.conventions import Array
from msdet.errors import MsdetError

RATIO_LIMIT_DB = 100.0
"""Energy ratios are limited to plus and minus this level: beyond it rounding decides, not the signals."""

SDR_TAPS = 512
"""Length of the distortion filter that the SDR of BSS-eval allows."""

_STOI_RATE = 10_000
_STOI_FRAME, _STOI_HOP, _STOI_FRAMES = 256, 128, 30
_TOO_SHORT = "too little speech for the 30 frames of STOI"


class UndefinedMetricError(MsdetError):
    """A metric has no value for these signals; the message is the reason, in a few words."""


def si_sdr(reference: npt.ArrayLike, estimate: npt.ArrayLike) -> Array:
    """Scale-invariant signal-to-distortion ratio, without mean removal.

    Le Roux et al., "SDR - half-baked or well done?", ICASSP 2019, eq. 3.

    Args:
        reference: ``(..., time)``.
        estimate: ``(..., time)``, of the same shape.

    Returns:
        Decibels ``(...)``, within `RATIO_LIMIT_DB`.

    Raises:
        UndefinedMetricError: a silent, empty, NaN or infinite signal.
        MsdetError: the shapes differ.
    """
    s, e = _levelled(reference, estimate)
    target = s * (np.sum(e * s, axis=-1, keepdims=True) / np.sum(s * s, axis=-1, keepdims=True))
    residual = e - target
    with np.errstate(divide="ignore"):  # a perfect or an orthogonal estimate; limited below
        ratio_db = 10 * np.log10(np.sum(target**2, axis=-1)) - 10 * np.log10(np.sum(residual**2, axis=-1))
    return _limited(ratio_db)


def pairwise_si_sdr(references: npt.ArrayLike, estimates: npt.ArrayLike) -> Array:
    """SI-SDR of every estimate against every reference.

    Args:
        references: ``(N, time)``.
        estimates: ``(M, time)``.

    Returns:
        Decibels ``(N, M)``; NaN for the pairs whose SI-SDR is undefined.

    Raises:
        MsdetError: the lengths differ.
    """
    s, e = np.atleast_2d(references), np.atleast_2d(estimates)
    matrix = np.full((len(s), len(e)), np.nan)
    for n, m in np.ndindex(matrix.shape):
        try:
            matrix[n, m] = si_sdr(s[n], e[m])
        except UndefinedMetricError:
            continue
    return matrix


def best_permutation(matrix: npt.ArrayLike) -> Array:
    """The assignment of estimates to references that maximises the sum of a score (Hungarian algorithm).

    Args:
        matrix: ``(N, M)`` scores, ``M >= N``; NaN counts as worse than every other score.

    Returns:
        ``(N,)`` integers: estimate ``permutation[n]`` belongs to reference ``n``.

    Raises:
        MsdetError: fewer estimates than references.
    """
    from scipy.optimize import linear_sum_assignment

    score = np.asarray(matrix, dtype=np.float64)
    if score.ndim != 2 or score.shape[0] > score.shape[1]:
        raise MsdetError(f"cannot assign estimates to references, scores have shape {score.shape}")
    finite = score[np.isfinite(score)]
    span = np.ptp(finite) if finite.size else 0.0
    worst = finite.min(initial=0.0) - (span + 1.0) * len(score)  # no gain elsewhere makes up for it
    permutation: Array = linear_sum_assignment(np.where(np.isnan(score), worst, score), maximize=True)[1]
    return permutation


def sdr(references: npt.ArrayLike, estimates: npt.ArrayLike) -> Array:
    """Signal-to-distortion ratio of BSS-eval 3, pair by pair: a 512-tap distortion filter is allowed.

    Vincent et al., "Performance measurement in blind audio source separation", IEEE TASLP 14(4), 2006;
    computed by fast_bss_eval (Scheibler, "SDR - medium rare with fast computations", ICASSP 2022).

    Args:
        references: ``(..., time)``.
        estimates: ``(..., time)``, already in the order of the references.

    Returns:
        Decibels ``(...)``, within `RATIO_LIMIT_DB`.

    Raises:
        UndefinedMetricError: a silent, empty, NaN or infinite signal, one shorter than the filter, or a
            reference from which the filter cannot be determined.
        MsdetError: the shapes differ.
    """
    s, e = _levelled(references, estimates)
    if s.shape[-1] < SDR_TAPS:
        raise UndefinedMetricError(f"shorter than the {SDR_TAPS} taps of the SDR's filter")
    ratio_db = np.empty(s.shape[:-1])
    for index in np.ndindex(ratio_db.shape):
        ratio_db[index] = _sdr_of_pair(s[index], e[index])
    return _limited(ratio_db)


def stoi(reference: npt.ArrayLike, estimate: npt.ArrayLike, sample_rate: int) -> float:
    """Short-time objective intelligibility of one signal, at most 1.

    Taal et al., "An algorithm for intelligibility prediction of time-frequency weighted noisy speech",
    IEEE TASLP 19(7), 2011; computed by pystoi.

    Args:
        reference: ``(time,)``.
        estimate: ``(time,)``.
        sample_rate: in hertz.

    Raises:
        UndefinedMetricError: a silent, empty, NaN or infinite signal, or less than 30 frames of speech.
        MsdetError: the lengths differ.
    """
    return _pystoi(reference, estimate, sample_rate, extended=False)


def estoi(reference: npt.ArrayLike, estimate: npt.ArrayLike, sample_rate: int) -> float:
    """Extended STOI of one signal, at most 1.

    Jensen and Taal, "An algorithm for predicting the intelligibility of speech masked by modulated noise
    maskers", IEEE/ACM TASLP 24(11), 2016; computed by pystoi. Arguments and errors as `stoi`.
    """
    return _pystoi(reference, estimate, sample_rate, extended=True)


def _levelled(reference: npt.ArrayLike, estimate: npt.ArrayLike) -> tuple[Array, Array]:
    """Both signals in double precision, each with a peak of 1."""
    s = np.asarray(reference, dtype=np.float64)
    e = np.asarray(estimate, dtype=np.float64)
    if s.shape != e.shape or s.ndim == 0:
        raise MsdetError(f"reference and estimate have shapes {s.shape} and {e.shape}, expected the same")
    return _peak_one(s, "reference"), _peak_one(e, "estimate")


def _peak_one(signal: Array, name: str) -> Array:
    if signal.shape[-1] == 0:
        raise UndefinedMetricError(f"{name} has no samples")
    if not np.isfinite(signal).all():
        raise UndefinedMetricError(f"{name} holds NaN or infinite samples")
    peak = np.abs(signal).max(axis=-1, keepdims=True)
    if (peak == 0).any():
        raise UndefinedMetricError(f"{name} is silent")
    levelled: Array = signal / peak
    return levelled


def _limited(ratio_db: Array) -> Array:
    return np.clip(ratio_db, -RATIO_LIMIT_DB, RATIO_LIMIT_DB)


def _sdr_of_pair(reference: Array, estimate: Array) -> float:
    from fast_bss_eval import sdr_loss

    try:
        with np.errstate(divide="ignore", invalid="ignore"):
            # pairwise on one pair: the other form breaks with the `solve` of NumPy 2
            loss = sdr_loss(estimate[None], reference[None], filter_length=SDR_TAPS, pairwise=True)
    except np.linalg.LinAlgError as error:
        raise UndefinedMetricError("reference does not determine the SDR's filter") from error
    if np.isnan(loss).any():
        raise UndefinedMetricError("reference does not determine the SDR's filter")
    return -float(loss[0, 0])


def _pystoi(reference: npt.ArrayLike, estimate: npt.ArrayLike, sample_rate: int, extended: bool) -> float:
    import pystoi

    s, e = _levelled(reference, estimate)
    if s.ndim != 1:
        raise MsdetError(f"STOI takes one signal at a time, found shape {s.shape}")
    shortest = _STOI_FRAME + _STOI_HOP * _STOI_FRAMES
    if s.size * _STOI_RATE < shortest * sample_rate:
        raise UndefinedMetricError(_TOO_SHORT)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"), _fixed_global_seed():
            warnings.simplefilter("error", RuntimeWarning)
            value = float(pystoi.stoi(s, e, sample_rate, extended=extended))
    except (RuntimeWarning, IndexError) as error:  # IndexError: a single frame of speech is left
        raise UndefinedMetricError(_TOO_SHORT) from error
    if not np.isfinite(value):
        raise UndefinedMetricError("estimate has no energy in the bands of STOI")
    return value


@contextmanager
def _fixed_global_seed() -> Iterator[None]:
    """Seed NumPy's global generator, from which pystoi draws a dither for ESTOI, and restore it after."""
    state = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(state)
