"""Two processes that share each batch learn what one learns from whole batches."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from msdet.training.config import TrainConfig
from msdet.training.run import train


def losses(out: Path, column: str) -> list[float]:
    with (out / "logs" / "metrics.csv").open(newline="") as file:
        return [float(row[column]) for row in csv.DictReader(file) if row[column]]


def test_two_processes_learn_what_one_does(make_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    # without Adam, which magnifies the rounding of tiny gradients
    config = make_config(batch=4, warm_up=0, name="sgd", learning_rate=0.01)
    train(tmp_path / "one", config, lambda line: None)
    options = dataclasses.asdict(config)
    options = {name: options[name] for name in ("data", "model", "optimizer", "trainer")}
    options["trainer"]["devices"] = "2"  # each takes two of the four mixtures
    (tmp_path / "config.json").write_text(json.dumps(options, default=str))
    command = [sys.executable, "-m", "msdet.cli", "train", str(tmp_path / "two")]
    run = subprocess.run(
        [*command, "--config", str(tmp_path / "config.json")],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    assert sum(line.startswith("step ") for line in run.stdout.splitlines()) == 2  # one process speaks
    for column in ("train/loss", "train/separation", "train/doa", "dev/loss", "dev/si_sdr_improvement_db"):
        one, two = losses(tmp_path / "one", column), losses(tmp_path / "two", column)
        assert len(one) == 2
        assert two == pytest.approx(one, rel=1e-3, abs=1e-3), column
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    torch.testing.assert_close(second, first, rtol=0.0, atol=1e-5)
    lines: list[str] = []
    train(tmp_path / "two", config, lines.append)  # how many shared the work does not matter
    assert "already finished" in lines[0]
    assert {p.name for p in (tmp_path / "two").iterdir()} == {p.name for p in (tmp_path / "one").iterdir()}
