"""The recipe of the model for any array, in miniature."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from msdet.arrays import load_array
from msdet.inference.model import load
from msdet.io import audio
from msdet.io.files import read_json
from msdet.scoring.meetings import read_segments

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]
SMALL = {
    "encoder_options: {pairs: true}": "encoder_options: {hidden: 8, dilations: [1], pairs: true}",
    "separation_head: directional_filter\n": "separation_head: directional_filter\n"
    "  separation_options: {hidden: [8, 8], refiner_options: {hidden: 8, outputs: 8}}\n",
    "batch: 4": "batch: 2",
    "{1: 0.16, 2: 0.44, 3: 0.25, 4: 0.15}": "{1: 0.5, 2: 0.5}",
    "diffuse: spherical\n": "diffuse: none\n",  # there are no others to babble
    "workers: 1": "workers: 0",
    "sample_rate: 16000\n": "sample_rate: 16000\n    duration_s: 0.8\n",
}


def test_universal_recipe_from_arrays_to_a_package(
    run: Run, talkers: Path, small_rooms: Callable[..., str], quick: list[str], tmp_path: Path
) -> None:
    room = Path(small_rooms(sample_rate=16000)).read_text(encoding="utf-8")
    config = (ROOT / "recipes" / "universal" / "conf" / "train.yaml").read_text(encoding="utf-8")
    for full, small in SMALL.items():
        assert full in config
        config = config.replace(full, small)
    (tmp_path / "train.yaml").write_text(config, encoding="utf-8")
    for folder, text in {"kinds": room, "conditions": room}.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / ("near.yaml" if folder == "kinds" else "two.yaml")).write_text(text, encoding="utf-8")
    walks = room + "moving: 1.0\nduration_s: 0.8\n"
    (tmp_path / "kinds" / "walking.yaml").write_text(walks, encoding="utf-8")
    (tmp_path / "conditions" / "count.yaml").write_text(room + "talkers: {1: 1, 2: 1}\n", encoding="utf-8")
    options = ["--exp", str(tmp_path / "exp"), "--speech", str(talkers), "--config", str(tmp_path / "train.yaml")]
    options += ["--kinds", str(tmp_path / "kinds"), "--conditions", str(tmp_path / "conditions"), *quick]
    options += [
        "--arrays",
        "3",
        "--rooms",
        "2",
        "--calibrated",
        "2",
        "--dev-scenes",
        "2",
        "--test-scenes",
        "2",
        "--tested",
        "linear4_5cm",
    ]
    done = run("universal", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    again = run("universal", *options)
    assert again.stdout.count("already done") == 7, again.stdout

    stages = read_json(tmp_path / "exp" / "model" / "training.json")["stages"]
    assert list(stages) == ["01-localize", "02-separate"], stages
    scores = read_json(tmp_path / "exp" / "evaluation" / "linear4_5cm" / "summary.json")
    assert "model" in scores["systems"]
    model = load(tmp_path / "exp" / "package" / "universal_16k", array="chime_tablet")
    assert 1 <= model(np.random.default_rng(0).standard_normal((6, 16_000)), 16_000).count <= 4


def test_arrays_are_of_many_kinds(run: Run, tmp_path: Path) -> None:
    options = ["--exp", str(tmp_path), "--speech", str(tmp_path), "--arrays", "12", "--stop-stage", "1"]
    assert run("universal", *options).returncode == 0
    arrays = [load_array(path) for path in sorted((tmp_path / "arrays").glob("*.toml"))]
    assert len(arrays) == 12
    assert {array.geometry for array in arrays} >= {"linear", "planar"}
    for array in arrays:
        assert 2 <= array.microphones <= 8
        assert np.abs(array.centroid_m).max() < 1e-4


def test_meetings_have_turns_that_a_recording_holds(talkers: Path, tmp_path: Path) -> None:
    script = ROOT / "recipes" / "universal" / "local" / "make_meetings.py"
    options = ["--talkers", "2", "--count", "1", "--minutes", "0.4", "--array", "circular4_5cm"]
    for out in ("one", "two"):
        command = [sys.executable, script, "--out", tmp_path / out, "--speech", talkers, *options]
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    wav, rttm = (tmp_path / "one" / f"meeting2_0.{kind}" for kind in ("wav", "rttm"))
    mixture, rate = audio.read(wav)
    assert (mixture.shape, rate) == ((4, 24 * 16_000), 16_000)
    assert wav.read_bytes() == (tmp_path / "two" / wav.name).read_bytes()
    turns = read_segments([rttm])
    assert {turn["speaker"] for turn in turns} == {"talker0", "talker1"}
    active = np.zeros((2, 24 * 100), dtype=int)
    for turn in turns:
        first, last = (round(100 * float(turn[key])) for key in ("start_time", "end_time"))
        active[int(turn["speaker"][-1]), first:last] += 1
    assert active.max() == 1  # nobody talks over himself
    assert 0.05 < (active.sum(axis=0) > 1).mean() / (active.sum(axis=0) > 0).mean() < 0.5
    level = np.square(mixture[0].reshape(-1, 160)).mean(axis=1)
    assert level[active.any(axis=0)].mean() > 10 * level[~active.any(axis=0)].min()
