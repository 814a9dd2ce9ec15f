"""Making a rendered data set: sample, render in parallel, write, resume after a kill."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import time
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

from msdet.arrays import MicrophoneArray, load_array
from msdet.corpora import SPLITS, load_corpus
from msdet.data.scene_set import HEADER, SceneSet, finish_set, record_path, write_scene
from msdet.errors import MsdetError, check_known
from msdet.io.files import settings_hash
from msdet.io.jobs import ALL, Job, Progress, Shard, Workers, begin_run_dir, run_jobs
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.dry_sounds import MAX_SILENT_DRAWS, SilentSpeechError, Sounds
from msdet.scenes.noise import read_noise_folder
from msdet.scenes.rendering import render
from msdet.scenes.rir.bank import RirBank
from msdet.scenes.sampling import Material, sample_scene
from msdet.scenes.scene import Scene, scene_seed

log = logging.getLogger(__name__)

MAX_SCENES = 1_000_000
"""Of a set, whose scenes have numbers of six digits."""

QUIET_S = 1.0
"""Scenes that take longer than this to draw are told of: hundreds of thousands take minutes."""


def simulate(
    out: str | Path,
    speech: str | Path,
    corpus: str = "folder",
    split: str = "train",
    distribution: SceneDistribution | None = None,
    scenes: int = 100,
    seed: int = 0,
    jobs: Workers = 1,
    progress: Progress | None = None,
    noise: str | Path | None = None,
    bank: str | Path | None = None,
    share: Shard = ALL,
) -> SceneSet | None:
    """Make a data set, or finish one that a killed run left; the workers do not change a byte.

    Args:
        out: the set's folder.
        speech: folder of the corpus.
        corpus: its kind, such as ``folder`` or ``librispeech`` (`msdet.corpora.CORPORA`).
        split: ``train``, ``dev`` or ``test``: whose talkers speak; each split has rooms of its own.
        distribution: what scenes are drawn from; the rules of SMS-WSJ if not given.
        scenes: number of scenes.
        seed: of the whole set.
        jobs: worker processes, or an executor.
        progress: called with scenes done and in all.
        noise: folder of noise recordings; without it, diffuse and point noises are babble.
        bank: RIR bank to take rooms from, such as a measured one; without it, every scene has a new room.
        share: part of the scenes to render; the set is finished by a run for the whole.

    Returns the finished set; None after a share. An `MsdetError` says that settings, speech or noise are bad, or that
    the folder has other settings.
    """
    out, speech = Path(out), Path(speech)
    noise, bank = (None if folder is None else Path(folder) for folder in (noise, bank))
    distribution = distribution or SceneDistribution()
    distribution.check()
    if not 1 <= scenes <= MAX_SCENES or seed < 0:
        raise MsdetError(f"scenes is {scenes} and seed {seed}, expected 1 to {MAX_SCENES} and at least 0")
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
    settings = {"distribution": distribution.to_dict(), "array": array.to_dict(), "split": split}
    settings = json.loads(json.dumps(settings | {"scenes": scenes, "seed": seed} | identity))
    draw = partial(sample_scene, distribution=distribution, material=material, set_seed=scene_seed(seed, split))
    ids = [f"{split}-{n:06d}" for n in range(scenes)]
    drawn = _draw_all(draw, list(share.of(ids)), progress)  # what cannot be drawn claims no folder
    if not begin_run_dir(out, settings, HEADER, share):
        return SceneSet.open(out)
    _render_all(out, drawn, draw, (array, speech, noise, bank), jobs, progress)
    return finish_set(out, settings, array, ids) if share == ALL else None


def _draw_all(draw: Callable[..., Scene], ids: list[str], progress: Progress | None) -> list[Scene]:
    """Draw all scenes, and tell that none is rendered yet if that takes long."""
    drawn, started = [], time.monotonic()
    for scene_id in ids:
        drawn.append(draw(scene_id))
        if progress and time.monotonic() - started > QUIET_S:
            progress(0, len(ids))
            started = math.inf
    return drawn


def _render_all(
    out: Path,
    drawn: list[Scene],
    draw: Callable[..., Scene],
    given: tuple[MicrophoneArray, Path, Path | None, Path | None],
    jobs: Workers,
    progress: Progress | None,
) -> None:
    """Render what is not there yet; a scene with a silent talker is drawn again, and the log says so."""
    array, *folders = given
    out = out.resolve()  # a cluster's workers have folders of their own to start from
    places = (array, *(folder and folder.resolve() for folder in folders))
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
    check_known("split", SPLITS, split)
    table = load_corpus(corpus, speech)
    recordings = tuple(r for r in read_noise_folder(noise) if r.split == split) if noise else ()
    identity = {
        "speech": settings_hash([(u.path, u.seconds, u.split) for u in table.utterances]),
        "noise": settings_hash([dataclasses.astuple(r) for r in recordings]) if recordings else "",
        "bank": rooms.identity if rooms else "",
    }
    return Material(table.by_speaker(split), array.microphones, recordings, rooms), identity


_open_bank = lru_cache(maxsize=1)(RirBank.open)  # once by each worker


def _write_scene(
    out: Path, scene: Scene, array: MicrophoneArray, speech: Path, noise: Path | None, bank: Path | None
) -> str | None:
    """Render and write a scene; returns why not where a talker is silent, None if it is written."""
    rooms = _open_bank(bank) if bank else None
    try:
        mixture, measured = render(scene, array, Sounds(speech, scene.sample_rate, noise), rooms)
    except SilentSpeechError as error:
        return str(error)
    write_scene(out, measured, mixture.mixture, mixture.references)
    return None
