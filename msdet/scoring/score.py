"""Scoring a folder of estimates against a rendered set: one row per scene, in the set's order.

An estimates folder holds ``<scene id>/talker1.wav`` to ``talkerN.wav`` (or ``.flac``; mono, of the set's rate and
length), or ``spk1.scp`` to ``spkN.scp`` that list such files, and ``doa.jsonl`` with a row ``{"id": ..., "azimuth_deg":
[...]}`` per scene, azimuths in the order of the files; see `msdet.scoring.submission`. A system may give audio only or
azimuths only. The number of azimuths may differ from the talkers'.

A row has labels of the scene; ``error`` (null); ``doubts``, what looks wrong but was scored; ``permutation``
(``permutation[n]`` is the estimate of talker n, from 0); for each field of a metric a list over talkers, or a
number of the scene, null where undefined or where the system gives nothing; and the reasons in ``undefined``.
One permutation serves every metric, DoA included: the one that maximizes the sum of SI-SDR. Without audio, or
references, it is the azimuths' optimal assignment; ``permutation_from`` says which ("si_sdr" or "doa").
``doa_error_deg`` is under the permutation, ``doa_error_own_deg`` under the azimuths' optimal assignment.

Where the audio of a scene cannot be scored, its directions are, and the other way round; without knowing which azimuth
belongs to whom, only ``doa_error_own_deg``, and how many talkers are detected. A single estimate that is silent or
holds NaN belongs to the talker whom the others leave. Between several, as between copies, the permutation is arbitrary:
a talker's score is the mean under all that tie, null where one of the estimates has none, and a score of directions
that would differ under another order is null. Where no estimate has an SI-SDR, there is no permutation.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array
from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError
from msdet.io.files import write_jsonl
from msdet.io.jobs import Job, Progress, run_jobs
from msdet.scenes.scene import Scene
from msdet.scoring import doa_scores, submission
from msdet.scoring.alignment import find_delay, shifted
from msdet.scoring.breakdowns import DEFAULT_BREAKDOWNS, find_breakdowns, labels
from msdet.scoring.doa_scores import NO_AUDIO, NO_DOA, NO_REFERENCES, NO_TRUE_DOA
from msdet.scoring.metrics import (
    DEFAULT_METRICS,
    SEPARATION_METRICS,
    UNPROCESSED,
    Row,
    check_metrics,
    separation_fields,
)
from msdet.scoring.permutations import AMBIGUOUS
from msdet.scoring.separation_metrics import ScoredSignals
from msdet.scoring.separation_scores import find_swaps, score_estimates, score_signals
from msdet.scoring.submission import DoaEstimates
from msdet.scoring.summary import NOT_GIVEN, ScoreTable

_DECIMALS = 4  # of directions
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoringOptions:
    """What to score: names in `msdet.scoring.metrics.SEPARATION_METRICS`, and fields of directions."""

    metrics: tuple[str, ...] = DEFAULT_METRICS
    doa_fields: tuple[str, ...] = doa_scores.DOA_FIELDS
    align: bool = False
    """Whether to take out a constant delay of the estimates, which is told in any case."""
    resample: bool = False
    """Whether to resample estimates of another sample rate."""


def score(
    data: str | Path,
    estimates: str | Path,
    metrics: Sequence[str] = DEFAULT_METRICS,
    by: Sequence[str] = DEFAULT_BREAKDOWNS,
    name: str = "estimates",
    jobs: int = 1,
    align: bool = False,
    resample: bool = False,
) -> ScoreTable:
    """Score a folder of estimates beside the unprocessed mixture, as ``msdet score`` does; writes nothing.

    ``print(msdet.score("data/test", "estimates/"))`` prints the tables.

    `metrics` are names in `msdet.scoring.metrics.SEPARATION_METRICS`, `by` breakdowns
    (`msdet.scoring.breakdowns.find_breakdowns`), and `name` is the system's in the tables; for `align` and `resample`
    see `ScoringOptions`.
    """
    find_breakdowns(by)
    if name == UNPROCESSED:
        raise MsdetError(f"name is '{name}', which is the mixture's")
    scene_set = SceneSet.open(Path(data))
    mixtures = score_unprocessed(scene_set, jobs=jobs, metrics=metrics)
    rows = score_set(
        scene_set, Path(estimates), jobs=jobs, metrics=metrics, unprocessed=mixtures, align=align, resample=resample
    )
    return ScoreTable({UNPROCESSED: mixtures, name: rows}, name, tuple(by))


def score_set(
    scene_set: SceneSet,
    estimates: Path,
    out: Path | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
    metrics: Sequence[str] = DEFAULT_METRICS,
    unprocessed: Sequence[Row] = (),
    align: bool = False,
    resample: bool = False,
) -> list[Row]:
    """Score a folder of estimates: one row a scene, in the set's order.

    Where a scene's audio or its directions are missing or do not fit, what needs them is null and
    ``undefined`` says why; where nothing that the system gives can be read, the row is one of nulls and ``error`` says
    why. A folder without any estimates is an `MsdetError`; those of scenes that are not in the set are logged.

    The rows, which do not depend on `jobs`, are also written to `out`. `metrics` are names in
    `msdet.scoring.metrics.SEPARATION_METRICS`; mixtures that `unprocessed`, rows of `score_unprocessed`, have are not
    scored again. For `align` and `resample` see `ScoringOptions`.
    """
    chosen = check_metrics(metrics)
    submission.check_made_for(estimates, scene_set)
    given = submission.read_directions(estimates)
    if given is None and not any(submission.talker_files(estimates, scene) for scene in scene_set.scenes):
        raise submission.no_estimates_error(scene_set, estimates)
    if unknown := submission.unknown_scenes(scene_set, estimates):
        left_out = f"estimates of {len(unknown)} scenes that are not in the set are left out"
        _LOGGER.warning("%s: %s (%s)", estimates, left_out, submission.listed(unknown))
    lines = given or {}
    options = ScoringOptions(chosen, _doa_fields(scene_set, lines), align, resample)
    has_audio = submission.gives_audio(scene_set, estimates)
    small = dataclasses.replace(scene_set, scenes=())  # sent to the workers
    score_one = partial(_score_files, small, estimates, has_audio, given is not None, options)
    fields = set(separation_fields(chosen))
    before = {row["id"]: row for row in unprocessed if fields <= row.keys() and not row["error"]}
    tasks = [(scene, lines.get(scene.id), before.get(scene.id)) for scene in scene_set.scenes]
    rows = _score_all(score_one, tasks, jobs, progress)
    if has_audio:
        find_swaps(scene_set, estimates, rows)
    if out is not None:
        write_jsonl(out, rows)
    return rows


def score_unprocessed(
    scene_set: SceneSet,
    out: Path | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
    metrics: Sequence[str] = DEFAULT_METRICS,
) -> list[Row]:
    """Score the mixture at the reference microphone as the estimate of every talker; DoA is null.

    Arguments, result and errors as `score_set`.
    """
    options = ScoringOptions(check_metrics(metrics))
    score_one = partial(_score_mixture, dataclasses.replace(scene_set, scenes=()), options)
    rows = _score_all(score_one, [(scene,) for scene in scene_set.scenes], jobs, progress)
    if out is not None:
        write_jsonl(out, rows)
    return rows


def score_scene(
    scene: Scene,
    array: MicrophoneArray,
    mixture: Array | None,
    references: Array | None,
    estimates: Array | None,
    directions: DoaEstimates | None,
    options: ScoringOptions = ScoringOptions(),
    unprocessed: Row | None = None,
    no_audio: str = NO_AUDIO,
    no_directions: str = NO_DOA,
) -> Row:
    """Score the estimates ``(talker, time)`` and directions, if any, of one scene; see the module for its row.

    Without estimates neither mixture ``(mic, time)`` nor references ``(talker, time)`` are needed; improvements are
    over the array's reference microphone, and what it cannot tell apart is no error. `unprocessed` is the mixture's
    own row, scored here if None. `no_audio` and `no_directions` say why there are none: all reasons but `NO_AUDIO`
    and `NO_REFERENCES` are a system's failure. Estimates of another shape than the references' are an `MsdetError`.
    """
    row = _empty_row(scene, options)
    undefined, permutation, ambiguous = row["undefined"], None, None
    no_permutation = None if no_audio in (NO_AUDIO, NO_REFERENCES) else no_audio
    if estimates is None:
        undefined |= dict.fromkeys(separation_fields(options.metrics), no_audio)
    else:
        assert mixture is not None and references is not None
        before = mixture[array.reference] if unprocessed is None else unprocessed
        scored = score_estimates(references, estimates, before, scene.sample_rate, options.metrics)
        row |= scored.fields
        undefined |= scored.undefined
        row["doubts"] += scored.doubts
        permutation, ambiguous = scored.permutation, scored.ambiguous
        decided = permutation is not None
        row["permutation_from"], no_permutation = ("si_sdr", None) if decided else (None, AMBIGUOUS)
    if directions is None:
        undefined |= dict.fromkeys(options.doa_fields, no_directions)
    else:
        scores, reasons, optimal = doa_scores.score_directions(
            scene, array, directions, permutation, options.doa_fields, ambiguous, no_permutation
        )
        row |= {field: _rounded(value) for field, value in scores.items()}
        undefined |= {field: no_audio if why == NO_AUDIO else why for field, why in reasons.items()}
        row["doubts"] += [
            f"{key} is left out ({fault})"
            for key, fault in directions.faults.items()
            if not any(fault in why for why in reasons.values())
        ]
        if permutation is None and no_permutation is None and optimal is not None:
            permutation, row["permutation_from"] = optimal, "doa"
    return row | {"permutation": None if permutation is None else permutation.tolist()}


def _doa_fields(scene_set: SceneSet, lines: dict[str, dict[str, Any]]) -> tuple[str, ...]:
    """Fields of directions that make sense for a set and that a system gives anything for."""
    keys = {key for line in lines.values() for key in line if line[key] is not None}
    fields = doa_scores.DOA_FIELDS
    fields += doa_scores.ELEVATION_FIELDS if "elevation_deg" in keys else ()
    fields += doa_scores.CONFIDENCE_FIELDS if "confidence" in keys else ()
    return fields + (doa_scores.TRACK_FIELDS if any(map(doa_scores.moves, scene_set.scenes)) else ())


def _empty_row(scene: Scene, options: ScoringOptions) -> Row:
    """A row of nulls with the labels of a scene."""
    fields = separation_fields(options.metrics) + options.doa_fields
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


def _score_files(
    scene_set: SceneSet, folder: Path, has_audio: bool, has_doa: bool, options: ScoringOptions,
    scene: Scene, line: dict[str, Any] | None, unprocessed: Row | None,
) -> Row:  # fmt: skip
    """Score a scene with its line of ``doa.jsonl``, unchecked, and the mixture's row."""
    mixture = references = estimates = directions = None
    no_audio, no_directions = NO_AUDIO, NO_DOA
    doubts: list[str] = []
    if has_audio and not scene.referenced:
        no_audio = NO_REFERENCES
    elif has_audio:
        try:
            mixture, references = scene_set.mixture(scene), scene_set.references(scene)
            estimates, doubts = submission.read_signals(folder, scene, options.resample)
            estimates, delays = _aligned(references, estimates, scene.sample_rate, options.align)
            doubts += delays
        except MsdetError as error:
            no_audio = str(error)
    if has_doa and not scene.located:
        no_directions = NO_TRUE_DOA
    elif has_doa:
        try:
            directions = DoaEstimates.from_row(line)
        except MsdetError as error:
            no_directions = str(error)
    reasons = [why for why in (no_audio, no_directions) if why not in NOT_GIVEN]
    if estimates is None and directions is None and reasons:
        return _empty_row(scene, options) | {"error": "; ".join(reasons)}
    row = score_scene(
        scene, scene_set.array, mixture, references, estimates, directions, options, unprocessed,
        no_audio, no_directions,
    )  # fmt: skip
    row["doubts"] += doubts
    if has_audio and not scene.referenced:
        row = _score_without_references(scene_set, scene, row, options, folder, unprocessed)
    if surplus := submission.surplus_files(folder, scene):
        row["doubts"].append(f"files that are no talker's are left out ({submission.listed(surplus)})")
    return row


def _aligned(references: Array, estimates: Array, sample_rate: int, align: bool) -> tuple[Array, list[str]]:
    """Estimates ``(talker, time)``, with a constant delay taken out if that is asked for; and a doubt that tells it."""
    delay = find_delay(references, estimates, sample_rate)
    if delay == 0:
        return estimates, []
    late, size = "late" if delay > 0 else "early", f"({abs(delay)} samples, {1000 * abs(delay) / sample_rate:.1f} ms)"
    if not align:
        return estimates, [f"estimates are {late}, which --align takes out {size}"]
    return shifted(estimates, delay), [f"estimates were {late} and are aligned {size}"]


def _score_mixture(scene_set: SceneSet, options: ScoringOptions, scene: Scene) -> Row:
    row = _empty_row(scene, options)
    no_directions = dict.fromkeys(options.doa_fields, NO_DOA)
    if not scene.referenced:
        undefined = dict.fromkeys(separation_fields(options.metrics), NO_REFERENCES)
        row |= {"undefined": undefined | no_directions}
        return _score_without_references(scene_set, scene, row, options)
    try:
        mixture, references = scene_set.mixture(scene), scene_set.references(scene)
    except MsdetError as error:
        return row | {"error": str(error)}
    signals = ScoredSignals(references, mixture[[scene_set.array.reference]], scene.sample_rate)
    permutation = np.zeros((1, len(references)), dtype=np.int64)
    fields, undefined = score_signals(signals, permutation, 0, options.metrics)
    row |= {**fields, "undefined": undefined | no_directions}
    return row | {"permutation": list(range(len(references))), "permutation_from": "si_sdr"}


def _score_without_references(
    scene_set: SceneSet, scene: Scene, row: Row, options: ScoringOptions, folder: Path | None = None,
    unprocessed: Row | None = None,
) -> Row:  # fmt: skip
    """A row with the metrics that need no reference, of estimates in a folder, or else of the mixture.

    Estimates are in the talkers' order if directions tell it, else in that of their files.
    """
    metrics = tuple(name for name in options.metrics if not SEPARATION_METRICS[name].needs_reference)
    if not metrics:
        return row
    count, fields = len(scene.sources), dict[str, Any]()
    try:
        mixture = scene_set.mixture(scene)[[scene_set.array.reference]]
        estimates = mixture[:0]
        if folder is not None:
            estimates, doubts = submission.read_signals(folder, scene, options.resample)
            row["doubts"] += doubts
    except MsdetError as error:
        undefined = dict.fromkeys(separation_fields(metrics), str(error))
    else:
        order = row["permutation"] if sorted(row["permutation"] or ()) == [*range(count)] else [*range(count)]
        trials, before = np.concatenate([estimates, mixture]), unprocessed or len(estimates)
        permutation = np.array([order if folder else [0] * count])
        signals = ScoredSignals(np.zeros((count, 0)), trials, scene.sample_rate)
        scored, undefined = score_signals(signals, permutation, before, metrics)
        fields |= scored
    left = {field: why for field, why in row["undefined"].items() if field not in separation_fields(metrics)}
    return row | fields | {"undefined": left | undefined}


def _score_all(
    score_one: Callable[..., Row], tasks: Sequence[tuple[Any, ...]], jobs: int, progress: Progress | None
) -> list[Row]:
    if jobs < 1:
        raise MsdetError(f"jobs is {jobs}, expected at least 1")
    return run_jobs([Job(score_one, task) for task in tasks], jobs, progress)
