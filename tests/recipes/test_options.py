"""Options of recipes, and how their stages end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted(path.parent.name for path in (ROOT / "recipes").glob("*/run.sh"))


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_explains_its_options_and_refuses_others(recipe: str, run: Run) -> None:
    shown = run(recipe, "--help")
    assert shown.returncode == 0
    assert f"recipes/{recipe}/run.sh" in shown.stdout
    assert "--stop-stage N" in shown.stdout
    for option in re.findall(r"(?<!msdet )--[a-z][a-z0-9-]+", shown.stdout):
        if option != "--force":
            done = run(recipe, option)
            assert done.stderr == f"error: {option} needs a value\n"
    refused = run(recipe, "--sped", "x")
    assert refused.returncode == 2
    assert refused.stderr == "error: unknown option --sped (see --help)\n"


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        ("demo", ["--stages", "1"], "unknown option --stages"),
        ("demo", ["--stage"], "--stage needs a value"),
        ("demo", ["--start-dir", "/"], "unknown option --start-dir"),
        ("demo", ["--stage", "4", "--stop-stage", "3"], "--stage 4 is after --stop-stage 3"),
        ("folder", [], "--speech is missing"),
        ("folder", ["--speech", "/nowhere"], "/nowhere: no such folder"),
        ("multitask", [], "--speech is missing"),
        ("pretrained", ["--speech", ".", "--conditions", "recipes"], "recipes: holds no .yaml files"),
        ("sms_wsj", [], "--sms-wsj is missing"),
        ("sms_wsj", ["--sms-wsj", "/nowhere"], "/nowhere: no such folder"),
        ("sms_wsj", ["--sms-wsj", "."], "sms_wsj.json: no such file; --json names another"),
        (
            "sms_wsj",
            ["--config", "lbd"],
            "--config is 'lbd', expected a YAML file or one of: msdet_stages, steered, lbt, msdet, ",
        ),
        ("spatial_wsj0_mix", [], "--wsj0 is missing"),
        ("spatial_wsj0_mix", ["--talkers", "4"], "--talkers is 4, expected 2 or 3"),
        ("spatial_wsj0_mix", ["--wsj0", ".", "--lists", "recipes"], "recipes/mix_2_spk_tr.txt: no such file"),
        ("spatial_wsj0_mix", ["--tree", ".", "--wsj0", "."], "--tree is a corpus of its own"),
        ("spatial_wsj0_mix", ["--tree", "."], "2speakers_reverb/wav8k/min/tr/mix: no such folder"),
        ("libri_spatial", [], "--speech is missing"),
        ("libri_spatial", ["--dev_subsets=dev-other"], "--speech is missing"),
        ("libri_spatial", ["--speech", ".", "--stage", "3"], "dataset.json: run the stages before it"),
        ("libri_spatial", ["--speech", "recipes"], "has no subset 'train-clean-100'; found demo, folder"),
    ],
)
def test_bad_options_are_one_line(recipe: str, options: list[str], message: str, run: Run, tmp_path: Path) -> None:
    done = run(recipe, "--exp", str(tmp_path / "exp"), *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_to_a_recipe_ends_what_it_runs(number: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "run.sh"
    script.write_text(
        f"set -euo pipefail\nstage=1 stop_stage=1 exp={tmp_path}/exp\n. {ROOT}/recipes/utils/stages.sh\n"
        f"run_stage 1 \"train\" -- bash -c 'echo $$ >{tmp_path}/pid; exec sleep 600'\n"
    )
    # as from a terminal: a shell that is started with signals ignored cannot trap them
    with subprocess.Popen(
        ["bash", script], stdout=subprocess.PIPE, text=True, preexec_fn=lambda: signal.signal(number, signal.SIG_DFL)
    ) as recipe:
        deadline = time.monotonic() + 60
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        recipe.send_signal(number)
        said = recipe.communicate(timeout=60)[0]
    assert recipe.returncode in (128 + number, 130)
    assert said.endswith("train: interrupted; finished stages are skipped when run again\n")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def started(folder: Path, **commands: str) -> list[str]:
    """What commands print and write that start as given; logs are below the folder."""
    script = ". recipes/utils/cmd.sh; start train_cmd python -c 'print(1)'; start evaluate_cmd python -m this.one"
    variables = {"exp": str(folder / "exp")} | commands
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, env=os.environ | variables, capture_output=True, text=True)
    logs = [f"{log.name}: {log.read_text()}" for log in sorted((folder / "exp").rglob("*.log"))]
    return [*done.stdout.splitlines(), *logs]


def test_commands_start_with_a_prefix_or_a_script_of_kaldi(tmp_path: Path) -> None:
    assert started(tmp_path, train_cmd="echo train", cpu_cmd="echo any") == [
        "train python -c print(1)",
        "any python -m this.one",
    ]
    script = tmp_path / "queue.pl"
    script.write_text('#!/bin/sh\nshift 2; log=$1; shift; echo "$@" >"$log"\n')
    script.chmod(0o755)
    with_gpu = f"{script} --gpu 1"
    assert started(tmp_path, train_cmd=with_gpu, cpu_cmd="echo any", evaluate_cmd=with_gpu) == [
        "-c.log: python -c print(1)\n",
        "-m.log: python -m this.one\n",
    ]


def test_parts_are_an_array_of_jobs_of_kaldi_and_are_finished_together(tmp_path: Path) -> None:
    script = tmp_path / "run.pl"
    script.write_text(
        """#!/bin/bash
case $1 in JOB=1:*) last=${1#JOB=1:}; shift ;; *) last=1 ;; esac
log=$1; shift
for job in $(seq "$last"); do echo "${@//JOB/$job}" >"${log//JOB/$job}"; done
"""
    )
    script.chmod(0o755)

    def made(cpu_cmd: str) -> list[str]:
        lines = ". recipes/utils/cmd.sh; nj=2; for seed in 1 2; do start_parts msdet bank --seed $seed; done"
        variables = {"exp": str(tmp_path / "exp"), "cpu_cmd": cpu_cmd}
        done = subprocess.run(
            ["bash", "-c", lines], cwd=ROOT, env=os.environ | variables, capture_output=True, text=True
        )
        logs = [f"{log.name}: {log.read_text().rstrip()}" for log in sorted((tmp_path / "exp").rglob("*.log"))]
        return [*done.stdout.splitlines(), *logs]

    assert made("echo") == ["msdet bank --seed 1 --jobs 2", "msdet bank --seed 2 --jobs 2"]
    assert made(str(script)) == [
        "bank+.1.log: msdet bank --seed 2 --jobs 1 --shard 1/2",
        "bank+.2.log: msdet bank --seed 2 --jobs 1 --shard 2/2",
        "bank+.log: msdet bank --seed 2 --jobs 2",
        "bank.1.log: msdet bank --seed 1 --jobs 1 --shard 1/2",
        "bank.2.log: msdet bank --seed 1 --jobs 1 --shard 2/2",
        "bank.log: msdet bank --seed 1 --jobs 2",
    ]


@pytest.mark.parametrize("name", ["msdet", "lbt", "pit", "spatialnet_small", "spatialnet_large"])
def test_published_systems_are_chosen_by_name(name: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "speech").mkdir()
    options = ["--speech", str(tmp_path / "speech"), "--corpus", "folder", "--config", name]
    done = run("libri_spatial", *options, "--exp", str(tmp_path), "--stage", "2", "--stop-stage", "2")
    assert done.returncode == 2
    assert "needs" in done.stderr and "run the stages before it" in done.stderr
