"""A rendered data set on disk: ``dataset.json``, ``scenes.jsonl`` and one folder of audio per scene."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array
from msdet.errors import MsdetError
from msdet.io import audio
from msdet.io.files import read_json, read_jsonl, resolve_inside
from msdet.scenes.scene import SCHEMA_VERSION, Scene, mixture_path, reference_path

HEADER, MANIFEST, CHECKSUMS = "dataset.json", "scenes.jsonl", "SHA256SUMS"
"""Files of a set: written last, one line a scene, and checksums for `tools/validate.py` or `sha256sum -c`."""


@dataclass(frozen=True)
class SceneSet:
    """A rendered data set.

    Attributes:
        root: its folder.
        sample_rate: of all its audio.
        array: the microphone array it was recorded with.
        scenes: its scenes, in the order of ``scenes.jsonl``.
        identity: hash of what decides its content.
    """

    root: Path
    sample_rate: int
    array: MicrophoneArray
    scenes: tuple[Scene, ...]
    identity: str

    @classmethod
    def open(cls, root: Path) -> SceneSet:
        """Open a data set; audio is read later, scene by scene.

        Raises:
            MsdetError: not a finished data set, or one of another schema.
        """
        if not (root / HEADER).is_file():
            unfinished = " (unfinished: run the same command again)" if root.is_dir() else ""
            raise MsdetError(f"{root}: not a data set, {HEADER} is missing{unfinished}")
        header = read_json(root / HEADER)
        if not isinstance(header, dict) or header.get("schema") != SCHEMA_VERSION:
            found = header.get("schema") if isinstance(header, dict) else header
            raise MsdetError(f"{root}/{HEADER}: schema is {found!r}, this msdet reads {SCHEMA_VERSION}")
        for key in ("sample_rate", "array", "hash"):
            if key not in header:
                raise MsdetError(f"{root}/{HEADER}: key '{key}' is missing")
        if not isinstance(header["sample_rate"], int):
            rate = header["sample_rate"]
            raise MsdetError(f"{root}/{HEADER}: sample_rate is {rate!r}, expected hertz")
        manifest = root / MANIFEST
        scenes = tuple(
            Scene.from_dict(row, f"{manifest}, line {n}")
            for n, row in enumerate(read_jsonl(manifest), start=1)
        )
        if not scenes:
            raise MsdetError(f"{manifest}: has no scenes")
        array = MicrophoneArray.from_dict(header["array"], f"{root}/{HEADER}, array")
        return cls(root, header["sample_rate"], array, scenes, str(header["hash"]))

    def mixture(self, scene: Scene) -> Array:
        """The mixture ``(mic, time)`` of a scene, float32.

        Raises:
            MsdetError: a file that is missing, unreadable, or of another rate, length or channel count.
        """
        return self._read(mixture_path(scene.id), scene, self.array.microphones)

    def references(self, scene: Scene) -> Array:
        """The references ``(talker, time)`` of a scene, in the order of its sources, float32.

        Raises:
            MsdetError: the scene has no references, or as `mixture`.
        """
        if not scene.referenced:
            raise MsdetError(f"{self.root}: scene '{scene.id}' has no references")
        return np.concatenate(
            [self._read(reference_path(scene.id, s), scene, 1) for s in range(len(scene.sources))]
        )

    def unlabeled(self) -> dict[str, int]:
        """Number of scenes without ``references`` and without ``directions``, where there are any."""
        counts = {
            "references": sum(not scene.referenced for scene in self.scenes),
            "directions": sum(not scene.located for scene in self.scenes),
        }
        return {what: count for what, count in counts.items() if count}

    def _read(self, relative: str, scene: Scene, channels: int) -> Array:
        path = resolve_inside(self.root, relative)
        samples, rate = audio.read(path)
        expected = (channels, scene.samples)
        if rate != self.sample_rate or samples.shape != expected:
            raise MsdetError(
                f"{path}: {samples.shape[0]} channels x {samples.shape[1]} samples at {rate} Hz, "
                f"expected {expected[0]} x {expected[1]} at {self.sample_rate} Hz"
            )
        return samples
