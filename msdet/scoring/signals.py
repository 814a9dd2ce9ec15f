"""References and estimates of one scene, prepared for metrics; what pairs of them share is computed once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from msdet.conventions import Array
from msdet.scoring import stoi
from msdet.scoring.separation_metrics import (
    BssEval,
    UndefinedMetricError,
    bss_eval,
    peak_one,
    sdr_of_estimates,
    si_sdr,
)

T = TypeVar("T")


class ScoredSignals:
    """References of a scene and what is tried against them.

    Every method raises `UndefinedMetricError` where the pair has no value.

    Attributes:
        references: ``(N, time)`` as given.
        trials: ``(M, time)`` as given: estimates, the mixture.
        sample_rate: hertz.
    """

    def __init__(self, references: Array, trials: Array, sample_rate: int) -> None:
        self.references, self.trials, self.sample_rate = references, trials, sample_rate
        self._made: dict[tuple[Any, ...], Any] = {}

    def reference(self, n: int) -> Array:
        """Reference n ``(time,)`` with a peak of 1."""
        return self._once(("reference", n), lambda: peak_one(self.references[n], "reference"))

    def trial(self, m: int) -> Array:
        """Trial m ``(time,)`` with a peak of 1."""
        return self._once(("trial", m), lambda: peak_one(self.trials[m], "estimate"))

    def si_sdr(self, n: int, m: int) -> float:
        """SI-SDR of trial m against reference n."""
        return self._once(("si_sdr", n, m), lambda: float(si_sdr(self.reference(n), self.trial(m))))

    def si_sdr_matrix(self) -> Array:
        """SI-SDR ``(N, M)`` of all pairs; NaN where it is undefined."""
        matrix = np.full((len(self.references), len(self.trials)), np.nan)
        for n, m in np.ndindex(matrix.shape):
            try:
                matrix[n, m] = self.si_sdr(n, m)
            except UndefinedMetricError:
                continue
        return matrix

    def sdr(self, n: int, m: int) -> float:
        """SDR of trial m against reference n; the filters of all trials are found at once."""
        reference, _ = self.reference(n), self.trial(m)
        places, trials = self._sound_trials()
        ratios_db = self._once(("sdr", n), lambda: sdr_of_estimates(reference, trials))
        return float(ratios_db[places.index(m)])

    def bss_eval(self, n: int, m: int) -> BssEval:
        """SDR, SIR and SAR, as arrays without axes, of trial m against reference n among all references."""
        _, _ = self.reference(n), self.trial(m)
        places, trials = self._sound_trials()
        found = self._once(("bss_eval",), lambda: bss_eval(self._all_references(), trials))
        return BssEval(*(ratio_db[n, places.index(m)] for ratio_db in found))

    def segments(self, n: int, m: int) -> tuple[Array, Array]:
        """Bands of reference n and of trial m in the reference's speech, for STOI."""
        rate = self.sample_rate
        reference = self._once(("frames of", n), lambda: stoi.frames(self.reference(n), rate))
        trial = self._once(("frames", m), lambda: stoi.frames(self.trial(m), rate))
        speech = self._once(("speech", n), lambda: stoi.speech_frames(reference))
        bands = self._once(("segments", n), lambda: stoi.segments(reference, speech))
        return bands, self._once(("segments", n, m), lambda: stoi.segments(trial, speech))

    def _all_references(self) -> Array:
        try:
            return np.stack([self.reference(n) for n in range(len(self.references))])
        except UndefinedMetricError as error:
            raise UndefinedMetricError(f"another {error}") from error

    def _sound_trials(self) -> tuple[list[int], Array]:
        """Which trials have a peak of 1, and they."""
        return self._once(("sound",), self._find_sound_trials)

    def _find_sound_trials(self) -> tuple[list[int], Array]:
        places = []
        for m in range(len(self.trials)):
            try:
                self.trial(m)
            except UndefinedMetricError:
                continue
            places.append(m)
        return places, np.stack([self.trial(m) for m in places])

    def _once(self, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        """What `make` gives, or the reason why it gives nothing, made at the first call."""
        if key not in self._made:
            try:
                self._made[key] = make()
            except UndefinedMetricError as error:
                self._made[key] = error
        made = self._made[key]
        if isinstance(made, UndefinedMetricError):
            raise UndefinedMetricError(*made.args)
        result: T = made
        return result
