"""A rendered data set on disk: ``dataset.json``, ``scenes.jsonl`` and one folder of audio per scene."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array
from msdet.errors import MsdetError
from msdet.io import audio
from msdet.io.files import read_json, read_jsonl, resolve_inside, write_json, write_jsonl, write_text
from msdet.io.jobs import finish_run_dir
from msdet.scenes.scene import SCHEMA_VERSION, Scene, mixture_path, reference_path

HEADER, MANIFEST, CHECKSUMS = "dataset.json", "scenes.jsonl", "SHA256SUMS"  # written last; of scenes; of all files


@dataclass(frozen=True)
class SceneSet:
    """A rendered data set; `scenes` are in the order of ``scenes.jsonl``, `identity` hashes its settings."""

    root: Path
    sample_rate: int
    array: MicrophoneArray
    scenes: tuple[Scene, ...]
    identity: str

    @classmethod
    def open(cls, root: str | Path) -> SceneSet:
        """Open a data set; audio is read later. An `MsdetError` says that it is unfinished or of another schema."""
        root = Path(root)
        if not (root / HEADER).is_file():
            unfinished = " (unfinished: run the same command again)" if root.is_dir() else ""
            raise MsdetError(f"{root}: not a data set, {HEADER} is missing{unfinished}")
        header = read_json(root / HEADER)
        if not isinstance(header, dict) or header.get("schema") != SCHEMA_VERSION:
            schema = header.get("schema") if isinstance(header, dict) else header
            raise MsdetError(f"{root}/{HEADER}: schema is {schema!r}, this msdet reads {SCHEMA_VERSION}")
        for key in ("sample_rate", "array", "hash"):
            if key not in header:
                raise MsdetError(f"{root}/{HEADER}: key '{key}' is missing")
        if not isinstance(header["sample_rate"], int):
            raise MsdetError(f"{root}/{HEADER}: sample_rate is {header['sample_rate']!r}, expected hertz")
        manifest = root / MANIFEST
        scenes = tuple(
            Scene.from_dict(row, f"{manifest}, line {n}") for n, row in enumerate(read_jsonl(manifest), start=1)
        )
        if not scenes:
            raise MsdetError(f"{manifest}: has no scenes")
        array = MicrophoneArray.from_dict(header["array"], f"{root}/{HEADER}, array")
        return cls(root, header["sample_rate"], array, scenes, str(header["hash"]))

    def mixture(self, scene: Scene) -> Array:
        """The mixture ``(mic, time)`` of a scene, float32, with the set's rate and the scene's length."""
        return self._read(mixture_path(scene.id), scene, self.array.microphones)

    def references(self, scene: Scene) -> Array:
        """The references ``(talker, time)`` of a scene that has them, in its sources' order, float32."""
        if not scene.referenced:
            raise MsdetError(f"{self.root}: scene '{scene.id}' has no references")
        return np.concatenate([self._read(reference_path(scene.id, s), scene, 1) for s in range(len(scene.sources))])

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
        if rate != self.sample_rate or samples.shape != (channels, scene.samples):
            found = f"{samples.shape[0]} channels x {samples.shape[1]} samples at {rate} Hz"
            raise MsdetError(f"{path}: {found}, expected {channels} x {scene.samples} at {self.sample_rate} Hz")
        return samples


def finish_set(out: Path, settings: dict[str, Any], array: MicrophoneArray, ids: list[str]) -> SceneSet:
    """Write manifest, Kaldi tables, checksums and header of a set whose scenes are all written; open it."""
    records = [read_json(record_path(out, scene_id)) for scene_id in ids]
    scenes = tuple(Scene.from_dict(row["scene"], str(record_path(out, i))) for i, row in zip(ids, records, strict=True))
    write_jsonl(out / MANIFEST, [scene.to_dict() for scene in scenes])
    write_kaldi(out, scenes)
    sums = {path: digest for row in records for path, digest in row["sha256"].items()}
    sums[MANIFEST] = _digest(out / MANIFEST)
    write_text(out / CHECKSUMS, "".join(f"{digest}  {path}\n" for path, digest in sorted(sums.items())))
    content = {"schema": SCHEMA_VERSION, "sample_rate": scenes[0].sample_rate, "array": array.to_dict()}
    finish_run_dir(out, settings, HEADER, content)
    return SceneSet.open(out)


def write_scene(
    out: Path, scene: Scene, mixture: Array, references: Array, notes: dict[str, Any] | None = None
) -> None:
    """Write mixture ``(mic, time)`` and references ``(talker, time)`` of a scene, then its record.

    The record holds `notes` as well and marks the scene as finished.
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


def write_kaldi(root: Path, scenes: tuple[Scene, ...], out: Path | None = None) -> None:
    """Write ``wav.scp``, ``spk1.scp`` … and ``utt2*`` tables into a set, with paths relative to it.

    Or into another folder `out`, with absolute paths, which Kaldi opens wherever it runs; ``validate_data_dir.sh
    --no-feats --no-text`` finds nothing wrong with either. ``utt2spk`` and ``spk2utt`` map a mixture to itself, as
    Kaldi wants of recordings of several talkers. ``utt2doa`` lists azimuths in
    degrees and ``utt2distance`` distances in meters, in the order of ``spk1.scp`` …; of a moving talker, where it
    starts. ``utt2dur`` and ``utt2rt60`` are in seconds. A table has no line where that is not known of a scene;
    ``spk1.scp`` …, ``utt2doa`` and ``utt2distance`` are left out where it is not known of any.
    """
    ordered = sorted(scenes, key=lambda scene: scene.id)
    place = f"{root.resolve()}/" if out else ""
    tables = {
        "wav.scp": {s.id: f"{place}{mixture_path(s.id)}" for s in ordered},
        "utt2spk": {s.id: s.id for s in ordered},
        "spk2utt": {s.id: s.id for s in ordered},
        "utt2dur": {s.id: f"{s.duration_s:.3f}" for s in ordered},
        "utt2rt60": {s.id: f"{s.t60_s:.3f}" for s in ordered if s.t60_s is not None},
    }
    distances_m = {s.id: [source.distance_m for source in s.sources] for s in ordered}
    azimuths = {s.id: " ".join(f"{a:.2f}" for a in s.azimuths_deg) for s in ordered if s.located}
    distances = {i: " ".join(f"{d:.3f}" for d in row) for i, row in distances_m.items() if np.isfinite(row).all()}
    tables |= {name: table for name, table in (("utt2doa", azimuths), ("utt2distance", distances)) if table}
    for scene in ordered:
        for talker in range(len(scene.sources) if scene.referenced else 0):
            tables.setdefault(f"spk{talker + 1}.scp", {})[scene.id] = f"{place}{reference_path(scene.id, talker)}"
    for name, table in tables.items():
        write_text((out or root) / name, "".join(f"{key} {value}\n" for key, value in table.items()))
