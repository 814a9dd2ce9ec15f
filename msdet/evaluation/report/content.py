"""What the report shows, read from an evaluation's folder, the data set it was made on, and a training run.

An evaluation's folder holds, by system, ``scores.jsonl`` and, but for the unprocessed mixture, the folder
``estimates`` that was scored (see `msdet.evaluation.scoring`).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msdet import audio
from msdet.conventions import Array
from msdet.data.manifest import SceneSet
from msdet.errors import MsdetError
from msdet.evaluation.scoring import DOA_FILE, Row
from msdet.evaluation.summary import Summary, summarise
from msdet.files import read_jsonl, resolve_inside
from msdet.simulation.scene import Scene

MODEL = "model"
"""The system that the report is about."""

BASELINE = "srp_beam"
"""The system it is held against, where there is one of this name."""

UNPROCESSED = "unprocessed"
"""The system that hands out the mixture; it has no estimates folder."""

GAIN = "si_sdr_improvement_db"
"""The metric by which example scenes are ranked."""

CURVES = (
    "train/separation",
    "train/doa",
    "dev/separation",
    "dev/doa",
    "dev/si_sdr_improvement_db",
    "dev/accuracy_5deg",
    "dev/accuracy_10deg",
)
"""Columns of a run's ``metrics.csv`` that are drawn, as far as it has them."""

_LABELS = ("id", "azimuth_deg", "azimuth_gap_deg", "t60_s", "straddles")

Curves = dict[str, tuple[Array, Array]]
"""By column of ``metrics.csv``: training steps ``(point,)``, ascending, and values ``(point,)``."""


@dataclass(frozen=True)
class System:
    """A scored system.

    Attributes:
        name: of its folder.
        rows: its scores by scene.
        estimates: folder of its estimates; None without one.
        azimuths: azimuths in degrees by scene, in the order of its files; empty without DoA.
    """

    name: str
    rows: dict[str, Row]
    estimates: Path | None
    azimuths: dict[str, list[float]]

    def azimuths_deg(self, scene_id: str) -> Array | None:
        """Estimated azimuths ``(talker,)`` in the order of the scene's talkers; None where there are none."""
        permutation, found = self.rows[scene_id].get("permutation"), self.azimuths.get(scene_id)
        if permutation is None or found is None:
            return None
        try:
            return np.array([float(found[p]) for p in permutation])
        except (IndexError, TypeError, ValueError) as error:
            raise MsdetError(
                f"{self.estimates}/{DOA_FILE}: scene '{scene_id}' is not what was scored"
            ) from error

    def doa_pairs(self) -> tuple[Array, Array]:
        """True and estimated azimuths ``(pair,)`` in degrees of all talkers that have both."""
        truths: list[float] = []
        estimates: list[float] = []
        for scene_id, row in self.rows.items():
            found = self.azimuths_deg(scene_id)
            if found is not None:
                truths += row["azimuth_deg"]
                estimates += found.tolist()
        return np.array(truths), np.array(estimates)


@dataclass(frozen=True)
class Evaluation:
    """An evaluation's systems on one data set: the model first, the unprocessed mixture last."""

    scene_set: SceneSet
    systems: dict[str, System]
    summary: Summary

    @property
    def model(self) -> System:
        """The system that the report is about."""
        return self.systems[MODEL]

    @property
    def baseline(self) -> System | None:
        """The system to hold it against: `BASELINE`, else the first one with estimates; None without any."""
        others = [s for s in self.systems.values() if s.estimates is not None and s.name != MODEL]
        return next((s for s in others if s.name == BASELINE), others[0] if others else None)


@dataclass(frozen=True)
class Output:
    """What a system made of a scene.

    Attributes:
        row: its scores.
        waveforms: ``(talker, time)`` in the talkers' order, at their references' levels; None without audio.
        azimuths_deg: ``(talker,)`` in the talkers' order; None without DoA.
    """

    row: Row
    waveforms: Array | None
    azimuths_deg: Array | None


@dataclass(frozen=True)
class Example:
    """A scene to look at and listen to.

    Attributes:
        title: why this one.
        scene: the scene.
        gain_db: the model's SI-SDR improvement, averaged over talkers.
        mixture: ``(time,)`` at the reference microphone.
        references: ``(talker, time)``.
        outputs: by system: the model, then the baseline if there is one.
    """

    title: str
    scene: Scene
    gain_db: float
    mixture: Array
    references: Array
    outputs: dict[str, Output]


def read_evaluation(folder: Path, data: Path) -> Evaluation:
    """Read the scores of all systems and the azimuths that they estimated.

    Raises:
        MsdetError: no scores of the model; scores of scenes that the data set has not; a malformed file.
    """
    if not folder.is_dir():
        raise MsdetError(f"{folder}: no such folder of an evaluation")
    names = {path.parent.name for path in folder.glob("*/scores.jsonl")}
    if MODEL not in names:
        raise MsdetError(f"{folder}: has no {MODEL}/scores.jsonl (run msdet evaluate first)")
    scene_set = SceneSet.open(data)
    order = sorted(names, key=lambda name: (name == UNPROCESSED, name != MODEL, name))
    systems = {name: _read_system(folder / name) for name in order}
    known = {scene.id for scene in scene_set.scenes}
    for name, system in systems.items():
        unknown = [scene_id for scene_id in system.rows if scene_id not in known]
        if unknown:
            raise MsdetError(f"{folder / name}/scores.jsonl: scene '{unknown[0]}' is not in {data}")
    if systems[MODEL].estimates is None or not systems[MODEL].azimuths:
        raise MsdetError(f"{folder / MODEL}/estimates: has no {DOA_FILE}")
    summary = summarise({name: list(system.rows.values()) for name, system in systems.items()})
    return Evaluation(scene_set, systems, summary)


def read_curves(run: Path) -> Curves:
    """Read the columns of a training run's log that are drawn.

    Raises:
        MsdetError: no log, one that is not CSV of numbers, or one without any of `CURVES`.
    """
    path = run / "logs" / "metrics.csv"
    points: dict[str, dict[int, float]] = {}
    try:
        for part in (*sorted(path.parent.glob("metrics-*.csv")), path):  # a resumed run starts a new one
            with part.open(newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    for name in CURVES:
                        if row.get(name):
                            points.setdefault(name, {})[int(float(row["step"]))] = float(row[name])
    except FileNotFoundError as error:
        raise MsdetError(f"{path}: no such file (is {run} the folder of a training run?)") from error
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise MsdetError(f"{path}: not readable as a training log ({error})") from error
    if not points:
        raise MsdetError(f"{path}: has none of the columns {', '.join(CURVES)}")
    return {
        name: (np.array(sorted(found)), np.array([found[step] for step in sorted(found)]))
        for name, found in points.items()
    }


def examples(evaluation: Evaluation) -> list[Example]:
    """The model's best, median and worst scene by SI-SDR improvement; fewer if fewer are scored.

    Raises:
        MsdetError: no scene has separation scores of the model, or a file that was scored is missing.
    """
    gains: dict[str, float] = {}
    for scene in evaluation.scene_set.scenes:
        values = evaluation.model.rows.get(scene.id, {}).get(GAIN)
        if values and all(value is not None for value in values):
            gains[scene.id] = float(np.mean(values))
    if not gains:
        raise MsdetError(f"no scene has separation scores of '{MODEL}'")
    ranked = sorted(gains, key=lambda scene_id: -gains[scene_id])
    chosen = {ranked[0]: "Best scene"}
    chosen.setdefault(ranked[-1], "Worst scene")
    chosen.setdefault(ranked[len(ranked) // 2], "Median scene")
    by_id = {scene.id: scene for scene in evaluation.scene_set.scenes}
    return [
        _example(evaluation, by_id[scene_id], chosen[scene_id], gains[scene_id])
        for scene_id in sorted(chosen, key=ranked.index)
    ]


def _example(evaluation: Evaluation, scene: Scene, title: str, gain_db: float) -> Example:
    scene_set = evaluation.scene_set
    references = scene_set.references(scene)
    outputs = {
        system.name: _output(system, scene, references)
        for system in (evaluation.model, evaluation.baseline)
        if system is not None
    }
    mixture = scene_set.mixture(scene)[scene_set.array.reference]
    return Example(title, scene, gain_db, mixture, references, outputs)


def _output(system: System, scene: Scene, references: Array) -> Output:
    row = system.rows[scene.id]
    waveforms = None
    if system.estimates is not None and row.get("permutation_from") == "si_sdr":
        signals = [_read_estimate(system.estimates, scene, p) for p in row["permutation"]]
        waveforms = np.stack([_at_level(s, r) for s, r in zip(signals, references, strict=True)])
    return Output(row, waveforms, system.azimuths_deg(scene.id))


def _read_estimate(estimates: Path, scene: Scene, number: int) -> Array:
    """Estimate `number` (from 0) of a scene, ``(time,)``."""
    folder = resolve_inside(estimates, scene.id)
    names = [f"talker{number + 1}{suffix}" for suffix in sorted(audio.AUDIO_SUFFIXES, reverse=True)]
    path = next((folder / name for name in names if (folder / name).is_file()), folder / names[0])
    samples, rate = audio.read(path)
    if rate != scene.sample_rate or samples.shape != (1, scene.samples):
        raise MsdetError(
            f"{path}: {samples.shape[0]} channels x {samples.shape[1]} samples at {rate} Hz, "
            f"expected 1 x {scene.samples} at {scene.sample_rate} Hz"
        )
    waveform: Array = samples[0]
    return waveform


def _at_level(signal: Array, reference: Array) -> Array:
    """A signal at the level of its reference; as it is if either is silent."""
    level, wanted = (float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))) for x in (signal, reference))
    return signal * (wanted / level) if level > 0.0 and wanted > 0.0 else signal


def _read_system(folder: Path) -> System:
    rows = _read_rows(folder / "scores.jsonl")
    estimates = folder / "estimates"
    if not estimates.is_dir():
        return System(folder.name, rows, None, {})
    path = estimates / DOA_FILE
    azimuths: dict[str, Any] = {}
    for number, row in enumerate(read_jsonl(path) if path.is_file() else (), start=1):
        if not isinstance(row, dict) or not isinstance(row.get("azimuth_deg"), list) or "id" not in row:
            raise MsdetError(f"{path}, line {number}: expected an object with keys 'id' and 'azimuth_deg'")
        azimuths[str(row["id"])] = row["azimuth_deg"]
    return System(folder.name, rows, estimates, azimuths)


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
