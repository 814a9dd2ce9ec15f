"""What used to stop a set half-way: silence, walls, leftovers of others, few voices, lost clusters."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msdet.cli import main
from msdet.corpora import load_corpus
from msdet.data.scene_set import SceneSet
from msdet.data.simulate import simulate
from msdet.errors import MsdetError
from msdet.io import audio
from msdet.io.files import remove_leftovers, write_json
from msdet.io.jobs import IN_PROGRESS
from msdet.scenes.distribution import LIMITS, SceneDistribution
from msdet.scenes.dry_sounds import Sounds
from msdet.scenes.sampling import Material, sample_scene

RATE = 8000
FileBytes = Callable[[Path], dict[str, bytes]]


@pytest.fixture(scope="module")
def mostly_silent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight talkers, one utterance each of 6 s that are digital silence but for its first 3 s."""
    root = tmp_path_factory.mktemp("silent")
    for n in range(8):
        speech = np.zeros(6 * RATE)
        speech[: 3 * RATE] = 0.1 * np.random.default_rng(n).standard_normal(3 * RATE)
        audio.write(root / f"s{n}" / "0.wav", speech, RATE)
    rows = ["speaker\tsplit", *(f"s{n}\t{'train' if n < 4 else 'dev' if n < 6 else 'test'}" for n in range(8))]
    (root / "speakers.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


def test_silent_scene_is_drawn_again_the_same_way_by_any_workers(
    mostly_silent: Path,
    small_room: SceneDistribution,
    tmp_path: Path,
    file_bytes: FileBytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def make(name: str, jobs: int) -> SceneSet | None:
        return simulate(tmp_path / name, mostly_silent, "folder", "train", small_room, 4, seed=2, jobs=jobs)

    with caplog.at_level(logging.WARNING):
        made = make("one", 1)
    assert made is not None
    reasons = [r.getMessage() for r in caplog.records]
    assert reasons and all("drawn again: " in r and "is silent from" in r for r in reasons)
    for scene in made.scenes:
        assert (np.abs(made.references(scene)).max(axis=-1) > 0).all()
    make("two", 2)
    assert file_bytes(tmp_path / "two") == file_bytes(tmp_path / "one")


def test_sector_that_points_into_a_wall_is_drawn_again(material: Material) -> None:
    cornered = SceneDistribution(
        sector_deg=30.0, center_offset_m=(-2.5, 2.5), array_height_m=(1.0, 2.0), talker_height_m=(1.0, 2.0)
    )
    for n in range(60):
        scene = sample_scene(f"train-{n:06d}", cornered, material, 0)
        assert scene.azimuth_gap_deg <= 30.0 + 1e-6


def test_array_drawn_outside_the_room_is_drawn_again(material: Material) -> None:
    low = SceneDistribution(center_offset_m=(-2.0, 2.0), talker_height_m=(1.0, 2.0))
    for n in range(40):
        scene = sample_scene(f"train-{n:06d}", low, material, 0)
        assert scene.room_m is not None
        assert all(0 < c < size for c, size in zip(scene.array_center_m, scene.room_m, strict=True))


def test_babble_serves_many_microphones(speech: Path, small_room: SceneDistribution) -> None:
    material = Material(load_corpus("folder", speech).by_speaker("train"), microphones=32)
    d = dataclasses.replace(small_room, array="eigenmike32", diffuse="spherical")
    scene = sample_scene("train-000000", d, material, 0)
    noise = scene.noises[1]
    streams = Sounds(speech, RATE).noise(noise, 32, scene.samples, np.random.default_rng(0))
    assert streams.shape == (32, scene.samples)
    coherence = np.abs(np.corrcoef(streams) - np.eye(32)).max()
    assert coherence < 0.9, "no two streams are the same"


def test_recordings_of_a_scene_do_not_overlap(material: Material) -> None:
    from msdet.scenes.noise import NoiseRecording

    recordings = tuple(NoiseRecording(f"{n}.wav", 0.0, 40.0, "train") for n in range(2))
    d = SceneDistribution(diffuse="spherical", point_noises=2)
    for n in range(10):
        scene = sample_scene(f"train-{n:06d}", d, dataclasses.replace(material, recordings=recordings), 0)
        heard = sorted((e.path, e.offset_s) for noise in scene.noises for e in noise.excerpts)
        assert len(heard) == 8
        for (path, start_s), (other, next_s) in itertools.pairwise(heard):
            assert path != other or next_s - start_s >= scene.duration_s - 1e-6


def test_leftovers_are_swept_but_not_those_of_a_run_at_work(tmp_path: Path) -> None:
    from msdet.io.files import atomic_path

    ended = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True
    )
    with atomic_path(tmp_path / "own.json") as own:
        name = own.name
        host = name.split("-")[1]
        dead = tmp_path / f".part-{host}-{ended.stdout.strip()}-abc.wav"
        foreign, old = tmp_path / ".part-00000000-1-abc.wav", tmp_path / ".part-11111111-1-abc.wav"
        for path in (dead, foreign, old, tmp_path / ".part-left"):
            path.write_bytes(b"x")
        yesterday = time.time() - 90000
        os.utime(old, (yesterday, yesterday))
        remove_leftovers(tmp_path)
        assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, foreign.name])
        own.write_text("{}")
    assert (tmp_path / "own.json").is_file()


def test_folder_claimed_by_a_run_that_wrote_nothing_can_be_claimed_anew(
    speech: Path, small_room: SceneDistribution, tmp_path: Path, dev_set: SceneSet, file_bytes: FileBytes
) -> None:
    write_json(tmp_path / "set" / IN_PROGRESS, {"settings": {"seed": 99}})
    simulate(tmp_path / "set", speech, "folder", "dev", small_room, 3, seed=5, jobs=1)
    assert file_bytes(tmp_path / "set") == file_bytes(dev_set.root)


class Lost(Executor):
    """A cluster that goes away."""

    def submit(self, function: Any, /, *arguments: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_exception(RuntimeError("scheduler\nclosed"))
        return future


def test_lost_cluster_is_one_line(speech: Path, small_room: SceneDistribution, tmp_path: Path) -> None:
    with pytest.raises(MsdetError, match=r"the cluster failed or was lost \(RuntimeError scheduler closed\)"):
        simulate(tmp_path / "set", speech, "folder", "dev", small_room, 3, seed=5, jobs=Lost())


def test_noise_that_no_scene_uses_is_refused(speech: Path, small_room: SceneDistribution, tmp_path: Path) -> None:
    audio.write(tmp_path / "noise" / "n.wav", 0.1 * np.random.default_rng(0).standard_normal(20 * RATE), RATE)
    with pytest.raises(MsdetError, match="the scenes have neither diffuse noise nor point_noises"):
        simulate(tmp_path / "set", speech, "folder", "dev", small_room, 3, 5, 1, noise=tmp_path / "noise")


def test_set_within_its_corpus_is_refused(speech: Path, small_room: SceneDistribution, tmp_path: Path) -> None:
    corpus = Path(shutil.copytree(speech, tmp_path / "speech"))
    with pytest.raises(MsdetError, match="is in the corpus"):
        simulate(corpus / "data" / "dev", corpus, "folder", "dev", small_room, 3, seed=5, jobs=1)
    assert not (corpus / "data").exists()


@pytest.mark.parametrize("name", sorted(LIMITS))
def test_value_beyond_its_limits_is_refused_by_name(name: str) -> None:
    low, high = LIMITS[name]
    default = getattr(SceneDistribution(), name)
    for value in (low - 1, high * 1e6 + 1):
        wrong: Any = value if isinstance(default, (int, float)) or name == "image_order" else (value, value)
        with pytest.raises(MsdetError, match=f"^{name} is .*, expected {low:g} to {high:g}$"):
            dataclasses.replace(SceneDistribution(), **{name: wrong}).check()


@pytest.mark.parametrize(
    ("changes", "other"),
    [
        ({"sector_deg": 90.0}, "sector_deg 90.0"),
        ({"elevation_deg": (0.0, 10.0)}, "elevation_deg"),
        ({"image_order": 3}, "image_order 3"),
    ],
)
def test_what_walking_talkers_cannot_keep_is_refused(changes: dict[str, Any], other: str) -> None:
    with pytest.raises(MsdetError, match=f"moving is 0.5 and {other}.*: not possible together"):
        dataclasses.replace(SceneDistribution(moving=0.5), **changes).check()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bank", "--rooms", "1", "--seed", "-1"], "seed is -1, expected 0 or more"),
        (["bank", "--rooms", "1", "--jobs", "-2"], "jobs is -2, expected a number of processes"),
        (["simulate", "--speech", "SPEECH", "--corpus", "os:getcwd"], "corpus kind 'os:getcwd' is no reader"),
        (["simulate", "--speech", "SPEECH", "--scenes.duration_s", "1e9"], "duration_s is 1000000000.0, expected"),
    ],
)
def test_wrong_value_is_one_line(
    arguments: list[str], message: str, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(speech) if a == "SPEECH" else a for a in arguments]
    assert main([*given, "--out", str(tmp_path / "x")]) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1 and message in errors[0]
    assert not (tmp_path / "x").exists()
