"""A small corpus, a small bank of impulse responses and a small rendered set, made once a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.signal import lfilter

from msdet.corpora import Utterance
from msdet.data.scene_set import SceneSet
from msdet.data.simulate import simulate
from msdet.io import audio
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.rir.bank import RirBank, make_bank
from msdet.scenes.sampling import Material

RATE = 8000
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
def dev_set(
    tmp_path_factory: pytest.TempPathFactory, speech: Path, small_room: SceneDistribution
) -> SceneSet:
    """A finished rendered set of 3 scenes of the dev talkers."""
    return simulate(tmp_path_factory.mktemp("dev"), speech, "folder", "dev", small_room, 3, seed=5, jobs=1)


@pytest.fixture(scope="session")
def material() -> Material:
    """Utterances of six talkers, for sampling: no audio behind them. Every talker has a short one."""
    speech = {
        f"s{n}": [
            Utterance(f"s{n}", f"s{n}/{u}.wav", seconds, "train") for u, seconds in enumerate((1.0, 6.0))
        ]
        for n in range(6)
    }
    return Material(speech, microphones=6)


@pytest.fixture(scope="session")
def file_bytes() -> Callable[[Path], dict[str, bytes]]:
    """Reads every file below a folder, hidden ones too: relative path to content."""

    def read(root: Path) -> dict[str, bytes]:
        return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}

    return read
