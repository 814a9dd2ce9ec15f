"""Scoring a folder of estimates against a rendered set: one row per scene, in the set's order.

An estimates folder holds ``<scene id>/talker1.wav`` to ``talkerN.wav`` (or ``.flac``; mono, of the set's
rate and length) and ``doa.jsonl`` with a row ``{"id": ..., "azimuth_deg": [...]}`` per scene, azimuths in
the order of the files. A system may give audio only or azimuths only; audio of which every name is wrong is
audio that cannot be read. The number of azimuths may differ from the talkers'. What else a row may say of
directions, `msdet.scoring.doa_file` tells.

Voices and directions of a scene fail apart: where the one cannot be scored, the other is as far as it does
not need it. Where the audio of a system that gives audio cannot be read, nobody knows which azimuth is whose,
and directions are scored by themselves: ``doa_error_own_deg``, and how many talkers are found.

A voice that is silent or holds NaN has no SI-SDR. One such voice belongs to the talker whom the others leave:
they keep their scores, and it keeps those of its direction. Between several, as between voices that are
alike, the permutation is arbitrary: a talker's score is the mean under all that are as good, null where one
of the voices has none, and what of directions would be another value under another order is null. Where
no voice has an SI-SDR, there is no permutation.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array
from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError
from msdet.io.files import write_jsonl
from msdet.io.jobs import Progress, worker_pool
from msdet.scenes.scene import Scene
from msdet.scoring.breakdowns import labels
from msdet.scoring.doa_file import DoaEstimates, read_directions
from msdet.scoring.doa_scores import (
    CONFIDENCE_FIELDS,
    DOA_FIELDS,
    ELEVATION_FIELDS,
    NO_AUDIO,
    NO_DOA,
    NO_REFERENCES,
    NOBODY_MOVES,
    NOT_LOCATED,
    TIED,
    TRACK_FIELDS,
    moves,
    score_directions,
)
from msdet.scoring.metrics import DEFAULT_METRICS, check_metrics, separation_fields
from msdet.scoring.permutations import UNTOLD
from msdet.scoring.separation_scores import score_signals, score_voices
from msdet.scoring.signals import ScoredSignals
from msdet.scoring.submission import (
    check_made_for,
    gives_audio,
    listed,
    nothing_given,
    read_voices,
    surplus_files,
    talker_files,
    unknown_scenes,
)
from msdet.scoring.swapped_estimates import find_swaps
from msdet.scoring.values import Row

SEPARATION_FIELDS = separation_fields()
"""Fields of a row by the metrics that are scored unless others are asked for."""

NOT_GIVEN = (NO_AUDIO, NO_DOA, NOBODY_MOVES, NO_REFERENCES, NOT_LOCATED)
"""Reasons that are the system's kind or the scene's."""

NO_FAILURE = (*NOT_GIVEN, TIED)
"""Reasons for which nobody need mend anything."""

_DECIMALS = 4  # of directions

_LOGGER = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class ScoringOptions:
    """What to score.

    Attributes:
        metrics: of signals, names in `msdet.scoring.metrics.SEPARATION_METRICS`.
        doa_fields: of directions.
    """

    metrics: tuple[str, ...] = DEFAULT_METRICS
    doa_fields: tuple[str, ...] = DOA_FIELDS


def score_scene(
    scene: Scene,
    array: MicrophoneArray,
    mixture: Array | None,
    references: Array | None,
    estimates: Array | None,
    directions: DoaEstimates | None,
    asked: ScoringOptions = ScoringOptions(),
    unprocessed: Row | None = None,
    no_audio: str = NO_AUDIO,
    no_directions: str = NO_DOA,
) -> Row:
    """Score the estimates of one scene.

    One permutation serves every metric, DoA included: the one that maximizes the sum of SI-SDR. Without
    audio, or references, it is the azimuths' own best assignment; ``permutation_from`` says which ("si_sdr"
    or "doa"). See the module for voices without an SI-SDR.

    Args:
        scene: the scene.
        array: improvements are over its reference microphone; what it cannot tell apart is no error.
        mixture: ``(mic, time)``; None without `estimates`.
        references: ``(talker, time)``; None without `estimates`.
        estimates: ``(talker, time)``, or None without audio to score.
        directions: in the order of `estimates`, or None without DoA to score.
        asked: what to score.
        unprocessed: the mixture's own row; scored here if None.
        no_audio: why `estimates` is None; anything but `NO_AUDIO` and `NO_REFERENCES` is a failure of a
            system that gives audio.
        no_directions: why `directions` is None.

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
    unsure: Array | None = None
    unknown = None if no_audio in (NO_AUDIO, NO_REFERENCES) else no_audio
    if estimates is None:
        undefined |= dict.fromkeys(separation_fields(asked.metrics), no_audio)
    else:
        assert mixture is not None and references is not None
        before = mixture[array.reference] if unprocessed is None else unprocessed
        voices = score_voices(references, estimates, before, scene.sample_rate, asked.metrics)
        row |= voices.scores.fields
        undefined |= voices.scores.undefined
        row["doubts"] += voices.doubts
        permutation, unsure = voices.permutation, voices.unsure
        row["permutation_from"], unknown = (None, UNTOLD) if permutation is None else ("si_sdr", None)
    if directions is None:
        undefined |= dict.fromkeys(asked.doa_fields, no_directions)
    else:
        scores, reasons, own = score_directions(
            scene, array, directions, permutation, asked.doa_fields, unsure, unknown
        )
        row |= {field: _rounded(value) for field, value in scores.items()}
        undefined |= {field: no_audio if why == NO_AUDIO else why for field, why in reasons.items()}
        row["doubts"] += [
            f"{key} is left out ({fault})"
            for key, fault in directions.faults.items()
            if not any(fault in why for why in reasons.values())
        ]
        if permutation is None and unknown is None and own is not None:
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

    Where a scene's audio or its directions are missing or do not fit, what needs them is null and
    ``undefined`` says why; where nothing that the system gives can be read, the row is one of nulls and
    ``error`` says why. Estimates of scenes that are not in the set are logged as a warning; see
    `unknown_scenes`.

    Args:
        scene_set: the set with mixtures and references.
        estimates: the estimates folder.
        out: the file to write, atomically.
        jobs: number of worker processes; the rows do not depend on it.
        progress: called after each scene.
        metrics: names in `msdet.scoring.metrics.SEPARATION_METRICS`.
        unprocessed: rows of `score_unprocessed`, so that the mixtures are not scored again; a scene or
            metric that they lack is.

    Raises:
        MsdetError: `estimates` holds neither audio of any scene nor ``doa.jsonl``, ``doa.jsonl`` is not
            readable, or an unknown metric.
    """
    chosen = check_metrics(metrics)
    check_made_for(estimates, scene_set)
    found = read_directions(estimates)
    if found is None and not any(talker_files(estimates, scene) for scene in scene_set.scenes):
        raise nothing_given(scene_set, estimates)
    if unknown := unknown_scenes(scene_set, estimates):
        _LOGGER.warning(
            "%s: estimates of %d scenes that are not in the set are left out (%s)",
            estimates,
            len(unknown),
            listed(unknown),
        )
    asked = ScoringOptions(chosen, _doa_fields(scene_set, found or {}))
    has_audio = gives_audio(scene_set, estimates)
    job = _Job(_without_scenes(scene_set), estimates, has_audio, found is not None, asked)
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
    asked = ScoringOptions(check_metrics(metrics))
    score = partial(_score_mixture, _without_scenes(scene_set), asked)
    rows = _score_all(score, scene_set.scenes, jobs, progress)
    write_jsonl(out, rows)
    return rows


@dataclass(frozen=True)
class _Job:
    """What every worker needs: the set (without its scenes), the folder, and what a system gives."""

    scene_set: SceneSet
    estimates: Path
    has_audio: bool
    has_doa: bool
    asked: ScoringOptions


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


def _empty_row(scene: Scene, asked: ScoringOptions) -> Row:
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


def _rounded(values: Any) -> Any:
    """Numbers of an array as a list, NaN as null; anything else as it is."""
    if not isinstance(values, np.ndarray):
        return values
    return [None if np.isnan(v) else round(v, _DECIMALS) for v in values.tolist()]


def _score_files(job: _Job, task: _Task) -> Row:
    scene, found, unprocessed = task
    mixture = references = estimates = directions = None
    no_audio, no_directions = NO_AUDIO, NO_DOA
    if job.has_audio and not scene.referenced:
        no_audio = NO_REFERENCES
    elif job.has_audio:
        try:
            mixture, references = job.scene_set.mixture(scene), job.scene_set.references(scene)
            estimates = read_voices(job.estimates, scene)
        except MsdetError as error:
            no_audio = str(error)
    if job.has_doa and not scene.located:
        no_directions = NOT_LOCATED
    elif job.has_doa:
        try:
            directions = DoaEstimates.from_row(found)
        except MsdetError as error:
            no_directions = str(error)
    reasons = [why for why in (no_audio, no_directions) if why not in NOT_GIVEN]
    if estimates is None and directions is None and reasons:
        return _empty_row(scene, job.asked) | {"error": "; ".join(reasons)}
    row = score_scene(
        scene, job.scene_set.array, mixture, references, estimates, directions, job.asked, unprocessed,
        no_audio, no_directions,
    )  # fmt: skip
    if surplus := surplus_files(job.estimates, scene):
        row["doubts"].append(f"files that are no talker's are left out ({listed(surplus)})")
    return row


def _score_mixture(scene_set: SceneSet, asked: ScoringOptions, scene: Scene) -> Row:
    row = _empty_row(scene, asked)
    if not scene.referenced:
        undefined = dict.fromkeys(separation_fields(asked.metrics), NO_REFERENCES)
        return row | {"undefined": undefined | dict.fromkeys(asked.doa_fields, NO_DOA)}
    try:
        mixture, references = scene_set.mixture(scene), scene_set.references(scene)
    except MsdetError as error:
        return row | {"error": str(error)}
    signals = ScoredSignals(references, mixture[[scene_set.array.reference]], scene.sample_rate)
    scores = score_signals(signals, np.zeros((1, len(references)), dtype=np.int64), 0, asked.metrics)
    row |= scores.fields
    row["undefined"] = scores.undefined | dict.fromkeys(asked.doa_fields, NO_DOA)
    return row | {"permutation": list(range(len(references))), "permutation_from": "si_sdr"}


def _score_all(
    score: Callable[[T], Row], tasks: Sequence[T], jobs: int, progress: Progress | None
) -> list[Row]:
    if jobs < 1:
        raise MsdetError(f"jobs is {jobs}, expected at least 1")
    rows: list[Row] = []
    for row in _mapped(score, tasks, jobs):
        rows.append(row)
        if progress is not None:
            progress(len(rows), len(tasks))
    return rows


def _mapped(score: Callable[[T], Row], tasks: Sequence[T], jobs: int) -> Iterable[Row]:
    if jobs == 1:
        yield from map(score, tasks)
        return
    chunk = max(1, min(8, len(tasks) // (4 * jobs)))
    with worker_pool(min(jobs, len(tasks))) as pool:
        yield from pool.map(score, tasks, chunksize=chunk)
