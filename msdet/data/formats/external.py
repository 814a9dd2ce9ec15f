"""Scenes of sets in other formats: their labels, and the files that hold their sound.

The reader of a format (`msdet.data.formats.kaldi`, `msdet.data.formats.sms_wsj`) makes a `ExternalDataset`,
for which it reads tables and headers alone; `msdet.data.formats.importing` writes it as a set of ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array
from msdet.errors import MsdetError
from msdet.io import audio
from msdet.io.files import plain_name
from msdet.scenes.scene import Scene


class Reference(Protocol):
    """Where the reference of one talker comes from."""

    def read(self, scene: Scene, microphone: int) -> Array:
        """The reference ``(time,)`` at a microphone, as long as the scene."""


@dataclass(frozen=True)
class ReferenceFiles:
    """A reference that is one file or the sum of several, each of one channel or one a microphone."""

    paths: tuple[Path, ...]

    def read(self, scene: Scene, microphone: int) -> Array:
        """The sum of the files at one microphone.

        Raises:
            MsdetError: a file that is unreadable, or whose rate, length or channels are not the mixture's.
        """
        total = np.zeros(scene.samples, dtype=np.float32)
        for path in self.paths:
            samples, rate = audio.read(path)
            if rate != scene.sample_rate or samples.shape[-1] != scene.samples:
                raise MsdetError(
                    f"{path}: {samples.shape[-1]} samples at {rate} Hz, expected {scene.samples} at "
                    f"{scene.sample_rate} Hz as in the mixture of {scene.id}"
                )
            total += one_channel(samples, microphone, path)
        return total


@dataclass(frozen=True)
class ExternalScene:
    """One scene.

    Attributes:
        scene: its labels.
        mixture: its recording, one channel a microphone.
        references: of each of its sources; none where it is not referenced.
        timed: whether its sources' onsets, durations and levels are known; else the references tell them.
    """

    scene: Scene
    mixture: Path
    references: tuple[Reference, ...]
    timed: bool


@dataclass(frozen=True)
class ExternalDataset:
    """All scenes of a set, recorded with one array; `settings` says what decides its content.

    Raises:
        MsdetError: the scenes differ in sample rate.
    """

    array: MicrophoneArray
    scenes: tuple[ExternalScene, ...]
    settings: dict[str, Any]

    def __post_init__(self) -> None:
        rate = self.scenes[0].scene.sample_rate
        for entry in self.scenes:
            if entry.scene.sample_rate != rate:
                raise MsdetError(
                    f"{entry.mixture}: is at {entry.scene.sample_rate} Hz, expected {rate} Hz as "
                    f"{self.scenes[0].mixture}"
                )


@dataclass(frozen=True)
class AudioFinder:
    """Finds files that a table names by paths that may be those of another machine.

    Attributes:
        folder: of the table; relative paths start here, or else in the working directory.
        moved: ``OLD=NEW``, where NEW replaces OLD at the start of a path; or the folder that the audio was
            moved to, in which the end of a path is looked for; or empty.
    """

    folder: Path
    moved: str = ""

    def find(self, name: str, place: str) -> Path:
        """The file that `name` stands for; `place` says who names it.

        Raises:
            MsdetError: it is nowhere.
        """
        for candidate in self._candidates(name):
            if candidate.is_file():
                return candidate
        raise MsdetError(
            f"{place}: no such file: {name}; if audio was moved, give --audio_root OLD=NEW or the folder "
            "that it is in"
        )

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


def one_channel(samples: Array, microphone: int, path: Path) -> Array:
    """The samples ``(time,)`` at a microphone of a file ``(channel, time)``, whose one channel is for all.

    Raises:
        MsdetError: the file has several channels, but not this one.
    """
    channel = 0 if len(samples) == 1 else microphone
    if channel >= len(samples):
        raise MsdetError(f"{path}: has {len(samples)} channels, expected 1 or one for each microphone")
    chosen: Array = samples[channel]
    return chosen


def check_scene_id(scene_id: str, place: str) -> None:
    """Refuse an id that cannot name a folder and stand in a Kaldi table.

    Raises:
        MsdetError: says what is wrong.
    """
    if " " in plain_name(scene_id, "id", place):
        raise MsdetError(f"{place}: id is {scene_id!r}, expected no space, for Kaldi tables")


def check_recording(path: Path, array: MicrophoneArray) -> audio.AudioInfo:
    """Header of a mixture.

    Raises:
        MsdetError: it is unreadable or empty, or has another number of channels than the array.
    """
    header = audio.info(path)
    if header.channels != array.microphones:
        raise MsdetError(
            f"{path}: has {header.channels} channels, expected {array.microphones} as array '{array.name}'; "
            "give the array that it was recorded with by --array"
        )
    if header.frames == 0:
        raise MsdetError(f"{path}: has no samples")
    return header
