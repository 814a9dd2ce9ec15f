"""Two processes that share each batch learn what one learns from whole batches."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from msdet.errors import MsdetError
from msdet.training.config import TrainConfig
from msdet.training.run import train
from msdet.training.trainer import LOST


def losses(out: Path, column: str) -> list[float]:
    with (out / "logs" / "metrics.csv").open(newline="") as file:
        return [float(row[column]) for row in csv.DictReader(file) if row[column]]


def write_config(folder: Path, config: TrainConfig, devices: int, **changes: Any) -> Path:
    """A file of a run's settings, on several devices."""
    options = dataclasses.asdict(config)
    options = {name: options[name] for name in ("data", "model", "objective", "optimizer", "trainer")}
    options["trainer"]["devices"] = str(devices)
    for name, value in changes.items():
        options[name] |= value
    (folder / "config.json").write_text(json.dumps(options, default=str))
    return folder / "config.json"


def start(out: Path, config: Path, *options: str) -> subprocess.Popen[str]:
    """`msdet train` in a process of its own."""
    command = [sys.executable, "-m", "msdet.cli", "train", str(out), "--config", str(config), *options]
    pipe, environment = subprocess.PIPE, os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def ended(run: subprocess.Popen[str], within_s: float = 120.0) -> tuple[int, str, list[str]]:
    """Exit code, output, and lines of errors; nothing of the run is left."""
    try:
        output, errors = run.communicate(timeout=within_s)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        raise
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.killpg(run.pid, 0)
            time.sleep(0.1)
    return run.returncode, output, [line for line in errors.splitlines() if line.strip()]


def test_two_processes_learn_what_one_does(make_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    # without Adam, which magnifies the rounding of tiny gradients
    config = make_config(batch=4, warm_up=0, name="sgd", learning_rate=0.01)
    train(tmp_path / "one", config, lambda line: None)
    path = write_config(tmp_path, config, 2, optimizer={"batch": 2})
    code, output, errors = ended(start(tmp_path / "two", path))
    assert code == 0, errors
    assert "2 devices: 2 mixtures a batch on each, 4 together" in output
    assert sum(line.startswith("step ") for line in output.splitlines()) == 2  # one process speaks
    for column in ("train/loss", "train/separation", "train/doa", "dev/loss", "dev/si_sdr_improvement_db"):
        one, two = losses(tmp_path / "one", column), losses(tmp_path / "two", column)
        assert len(one) == 2
        assert two == pytest.approx(one, rel=1e-3, abs=1e-3), column
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    torch.testing.assert_close(second, first, rtol=0.0, atol=1e-5)
    code, output, errors = ended(start(tmp_path / "two", path))
    assert code == 0 and "already finished" in output
    assert {p.name for p in (tmp_path / "two").iterdir()} == {p.name for p in (tmp_path / "one").iterdir()}
    with pytest.raises(MsdetError, match="processes"):  # a step learned from twice as much
        train(tmp_path / "two", make_config(batch=2, warm_up=0, name="sgd", learning_rate=0.01), lambda line: None)


def test_batch_without_labels_on_one_of_two_processes(make_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    config = make_config(batch=1, data={"reference_fraction": 0.3, "doa_fraction": 0.3})
    path = write_config(tmp_path, config, 2, objective={"balance": "uncertainty"})
    code, _, errors = ended(start(tmp_path / "run", path))
    assert code == 0, errors


def test_killed_process_ends_the_others(make_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    run = start(tmp_path / "run", write_config(tmp_path, make_config(steps=100000), 2))
    state = tmp_path / "run" / "last.ckpt"
    while not state.is_file():
        assert run.poll() is None
        time.sleep(0.1)
    other = subprocess.run(["pgrep", "-P", str(run.pid)], capture_output=True, text=True, check=True)
    os.kill(int(other.stdout.split()[0]), signal.SIGKILL)
    code, _, errors = ended(run)
    assert (code, errors) == (2, [f"error: {LOST}"])


REFUSES = """
import os, time
from msdet.errors import MsdetError
from msdet.losses.separation import l1_spectral_loss as loss

if os.environ.get("LOCAL_RANK") == "1":
    raise MsdetError("not on this device")
"""


def test_process_that_refuses_ends_the_others(
    make_config: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "refuses.py").write_text(REFUSES)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    path = write_config(tmp_path, make_config(), 2, objective={"separation_loss": "refuses:loss"})
    code, _, errors = ended(start(tmp_path / "run", path))
    assert code == 2
    said, why = sorted(errors)
    assert said == f"error: {LOST}"
    assert why.startswith("error: ") and "not on this device" in why


def test_several_machines_need_what_starts_them(make_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    with pytest.raises(MsdetError, match=r"trainer\.nodes is 2, but this command was started alone.* srun or torchrun"):
        train(tmp_path / "run", make_config(nodes=2), lambda line: None)
    assert not (tmp_path / "run").exists()
