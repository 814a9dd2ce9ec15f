"""Making a rendered data set: sample, render in parallel, write, resume after a kill."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from msdet import audio
from msdet.arrays import MicrophoneArray, load_array
from msdet.conventions import Array
from msdet.corpora import SPLITS, load_corpus
from msdet.data.kaldi import write_kaldi
from msdet.data.manifest import CHECKSUMS, HEADER, MANIFEST, SceneSet
from msdet.errors import MsdetError, UnknownNameError
from msdet.files import read_json, settings_hash, write_json, write_jsonl, write_text
from msdet.simulation.bank import RirBank
from msdet.simulation.distribution import SceneDistribution
from msdet.simulation.noise import read_noise_folder
from msdet.simulation.rendering import Mixture, render
from msdet.simulation.sampling import Material, sample_scene
from msdet.simulation.scene import SCHEMA_VERSION, Scene, mixture_path, reference_path, scene_seed
from msdet.simulation.sounds import Sounds
from msdet.work import WHOLE, Job, Progress, Share, Workers, claim_folder, finish_folder, run_jobs


def simulate(
    out: Path,
    speech: Path,
    corpus: str,
    split: str,
    distribution: SceneDistribution,
    scenes: int,
    seed: int,
    jobs: Workers,
    progress: Progress | None = None,
    noise: Path | None = None,
    bank: Path | None = None,
    share: Share = WHOLE,
) -> SceneSet | None:
    """Make a data set, or finish one that a killed run left; the workers do not change a byte.

    Args:
        out: the set's folder.
        speech: folder of the corpus.
        corpus: its kind, a file name in ``msdet/corpora``.
        split: ``train``, ``dev`` or ``test``: whose talkers speak; each split has rooms of its own.
        distribution: what scenes are drawn from.
        scenes: number of scenes.
        seed: of the whole set.
        jobs: worker processes, or an executor.
        progress: called with scenes done and in all.
        noise: folder of noise recordings; without it, diffuse and point noises are babble.
        bank: RIR bank to take rooms from, such as a measured one; without it, every scene has a new room.
        share: part of the scenes to render; the set is finished by a run for the whole.

    Returns:
        the finished set; None after a share.

    Raises:
        MsdetError: bad settings, speech or noise, or a folder with other settings.
    """
    if scenes < 1:
        raise MsdetError(f"scenes is {scenes}, expected at least 1")
    rooms = RirBank.open(bank) if bank else None
    if rooms:
        rooms.check_for(distribution)
        distribution = dataclasses.replace(distribution, array=rooms.array.name)
    array = rooms.array if rooms else load_array(distribution.array)
    material, identity = _gather(speech, corpus, split, noise, rooms, array)
    settings = {
        "distribution": dataclasses.asdict(distribution),
        "array": array.to_dict(),
        "split": split,
        "scenes": scenes,
        "seed": seed,
        **identity,
    }
    settings = json.loads(json.dumps(settings))
    split_seed = scene_seed(seed, split)
    ids = [f"{split}-{n:06d}" for n in range(scenes)]
    distribution.check()
    drawn = share.of([sample_scene(scene_id, distribution, material, split_seed) for scene_id in ids])
    if not claim_folder(out, settings, HEADER, share):
        return SceneSet.open(out)
    todo = [
        Job(_write_scene, (out, scene, array, speech, noise, bank))
        for scene in drawn
        if not record_path(out, scene.id).exists()
    ]
    run_jobs(todo, jobs, progress, done=len(drawn) - len(todo))
    return finish_set(out, settings, array, ids) if share == WHOLE else None


def _gather(
    speech: Path, corpus: str, split: str, noise: Path | None, rooms: RirBank | None, array: MicrophoneArray
) -> tuple[Material, dict[str, str]]:
    """What a split's scenes are made of, and hashes of it."""
    if split not in SPLITS:
        raise UnknownNameError("split", split, SPLITS)
    table = load_corpus(corpus, speech)
    recordings = tuple(r for r in read_noise_folder(noise) if r.split == split) if noise else ()
    identity = {
        "speech": settings_hash([(u.path, u.seconds, u.split) for u in table.utterances]),
        "noise": settings_hash([dataclasses.astuple(r) for r in recordings]) if recordings else "",
        "bank": rooms.identity if rooms else "",
    }
    return Material(table.by_speaker(split), array.microphones, recordings, rooms), identity


def finish_set(out: Path, settings: dict[str, Any], array: MicrophoneArray, ids: list[str]) -> SceneSet:
    """Write manifest, Kaldi tables, checksums and header of a set whose scenes are all written; open it."""
    records = [read_json(record_path(out, scene_id)) for scene_id in ids]
    scenes = tuple(
        Scene.from_dict(row["scene"], str(record_path(out, i))) for i, row in zip(ids, records, strict=True)
    )
    write_jsonl(out / MANIFEST, [scene.to_dict() for scene in scenes])
    write_kaldi(out, scenes)
    sums = {path: digest for row in records for path, digest in row["sha256"].items()}
    sums[MANIFEST] = _digest(out / MANIFEST)
    write_text(out / CHECKSUMS, "".join(f"{digest}  {path}\n" for path, digest in sorted(sums.items())))
    content = {"schema": SCHEMA_VERSION, "sample_rate": scenes[0].sample_rate, "array": array.to_dict()}
    finish_folder(out, settings, HEADER, content)
    return SceneSet.open(out)


def write_scene(out: Path, scene: Scene, mixture: Mixture) -> None:
    """Write a rendered scene: its audio, then its record, which marks it as finished."""
    write_recording(out, scene, mixture.mixture, mixture.references)


def write_recording(
    out: Path, scene: Scene, mixture: Array, references: Array, notes: dict[str, Any] | None = None
) -> None:
    """Write the mixture ``(mic, time)`` and references ``(talker, time)`` of a scene, then its record.

    What `notes` holds is kept in the record.
    """
    files = {mixture_path(scene.id): mixture}
    files |= {reference_path(scene.id, talker): r for talker, r in enumerate(references)}
    for path, samples in files.items():
        audio.write(out / path, samples, scene.sample_rate)
    sums = {path: _digest(out / path) for path in files}
    write_json(record_path(out, scene.id), {"scene": scene.to_dict(), "sha256": sums} | (notes or {}))


def record_path(out: Path, scene_id: str) -> Path:
    """A scene's own record."""
    return (out / mixture_path(scene_id)).parent / "scene.json"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@lru_cache(maxsize=1)
def _open_bank(root: Path) -> RirBank:
    """A worker opens its bank once."""
    return RirBank.open(root)


def _write_scene(
    out: Path, scene: Scene, array: MicrophoneArray, speech: Path, noise: Path | None, bank: Path | None
) -> None:
    rooms = _open_bank(bank) if bank else None
    mixture, measured = render(scene, array, Sounds(speech, scene.sample_rate, noise), rooms)
    write_scene(out, measured, mixture)
