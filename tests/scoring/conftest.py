"""Speech-like signals and small rendered sets, written by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.signal import lfilter

from msdet.arrays import MicrophoneArray
from msdet.data.scene_set import SceneSet
from msdet.io import audio
from msdet.io.files import write_json, write_jsonl
from msdet.scenes.scene import SCHEMA_VERSION, Noise, Scene, Source, mixture_path, reference_path

RATE = 8000
Array = npt.NDArray[Any]


@pytest.fixture
def speech() -> Callable[..., Array]:
    """Makes ``(talker, time)`` zero-mean signals of tones and filtered noise in syllables; peak 0.5."""

    def make(talkers: int, seconds: float = 1.5, seed: int = 0) -> Array:
        rng = np.random.default_rng(seed)
        t = np.arange(round(seconds * RATE)) / RATE
        signals = []
        for _ in range(talkers):
            syllables = 0.1 + np.sin(2 * np.pi * rng.uniform(2, 5) * t + rng.uniform(0, 6)) ** 2
            pitch = rng.uniform(90, 250)
            voiced = sum(np.sin(2 * np.pi * pitch * h * t + rng.uniform(0, 6)) / h for h in range(1, 12))
            unvoiced = lfilter([1.0], [1.0, -1.2, 0.7], rng.standard_normal(t.size))
            signal = syllables * (voiced + 0.3 * unvoiced)
            signal -= signal.mean()
            signals.append(0.5 * signal / np.abs(signal).max())
        return np.stack(signals)

    return make


@pytest.fixture
def make_scene() -> Callable[..., Scene]:
    """Makes a scene with talkers at the azimuths given."""

    def make(scene_id: str, azimuths_deg: Sequence[float], seconds: float = 1.5, **changes: Any) -> Scene:
        sources = tuple(
            Source(f"s{n}", f"s{n}.wav", 0.0, 0.0, seconds, 0.0, (1.0, 2.0, 1.5), azimuth, 0.0, 1.0)
            for n, azimuth in enumerate(azimuths_deg)
        )
        values: dict[str, Any] = {
            "id": scene_id,
            "seed": 1,
            "sample_rate": RATE,
            "duration_s": seconds,
            "room_m": (5.0, 4.0, 3.0),
            "t60_target_s": 0.3,
            "array": "pair",
            "array_center_m": (2.0, 2.0, 1.5),
            "array_rotation_deg": (0.0, 0.0, 0.0),
            "sources": sources,
            "noises": (Noise("sensor", 30.0),),
            "target": "direct",
        }
        return Scene(**(values | changes))

    return make


@pytest.fixture
def make_set(
    tmp_path: Path, speech: Callable[..., Array], make_scene: Callable[..., Scene]
) -> Callable[..., SceneSet]:
    """Writes a rendered set of two microphones, the second one the reference, and opens it."""

    def make(azimuths_deg: Sequence[Sequence[float]], seconds: float = 1.5, **changes: Any) -> SceneSet:
        root = tmp_path / "set"
        scenes = [make_scene(f"scene{n}", a, seconds, **changes) for n, a in enumerate(azimuths_deg)]
        array = MicrophoneArray("pair", ((0.05, 0.0, 0.0), (-0.05, 0.0, 0.0)), reference=1)
        for n, scene in enumerate(scenes):
            references = speech(len(scene.sources), seconds, seed=n)
            noise = 0.01 * np.random.default_rng(n).standard_normal((2, scene.samples))
            mixture = np.stack([references.sum(0)[::-1], references.sum(0)]) + noise
            audio.write(root / mixture_path(scene.id), mixture, RATE, subtype="FLOAT")
            for talker, reference in enumerate(references):
                audio.write(root / reference_path(scene.id, talker), reference, RATE, subtype="FLOAT")
        write_jsonl(root / "scenes.jsonl", [scene.to_dict() for scene in scenes])
        header = {"schema": SCHEMA_VERSION, "sample_rate": RATE, "array": array.to_dict(), "hash": "x"}
        write_json(root / "dataset.json", header)
        return SceneSet.open(root)

    return make


@pytest.fixture
def write_estimates(tmp_path: Path) -> Callable[..., Path]:
    """Writes an estimates folder: noisy references in reversed order, and their azimuths 3 degrees off."""

    def write(
        scene_set: SceneSet, with_audio: bool = True, with_doa: bool = True, suffix: str = ".wav"
    ) -> Path:
        root = tmp_path / "estimates"
        root.mkdir()
        rng = np.random.default_rng(7)
        for scene in scene_set.scenes if with_audio else ():
            for n, reference in enumerate(scene_set.references(scene)[::-1], start=1):
                estimate = 0.1 * (reference + 0.03 * rng.standard_normal(reference.size))
                audio.write(root / scene.id / f"talker{n}{suffix}", estimate, RATE)
        if with_doa:
            rows = [
                {"id": scene.id, "azimuth_deg": (scene.azimuths_deg[::-1] + 3.0).tolist()}
                for scene in scene_set.scenes
            ]
            write_jsonl(root / "doa.jsonl", rows)
        return root

    return write
