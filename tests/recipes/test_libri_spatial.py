"""The recipe of LibriSpeech, on an excerpt made up, and on any folder."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from msdet.data.scene_set import SceneSet
from msdet.io.files import read_json

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]
WriteText = Callable[..., str]


def test_libri_spatial_of_an_excerpt(
    run_twice: Callable[..., str],
    librispeech: Path,
    tiny: WriteText,
    small_rooms: WriteText,
    quick: list[str],
    sizes: list[str],
    tmp_path: Path,
) -> None:
    files = ["--config", tiny(), "--scenes", small_rooms(sample_rate=16000)]
    files += ["--speech", str(librispeech), "--dev_subsets=dev-other", "--array=circular4_5cm"]
    results = run_twice("libri_spatial", *files, *sizes, *quick, stages=6)
    assert "16000 Hz, array circular4_5cm." in results
    assert "--speech SPEECH --dev_subsets dev-other --array circular4_5cm" in results
    talkers = {s.speaker for scene in SceneSet.open(tmp_path / "exp" / "dev").scenes for s in scene.sources}
    assert talkers == {"116", "700"}


def test_libri_spatial_of_any_folder_trained_in_stages(
    run: Run,
    librispeech: Path,
    tiny: WriteText,
    small_rooms: WriteText,
    quick: list[str],
    sizes: list[str],
    tmp_path: Path,
) -> None:
    speech = tmp_path / "some speech"
    rows = ["speaker\tsplit"]
    for subset, split in (("train-clean-100", "train"), ("dev-other", "dev"), ("test-clean", "test")):
        for talker in (librispeech / subset).iterdir():
            shutil.copytree(talker, speech / talker.name)
            rows.append(f"{talker.name}\t{split}")
    (speech / "speakers.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    small_rooms(sample_rate=16000)
    staged = (ROOT / "msdet" / "configs" / "msdet_stages.yaml").read_text(encoding="utf-8")
    tiny(staged.replace("hidden: 96, group: 1", "size: tiny"))
    files = ["--speech", "some speech", "--scenes", "scenes.yaml", "--config", "tiny.yaml", "--exp", "an exp"]
    devices = ["--devices", "1", "--nodes", "1", "--precision", "bf16-mixed", "--workers", "0"]
    options = [*files, *devices, *sizes, *quick, "--stop-stage", "2"]
    done = run("libri_spatial", "--corpus", "folder", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    stages = read_json(tmp_path / "an exp" / "model" / "training.json")["stages"]
    assert [stage["steps"] for stage in stages.values()] == [1, 1, 1]
    description = read_json(tmp_path / "an exp" / "model" / "model.json")
    assert description["sample_rate"] == 16000
    assert description["notes"]["training"]["trainer"]["precision"] == "bf16-mixed"


def test_shipped_configurations_are_found_by_name(run: Run, librispeech: Path, tmp_path: Path) -> None:
    names = ["--config", "msdet_stages", "--scenes", "meeting", "--stop-stage", "0", "--dev-subsets", "dev-other"]
    done = run("libri_spatial", "--speech", str(librispeech), "--exp", str(tmp_path / "exp"), *names)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "exp" / "speech").iterdir()) == [
        "SPEAKERS.TXT", "dev-other", "test-clean", "train-clean-100",
    ]  # fmt: skip
