"""Making a rendered data set: sample, render in parallel, write, resume after a kill."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from msdet.arrays import MicrophoneArray, load_array
from msdet.conventions import Array
from msdet.corpora import SPLITS, load_corpus
from msdet.data.formats.kaldi import write_kaldi
from msdet.data.scene_set import CHECKSUMS, HEADER, MANIFEST, SceneSet
from msdet.errors import MsdetError, UnknownNameError
from msdet.io import audio
from msdet.io.files import read_json, settings_hash, write_json, write_jsonl, write_text
from msdet.io.jobs import ALL, Job, Progress, Shard, Workers, begin_run_dir, finish_run_dir, run_jobs
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.dry_sounds import MAX_SILENT_DRAWS, SilentSpeechError, Sounds
from msdet.scenes.noise import read_noise_folder
from msdet.scenes.rendering import Mixture, render
from msdet.scenes.rir.bank import RirBank
from msdet.scenes.sampling import Material, sample_scene
from msdet.scenes.scene import SCHEMA_VERSION, Scene, mixture_path, reference_path, scene_seed

log = logging.getLogger(__name__)


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
    share: Shard = ALL,
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
    distribution.check()
    if scenes < 1 or seed < 0:
        raise MsdetError(f"scenes is {scenes} and seed {seed}, expected at least 1 and 0")
    if out.resolve().is_relative_to(speech.resolve()):
        raise MsdetError(f"{out}: is in the corpus {speech}, whose speech it would become")
    rooms = RirBank.open(bank) if bank else None
    if rooms:
        rooms.check_for(distribution)
        distribution = dataclasses.replace(distribution, array=rooms.array.name)
    array = rooms.array if rooms else load_array(distribution.array)
    material, identity = _gather(speech, corpus, split, noise, rooms, array)
    if material.recordings and distribution.diffuse == "none" and not distribution.point_noises:
        raise MsdetError(f"{noise}: is given, but the scenes have neither diffuse noise nor point_noises")
    settings = {
        "distribution": dataclasses.asdict(distribution),
        "array": array.to_dict(),
        "split": split,
        "scenes": scenes,
        "seed": seed,
        **identity,
    }
    settings = json.loads(json.dumps(settings))
    draw = partial(
        sample_scene, distribution=distribution, material=material, set_seed=scene_seed(seed, split)
    )
    ids = [f"{split}-{n:06d}" for n in range(scenes)]
    drawn = [draw(scene_id) for scene_id in share.of(ids)]  # what cannot be drawn claims no folder
    if not begin_run_dir(out, settings, HEADER, share):
        return SceneSet.open(out)
    # a cluster's workers have folders of their own to start from
    places = (array, *(path and path.resolve() for path in (speech, noise, bank)))
    _render_all(out.resolve(), drawn, draw, places, jobs, progress)
    return finish_set(out, settings, array, ids) if share == ALL else None


def _render_all(
    out: Path,
    drawn: list[Scene],
    draw: Callable[..., Scene],
    places: tuple[Any, ...],
    jobs: Workers,
    progress: Progress | None,
) -> None:
    """Render what is not there yet; a scene with a silent talker is drawn again, and the log says so."""
    todo = [scene for scene in drawn if not record_path(out, scene.id).exists()]
    for attempt in range(1, MAX_SILENT_DRAWS + 1):
        work = [Job(_write_scene, (out, scene, *places)) for scene in todo]
        silent = run_jobs(work, jobs, progress, done=len(drawn) - len(todo))
        reasons = {scene.id: reason for scene, reason in zip(todo, silent, strict=True) if reason}
        for scene_id, reason in reasons.items():
            log.warning("%s: drawn again: %s", scene_id, reason)
        todo = [draw(scene_id, attempt=attempt) for scene_id in reasons]
        if not todo:
            return
    raise MsdetError(f"{todo[0].id}: a talker is silent in {MAX_SILENT_DRAWS} draws in a row")


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
    finish_run_dir(out, settings, HEADER, content)
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
) -> str | None:
    """Render and write a scene; returns why not where a talker is silent, None if it is written."""
    rooms = _open_bank(bank) if bank else None
    try:
        mixture, measured = render(scene, array, Sounds(speech, scene.sample_rate, noise), rooms)
    except SilentSpeechError as error:
        return str(error)
    write_scene(out, measured, mixture)
    return None
