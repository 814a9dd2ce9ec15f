"""Scores of the voices of one scene: fields of its row."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from msdet.conventions import Array
from msdet.errors import MsdetError, UndefinedMetricError
from msdet.scoring.metrics import SEPARATION_METRICS, SeparationMetric
from msdet.scoring.permutations import (
    NOTHING_DB,
    SAME_SUM_DB,
    UNTOLD,
    ambiguous_references,
    best_permutation,
    tied_permutations,
)
from msdet.scoring.signals import ScoredSignals
from msdet.scoring.swapped_estimates import RESEMBLES_DB
from msdet.scoring.values import Row


class SignalScores(NamedTuple):
    """Separation scores.

    Attributes:
        fields: of a row: lists over talkers.
        undefined: why fields hold a null.
    """

    fields: dict[str, list[float | None]]
    undefined: dict[str, str]


class VoiceScores(NamedTuple):
    """Separation scores of estimates under the permutation that maximizes the sum of SI-SDR.

    Where others are as good, a talker's value is the mean under all of them: the mean SI-SDR of the scene is
    that of each, and giving one voice twice is no excuse.

    Attributes:
        scores: under it, or under those that tie.
        permutation: ``(talker,)`` the estimate of each talker; None if no estimate has an SI-SDR.
        unsure: ``(talker,)`` whose part of the permutation is arbitrary.
        doubts: what looks wrong.
    """

    scores: SignalScores
    permutation: Array | None
    unsure: Array
    doubts: list[str]


def score_voices(
    references: Array,
    estimates: Array,
    before: Array | Row,
    sample_rate: int,
    metrics: tuple[str, ...],
) -> VoiceScores:
    """Score the estimates of a scene.

    Args:
        references: ``(talker, time)``.
        estimates: ``(talker, time)``.
        before: ``(time,)`` the mixture at the reference microphone, or its row.
        sample_rate: hertz.
        metrics: names in `SEPARATION_METRICS`.

    Raises:
        MsdetError: another number of talkers or another length than the references'.
    """
    if estimates.shape != references.shape:
        raise MsdetError(f"estimates have shape {estimates.shape}, expected {references.shape}")
    mixture: int | Row = len(estimates)
    if isinstance(before, dict):
        trials, mixture = estimates, before
    else:
        trials = np.concatenate([estimates, before[None]])
    signals = ScoredSignals(references, trials, sample_rate)
    matrix = signals.si_sdr_matrix()[:, : len(estimates)]
    permutation = best_permutation(matrix)
    tied = tied_permutations(np.maximum(matrix, NOTHING_DB), permutation, SAME_SUM_DB)
    scores = score_signals(signals, np.stack([permutation, *tied]), mixture, metrics)
    unsure = ambiguous_references(permutation, tied)
    if np.isnan(matrix).all():
        return VoiceScores(scores, None, unsure, [])
    alike = np.nanmax(matrix[range(len(matrix)), permutation]) >= RESEMBLES_DB
    doubt = f"no estimate resembles its reference (SI-SDR below {RESEMBLES_DB:g} dB)"
    return VoiceScores(scores, permutation, unsure, [] if alike else [doubt])


def score_signals(
    signals: ScoredSignals, permutations: Array, before: int | Row, metrics: tuple[str, ...]
) -> SignalScores:
    """Score trials, and their improvement over the mixture.

    Args:
        signals: references, and as trials what `permutations` point to.
        permutations: ``(permutation, talker)``, several if they are as good as each other: values are means
            under them, of which decibels are at least `NOTHING_DB`.
        before: the trial that is the mixture, or its row.
        metrics: names in `SEPARATION_METRICS`.
    """
    fields: dict[str, list[float | None]] = {}
    undefined: dict[str, str] = {}
    for name in metrics:
        metric = SEPARATION_METRICS[name]
        values: dict[str, list[float | None]] = {metric.field: [], metric.gain_field: []}
        reasons: dict[str, list[str]] = {metric.field: [], metric.gain_field: []}
        for n, trials in enumerate(permutations.T.tolist()):
            value, reason = _mean(
                metric, {m: _value(partial(metric.score, signals, n, m)) for m in trials}, trials
            )
            if isinstance(before, int):
                unprocessed, why = _value(partial(metric.score, signals, n, before))
            else:
                unprocessed = before[metric.field][n]
                why = None if unprocessed is not None else before["undefined"].get(metric.field)
            gain = None if value is None or unprocessed is None else value - unprocessed
            for field, number, because in (
                (metric.field, value, reason),
                (metric.gain_field, gain, reason or (why and why.replace("estimate", "mixture"))),
            ):
                values[field].append(None if number is None else round(number, metric.kept_decimals))
                if because and because not in reasons[field]:
                    reasons[field].append(because)
        fields |= values
        undefined |= {field: "; ".join(why) for field, why in reasons.items() if why}
    return SignalScores(fields, undefined)


def _mean(
    metric: SeparationMetric, scored: dict[int, tuple[float | None, str | None]], trials: list[int]
) -> tuple[float | None, str | None]:
    """The mean over `trials`, which may name one several times; None, and why, where one has no value."""
    if len(scored) == 1:
        return scored[trials[0]]
    values = {m: value for m, (value, _) in scored.items() if value is not None}
    if len(values) < len(scored):
        reasons = sorted({reason for _, reason in scored.values() if reason})
        return None, "; ".join([*reasons, *[UNTOLD] * bool(values)])
    floor = NOTHING_DB if metric.unit == "dB" else -math.inf
    return math.fsum(max(values[m], floor) for m in trials) / len(trials), None


def _value(score: Callable[[], float]) -> tuple[float | None, str | None]:
    try:
        return score(), None
    except UndefinedMetricError as error:
        return None, str(error)
