"""The recipe of the shipped models, from speech to packages."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from msdet.io.files import read_json
from msdet.models.checkpoint import load_model

ROOT = Path(__file__).resolve().parents[2]
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


STARTED = """#!/bin/bash
# stands in for what starts commands: notes them, and leaves what the script asks for
echo "$@" >>"$NOTES"
while [ $# -gt 0 ]; do
  case $1 in --out) out=$2 ;; --dry_run) echo "step: 0.500 s; a batch takes"; exit ;; esac
  shift
done
mkdir -p "$out"
for file in bank dataset; do echo {} >"$out/$file.json"; done
case $out in */model) [ ! -e "$NOTES.late" ] || { rm "$NOTES.late"; exit 143; }; echo {} >"$out/training.json" ;; esac
"""


def test_a_gpu_of_minutes_trains_for_as_long_as_there_is_and_goes_on(talkers: Path, tmp_path: Path) -> None:
    start, notes = tmp_path / "start.sh", tmp_path / "notes"
    start.write_text(STARTED, encoding="utf-8")
    start.chmod(0o755)
    (tmp_path / "notes.late").touch()
    variables = os.environ | {"train_cmd": str(start), "cpu_cmd": str(start), "NOTES": str(notes)}

    def gpu(*options: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", str(ROOT / "recipes" / "pretrained" / "gpu.sh"), "--speech", str(talkers)]
        command += ["--exp", str(tmp_path / "exp"), "--device", "cpu", "--nj", "2", *options]
        return subprocess.run(command, capture_output=True, text=True, env=variables, cwd=ROOT)

    some = ("--stage", "2", "--stop-stage", "2", "--minutes", "10", "--batch", "8")
    late = gpu(*some)
    assert late.returncode == 1 and "time is over; run again, it goes on" in late.stdout
    steps = int((tmp_path / "exp" / "circular6_8k" / "steps").read_text())
    assert 900 < steps <= 0.8 * 600 / 0.5
    assert gpu(*some).returncode == 0
    tried, first, second = (line for line in notes.read_text().splitlines() if line.startswith("msdet train"))
    assert "--dry_run true" in tried and first == second
    for option in (f"--optimizer.steps {steps}", "--optimizer.batch 8", "--trainer.accelerator cpu"):
        assert option in first
    assert "already done" in gpu(*some).stdout
    assert gpu("--device", "tpu").stderr == "error: --device is 'tpu', expected cuda or cpu\n"
