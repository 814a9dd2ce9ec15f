"""Separation scores of one scene, as fields of its row; and estimates that fit another scene's references."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from msdet.conventions import Array
from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError, UndefinedMetricError
from msdet.scenes.scene import Scene
from msdet.scoring.metrics import SEPARATION_METRICS, Row, SeparationMetric, separation_fields
from msdet.scoring.permutations import (
    AMBIGUOUS,
    MIN_RATIO_DB,
    SAME_SUM_DB,
    ambiguous_references,
    best_permutation,
    tied_permutations,
)
from msdet.scoring.separation_metrics import ScoredSignals, pairwise_si_sdr
from msdet.scoring.submission import read_estimates

RESEMBLES_DB = -20.0  # an estimate below this SI-SDR, that of unrelated speech, does not resemble a reference
_FITS_DB = -5.0
_MAX_SCENES = 20  # every one is compared with every other


class EstimateScores(NamedTuple):
    """Separation scores of estimates under the permutation that maximizes the sum of SI-SDR.

    Fields of a row are lists over talkers, under several permutations that tie the mean; `undefined` says why some hold
    a null. The permutation ``(talker,)`` is None if no estimate has an SI-SDR, its `ambiguous` part is arbitrary.
    """

    fields: dict[str, list[float | None]]
    undefined: dict[str, str]
    permutation: Array | None
    ambiguous: Array
    doubts: list[str]


def score_estimates(
    references: Array, estimates: Array, before: Array | Row, sample_rate: int, metrics: tuple[str, ...]
) -> EstimateScores:
    """Score the estimates ``(talker, time)`` of a scene; `before` is the mixture ``(time,)`` there, or its row."""
    if estimates.shape != references.shape:
        raise MsdetError(f"estimates have shape {estimates.shape}, expected {references.shape}")
    trials = estimates if isinstance(before, dict) else np.concatenate([estimates, before[None]])
    mixture = before if isinstance(before, dict) else len(estimates)
    signals = ScoredSignals(references, trials, sample_rate)
    matrix = signals.si_sdr_matrix()[:, : len(estimates)]
    permutation = best_permutation(matrix)
    tied = tied_permutations(np.maximum(matrix, MIN_RATIO_DB), permutation, SAME_SUM_DB)
    scores = score_signals(signals, np.stack([permutation, *tied]), mixture, metrics)
    ambiguous = ambiguous_references(permutation, tied)
    if np.isnan(matrix).all():
        return EstimateScores(*scores, None, ambiguous, [])
    alike = np.nanmax(matrix[range(len(matrix)), permutation]) >= RESEMBLES_DB
    doubt = f"no estimate resembles its reference (SI-SDR below {RESEMBLES_DB:g} dB)"
    return EstimateScores(*scores, permutation, ambiguous, [] if alike else [doubt])


def score_signals(
    signals: ScoredSignals, permutations: Array, before: int | Row, metrics: tuple[str, ...]
) -> tuple[dict[str, list[float | None]], dict[str, str]]:
    """Fields of a row for trials, with improvements over the mixture; and the reasons for nulls.

    Permutations of the trials, ``(permutation, talker)``, are several if they tie: values are means under them, in
    which decibels are at least `MIN_RATIO_DB`. `before` is the trial that is the mixture, or its row.
    """
    fields: dict[str, list[float | None]] = {field: [] for field in separation_fields(metrics)}
    reasons: dict[str, list[str]] = {field: [] for field in fields}
    for metric in map(SEPARATION_METRICS.__getitem__, metrics):
        for n, trials in enumerate(permutations.T.tolist()):
            scored = {m: _value(partial(metric.score, signals, n, m)) for m in trials}
            value, reason = _mean(metric, scored, trials)
            if isinstance(before, int):
                unprocessed, why = _value(partial(metric.score, signals, n, before))
            else:
                unprocessed = before[metric.field][n]
                why = None if unprocessed is not None else before["undefined"].get(metric.field)
            improvement = None if value is None or unprocessed is None else value - unprocessed
            for field, number, because in (
                (metric.field, value, reason),
                (metric.improvement_field, improvement, reason or (why and why.replace("estimate", "mixture"))),
            ):
                fields[field].append(None if number is None else round(number, metric.stored_decimals))
                if because and because not in reasons[field]:
                    reasons[field].append(because)
    return fields, {field: "; ".join(why) for field, why in reasons.items() if why}


def find_swaps(scene_set: SceneSet, estimates: Path, rows: list[Row]) -> None:
    """Add to ``doubts`` of rows whose estimates resemble no reference which other such scene they fit."""
    by_id = {scene.id: scene for scene in scene_set.scenes}
    doubtful = [row for row in rows if any("resembles" in doubt for doubt in row["doubts"])][:_MAX_SCENES]
    if len(doubtful) < 2:
        return
    references = {row["id"]: _references(scene_set, by_id[row["id"]]) for row in doubtful}
    for row in doubtful:
        signals = read_estimates(estimates, by_id[row["id"]])
        for other, of_other in references.items():
            if other == row["id"] or of_other.shape != signals.shape:
                continue
            matrix = pairwise_si_sdr(of_other, signals)
            if matrix[range(len(matrix)), best_permutation(matrix)].mean() > _FITS_DB:
                row["doubts"].append(f"the estimates fit another scene's references ({other})")


def _references(scene_set: SceneSet, scene: Scene) -> Array:
    try:
        return scene_set.references(scene)
    except MsdetError:
        return np.zeros((0, 0))


def _mean(
    metric: SeparationMetric, scored: dict[int, tuple[float | None, str | None]], trials: list[int]
) -> tuple[float | None, str | None]:
    """The mean over `trials`, which may name one several times; None, and why, where one has no value."""
    if len(scored) == 1:
        return scored[trials[0]]
    values = {m: value for m, (value, _) in scored.items() if value is not None}
    if len(values) < len(scored):
        reasons = sorted({reason for _, reason in scored.values() if reason})
        return None, "; ".join([*reasons, *[AMBIGUOUS] * bool(values)])
    floor = MIN_RATIO_DB if metric.unit == "dB" else -math.inf
    return math.fsum(max(values[m], floor) for m in trials) / len(trials), None


def _value(score: Callable[[], float]) -> tuple[float | None, str | None]:
    try:
        return score(), None
    except UndefinedMetricError as error:
        return None, str(error)
