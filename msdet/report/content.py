"""What the report shows, read from an evaluation's folder and the data set it was made on.

An evaluation's folder holds, by system, ``scores.jsonl`` and ``system.json``, which says where the estimates
are that were scored (see `msdet.scoring.provenance`); without that, they are in the folder ``estimates``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msdet.conventions import Array
from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError, UnknownNameError
from msdet.io.files import plain_name, read_jsonl
from msdet.plots.theme import UNPROCESSED
from msdet.scoring.metrics import Row
from msdet.scoring.provenance import read_provenance
from msdet.scoring.submission import DOA_FILE, DoaEstimates, Track, check_made_for, read_directions
from msdet.scoring.summary import Summary, summarize

MODEL = "model"
"""The system that a report is about if there is one of this name and no other is asked for."""

ESTIMATES = "estimates"
"""A system's own folder of estimates, beside its scores."""

GAIN, DOA_ERROR = "si_sdr_improvement_db", "doa_error_deg"
"""The fields of a row by which scenes are ranked: the first, or without audio the second."""

_LABELS = ("id", "azimuth_deg", "azimuth_gap_deg", "t60_s", "straddles")

_SAME_DEG = 1e-6


@dataclass(frozen=True)
class ScoredSystem:
    """A scored system.

    Attributes:
        name: of its folder.
        rows: its scores by scene.
        estimates: folder of its estimates; None of the unprocessed mixture.
        lines: of its ``doa.jsonl``, by scene; empty without DoA.
        is_oracle: whether it was told the truth.
    """

    name: str
    rows: dict[str, Row]
    estimates: Path | None
    lines: dict[str, dict[str, Any]]
    is_oracle: bool = False

    @property
    def has_audio(self) -> bool:
        """Whether there are estimates to listen to."""
        scored = any(row.get("permutation_from") == "si_sdr" for row in self.rows.values())
        return scored and self.estimates is not None

    def directions(self, scene_id: str) -> DoaEstimates | None:
        """What it says of a scene's directions, in the talkers' order; None unless it says of each of them.

        Raises:
            MsdetError: another estimate than was scored.
        """
        row, line = self.rows[scene_id], self.lines.get(scene_id)
        if row.get("permutation") is None or row.get(DOA_ERROR) is None:
            return None
        try:
            found = DoaEstimates.from_row(line)
            return in_order(found, np.array(row["permutation"], dtype=np.int64))
        except (MsdetError, IndexError) as error:
            raise MsdetError(
                f"{self.estimates}/{DOA_FILE}: scene '{scene_id}' is not what was scored"
            ) from error

    def azimuth_pairs(self) -> tuple[Array, Array]:
        """True and estimated azimuths ``(talker,)`` in degrees of all talkers that have both."""
        truths: list[float] = []
        estimates: list[float] = []
        for scene_id, row in self.rows.items():
            found = self.directions(scene_id)
            if found is not None:
                truths += row["azimuth_deg"]
                estimates += found.azimuth_deg.tolist()
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
    """An evaluation's systems on one data set.

    Attributes:
        scene_set: the data set.
        systems: the chosen one first, then the others by their mean gain, then oracles, then the unprocessed
            mixture.
        summary: of all of them, in this order.
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
        """Names of the systems that were told the truth."""
        return [name for name, system in self.systems.items() if system.is_oracle]

    @property
    def rank_field(self) -> str:
        """The field by which scenes are ranked.

        Raises:
            MsdetError: nothing of the chosen system is scored.
        """
        found = next((field for field in (GAIN, DOA_ERROR) if self.chosen.mean(field) is not None), None)
        if found is None:
            reasons = (row.get("error") for row in self.chosen.rows.values())
            first = next(filter(None, reasons), "no metric has a value")
            raise MsdetError(f"no scene of '{self.chosen.name}' is scored ({first})")
        return found


def read_evaluation(
    folder: Path, data: Path, system: str | None = None, estimates: dict[str, Path] | None = None
) -> Evaluation:
    """Read the scores of all systems and the directions that they estimated.

    Args:
        folder: of the evaluation.
        data: folder of the data set.
        system: to choose; by default `MODEL`, else the one with the highest SI-SDRi, or without audio
            the smallest DoA error, an oracle only where there is nothing else.
        estimates: folders of estimates, by system, that are not where they were when they were scored.

    Raises:
        MsdetError: no scores, or of other scenes than the data set's; estimates that are missing or were
            made for another data set; a malformed file.
        UnknownNameError: no such system.
    """
    if not folder.is_dir():
        raise MsdetError(f"{folder}: no such folder of an evaluation")
    names = sorted(
        plain_name(path.parent.name, "name of a system", folder) for path in folder.glob("*/scores.jsonl")
    )
    if not names:
        raise MsdetError(f"{folder}: holds no <system>/scores.jsonl (run msdet evaluate first)")
    for name in (*([system] if system else []), *(estimates or {})):
        if name not in names:
            raise UnknownNameError("system", name, names)
    scene_set = SceneSet.open(data)
    given = estimates or {}
    ranked = _ranked([_read_system(folder / name, given.get(name), scene_set) for name in names])
    by_name = {found.name: found for found in ranked}
    chosen = system or (MODEL if MODEL in by_name else ranked[0].name)
    systems = {chosen: by_name[chosen], **by_name}
    summary = summarize({name: list(found.rows.values()) for name, found in systems.items()}, by=())
    return Evaluation(scene_set, systems, summary)


def in_order(found: DoaEstimates, permutation: Array) -> DoaEstimates:
    """Directions rearranged: the n-th of the result is the ``permutation[n]``-th of those given."""

    def picked(values: Array | None) -> Array | None:
        return None if values is None else values[permutation]

    shared = found.posterior is not None and len(found.posterior) == 1
    track = found.track and Track(
        found.track.time_s, found.track.azimuth_deg[permutation], picked(found.track.elevation_deg)
    )
    return dataclasses.replace(
        found,
        azimuth_deg=found.azimuth_deg[permutation],
        elevation_deg=picked(found.elevation_deg),
        confidence=picked(found.confidence),
        posterior=found.posterior if shared else picked(found.posterior),
        track=track,
    )


def _ranked(systems: Iterable[ScoredSystem]) -> list[ScoredSystem]:
    """The best first, by gain and without audio by DoA error; then oracles; the unprocessed mixture last."""

    def key(system: ScoredSystem) -> tuple[bool, bool, float, float, str]:
        gain, error = system.mean(GAIN), system.mean(DOA_ERROR)
        return (
            system.name == UNPROCESSED,
            system.is_oracle,
            np.inf if gain is None else -gain,
            np.inf if error is None else error,
            system.name,
        )

    return sorted(systems, key=key)


def _read_system(folder: Path, estimates: Path | None, scene_set: SceneSet) -> ScoredSystem:
    """A system by its folder; its estimates are where it says, unless they are given."""
    path = folder / "scores.jsonl"
    provenance = read_provenance(folder)
    if provenance.data not in (None, scene_set.identity):
        raise MsdetError(
            f"{folder}: was scored on a data set with hash {provenance.data}, "
            f"{scene_set.root} has {scene_set.identity}"
        )
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
    place = estimates or _found(folder / ESTIMATES, provenance.estimates)
    if not place.is_dir():
        raise MsdetError(f"{place}: no such folder; say where by --estimates {folder.name}=FOLDER")
    check_made_for(place, scene_set)
    return ScoredSystem(folder.name, rows, place, read_directions(place) or {}, provenance.is_oracle)


def _found(own: Path, noted: Path | None) -> Path:
    """The folder of estimates that was noted, unless only a system's own is there."""
    return own if noted is None or (own.is_dir() and not noted.is_dir()) else noted


def _read_rows(path: Path) -> dict[str, Row]:
    rows: dict[str, Row] = {}
    for number, row in enumerate(read_jsonl(path), start=1):
        missing = [key for key in _LABELS if not isinstance(row, dict) or key not in row]
        if missing:
            raise MsdetError(f"{path}, line {number}: not a row of scores, '{missing[0]}' is missing")
        if row["id"] in rows:
            raise MsdetError(f"{path}, line {number}: scene '{row['id']}' was in an earlier line")
        rows[row["id"]] = row
    if not rows:
        raise MsdetError(f"{path}: has no scores")
    return rows


def _listed(azimuths_deg: Iterable[float]) -> str:
    return ", ".join(f"{azimuth_deg:.1f}°" for azimuth_deg in azimuths_deg)
