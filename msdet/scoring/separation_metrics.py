"""Separation metrics on waveforms: SI-SDR, SNR, SDR, SIR and SAR of BSS-eval, STOI, ESTOI, PESQ and DNSMOS.

Every metric but the SNR and DNSMOS first scales each signal to a peak of 1 in double precision, so that none depends
on the level of its input. Where a metric has no value, as for a signal that is silent, empty, NaN or infinite, an
`UndefinedMetricError` says why; no other exception and no NaN comes out of such a signal. Shapes that do not belong
together are an `MsdetError`. No metric removes the mean.

`ScoredSignals` computes what the pairs of one scene share only once.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from msdet.conventions import Array
from msdet.errors import MsdetError, UndefinedMetricError

RATIO_LIMIT_DB = 100.0
"""Energy ratios are limited to plus and minus this level: beyond it rounding decides, not the signals."""

SDR_TAPS = 512  # length of the distortion filter that BSS-eval allows

PESQ_MODES = {8000: "nb", 16000: "wb"}
"""Narrow-band or wide-band PESQ by sample rate; it is not defined at others."""

DNSMOS_RATE = 16000  # of the signals that DNSMOS was trained on, in Hz

_STOI_MIN_S = 0.4096  # 30 frames
_COSINE_TOLERANCE = 1e-6  # rounding of squared cosines; more is a singular system
T = TypeVar("T")


class BssEval(NamedTuple):
    """Decibels ``(N, M)`` of M estimates against N references, within `RATIO_LIMIT_DB`."""

    sdr: Array
    sir: Array
    sar: Array


def si_sdr(reference: npt.ArrayLike, estimate: npt.ArrayLike) -> Array:
    """Scale-invariant signal-to-distortion ratio of signals ``(..., time)``: decibels ``(...)``.

    Le Roux et al., "SDR - half-baked or well done?", ICASSP 2019, eq. 3; within `RATIO_LIMIT_DB`.
    """
    s, e = _leveled(reference, estimate)
    target = s * (np.sum(e * s, axis=-1, keepdims=True) / np.sum(s * s, axis=-1, keepdims=True))
    return _ratio_db(_energy(target), _energy(e - target))


def snr(reference: npt.ArrayLike, estimate: npt.ArrayLike) -> Array:
    """Signal-to-noise ratio, like `si_sdr`: all that differs from the reference is noise, a wrong level too."""
    s, e = _leveled(reference, estimate)
    level = np.abs(np.asarray(estimate, dtype=np.float64)).max(axis=-1, keepdims=True)
    with np.errstate(over="ignore"):
        ratio = level / np.abs(np.asarray(reference, dtype=np.float64)).max(axis=-1, keepdims=True)
    return _ratio_db(_energy(s), _energy(s - e * np.minimum(ratio, 1e30)))  # more is beyond the limit anyway


def pairwise_si_sdr(references: npt.ArrayLike, estimates: npt.ArrayLike) -> Array:
    """SI-SDR ``(N, M)`` of every estimate ``(M, time)`` against every reference ``(N, time)``; NaN where undefined."""
    return ScoredSignals(*_of_one_length(references, estimates), sample_rate=0).si_sdr_matrix()


def sdr(references: npt.ArrayLike, estimates: npt.ArrayLike) -> Array:
    """Signal-to-distortion ratio of BSS-eval 3, pair by pair of signals ``(..., time)``: decibels ``(...)``.

    A 512-tap distortion filter is allowed. Vincent et al., "Performance measurement in blind audio source
    separation", IEEE TASLP 14(4), 2006; computed as by Scheibler, "SDR - medium rare with fast computations",
    ICASSP 2022; within `RATIO_LIMIT_DB`. Undefined for signals shorter than the filter, or a reference from which the
    filter cannot be determined.
    """
    s, e = _leveled(references, estimates)
    ratio_db = np.empty(s.shape[:-1])
    for index in np.ndindex(ratio_db.shape):
        ratio_db[index] = sdr_of_estimates(s[index], e[index][None])[0]
    return ratio_db


def sdr_of_estimates(reference: Array, estimates: Array) -> Array:
    """SDR ``(M,)`` of several estimates ``(M, time)`` of one reference ``(time,)``; see `sdr`.

    Both in double precision and not silent: scale them with `peak_one`. The squared cosine between an
    estimate and what filters make of the reference gives the ratio, without filtering; the filters of all
    estimates come from one system of equations (Scheibler 2022, sec. 3).
    """
    from scipy.fft import irfft, next_fast_len, rfft
    from scipy.linalg import toeplitz

    _check_long_enough(reference)
    size = next_fast_len(reference.size + SDR_TAPS - 1, real=True)
    spectrum = rfft(reference, size)
    auto = irfft(spectrum.real**2 + spectrum.imag**2, size)[:SDR_TAPS]
    cross = irfft(spectrum.conj() * rfft(estimates, size), size)[:, :SDR_TAPS].T
    try:
        filters = np.linalg.solve(toeplitz(auto), cross)
    except np.linalg.LinAlgError as error:
        raise UndefinedMetricError("reference does not determine the SDR's filter") from error
    squared_cosine = np.sum(cross * filters, axis=0) / np.sum(estimates**2, axis=-1)
    if not (squared_cosine < 1 + _COSINE_TOLERANCE).all():  # NaN neither
        raise UndefinedMetricError("reference does not determine the SDR's filter")
    return _cosine_to_db(squared_cosine)


def bss_eval(references: npt.ArrayLike, estimates: npt.ArrayLike) -> BssEval:
    """SDR, SIR and SAR of BSS-eval 3 (``bss_eval_sources``) of every estimate against every reference.

    Interference is what filters of the other references ``(N, time)`` make up of an estimate ``(M, time)``;
    see `sdr`. Computed by fast_bss_eval in double precision. Undefined also where one reference is a filtered mixture
    of the others.
    """
    from fast_bss_eval.numpy.metrics import square_cosine_metrics  # brings torch, which is slow to import

    s, e = _of_one_length(references, estimates)
    s, e = peak_one(s, "reference"), peak_one(e, "estimate")
    _check_long_enough(s)
    try:
        with np.errstate(divide="ignore", invalid="ignore"):
            along_one, along_all = square_cosine_metrics(s, e, filter_length=SDR_TAPS, pairwise=True)
            ratios_db = [_cosine_to_db(c) for c in (along_one, along_one / along_all, along_all)]
    except np.linalg.LinAlgError as error:
        raise UndefinedMetricError("references do not determine the filters of BSS-eval") from error
    sane = (along_all < 1 + _COSINE_TOLERANCE) & (along_one < along_all + _COSINE_TOLERANCE)
    if np.isnan(ratios_db).any() or not sane.all():
        raise UndefinedMetricError("references do not determine the filters of BSS-eval")
    return BssEval(*ratios_db)


def stoi(reference: npt.ArrayLike, estimate: npt.ArrayLike, sample_rate: int, extended: bool = False) -> float:
    """Short-time objective intelligibility of one signal ``(time,)``, at most 1; computed by pystoi.

    Taal et al., "An algorithm for intelligibility prediction of time-frequency weighted noisy speech",
    IEEE TASLP 19(7), 2011; `extended`: Jensen and Taal, "An algorithm for predicting the intelligibility of
    speech masked by modulated noise maskers", IEEE/ACM TASLP 24(11), 2016. Undefined for less than 30 frames of speech.
    """
    import pystoi

    s, e = _leveled(reference, estimate)
    if s.ndim != 1:
        raise MsdetError(f"STOI takes one signal at a time, found shape {s.shape}")
    too_short = UndefinedMetricError("too little speech for the 30 frames of STOI")
    if s.size < _STOI_MIN_S * sample_rate:
        raise too_short
    state = np.random.get_state()
    np.random.seed(0)  # ESTOI adds dither
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            return float(pystoi.stoi(s, e, sample_rate, extended))
    except RuntimeWarning as error:
        raise too_short from error
    finally:
        np.random.set_state(state)


def estoi(reference: npt.ArrayLike, estimate: npt.ArrayLike, sample_rate: int) -> float:
    """Extended STOI; see `stoi`."""
    return stoi(reference, estimate, sample_rate, extended=True)


def pesq(reference: npt.ArrayLike, estimate: npt.ArrayLike, sample_rate: int) -> float:
    """PESQ of one signal ``(time,)`` as a mean opinion score: narrow-band at 8 kHz, wide-band at 16 kHz.

    ITU-T P.862 and P.862.2; computed by the package pesq (``pip install msdet[pesq]``). Undefined at other rates,
    without an utterance that PESQ detects, or where the package is not installed.
    """
    if sample_rate not in PESQ_MODES:
        raise UndefinedMetricError(f"PESQ is defined at 8 and 16 kHz, not at {sample_rate} Hz")
    try:
        import pesq as package
    except ImportError as error:
        raise UndefinedMetricError("pesq is not installed (pip install msdet[pesq])") from error
    s, e = (x.astype(np.float32) for x in _leveled(reference, estimate))
    try:
        return float(package.pesq(sample_rate, s, e, PESQ_MODES[sample_rate]))
    except package.BufferTooShortError as error:
        raise UndefinedMetricError("shorter than the 0.25 s of PESQ") from error
    except (package.PesqError, ValueError) as error:  # ValueError: its result is NaN
        raise UndefinedMetricError("PESQ detects no utterance") from error


class Dnsmos(NamedTuple):
    """Mean opinion scores, 1 to 5, as DNSMOS predicts them: of the speech, the background, and overall."""

    signal: float
    background: float
    overall: float


def dnsmos(signal: npt.ArrayLike, sample_rate: int) -> Dnsmos:
    """DNSMOS P.835 of a signal ``(time,)``, without a reference; it depends on the level.

    Reddy et al., "DNSMOS P.835: a non-intrusive perceptual objective speech quality metric to evaluate noise
    suppressors", ICASSP 2022; computed by the package speechmos (``pip install msdet[dnsmos]``) at 16 kHz, to which
    higher rates are resampled. Undefined below, of silence, and where the package is not installed.
    """
    if sample_rate < DNSMOS_RATE:
        raise UndefinedMetricError(f"DNSMOS is defined at 16 kHz, not at {sample_rate} Hz")
    try:
        from speechmos.dnsmos import run
    except ImportError as error:
        raise UndefinedMetricError("speechmos is not installed (pip install msdet[dnsmos])") from error
    from scipy.signal import resample_poly

    sound = np.asarray(signal, dtype=np.float64)
    leveled = peak_one(sound, "estimate") * min(float(np.abs(sound).max()), 1.0)
    if sample_rate > DNSMOS_RATE:
        common = math.gcd(sample_rate, DNSMOS_RATE)
        leveled = resample_poly(leveled, DNSMOS_RATE // common, sample_rate // common).clip(-1.0, 1.0)
    scores = run(leveled, DNSMOS_RATE)
    return Dnsmos(*(float(scores[f"{name}_mos"]) for name in ("sig", "bak", "ovrl")))


def peak_one(signal: Array, name: str) -> Array:
    """A signal ``(..., time)`` in double precision, scaled to a peak of 1; errors call it by `name`."""
    if signal.shape[-1] == 0:
        raise UndefinedMetricError(f"{name} has no samples")
    if not np.isfinite(signal).all():
        raise UndefinedMetricError(f"{name} holds NaN or infinite samples")
    double = np.asarray(signal, dtype=np.float64)
    peak = np.abs(double).max(axis=-1, keepdims=True)
    if (peak == 0).any():
        raise UndefinedMetricError(f"{name} is silent")
    return np.asarray(double / peak)


class ScoredSignals:
    """References ``(N, time)`` of a scene and the trials ``(M, time)``, estimates and the mixture, scored against them.

    Every method raises `UndefinedMetricError` where the pair has no value.
    """

    def __init__(self, references: Array, trials: Array, sample_rate: int) -> None:
        self.references, self.trials, self.sample_rate = references, trials, sample_rate
        self._made: dict[tuple[Any, ...], Any] = {}

    def pair(self, n: int, m: int) -> tuple[Array, Array]:
        """Reference n and trial m, each ``(time,)`` with a peak of 1."""
        return self._once(("reference", n), lambda: peak_one(self.references[n], "reference")), self._trial(m)

    def si_sdr(self, n: int, m: int) -> float:
        """SI-SDR of trial m against reference n."""
        return self._once(("si_sdr", n, m), lambda: float(si_sdr(*self.pair(n, m))))

    def si_sdr_matrix(self) -> Array:
        """SI-SDR ``(N, M)`` of all pairs; NaN where it is undefined."""
        matrix = np.full((len(self.references), len(self.trials)), np.nan)
        for n, m in np.ndindex(matrix.shape):
            with contextlib.suppress(UndefinedMetricError):
                matrix[n, m] = self.si_sdr(n, m)
        return matrix

    def sdr(self, n: int, m: int) -> float:
        """SDR of trial m against reference n; the filters of all trials are found at once."""
        reference, _ = self.pair(n, m)
        sound = self._sound_trials()
        ratios_db = self._once(("sdr", n), lambda: sdr_of_estimates(reference, np.stack([*map(self._trial, sound)])))
        return float(ratios_db[sound.index(m)])

    def bss_eval(self, n: int, m: int) -> BssEval:
        """SDR, SIR and SAR, as arrays without axes, of trial m against reference n among all references."""
        self.pair(n, m)
        sound = self._sound_trials()
        ratios = self._once(("bss_eval",), lambda: bss_eval(self.references, np.stack([*map(self._trial, sound)])))
        return BssEval(*(ratio_db[n, sound.index(m)] for ratio_db in ratios))

    def dnsmos(self, m: int) -> Dnsmos:
        """DNSMOS of trial m."""
        return self._once(("dnsmos", m), lambda: dnsmos(self.trials[m], self.sample_rate))

    def _trial(self, m: int) -> Array:
        return self._once(("trial", m), lambda: peak_one(self.trials[m], "estimate"))

    def _sound_trials(self) -> list[int]:
        """Numbers of the trials that are neither silent nor NaN."""
        return [m for m, trial in enumerate(self.trials) if np.isfinite(trial).all() and trial.any()]

    def _once(self, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        """The result of `make`, or the error that it raised, computed at the first call."""
        if key not in self._made:
            try:
                self._made[key] = make()
            except UndefinedMetricError as error:
                self._made[key] = error
        made: T | UndefinedMetricError = self._made[key]
        if isinstance(made, UndefinedMetricError):
            raise UndefinedMetricError(*made.args)
        return made


def _leveled(reference: npt.ArrayLike, estimate: npt.ArrayLike) -> tuple[Array, Array]:
    """Both signals in double precision, each with a peak of 1."""
    s, e = np.asarray(reference), np.asarray(estimate)
    if s.shape != e.shape or s.ndim == 0:
        raise MsdetError(f"reference and estimate have shapes {s.shape} and {e.shape}, expected the same")
    return peak_one(s, "reference"), peak_one(e, "estimate")


def _of_one_length(references: npt.ArrayLike, estimates: npt.ArrayLike) -> tuple[Array, Array]:
    s, e = np.atleast_2d(references), np.atleast_2d(estimates)
    if s.shape[-1] != e.shape[-1]:
        raise MsdetError(f"references and estimates have shapes {s.shape} and {e.shape}, expected one length")
    return s, e


def _energy(signal: Array) -> Array:
    return np.asarray(np.sum(signal**2, axis=-1))


def _ratio_db(part: Array, rest: Array) -> Array:
    """Ratio of two energies, limited; NaN stays NaN."""
    with np.errstate(divide="ignore"):  # a perfect or an orthogonal estimate
        ratio_db: Array = 10 * np.log10(part) - 10 * np.log10(rest)
    return ratio_db.clip(-RATIO_LIMIT_DB, RATIO_LIMIT_DB)


def _cosine_to_db(squared_cosine: Array) -> Array:
    """Energy along a direction to that across it."""
    along = np.clip(squared_cosine, 0.0, 1.0)
    return _ratio_db(along, 1 - along)


def _check_long_enough(signal: Array) -> None:
    if signal.shape[-1] < SDR_TAPS:
        raise UndefinedMetricError(f"shorter than the {SDR_TAPS} taps of the SDR's filter")
