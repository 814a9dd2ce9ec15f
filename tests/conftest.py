"""A small corpus, bank of impulse responses and rendered set, made once a session; sets written by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.signal import lfilter

from msdet.arrays import MicrophoneArray, load_array
from msdet.corpora import Utterance
from msdet.data.scene_set import SceneSet
from msdet.data.simulate import simulate
from msdet.io import audio
from msdet.io.files import write_json, write_jsonl
from msdet.models.checkpoint import save_model
from msdet.models.config import ModelConfig
from msdet.models.joint import JointModel
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.rir.bank import RirBank, make_bank
from msdet.scenes.sampling import Material
from msdet.scenes.scene import SCHEMA_VERSION, Noise, Scene, Source, mixture_path, reference_path

RATE = 8000
CAUSAL = {"causal": True}
Array = npt.NDArray[Any]
SPLIT_OF = {f"talker{n}": split for n, split in enumerate(["train"] * 4 + ["dev"] * 2 + ["test"] * 2)}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Torch on one core, so that results do not depend on the machine's number of cores."""
    torch.set_num_threads(1)


def utterance(seed: int, seconds: float) -> npt.NDArray[Any]:
    """Speech-like ``(time,)``: harmonics of a gliding pitch and noise bursts, both in syllables; peak 0.5."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    syllables = np.clip(np.sin(2 * np.pi * rng.uniform(2.5, 4.5) * t + rng.uniform(0, 6)), 0.02, None)
    glide = 1.0 + 0.1 * np.sin(2 * np.pi * rng.uniform(0.3, 0.8) * t)
    phase_rad = 2 * np.pi * np.cumsum(rng.uniform(90, 240) * glide) / RATE
    voiced = sum(np.sin(h * phase_rad + rng.uniform(0, 6)) / h for h in range(1, 14))
    bursts = np.clip(np.sin(2 * np.pi * rng.uniform(1, 2) * t), 0.0, None) ** 4
    hiss = lfilter([1.0, -0.9], [1.0], rng.standard_normal(t.size))
    signal = syllables * voiced + bursts * hiss
    return 0.5 * signal / np.abs(signal).max()


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a corpus of 8 talkers x 2 utterances of 2.5 and 3 s: 4 train, 2 dev, 2 test."""
    root = tmp_path_factory.mktemp("speech")
    for n, speaker in enumerate(SPLIT_OF):
        for u, seconds in enumerate((2.5, 3.0)):
            audio.write(root / speaker / f"{u}.wav", utterance(10 * n + u, seconds), RATE)
    rows = ["speaker\tsplit", *(f"{speaker}\t{split}" for speaker, split in SPLIT_OF.items())]
    (root / "speakers.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


@pytest.fixture(scope="session")
def small_room() -> SceneDistribution:
    """Scenes of 1.5 s of two talkers and four microphones in a small, dry room: quick to render."""
    return SceneDistribution(
        duration_s=1.5,
        array="circular4_5cm",
        room_x_m=(4.3, 4.5),
        room_y_m=(3.8, 4.0),
        room_z_m=(2.6, 2.8),
        center_offset_m=(-0.1, 0.1),
        t60_s=(0.2, 0.25),
        distance_m=(0.8, 1.5),
        minimum_gap_deg=20.0,
    )


@pytest.fixture(scope="session")
def bank(tmp_path_factory: pytest.TempPathFactory, small_room: SceneDistribution) -> RirBank:
    """A bank of 4 rooms x 3 positions."""
    return make_bank(tmp_path_factory.mktemp("bank"), small_room, rooms=4, positions=3, seed=11, jobs=1)


@pytest.fixture(scope="session")
def dev_set(tmp_path_factory: pytest.TempPathFactory, speech: Path, small_room: SceneDistribution) -> SceneSet:
    """A finished rendered set of 3 scenes of the dev talkers."""
    return simulate(tmp_path_factory.mktemp("dev"), speech, "folder", "dev", small_room, 3, seed=5, jobs=1)


@pytest.fixture(scope="session")
def material() -> Material:
    """Utterances of six talkers, for sampling: no audio behind them. Every talker has a short one."""
    speech = {
        f"s{n}": [Utterance(f"s{n}", f"s{n}/{u}.wav", seconds, "train") for u, seconds in enumerate((1.0, 6.0))]
        for n in range(6)
    }
    return Material(speech, microphones=6)


@pytest.fixture(scope="session")
def file_bytes() -> Callable[[Path], dict[str, bytes]]:
    """Reads every file below a folder, hidden ones too: relative path to content."""

    def read(root: Path) -> dict[str, bytes]:
        return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}

    return read


@pytest.fixture
def talker_signals() -> Callable[..., Array]:
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
    tmp_path: Path, talker_signals: Callable[..., Array], make_scene: Callable[..., Scene]
) -> Callable[..., SceneSet]:
    """Writes a rendered set of two microphones, the second one the reference, and opens it."""

    def make(azimuths_deg: Sequence[Sequence[float]], seconds: float = 1.5, **changes: Any) -> SceneSet:
        root = tmp_path / "set"
        scenes = [make_scene(f"scene{n}", a, seconds, **changes) for n, a in enumerate(azimuths_deg)]
        array = MicrophoneArray("pair", ((0.05, 0.0, 0.0), (-0.05, 0.0, 0.0)), reference=1)
        for n, scene in enumerate(scenes):
            references = talker_signals(len(scene.sources), seconds, seed=n)
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

    def write(scene_set: SceneSet, with_audio: bool = True, with_doa: bool = True, suffix: str = ".wav") -> Path:
        root = tmp_path / "estimates"
        root.mkdir()
        rng = np.random.default_rng(7)
        for scene in scene_set.scenes if with_audio else ():
            for n, reference in enumerate(scene_set.references(scene)[::-1], start=1):
                estimate = 0.1 * (reference + 0.03 * rng.standard_normal(reference.size))
                audio.write(root / scene.id / f"talker{n}{suffix}", estimate, RATE)
        if with_doa:
            rows = [
                {"id": scene.id, "azimuth_deg": (scene.azimuths_deg[::-1] + 3.0).tolist()} for scene in scene_set.scenes
            ]
            write_jsonl(root / "doa.jsonl", rows)
        return root

    return write


@pytest.fixture(scope="session")
def write_causal_model() -> Callable[..., Path]:
    """Writes a small causal model for four microphones at 8 kHz, or one with other parts."""

    def write(folder: Path, **changes: Any) -> Path:
        settings: dict[str, Any] = {
            "window_s": 0.032,
            "front_end": "real_imaginary",
            "front_end_options": CAUSAL,
            "encoder_options": {"hidden": 8, "group": 16, "causal": True},
            "doa_head": "pooled",
            "doa_options": CAUSAL,
            "separation_head": "reference_mask",
        }
        torch.manual_seed(0)
        config = ModelConfig(**{**settings, **changes})
        save_model(folder, JointModel(config, load_array("circular4_5cm"), 8000), {})
        return folder

    return write


@pytest.fixture(scope="session")
def causal_model(tmp_path_factory: pytest.TempPathFactory, write_causal_model: Callable[..., Path]) -> Path:
    """The small causal model."""
    return write_causal_model(tmp_path_factory.mktemp("causal"))
