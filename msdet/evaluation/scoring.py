"""Scoring a folder of estimates against a rendered set: one row per scene, in the set's order.

An estimates folder holds ``<scene id>/talker1.wav`` to ``talkerN.wav`` (or ``.flac``; mono, of the set's
rate and length) and ``doa.jsonl`` with a row ``{"id": ..., "azimuth_deg": [...]}`` per scene, azimuths in
the order of the files. A system may give audio only or azimuths only; the number of azimuths may differ from
the talkers'. What else a row may say of directions, `msdet.evaluation.directions` tells.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array
from msdet.data.manifest import SceneSet
from msdet.errors import MsdetError
from msdet.evaluation.directions import DOA_FILE, Directions, read_directions
from msdet.evaluation.labels import labels, straddles_zero
from msdet.evaluation.localisation import (
    CONFIDENCE_FIELDS,
    DOA_FIELDS,
    ELEVATION_FIELDS,
    NO_AUDIO,
    NO_DOA,
    TRACK_FIELDS,
    moves,
    score_directions,
)
from msdet.evaluation.metrics import (
    DEFAULT_METRICS,
    SEPARATION_METRICS,
    check_metrics,
    separation_fields,
)
from msdet.evaluation.separation import best_permutation
from msdet.evaluation.signals import Signals
from msdet.evaluation.submission import (
    DATA_FILE,
    check_made_for,
    listed,
    nothing_given,
    read_estimates,
    surplus_files,
    talker_files,
    unknown_scenes,
)
from msdet.evaluation.swaps import RESEMBLES_DB, find_swaps
from msdet.evaluation.undefined import UndefinedMetricError
from msdet.evaluation.values import Row
from msdet.files import write_jsonl
from msdet.simulation.scene import Scene
from msdet.work import Progress, worker_pool

__all__ = [
    "DATA_FILE", "DOA_FIELDS", "DOA_FILE", "NOT_GIVEN", "SEPARATION_FIELDS", "Row", "score_scene",
    "score_set", "score_unprocessed", "straddles_zero", "unknown_scenes",
]  # fmt: skip

SEPARATION_FIELDS = separation_fields()
"""Fields of a row by the metrics that are scored unless others are asked for."""

NOT_GIVEN = (NO_AUDIO, NO_DOA, "nobody moves")
"""Reasons that are the system's kind or the scene's, not a failure."""

_DECIMALS = 4  # of directions

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asked:
    """What to score.

    Attributes:
        metrics: of signals, names in `msdet.evaluation.metrics.SEPARATION_METRICS`.
        doa_fields: of directions.
    """

    metrics: tuple[str, ...] = DEFAULT_METRICS
    doa_fields: tuple[str, ...] = DOA_FIELDS


def score_scene(
    scene: Scene,
    array: MicrophoneArray,
    mixture: Array,
    references: Array,
    estimates: Array | None,
    directions: Directions | None,
    asked: Asked = Asked(),
    unprocessed: Row | None = None,
) -> Row:
    """Score the estimates of one scene.

    One permutation serves every metric, DoA included: the one that maximises the sum of SI-SDR. Without
    audio it is the azimuths' own best assignment; ``permutation_from`` says which ("si_sdr" or "doa").

    Args:
        scene: the scene.
        array: improvements are over its reference microphone; what it cannot tell apart is no error.
        mixture: ``(mic, time)``.
        references: ``(talker, time)``.
        estimates: ``(talker, time)``, or None for a system without audio.
        directions: in the order of `estimates`, or None for a system without DoA.
        asked: what to score.
        unprocessed: the mixture's own row; scored here if None.

    Returns:
        Labels of the scene; ``error`` (null); ``doubts`` (what looks wrong but was scored); ``permutation``
        (``permutation[n]`` is the estimate of talker n, from 0); for each field of a metric a list over
        talkers, or a number of the scene, in which an undefined value is null, or null where the system
        gives nothing; and in ``undefined`` the reason. ``doa_error_deg`` is under the permutation,
        ``doa_error_own_deg`` under the azimuths' own best assignment. Decibels and degrees are rounded to 4
        decimals, others to 6.

    Raises:
        MsdetError: another number of talkers or another length than the references'.
    """
    row = _empty_row(scene, asked)
    undefined: dict[str, str] = row["undefined"]
    permutation: Array | None = None
    if estimates is None:
        undefined |= dict.fromkeys(separation_fields(asked.metrics), NO_AUDIO)
    else:
        if estimates.shape != references.shape:
            raise MsdetError(f"estimates have shape {estimates.shape}, expected {references.shape}")
        mixtures = mixture[[array.reference]] if unprocessed is None else mixture[:0]
        signals = Signals(references, np.concatenate([estimates, mixtures]), scene.sample_rate)
        matrix = signals.si_sdr_matrix()[:, : len(estimates)]
        permutation = best_permutation(matrix)
        row["permutation_from"] = "si_sdr"
        before = len(estimates) if unprocessed is None else unprocessed
        _score_signals(row, signals, permutation, before, asked.metrics)
        likeness = matrix[range(len(matrix)), permutation]
        if not np.isnan(likeness).all() and np.nanmax(likeness) < RESEMBLES_DB:
            row["doubts"].append(f"no estimate resembles its reference (SI-SDR below {RESEMBLES_DB:g} dB)")
    if directions is None:
        undefined |= dict.fromkeys(asked.doa_fields, NO_DOA)
    else:
        scores, reasons, own = score_directions(scene, array, directions, permutation, asked.doa_fields)
        row |= {field: _rounded(value) for field, value in scores.items()}
        undefined |= reasons
        if permutation is None and own is not None:
            permutation, row["permutation_from"] = own, "doa"
    row["permutation"] = None if permutation is None else [int(p) for p in permutation]
    return row


def score_set(
    scene_set: SceneSet,
    estimates: Path,
    out: Path,
    jobs: int = 1,
    progress: Progress | None = None,
    metrics: Sequence[str] = DEFAULT_METRICS,
    unprocessed: Sequence[Row] = (),
) -> list[Row]:
    """Score a folder of estimates and write the rows to `out`, one scene a line, in the set's order.

    A scene whose files are missing or do not fit gets a row of nulls whose ``error`` says why. Estimates of
    scenes that are not in the set are logged as a warning; see `unknown_scenes`.

    Args:
        scene_set: the set with mixtures and references.
        estimates: the estimates folder.
        out: the file to write, atomically.
        jobs: number of worker processes; the rows do not depend on it.
        progress: called after each scene.
        metrics: names in `msdet.evaluation.metrics.SEPARATION_METRICS`.
        unprocessed: rows of `score_unprocessed`, so that the mixtures are not scored again; a scene or
            metric that they lack is.

    Raises:
        MsdetError: `estimates` holds neither audio of any scene nor ``doa.jsonl``, ``doa.jsonl`` is not
            readable, or an unknown metric.
    """
    chosen = check_metrics(metrics)
    check_made_for(estimates, scene_set)
    found = read_directions(estimates)
    has_audio = any(talker_files(estimates, scene) for scene in scene_set.scenes)
    if found is None and not has_audio:
        raise nothing_given(scene_set, estimates)
    if unknown := unknown_scenes(scene_set, estimates):
        _LOGGER.warning(
            "%s: estimates of %d scenes that are not in the set are left out (%s)",
            estimates,
            len(unknown),
            listed(unknown),
        )
    asked = Asked(chosen, _doa_fields(scene_set, found or {}))
    job = _Job(_without_scenes(scene_set), estimates if has_audio else None, found is not None, asked)
    fields = set(separation_fields(chosen))
    before = {row["id"]: row for row in unprocessed if fields <= row.keys() and not row["error"]}
    tasks = [(scene, (found or {}).get(scene.id), before.get(scene.id)) for scene in scene_set.scenes]
    rows = _score_all(partial(_score_files, job), tasks, jobs, progress)
    if has_audio:
        find_swaps(scene_set, estimates, rows)
    write_jsonl(out, rows)
    return rows


def score_unprocessed(
    scene_set: SceneSet,
    out: Path,
    jobs: int = 1,
    progress: Progress | None = None,
    metrics: Sequence[str] = DEFAULT_METRICS,
) -> list[Row]:
    """Score the mixture at the reference microphone as the estimate of every talker; DoA is null.

    Arguments, result and errors as `score_set`.
    """
    asked = Asked(check_metrics(metrics))
    job = _Job(_without_scenes(scene_set), None, False, asked)
    tasks: list[_Task] = [(scene, None, None) for scene in scene_set.scenes]
    rows = _score_all(partial(_score_mixture, job), tasks, jobs, progress)
    write_jsonl(out, rows)
    return rows


@dataclass(frozen=True)
class _Job:
    """What every worker needs: the set (without its scenes), the folder of audio, if there are azimuths."""

    scene_set: SceneSet
    estimates: Path | None
    has_doa: bool
    asked: Asked


_Task = tuple[Scene, dict[str, Any] | None, Row | None]
"""A scene, what ``doa.jsonl`` has for it, unchecked, and the mixture's row."""


def _without_scenes(scene_set: SceneSet) -> SceneSet:
    return dataclasses.replace(scene_set, scenes=())  # small to send to the workers


def _doa_fields(scene_set: SceneSet, found: dict[str, dict[str, Any]]) -> tuple[str, ...]:
    """Fields of directions that make sense for a set and that a system gives anything for."""
    given = {key for row in found.values() for key in row if row[key] is not None}
    fields = DOA_FIELDS
    if "elevation_deg" in given:
        fields += ELEVATION_FIELDS
    if "confidence" in given:
        fields += CONFIDENCE_FIELDS
    return fields + TRACK_FIELDS if any(map(moves, scene_set.scenes)) else fields


def _empty_row(scene: Scene, asked: Asked) -> Row:
    """A row of nulls with the labels of a scene."""
    fields = separation_fields(asked.metrics) + asked.doa_fields
    return {
        "id": scene.id,
        "error": None,
        "doubts": [],
        **labels(scene),
        "permutation": None,
        "permutation_from": None,
        **dict.fromkeys(fields),
        "undefined": {},
    }


def _score_signals(
    row: Row, signals: Signals, permutation: Array, before: int | Row, metrics: tuple[str, ...]
) -> None:
    """Fill a row with separation scores and the reasons why some are null.

    Args:
        row: to fill.
        signals: references, and as trials what `permutation` points to.
        permutation: ``(talker,)``.
        before: the trial that is the mixture, or its row.
        metrics: names.
    """
    for name in metrics:
        metric = SEPARATION_METRICS[name]
        values: dict[str, list[float | None]] = {metric.field: [], metric.gain_field: []}
        reasons: dict[str, list[str]] = {metric.field: [], metric.gain_field: []}
        for n, m in enumerate(permutation):
            value, reason = _value(partial(metric.score, signals, n, int(m)))
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
        row |= values
        row["undefined"] |= {field: "; ".join(why) for field, why in reasons.items() if why}


def _value(score: Callable[[], float]) -> tuple[float | None, str | None]:
    try:
        return score(), None
    except UndefinedMetricError as error:
        return None, str(error)


def _rounded(values: Any) -> Any:
    """Numbers of an array as a list, NaN as null; anything else as it is."""
    if not isinstance(values, np.ndarray):
        return values
    return [None if np.isnan(v) else round(v, _DECIMALS) for v in values.tolist()]


def _score_files(job: _Job, task: _Task) -> Row:
    scene, found, unprocessed = task
    array = job.scene_set.array
    try:
        mixture, references = job.scene_set.mixture(scene), job.scene_set.references(scene)
        estimates = None if job.estimates is None else read_estimates(job.estimates, scene)
        directions = Directions.from_row(found) if job.has_doa else None
        row = score_scene(scene, array, mixture, references, estimates, directions, job.asked, unprocessed)
        if job.estimates is not None and (surplus := surplus_files(job.estimates, scene)):
            row["doubts"].append(f"files that are no talker's are left out ({listed(surplus)})")
        return row
    except MsdetError as error:
        return _empty_row(scene, job.asked) | {"error": str(error)}


def _score_mixture(job: _Job, task: _Task) -> Row:
    scene, _, _ = task
    row = _empty_row(scene, job.asked)
    try:
        mixture, references = job.scene_set.mixture(scene), job.scene_set.references(scene)
    except MsdetError as error:
        return row | {"error": str(error)}
    signals = Signals(references, mixture[[job.scene_set.array.reference]], scene.sample_rate)
    _score_signals(row, signals, np.zeros(len(references), dtype=np.int64), 0, job.asked.metrics)
    row["undefined"] |= dict.fromkeys(job.asked.doa_fields, NO_DOA)
    return row | {"permutation": list(range(len(references))), "permutation_from": "si_sdr"}


def _score_all(
    score: Callable[[_Task], Row], tasks: list[_Task], jobs: int, progress: Progress | None
) -> list[Row]:
    if jobs < 1:
        raise MsdetError(f"jobs is {jobs}, expected at least 1")
    rows: list[Row] = []
    for row in _mapped(score, tasks, jobs):
        rows.append(row)
        if progress is not None:
            progress(len(rows), len(tasks))
    return rows


def _mapped(score: Callable[[_Task], Row], tasks: list[_Task], jobs: int) -> Iterable[Row]:
    if jobs == 1:
        yield from map(score, tasks)
        return
    chunk = max(1, min(8, len(tasks) // (4 * jobs)))
    with worker_pool(min(jobs, len(tasks))) as pool:
        yield from pool.map(score, tasks, chunksize=chunk)
