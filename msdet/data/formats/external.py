"""Data sets in other formats: their labels and audio files, and writing them as ours, resumable after a kill.

The reader of a format (`msdet.data.formats.kaldi`, `msdet.data.formats.sms_wsj`) makes an `ExternalDataset`
from tables and headers alone; `write_external_dataset` reads the audio.
"""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array
from msdet.data.scene_set import HEADER, SceneSet, finish_set, record_path, write_scene
from msdet.errors import MsdetError, printable
from msdet.io import audio
from msdet.io.files import plain_name, read_json, settings_hash
from msdet.io.jobs import Job, Progress, Workers, begin_run_dir, run_jobs
from msdet.scenes.rendering import PEAK
from msdet.scenes.scene import Scene, Source

SILENCE_DB = -40.0  # a talker of unknown times talks from the first to the last sample above this, relative to its peak


class Reference(Protocol):
    """Where the reference of one talker comes from."""

    def read(self, scene: Scene, microphone: int) -> Array:
        """The reference ``(time,)`` at a microphone, as long as the scene."""


MAX_OVERSHOOT_S = 0.5  # a part may end so much after its recording, as in Kaldi, and is then cut


@dataclass(frozen=True)
class Sound:
    """Audio that a table names: a file, or what a command of the shell writes; or a part of it.

    `part_s` are where the part starts and ends, in seconds; an end below 0 is that of the recording.
    """

    path: Path
    command: str = ""
    part_s: tuple[float, float] | None = None

    def __str__(self) -> str:
        return self.command or str(self.path)

    @property
    def whole(self) -> Sound:
        """The recording that this is, or is a part of."""
        return dataclasses.replace(self, part_s=None)

    def read(self) -> tuple[Array, int]:
        """Samples ``(channel, time)`` and the sample rate."""
        if self.command:
            samples, rate = _output_of(self.command)
            start, frames = self._bounds(rate, samples.shape[-1])
            return samples[:, start : start + frames], rate
        return audio.read(self.path, *self._bounds(*self._size())) if self.part_s else audio.read(self.path)

    def info(self) -> audio.AudioInfo:
        """Rate, channels and length; runs the command, if it is one."""
        if self.command:
            samples, rate = _output_of(self.command)
            found = audio.AudioInfo(rate, *samples.shape)
        else:
            found = audio.info(self.path)
        return dataclasses.replace(found, frames=self._bounds(found.sample_rate, found.frames)[1])

    def _size(self) -> tuple[int, int]:
        header = audio.info(self.path)
        return header.sample_rate, header.frames

    def _bounds(self, rate: int, frames: int) -> tuple[int, int]:
        """First sample and number of samples of a recording of so many."""
        if self.part_s is None:
            return 0, frames
        start, end = (math.floor(time_s * rate + 1e-6) for time_s in self.part_s)
        end = frames if end < 0 else end
        if not 0 <= start < min(end, frames) or end > frames + MAX_OVERSHOOT_S * rate:
            part = f"a part from {self.part_s[0]:g} to {self.part_s[1]:g} s"
            raise MsdetError(f"{self}: lasts {frames / rate:.3f} s and has no such part: {part}")
        return start, min(end, frames) - start


@lru_cache(maxsize=1)  # segments of a recording follow each other
def _output_of(command: str) -> tuple[Array, int]:
    """Audio ``(channel, time)`` that a command writes to its standard output, and its sample rate."""
    done = subprocess.run(command, shell=True, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        said = "".join(done.stderr.decode(errors="replace").strip().splitlines()[-1:]) or "no message"
        raise MsdetError(printable(f"{command}: ends with exit code {done.returncode} ({said})"))
    return audio.decode(done.stdout, command)


@dataclass(frozen=True)
class ReferenceFiles:
    """A reference that is one file or the sum of several, each of one channel or one a microphone."""

    sounds: tuple[Sound, ...]

    def read(self, scene: Scene, microphone: int) -> Array:
        """The sum of the files at one microphone; rate, length and channels must be the mixture's."""
        total = np.zeros(scene.samples, dtype=np.float32)
        for sound in self.sounds:
            samples, rate = sound.read()
            if rate != scene.sample_rate or samples.shape[-1] != scene.samples:
                expected = f"{scene.samples} at {scene.sample_rate} Hz as in the mixture of {scene.id}"
                raise MsdetError(f"{sound}: {samples.shape[-1]} samples at {rate} Hz, expected {expected}")
            total += one_channel(samples, microphone, sound)
        return total


@dataclass(frozen=True)
class ExternalScene:
    """One scene: labels, recording, a reference for each source (or none).

    `timed` says whether its sources' onsets, durations and levels are known; else the references tell them.
    """

    scene: Scene
    mixture: Sound
    references: tuple[Reference, ...]
    timed: bool


@dataclass(frozen=True)
class ExternalDataset:
    """All scenes of a set, recorded with one array at one rate; `settings` says what decides its content."""

    array: MicrophoneArray
    scenes: tuple[ExternalScene, ...]
    settings: dict[str, Any]

    def __post_init__(self) -> None:
        first = self.scenes[0]
        for entry in self.scenes:
            if (rate := entry.scene.sample_rate) != first.scene.sample_rate:
                expected = f"{first.scene.sample_rate} Hz as {first.mixture}"
                raise MsdetError(f"{entry.mixture}: is at {rate} Hz, expected {expected}")


@dataclass(frozen=True)
class AudioFinder:
    """Finds files that a table in a folder names by paths that may be those of another machine.

    Relative paths start in the folder, or else in the working directory. `moved` is ``OLD=NEW``, where NEW replaces
    OLD at the start of a path; or the folder that the audio was moved to, in which the end of a path is looked for.
    """

    folder: Path
    moved: str = ""

    def find(self, name: str, place: str) -> Path:
        """The file that `name` stands for; an `MsdetError` begins with `place` if there is none."""
        for candidate in self._candidates(name):
            if candidate.is_file():
                return candidate
        remedy = "if audio was moved, give --audio_root OLD=NEW or the folder that it is in"
        raise MsdetError(f"{place}: no such file: {name}; {remedy}")

    def _candidates(self, name: str) -> Iterator[Path]:
        path = Path(name)
        old, replaces, new = self.moved.partition("=")
        if replaces and path.is_relative_to(old):
            yield Path(new) / path.relative_to(old)
            return
        if self.moved and not replaces:
            yield from _endings(path, Path(self.moved))
        if not path.is_absolute():
            yield self.folder / path
        yield path
        yield from _endings(path, self.folder)


def _endings(path: Path, root: Path) -> Iterator[Path]:
    """Longer and then shorter ends of `path` below `root`.

    The last folder's name is part of all of them, if there is one: sets name files of different kinds alike.
    """
    parts = path.parts[1:] if path.is_absolute() else path.parts
    for start in range(max(1, len(parts) - 1)):
        yield root.joinpath(*parts[start:])


def one_channel(samples: Array, microphone: int, path: Path | Sound) -> Array:
    """The samples ``(time,)`` at a microphone of a file ``(channel, time)``, whose one channel is for all."""
    channel = 0 if len(samples) == 1 else microphone
    if channel >= len(samples):
        raise MsdetError(f"{path}: has {len(samples)} channels, expected 1 or one for each microphone")
    return np.asarray(samples[channel])


def check_scene_id(scene_id: str, place: str) -> None:
    """Refuse, by an `MsdetError`, an id that cannot name a folder and stand in a Kaldi table."""
    if " " in plain_name(scene_id, "id", place):
        raise MsdetError(f"{place}: id is {scene_id!r}, expected no space, for Kaldi tables")


def check_recording(path: Sound, array: MicrophoneArray) -> audio.AudioInfo:
    """Header of a mixture, which must not be empty or have another number of channels than the array."""
    header = path.info()
    if header.channels != array.microphones:
        expected = f"{array.microphones} as array '{array.name}'; give the array that it was recorded with by --array"
        raise MsdetError(f"{path}: has {header.channels} channels, expected {expected}")
    if header.frames == 0:
        raise MsdetError(f"{path}: has no samples")
    return header


def write_external_dataset(
    out: str | Path, dataset: ExternalDataset, jobs: Workers, progress: Progress | None = None
) -> SceneSet:
    """Write a set of another format as one of ours in `out`, or finish one that a killed run left.

    Sound keeps its sample rate and its level; only a scene that would clip is scaled, mixture and references
    alike (`scales`).
    """
    out = Path(out)
    ids = [entry.scene.id for entry in dataset.scenes]
    labels = settings_hash([entry.scene.to_dict() | {"target": ""} for entry in dataset.scenes])
    settings = {**dataset.settings, "array": dataset.array.to_dict(), "scenes": len(ids), "labels": labels}
    settings = json.loads(json.dumps(settings))
    if not begin_run_dir(out, settings, HEADER):
        return SceneSet.open(out)
    todo = [entry for entry in dataset.scenes if not record_path(out, entry.scene.id).exists()]
    run_jobs([Job(_write, (out, entry, dataset.array)) for entry in todo], jobs, progress, len(ids) - len(todo))
    return finish_set(out, settings, dataset.array, ids)


def scales(scene_set: SceneSet) -> dict[str, float]:
    """Factor by which each scene was scaled that would have clipped."""
    records = {scene.id: read_json(record_path(scene_set.root, scene.id)) for scene in scene_set.scenes}
    return {scene_id: record["scale"] for scene_id, record in records.items() if "scale" in record}


def _write(out: Path, entry: ExternalScene, array: MicrophoneArray) -> None:
    scene = entry.scene
    mixture, _ = entry.mixture.read()
    read = [reference.read(scene, array.reference) for reference in entry.references]
    references = np.stack(read) if read else np.zeros((0, scene.samples), np.float32)
    for talker, reference in enumerate(references, start=1):
        if not reference.any():
            raise MsdetError(f"{entry.mixture}: the reference of talker {talker} is silent")
    if scene.referenced and not entry.timed:
        scene = dataclasses.replace(scene, sources=_measured(scene.sources, references, scene.sample_rate))
    peak = max(float(np.abs(mixture).max()), float(np.abs(references).max(initial=0.0)))
    scale = 1.0 if peak <= 1.0 else PEAK / peak
    factor = np.float32(scale)
    write_scene(out, scene, mixture * factor, references * factor, {"scale": scale} if scale != 1.0 else {})


def _measured(sources: tuple[Source, ...], references: Array, sample_rate: int) -> tuple[Source, ...]:
    """Sources with onset, duration and level as their references ``(talker, time)`` have them."""
    timed = []
    for source, reference in zip(sources, references, strict=True):
        magnitude = np.abs(reference)
        audible = np.flatnonzero(magnitude > magnitude.max() * 10 ** (SILENCE_DB / 20))
        start, stop = int(audible[0]), int(audible[-1]) + 1
        level_db = float(10 * np.log10(np.mean(reference[start:stop] ** 2, dtype=np.float64)))
        onset_s, duration_s = start / sample_rate, (stop - start) / sample_rate
        timed.append(dataclasses.replace(source, onset_s=onset_s, duration_s=duration_s, level_db=level_db))
    mean_db = sum(source.level_db for source in timed) / len(timed)
    return tuple(dataclasses.replace(s, level_db=round(s.level_db - mean_db, 3)) for s in timed)
