"""The recipe for any folder of speech: whole, after a stage failed, and with a scene that has no score."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import soundfile

from msdet.data.scene_set import SceneSet
from msdet.io.files import read_json

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_folder_of_speech_gives_a_table(
    run_twice: Callable[..., str],
    talkers: Path,
    tiny: Callable[..., str],
    small_rooms: Callable[..., str],
    quick: list[str],
    sizes: list[str],
) -> None:
    files = ["--speech", str(talkers), "--config", tiny(), "--scenes", small_rooms()]
    results = run_twice("folder", *files, *sizes, *quick, stages=5)
    assert "srp_beam" in results
    assert "Paired differences" in results
    assert "--speech SPEECH --config CONFIG --scenes SCENES" in results


def test_a_stage_that_fails_ends_the_recipe_and_a_scene_without_a_score_does_not(
    run: Run,
    talkers: Path,
    tiny: Callable[..., str],
    small_rooms: Callable[..., str],
    quick: list[str],
    sizes: list[str],
    tmp_path: Path,
) -> None:
    files = ["--speech", str(talkers), "--config", tiny("optimizer: {stepz: 2}\n"), "--scenes", small_rooms()]
    options = ["--exp", str(tmp_path / "exp"), *files, *sizes, *quick]
    made = run("folder", *options, "--stop-stage", "1", fresh=True)
    assert made.returncode == 0, made.stdout + made.stderr
    failed = run("folder", *options)
    assert failed.returncode == 2
    assert "stage 2: train: failed (exit code 2)" in failed.stdout.splitlines()[-1]
    assert "stepz" in failed.stderr
    assert not (tmp_path / "exp" / "stages" / "2").exists()

    tiny()
    scene_set = SceneSet.open(tmp_path / "exp" / "test")
    for path in (scene_set.root / "audio" / scene_set.scenes[0].id).glob("*.wav"):
        samples, rate = soundfile.read(path)
        soundfile.write(path, 0.0 * samples, rate)
    done = run("folder", *options, "--stop-stage", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "stage 1: simulate: 2 test and 1 dev scenes, 2 rooms for training: already done" in done.stdout
    scores = read_json(tmp_path / "exp" / "evaluation" / "summary.json")["systems"]["model"]
    assert scores["si_sdr_db"]["scored"] == 1

    small_rooms(minimum_gap_deg=30)
    refused = run("folder", *options)
    assert refused.returncode == 2
    assert "exists with other settings: " in refused.stderr
