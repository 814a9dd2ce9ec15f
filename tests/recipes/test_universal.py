"""The recipe of the model for any array, in miniature."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np

from msdet.arrays import load_array
from msdet.inference.model import load
from msdet.io.files import read_json

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
