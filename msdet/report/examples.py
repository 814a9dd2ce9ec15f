"""Scenes to look at and listen to: the chosen system's best, median and worst, and others by their ids."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from msdet.conventions import Array
from msdet.errors import MsdetError, check_known
from msdet.report.content import SI_SDRI, Evaluation, ScoredSystem
from msdet.scenes.scene import Scene
from msdet.scoring.metrics import Row
from msdet.scoring.submission import DoaEstimates, read_estimates


@dataclass(frozen=True)
class Output:
    """A system's scores of a scene, and in the talkers' order, if any, waveforms and directions.

    Waveforms are ``(talker, time)``, at their references' levels.
    """

    row: Row
    waveforms: Array | None
    directions: DoaEstimates | None

    def of_talker(self, field: str, talker: int) -> float | None:
        """A field of the scores for a talker; None without a value."""
        values = self.row.get(field)
        return None if not isinstance(values, list) or values[talker] is None else float(values[talker])


@dataclass(frozen=True)
class SceneExample:
    """A scene to look at and listen to; the title says why this one.

    The score, by which scenes are ranked, is averaged over talkers; the mixture ``(time,)`` is at the reference
    microphone; `outputs` are by system that has audio or directions of the scene, in the report's order.
    """

    title: str
    scene: Scene
    score: float | None
    mixture: Array
    references: Array
    outputs: dict[str, Output]

    @property
    def waveforms(self) -> dict[str, Array]:
        """By system, its estimates ``(talker, time)``."""
        return {name: out.waveforms for name, out in self.outputs.items() if out.waveforms is not None}


def choose_scenes(evaluation: Evaluation, others: Iterable[str] = ()) -> dict[str, str]:
    """Titles by scene: best, median and worst of the chosen system, then others by their ids.

    The former are of the scenes with references and directions, which the page shows; where no such scene is
    scored there are none. An `UnknownNameError` says that there is no such other scene.
    """
    field = evaluation.rank_field
    scenes = {scene.id: scene for scene in evaluation.scene_set.scenes}
    scores: dict[str, float] = {}
    for scene in scenes.values():
        score = evaluation.chosen.value(scene.id, field)
        if score is not None and scene.referenced and scene.located:
            scores[scene.id] = -score if field == SI_SDRI else score
    ranked = sorted(scores, key=lambda scene_id: scores[scene_id])
    titles: dict[str, str] = {}
    if ranked:
        titles[ranked[0]] = "Best scene"
        titles.setdefault(ranked[-1], "Worst scene")
        titles.setdefault(ranked[len(ranked) // 2], "Median scene")
    ordered = {scene_id: titles[scene_id] for scene_id in sorted(titles, key=ranked.index)}
    others = list(others)
    check_known("scene", scenes, *others)
    return ordered | {scene_id: "Chosen scene" for scene_id in others if scene_id not in ordered}


def read_example(evaluation: Evaluation, scene: Scene, title: str) -> SceneExample:
    """A scene, which must have references and directions, with its audio and what every system made of it."""
    scene_set = evaluation.scene_set
    if not scene.located:
        raise MsdetError(f"{scene_set.root}: scene '{scene.id}' has no directions, which a page shows")
    references = scene_set.references(scene)
    outputs = {name: _output(system, scene, references) for name, system in evaluation.systems.items()}
    return SceneExample(
        title,
        scene,
        evaluation.chosen.value(scene.id, evaluation.rank_field),
        scene_set.mixture(scene)[scene_set.array.reference],
        references,
        {n: o for n, o in outputs.items() if o.waveforms is not None or o.directions is not None},
    )


def _output(system: ScoredSystem, scene: Scene, references: Array) -> Output:
    row = system.rows.get(scene.id)
    if row is None:
        return Output({}, None, None)
    waveforms = None
    if system.estimates is not None and row.get("permutation_from") == "si_sdr":
        signals = read_estimates(system.estimates, scene)[row["permutation"]]
        waveforms = np.stack([_at_level(s, r) for s, r in zip(signals, references, strict=True)])
    return Output(row, waveforms, system.directions(scene.id))


def _at_level(signal: Array, reference: Array) -> Array:
    """A signal at the level of its reference; as it is if either is silent."""
    level, target = (float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))) for x in (signal, reference))
    return signal * (target / level) if level > 0.0 and target > 0.0 else signal
