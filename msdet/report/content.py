"""What the report shows, read from an evaluation's folder and the data set it was made on.

An evaluation's folder holds, by system, ``scores.jsonl`` and ``system.json``, which says where the estimates
are that were scored (see `msdet.scoring.provenance`); without that, they are in the folder ``estimates``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from msdet.conventions import Array
from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError, check_known
from msdet.io.files import plain_name, read_jsonl
from msdet.scoring.metrics import UNPROCESSED, Row, check_row
from msdet.scoring.provenance import read_provenance
from msdet.scoring.submission import DOA_FILE, DoaEstimates, Track, check_made_for, read_directions
from msdet.scoring.summary import Summary, summarize

MODEL = "model"  # the system that a report is about if there is one of this name and no other is chosen
ESTIMATES = "estimates"  # a system's own folder of estimates, beside its scores
SI_SDRI, DOA_ERROR = "si_sdr_improvement_db", "doa_error_deg"  # rank scenes: the first, or without audio the second
_LABELS = ("id", "azimuth_deg", "azimuth_gap_deg", "t60_s", "straddles")
_SAME_DEG = 1e-6


@dataclass(frozen=True)
class ScoredSystem:
    """A scored system, by the name of its folder: its rows of scores, and lines of ``doa.jsonl`` if any, by scene.

    The unprocessed mixture has no folder of estimates; an oracle used the references or true directions. `about` are
    facts on a model; `scored` is the day.
    """

    name: str
    rows: dict[str, Row]
    estimates: Path | None
    lines: dict[str, dict[str, Any]]
    is_oracle: bool = False
    about: tuple[str, ...] = ()
    scored: str = ""

    def directions(self, scene_id: str) -> DoaEstimates | None:
        """Its directions in a scene, in the talkers' order; None unless it estimates each talker's."""
        row = self.rows[scene_id]
        if row.get("permutation") is None or row.get(DOA_ERROR) is None:
            return None
        try:
            estimates = DoaEstimates.from_row(self.lines.get(scene_id))
            return in_order(estimates, np.array(row["permutation"], dtype=np.int64))
        except (MsdetError, IndexError) as error:
            place = f"{self.estimates}/{DOA_FILE}"
            raise MsdetError(f"{place}: scene '{scene_id}' is not what was scored") from error

    def azimuth_pairs(self) -> tuple[Array, Array]:
        """True and estimated azimuths ``(talker,)`` in degrees of all talkers that have both."""
        truths: list[float] = []
        estimates: list[float] = []
        for scene_id, row in self.rows.items():
            directions = self.directions(scene_id)
            if directions is not None:
                truths += row["azimuth_deg"]
                estimates += directions.azimuth_deg.tolist()
        return np.array(truths), np.array(estimates)

    def value(self, scene_id: str, field: str) -> float | None:
        """A field of a scene, averaged over its talkers; None unless each has a value."""
        values = self.rows.get(scene_id, {}).get(field)
        if not isinstance(values, list) or not values or any(value is None for value in values):
            return None
        return float(np.mean(values))

    def mean(self, field: str) -> float | None:
        """The mean of a field over the scenes that have it; None without any."""
        values = [value for scene_id in self.rows if (value := self.value(scene_id, field)) is not None]
        return float(np.mean(values)) if values else None

    def of_talkers(self, *fields: str) -> Array:
        """Fields ``(field, talker)`` of all talkers of all scenes that have a value of each field."""
        columns: list[tuple[float, ...]] = []
        for row in self.rows.values():
            lists = [row.get(field) for field in fields]
            if all(isinstance(values, list) for values in lists):
                columns += [talker for talker in zip(*lists, strict=False) if None not in talker]
        return np.array(columns, dtype=np.float64).reshape(-1, len(fields)).T


@dataclass(frozen=True)
class Evaluation:
    """An evaluation's systems on one data set, and their summary.

    The chosen one comes first, then the others by their mean SI-SDRi, then oracles, then the unprocessed mixture.
    """

    scene_set: SceneSet
    systems: dict[str, ScoredSystem]
    summary: Summary

    @property
    def chosen(self) -> ScoredSystem:
        """The system that the report is about."""
        return next(iter(self.systems.values()))

    @property
    def oracles(self) -> list[str]:
        """Names of the oracles."""
        return [name for name, system in self.systems.items() if system.is_oracle]

    @property
    def rank_field(self) -> str:
        """The field by which scenes are ranked; an `MsdetError` if nothing of the chosen system is scored."""
        for field in (SI_SDRI, DOA_ERROR):
            if self.chosen.mean(field) is not None:
                return field
        reasons = filter(None, (row.get("error") for row in self.chosen.rows.values()))
        reason = next(reasons, "no metric has a value")
        raise MsdetError(f"no scene of '{self.chosen.name}' is scored ({reason})")


def read_evaluation(
    folder: Path, data: Path, system: str | None = None, estimates: dict[str, Path] | None = None
) -> Evaluation:
    """Read the scores of all systems and the directions that they estimated.

    The system chosen is by default `MODEL`, else the one with the highest SI-SDRi, or without audio the smallest
    DoA error, an oracle only where there is nothing else. `estimates` are folders, by system, that are not where
    they were when they were scored. An `MsdetError` says that scores or estimates are missing, malformed, or of another
    data set.
    """
    if not folder.is_dir():
        raise MsdetError(f"{folder}: no such folder of an evaluation")
    paths = sorted(folder.glob("*/scores.jsonl"))
    names = [plain_name(path.parent.name, "name of a system", folder) for path in paths]
    if not names:
        raise MsdetError(f"{folder}: holds no <system>/scores.jsonl (run msdet evaluate first)")
    estimates = estimates or {}
    check_known("system", names, *filter(None, [system]), *estimates)
    scene_set = SceneSet.open(data)
    systems = _ranked(_read_system(folder / name, estimates.get(name), scene_set) for name in names)
    chosen = system or (MODEL if MODEL in systems else next(iter(systems)))
    systems = {chosen: systems[chosen], **systems}
    rows = {name: list(scored.rows.values()) for name, scored in systems.items()}
    return Evaluation(scene_set, systems, summarize(rows, by=()))


def in_order(estimates: DoaEstimates, permutation: Array) -> DoaEstimates:
    """Directions rearranged: the n-th of the result is the ``permutation[n]``-th of those given."""

    def pick(values: Array | None) -> Any:
        return None if values is None else values[permutation]

    track, posterior = estimates.track, estimates.posterior
    return dataclasses.replace(
        estimates,
        azimuth_deg=pick(estimates.azimuth_deg),
        elevation_deg=pick(estimates.elevation_deg),
        confidence=pick(estimates.confidence),
        posterior=posterior if posterior is not None and len(posterior) == 1 else pick(posterior),
        track=track and Track(track.time_s, pick(track.azimuth_deg), pick(track.elevation_deg)),
    )


def _ranked(systems: Iterable[ScoredSystem]) -> dict[str, ScoredSystem]:
    """By name, the best first, by SI-SDRi or else DoA error; then oracles, then the unprocessed mixture."""

    def key(system: ScoredSystem) -> tuple[bool, bool, float, float, str]:
        improvement, error = system.mean(SI_SDRI), system.mean(DOA_ERROR)
        return (
            system.name == UNPROCESSED,
            system.is_oracle,
            np.inf if improvement is None else -improvement,
            np.inf if error is None else error,
            system.name,
        )

    return {system.name: system for system in sorted(systems, key=key)}


def _read_system(folder: Path, estimates: Path | None, scene_set: SceneSet) -> ScoredSystem:
    """A system by its folder; its estimates are where it says, unless they are given."""
    path = folder / "scores.jsonl"
    provenance = read_provenance(folder)
    if provenance.data not in (None, scene_set.identity):
        ours = f"{scene_set.root} has {scene_set.identity}"
        raise MsdetError(f"{folder}: was scored on a data set with hash {provenance.data}, {ours}")
    rows = _read_rows(path)
    scenes = {scene.id: scene for scene in scene_set.scenes}
    for scene_id, row in rows.items():
        if scene_id not in scenes:
            raise MsdetError(f"{path}: scene '{scene_id}' is not in {scene_set.root}")
        truth, scored = scenes[scene_id].azimuths_deg, np.array(row["azimuth_deg"], dtype=np.float64)
        if scored.shape != truth.shape or not np.allclose(scored, truth, 0.0, _SAME_DEG, equal_nan=True):
            raise MsdetError(
                f"{path}: scene '{scene_id}' has talkers at {_listed(scored)}, "
                f"in {scene_set.root} at {_listed(truth)}; was it scored on another data set?"
            )
    if folder.name == UNPROCESSED:
        return ScoredSystem(folder.name, rows, None, {})
    own, noted = folder / ESTIMATES, provenance.estimates
    place = estimates or (own if noted is None or (own.is_dir() and not noted.is_dir()) else noted)
    if not place.is_dir():
        raise MsdetError(f"{place}: no such folder; say where by --estimates {folder.name}=FOLDER")
    check_made_for(place, scene_set)
    day = datetime.fromtimestamp(path.stat().st_mtime, UTC).date().isoformat()
    lines = read_directions(place) or {}
    return ScoredSystem(folder.name, rows, place, lines, provenance.is_oracle, provenance.about, day)


def _read_rows(path: Path) -> dict[str, Row]:
    rows: dict[str, Row] = {}
    for number, row in enumerate(read_jsonl(path), start=1):
        check_row(row, _LABELS, f"{path}, line {number}")
        if row["id"] in rows:
            raise MsdetError(f"{path}, line {number}: scene '{row['id']}' was in an earlier line")
        rows[row["id"]] = row
    if not rows:
        raise MsdetError(f"{path}: has no scores")
    return rows


def _listed(azimuths_deg: Iterable[float]) -> str:
    return ", ".join(f"{azimuth_deg:.1f}°" for azimuth_deg in azimuths_deg)
