"""The recipe of the shipped models, from speech to packages."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from msdet.io.files import read_json
from msdet.models.checkpoint import load_model

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_packages_hold_the_models_and_their_scores_in_every_condition(
    run: Run, talkers: Path, tiny: Callable[..., str], small_rooms: Callable[..., str], quick: list[str], tmp_path: Path
) -> None:
    small = Path(small_rooms(minimum_gap_deg=60)).read_text(encoding="utf-8")
    conditions = {"other_array": "array: circular4_5cm\n", "noise": "diffuse: spherical\ndiffuse_snr_db: [0, 10]\n"}
    for name, text in conditions.items():
        (tmp_path / "conditions").mkdir(exist_ok=True)
        (tmp_path / "conditions" / f"{name}.yaml").write_text(small + text, encoding="utf-8")
    sizes = ["--rooms", "1", "--dev-scenes", "1", "--test-scenes", "2", "--condition-scenes", "2"]
    files = ["--speech", str(talkers), "--config", tiny(), "--conditions", str(tmp_path / "conditions")]
    (tmp_path / "notes.md").write_text("Voices that a computer spoke.\n", encoding="utf-8")
    files += ["--data-notes", str(tmp_path / "notes.md"), "--license", "CC0 1.0"]
    done = run("pretrained", "--exp", str(tmp_path / "exp"), *files, *sizes, *quick)
    assert done.returncode == 0, done.stdout + done.stderr
    for name, rate in {"circular6_8k": 8000, "circular6_16k": 16000}.items():
        package = tmp_path / "exp" / "packages" / name
        assert load_model(package).sample_rate == rate
        assert read_json(package / "model.json")["array"]["name"] == "circular6_10cm"
        card = (package / "README.md").read_text(encoding="utf-8")
        for title in ("as in training", "another array", "noise", "Voices that a computer spoke.", "CC0 1.0"):
            assert title in card
        assert (tmp_path / "exp" / "results" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_description_of_the_speech_that_is_not_there_is_one_line(run: Run, talkers: Path, tmp_path: Path) -> None:
    options = ["--speech", str(talkers), "--exp", str(tmp_path), "--data-notes", str(tmp_path / "notes.md")]
    done = run("pretrained", *options)
    assert done.returncode == 2
    assert done.stderr == f"error: {tmp_path}/notes.md: no such file; --data-notes names another\n"
