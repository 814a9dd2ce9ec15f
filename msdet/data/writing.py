"""Making a rendered data set: sample, render in parallel, write, resume after a kill."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from msdet import audio
from msdet.arrays import MicrophoneArray, load_array
from msdet.corpora import SPLITS, load_corpus
from msdet.data.export import write_kaldi
from msdet.data.manifest import SceneSet
from msdet.errors import MsdetError, UnknownNameError
from msdet.files import read_json, settings_hash, write_json, write_jsonl
from msdet.simulation.rendering import render
from msdet.simulation.sampling import SceneDistribution, sample_scene
from msdet.simulation.scene import SCHEMA_VERSION, Scene, mixture_path, reference_path, scene_seed
from msdet.work import Job, Progress, claim_folder, finish_folder, run_jobs

HEADER = "dataset.json"


def simulate(
    out: Path,
    speech: Path,
    corpus: str,
    split: str,
    distribution: SceneDistribution,
    scenes: int,
    seed: int,
    jobs: int,
    progress: Progress | None = None,
) -> SceneSet:
    """Make a data set, or finish one that a killed run left; the number of jobs does not change a byte.

    Args:
        out: the set's folder.
        speech: folder of the corpus.
        corpus: its kind, a file name in ``msdet/corpora``.
        split: ``train``, ``dev`` or ``test``: whose talkers speak; each split has rooms of its own.
        distribution: what scenes are drawn from.
        scenes: number of scenes.
        seed: of the whole set.
        jobs: worker processes.
        progress: called with scenes done and in all.

    Raises:
        MsdetError: bad settings or speech, or a folder with other settings.
    """
    if split not in SPLITS:
        raise UnknownNameError("split", split, SPLITS)
    if scenes < 1:
        raise MsdetError(f"scenes is {scenes}, expected at least 1")
    distribution.check()
    array = load_array(distribution.array)
    table = load_corpus(corpus, speech)
    talkers = table.by_speaker(split)
    settings: dict[str, Any] = {
        "distribution": dataclasses.asdict(distribution),
        "array": array.to_dict(),
        "split": split,
        "scenes": scenes,
        "seed": seed,
        "speech": settings_hash([(u.path, u.seconds, u.split) for u in table.utterances]),
    }
    settings = json.loads(json.dumps(settings))
    split_seed = scene_seed(seed, split)
    ids = [f"{split}-{n:06d}" for n in range(scenes)]
    drawn = [sample_scene(scene_id, distribution, talkers, split_seed) for scene_id in ids]
    if not claim_folder(out, settings, HEADER):
        return SceneSet.open(out)
    todo = [
        Job(_write_scene, (out, scene, array, speech)) for scene in drawn if not _row(out, scene.id).exists()
    ]
    run_jobs(todo, jobs, progress, done=scenes - len(todo))
    rendered = tuple(Scene.from_dict(read_json(_row(out, i)), str(_row(out, i))) for i in ids)
    write_jsonl(out / "scenes.jsonl", [scene.to_dict() for scene in rendered])
    write_kaldi(out, rendered)
    content = {"schema": SCHEMA_VERSION, "sample_rate": distribution.sample_rate, "array": array.to_dict()}
    finish_folder(out, settings, HEADER, content)
    return SceneSet.open(out)


def _row(out: Path, scene_id: str) -> Path:
    """A scene's own record, written after its audio: it marks the scene as finished."""
    return (out / mixture_path(scene_id)).parent / "scene.json"


def _write_scene(out: Path, scene: Scene, array: MicrophoneArray, speech: Path) -> None:
    mixture, measured = render(scene, array, speech)
    audio.write(out / mixture_path(scene.id), mixture.mixture, scene.sample_rate)
    for talker, reference in enumerate(mixture.references):
        audio.write(out / reference_path(scene.id, talker), reference, scene.sample_rate)
    write_json(_row(out, scene.id), measured.to_dict())
