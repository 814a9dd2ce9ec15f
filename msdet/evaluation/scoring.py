"""Scoring a folder of estimates against a rendered set: one row per scene, in the set's order.

An estimates folder holds ``<scene id>/talker1.wav`` to ``talkerN.wav`` (or ``.flac``; mono, of the set's
rate and length) and ``doa.jsonl`` with a row ``{"id": ..., "azimuth_deg": [...]}`` per scene, azimuths in
the order of the files. A system may give audio only or azimuths only.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from msdet import audio
from msdet.conventions import Array
from msdet.data.manifest import SceneSet
from msdet.errors import MsdetError
from msdet.evaluation.doa import azimuth_errors_deg, best_azimuth_assignment
from msdet.evaluation.separation import (
    UndefinedMetricError,
    best_permutation,
    pairwise_si_sdr,
    sdr,
    si_sdr,
    stoi,
)
from msdet.files import read_json, read_jsonl, resolve_inside, write_jsonl
from msdet.simulation.scene import Scene
from msdet.work import Progress, worker_pool

Row = dict[str, Any]
"""Scores and labels of one scene, as one line of ``scores.jsonl``."""

SEPARATION_FIELDS = (
    "si_sdr_db",
    "si_sdr_improvement_db",
    "sdr_db",
    "sdr_improvement_db",
    "stoi",
    "stoi_improvement",
)
DOA_FIELDS = ("doa_error_deg", "doa_error_own_deg")

DOA_FILE = "doa.jsonl"

DATA_FILE = "data.json"
"""Says which data set a folder of estimates was made for; a folder without it is taken at its word."""

NOT_GIVEN = ("no audio estimates", "no DoA estimates")
"""Reasons that are the system's kind, not a failure."""

_DECIMALS = 4  # hides the last bits, in which BLAS differs with the number of threads
_TALKER_FILE = re.compile(r"talker(\d+)")

_LOGGER = logging.getLogger(__name__)


def score_scene(
    scene: Scene,
    mixture: Array,
    references: Array,
    estimates: Array | None,
    azimuths_deg: Array | None,
    reference_microphone: int,
) -> Row:
    """Score the estimates of one scene.

    One permutation serves every metric, DoA included: the one that maximises the sum of SI-SDR. Without
    audio it is the azimuths' own best assignment; ``permutation_from`` says which ("si_sdr" or "doa").

    Args:
        scene: the scene.
        mixture: ``(mic, time)``; improvements are over its channel `reference_microphone`.
        references: ``(talker, time)``.
        estimates: ``(talker, time)``, or None for a system without audio.
        azimuths_deg: ``(talker,)`` in the order of `estimates`, or None for a system without DoA.
        reference_microphone: channel of the mixture at which the references are taken.

    Returns:
        Labels of the scene; ``error`` (null); ``permutation`` (``permutation[n]`` is the estimate of talker
        n, from 0); a list over talkers for each of `SEPARATION_FIELDS` and `DOA_FIELDS`, in which an
        undefined value is null, or null where the system gives nothing; and in ``undefined`` the reason.
        ``doa_error_deg`` is under the permutation, ``doa_error_own_deg`` under the azimuths' own best
        assignment. Numbers are rounded to 4 decimals.

    Raises:
        MsdetError: another number of talkers or another length than the references', or an azimuth that is
            not finite.
    """
    row = _labels(scene)
    undefined: dict[str, str] = row["undefined"]
    permutation: Array | None = None
    if estimates is not None:
        if estimates.shape != references.shape:
            raise MsdetError(f"estimates have shape {estimates.shape}, expected {references.shape}")
        permutation = best_permutation(pairwise_si_sdr(references, estimates))
        row["permutation_from"] = "si_sdr"
        unprocessed = mixture[reference_microphone]
        row |= _separation(references, estimates[permutation], unprocessed, scene.sample_rate, undefined)
    else:
        undefined |= dict.fromkeys(SEPARATION_FIELDS, NOT_GIVEN[0])
    if azimuths_deg is not None:
        if azimuths_deg.shape != (len(scene.sources),):
            raise MsdetError(f"{azimuths_deg.size} azimuths estimated, expected {len(scene.sources)}")
        own = best_azimuth_assignment(scene.azimuths_deg, azimuths_deg)
        if permutation is None:
            permutation, row["permutation_from"] = own, "doa"
        row["doa_error_deg"] = _rounded(azimuth_errors_deg(scene.azimuths_deg, azimuths_deg[permutation]))
        row["doa_error_own_deg"] = _rounded(azimuth_errors_deg(scene.azimuths_deg, azimuths_deg[own]))
    else:
        undefined |= dict.fromkeys(DOA_FIELDS, NOT_GIVEN[1])
    row["permutation"] = None if permutation is None else [int(p) for p in permutation]
    return row


def score_set(
    scene_set: SceneSet, estimates: Path, out: Path, jobs: int = 1, progress: Progress | None = None
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

    Raises:
        MsdetError: `estimates` holds neither audio of any scene nor ``doa.jsonl``, or ``doa.jsonl`` is not
            readable.
    """
    if not estimates.is_dir():
        raise MsdetError(f"{estimates}: no such folder of estimates")
    made_for = read_json(estimates / DATA_FILE)["hash"] if (estimates / DATA_FILE).is_file() else None
    if made_for not in (None, scene_set.identity):
        raise MsdetError(
            f"{estimates}: was made for a data set with hash {made_for}, "
            f"{scene_set.root} has {scene_set.identity}"
        )
    azimuths = _read_azimuths(estimates)
    has_audio = any(_talker_files(estimates, scene) for scene in scene_set.scenes)
    if azimuths is None and not has_audio:
        raise MsdetError(f"{estimates}: holds neither <scene id>/talker1.wav of any scene nor {DOA_FILE}")
    if unknown := unknown_scenes(scene_set, estimates):
        _LOGGER.warning(
            "%s: estimates of %d scenes that are not in the set are left out (%s)",
            estimates,
            len(unknown),
            ", ".join(unknown[:3]) + (", ..." if len(unknown) > 3 else ""),
        )
    job = _Job(_without_scenes(scene_set), estimates if has_audio else None, azimuths is not None)
    tasks = [(scene, (azimuths or {}).get(scene.id)) for scene in scene_set.scenes]
    return _score_all(partial(_score_files, job), tasks, out, jobs, progress)


def score_unprocessed(
    scene_set: SceneSet, out: Path, jobs: int = 1, progress: Progress | None = None
) -> list[Row]:
    """Score the mixture at the reference microphone as the estimate of every talker; DoA is null.

    Arguments, result and errors as `score_set`.
    """
    job = _Job(_without_scenes(scene_set), None, False)
    tasks = [(scene, None) for scene in scene_set.scenes]
    return _score_all(partial(_score_mixture, job), tasks, out, jobs, progress)


def unknown_scenes(scene_set: SceneSet, estimates: Path) -> list[str]:
    """Names of scenes that the estimates folder has and the set has not, sorted.

    Raises:
        MsdetError: ``doa.jsonl`` is not readable.
    """
    folders = {p.name for p in estimates.iterdir() if p.is_dir() and any(map(_talker_number, p.iterdir()))}
    return sorted((folders | set(_read_azimuths(estimates) or {})) - {scene.id for scene in scene_set.scenes})


def straddles_zero(azimuths_deg: Array) -> bool:
    """Whether the shorter arc between the two closest talkers has azimuth 0 strictly inside.

    False for fewer than two talkers, when one of the two is at 0 exactly, and when they are opposite (no arc
    is the shorter one). Of several closest pairs the first in talker order decides.

    Args:
        azimuths_deg: ``(talker,)`` in [0, 360).
    """
    first, second = np.triu_indices(len(azimuths_deg), 1)
    if first.size == 0:
        return False
    difference = np.abs(azimuths_deg[first] - azimuths_deg[second])
    closest = int(np.argmin(np.minimum(difference, 360.0 - difference)))
    at_zero = min(azimuths_deg[first[closest]], azimuths_deg[second[closest]]) == 0.0
    return bool(difference[closest] > 180.0 and not at_zero)


@dataclass(frozen=True)
class _Job:
    """What every worker needs: the set (without its scenes), the folder of audio, if there are azimuths."""

    scene_set: SceneSet
    estimates: Path | None
    has_doa: bool


_Task = tuple[Scene, Any]
"""A scene and the azimuths that ``doa.jsonl`` has for it, unchecked."""


def _without_scenes(scene_set: SceneSet) -> SceneSet:
    return dataclasses.replace(scene_set, scenes=())  # small to send to the workers


def _labels(scene: Scene) -> Row:
    """A row of nulls with the labels of a scene."""
    measured = scene.t60_measured_s
    row: Row = {
        "id": scene.id,
        "error": None,
        "azimuth_deg": scene.azimuths_deg.tolist(),
        "azimuth_gap_deg": scene.azimuth_gap_deg if len(scene.sources) > 1 else None,
        "t60_s": scene.t60_asked_s if measured is None else measured,
        "straddles": straddles_zero(scene.azimuths_deg),
        "permutation": None,
        "permutation_from": None,
    }
    return row | dict.fromkeys(SEPARATION_FIELDS + DOA_FIELDS) | {"undefined": {}}


def _separation(
    references: Array, estimates: Array, unprocessed: Array, sample_rate: int, undefined: dict[str, str]
) -> dict[str, list[float | None]]:
    """Separation scores of the permuted estimates; adds to `undefined` why a value is null."""
    metrics: tuple[Callable[[Array, Array], Any], ...]
    metrics = (si_sdr, sdr, partial(stoi, sample_rate=sample_rate))
    scores: dict[str, list[float | None]] = {field: [] for field in SEPARATION_FIELDS}
    reasons: dict[str, list[str]] = {field: [] for field in SEPARATION_FIELDS}
    for reference, estimate in zip(references, estimates, strict=True):
        for metric, name, gain_name in zip(
            metrics, SEPARATION_FIELDS[::2], SEPARATION_FIELDS[1::2], strict=True
        ):
            value, reason = _value(metric, reference, estimate)
            before, before_reason = _value(metric, reference, unprocessed)
            gain = None if value is None or before is None else value - before
            for field, number, why in (
                (name, value, reason),
                (gain_name, gain, reason or (before_reason and before_reason.replace("estimate", "mixture"))),
            ):
                scores[field].append(None if number is None else round(number, _DECIMALS))
                if why and why not in reasons[field]:
                    reasons[field].append(why)
    undefined |= {field: "; ".join(why) for field, why in reasons.items() if why}
    return scores


def _value(
    metric: Callable[[Array, Array], Any], reference: Array, estimate: Array
) -> tuple[float | None, str | None]:
    try:
        return float(metric(reference, estimate)), None
    except UndefinedMetricError as error:
        return None, str(error)


def _rounded(values: Array) -> list[float]:
    return [round(float(v), _DECIMALS) for v in values]


def _score_files(job: _Job, task: _Task) -> Row:
    scene, azimuths = task
    try:
        mixture, references = job.scene_set.mixture(scene), job.scene_set.references(scene)
        estimates = None if job.estimates is None else _read_estimates(job.estimates, scene)
        azimuths_deg = _checked_azimuths(azimuths) if job.has_doa else None
        microphone = job.scene_set.array.reference
        return score_scene(scene, mixture, references, estimates, azimuths_deg, microphone)
    except MsdetError as error:
        return _labels(scene) | {"error": str(error)}


def _score_mixture(job: _Job, task: _Task) -> Row:
    scene, _ = task
    microphone = job.scene_set.array.reference
    try:
        mixture, references = job.scene_set.mixture(scene), job.scene_set.references(scene)
        estimates = np.broadcast_to(mixture[microphone], references.shape)
        return score_scene(scene, mixture, references, estimates, None, microphone)
    except MsdetError as error:
        return _labels(scene) | {"error": str(error)}


def _talker_number(path: Path) -> int:
    """The talker, from 1, that a file name says; 0 for any other file."""
    match = _TALKER_FILE.fullmatch(path.stem) if path.suffix in audio.AUDIO_SUFFIXES else None
    return int(match[1]) if match else 0


def _talker_files(estimates: Path, scene: Scene) -> list[Path]:
    folder = resolve_inside(estimates, scene.id)
    files = folder.iterdir() if folder.is_dir() else ()
    return sorted((p for p in files if _talker_number(p)), key=lambda p: (_talker_number(p), p.name))


def _read_estimates(estimates: Path, scene: Scene) -> Array:
    """The estimates ``(talker, time)`` of a scene, float32."""
    paths = _talker_files(estimates, scene)
    talkers = len(scene.sources)
    if [_talker_number(p) for p in paths] != list(range(1, talkers + 1)):
        found = ", ".join(p.name for p in paths) or "no talker files"
        raise MsdetError(
            f"{estimates / scene.id}: found {found}, expected one file for each of {talkers} talkers"
        )
    signals = []
    for path in paths:
        samples, rate = audio.read(path)
        if rate != scene.sample_rate or samples.shape != (1, scene.samples):
            raise MsdetError(
                f"{path}: {samples.shape[0]} channels x {samples.shape[1]} samples at {rate} Hz, "
                f"expected 1 x {scene.samples} at {scene.sample_rate} Hz"
            )
        signals.append(samples)
    return np.concatenate(signals)


def _read_azimuths(estimates: Path) -> dict[str, Any] | None:
    """The azimuths of ``doa.jsonl`` by scene, unchecked; None without the file."""
    path = estimates / DOA_FILE
    if not path.is_file():
        return None
    azimuths: dict[str, Any] = {}
    for number, row in enumerate(read_jsonl(path), start=1):
        if not isinstance(row, dict) or not isinstance(row.get("id"), str):
            raise MsdetError(f"{path}, line {number}: expected an object with key 'id'")
        if row["id"] in azimuths:
            raise MsdetError(f"{path}, line {number}: scene '{row['id']}' was in an earlier line")
        azimuths[row["id"]] = row.get("azimuth_deg")
    return azimuths


def _checked_azimuths(value: Any) -> Array:
    if value is None:
        raise MsdetError(f"{DOA_FILE}: has no azimuth_deg of this scene")
    if not isinstance(value, list) or not all(type(v) in (int, float) and abs(v) < 1e6 for v in value):
        raise MsdetError(f"{DOA_FILE}: azimuth_deg is {value!r}, expected a list of degrees")
    return np.array(value, dtype=np.float64)


def _score_all(
    score: Callable[[_Task], Row], tasks: list[_Task], out: Path, jobs: int, progress: Progress | None
) -> list[Row]:
    if jobs < 1:
        raise MsdetError(f"jobs is {jobs}, expected at least 1")
    rows: list[Row] = []
    for row in _mapped(score, tasks, jobs):
        rows.append(row)
        if progress is not None:
            progress(len(rows), len(tasks))
    write_jsonl(out, rows)
    return rows


def _mapped(score: Callable[[_Task], Row], tasks: list[_Task], jobs: int) -> Iterable[Row]:
    if jobs == 1:
        yield from map(score, tasks)
        return
    chunk = max(1, min(8, len(tasks) // (4 * jobs)))
    with worker_pool(min(jobs, len(tasks))) as pool:
        yield from pool.map(score, tasks, chunksize=chunk)
