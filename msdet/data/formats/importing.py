"""Writing sets of other formats as ours: in parallel, and resumable after a kill."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array
from msdet.data.formats.external import ExternalDataset, ExternalScene
from msdet.data.scene_set import HEADER, SceneSet
from msdet.data.simulate import finish_set, record_path, write_recording
from msdet.errors import MsdetError
from msdet.io import audio
from msdet.io.files import read_json, settings_hash
from msdet.io.jobs import Job, Progress, Workers, begin_run_dir, run_jobs
from msdet.scenes.rendering import PEAK
from msdet.scenes.scene import Source

SILENCE_DB = -40.0
"""Where nobody says when a talker talks, it is from the first to the last sample above this, of its peak."""


def write_external_dataset(
    out: Path, found: ExternalDataset, jobs: Workers, progress: Progress | None = None
) -> SceneSet:
    """Write a set of another format as one of ours, or finish one that a killed run left.

    Sound keeps its sample rate and its level; only a scene that would clip is scaled, mixture and references
    alike (`scales`).

    Args:
        out: the new set's folder.
        found: the other set.
        jobs: worker processes, or an executor.
        progress: called with scenes done and in all.

    Raises:
        MsdetError: audio that is unreadable or does not fit its labels, or a folder with other settings.
    """
    ids = [entry.scene.id for entry in found.scenes]
    settings = {
        **found.settings,
        "array": found.array.to_dict(),
        "scenes": len(ids),
        "labels": settings_hash([entry.scene.to_dict() | {"target": ""} for entry in found.scenes]),
    }
    settings = json.loads(json.dumps(settings))
    if not begin_run_dir(out, settings, HEADER):
        return SceneSet.open(out)
    todo = [
        Job(_write, (out, entry, found.array))
        for entry in found.scenes
        if not record_path(out, entry.scene.id).exists()
    ]
    run_jobs(todo, jobs, progress, done=len(ids) - len(todo))
    return finish_set(out, settings, found.array, ids)


def scales(scene_set: SceneSet) -> dict[str, float]:
    """Factor by which each scene was scaled that would have clipped."""
    records = {scene.id: read_json(record_path(scene_set.root, scene.id)) for scene in scene_set.scenes}
    return {scene_id: record["scale"] for scene_id, record in records.items() if "scale" in record}


def _write(out: Path, found: ExternalScene, array: MicrophoneArray) -> None:
    scene = found.scene
    mixture, _ = audio.read(found.mixture)
    read = [reference.read(scene, array.reference) for reference in found.references]
    references = np.stack(read) if read else np.zeros((0, scene.samples), np.float32)
    for talker, reference in enumerate(references, start=1):
        if not reference.any():
            raise MsdetError(f"{found.mixture}: the reference of talker {talker} is silent")
    if scene.referenced and not found.timed:
        scene = dataclasses.replace(scene, sources=_measured(scene.sources, references, scene.sample_rate))
    peak = max(float(np.abs(mixture).max()), float(np.abs(references).max(initial=0.0)))
    scale = 1.0 if peak <= 1.0 else PEAK / peak
    notes = {"scale": scale} if scale != 1.0 else {}
    factor = np.float32(scale)
    write_recording(out, scene, mixture * factor, references * factor, notes)


def _measured(sources: tuple[Source, ...], references: Array, sample_rate: int) -> tuple[Source, ...]:
    """Sources with onset, duration and level as their references ``(talker, time)`` have them."""
    timed = []
    for source, reference in zip(sources, references, strict=True):
        magnitude = np.abs(reference)
        heard = np.flatnonzero(magnitude > magnitude.max() * 10 ** (SILENCE_DB / 20))
        start, stop = int(heard[0]), int(heard[-1]) + 1
        timed.append(
            dataclasses.replace(
                source,
                onset_s=start / sample_rate,
                duration_s=(stop - start) / sample_rate,
                level_db=float(10 * np.log10(np.mean(reference[start:stop] ** 2, dtype=np.float64))),
            )
        )
    mean_db = sum(source.level_db for source in timed) / len(timed)
    return tuple(dataclasses.replace(s, level_db=round(s.level_db - mean_db, 3)) for s in timed)
