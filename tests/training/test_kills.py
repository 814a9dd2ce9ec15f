"""A training that is killed again and again, at any moment, ends with the weights of one that is not."""

from __future__ import annotations

import multiprocessing
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from msdet.errors import MsdetError
from msdet.io.files import held
from msdet.training.config import TrainConfig
from msdet.training.run import train

KILLS = 3


def killed(out: Path, config: TrainConfig, moments: random.Random, kills: int, step: float) -> int:
    """Train with SIGKILLs at random moments, within a step of so many seconds; how many there were."""
    # a server that has everything imported starts a process at once
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["msdet.training.run"])
    done = 0
    while done < kills and not (out / "training.json").exists():
        process = context.Process(target=train, args=(out, config, str))  # says nothing
        process.start()
        stamps, states = {stamp(out)}, moments.randint(1, 3)  # what was there, and up to two new states
        while process.is_alive() and len(stamps) < states:
            time.sleep(0.01)
            stamps.add(stamp(out))
        process.join(moments.uniform(0.0, step))  # within the next step, so that the run doesn't end
        done += process.is_alive()
        process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
    train(out, config, str)
    return done


def stamp(out: Path) -> int:
    """When the trainer's state was written."""
    path = out / "last.ckpt"
    return path.stat().st_mtime_ns if path.exists() else 0


def test_killed_training_ends_with_the_same_weights(make_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    config = make_config(steps=12, batch=1, validate_every=1, deterministic=True, ema=0.9)
    times: list[float] = []
    train(tmp_path / "whole", config, str, lambda done, steps, note: times.append(time.monotonic()))
    step = (times[-1] - times[0]) / (len(times) - 1)
    assert killed(tmp_path / "killed", config, random.Random(0), KILLS, step) == KILLS
    assert list((tmp_path / "killed" / "logs").glob("metrics-*.csv"))  # some came after a state was written
    assert_same(tmp_path / "killed", tmp_path / "whole")
    assert not list((tmp_path / "killed").rglob(".part-*"))


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("step", [1, 4])  # of an interval of three, twice
def test_training_that_is_told_to_end_goes_on_within_an_interval(
    make_config: Callable[..., TrainConfig], tmp_path: Path, told: signal.Signals, step: int
) -> None:
    config = make_config(steps=6, batch=1, validate_every=3, accumulate=2, deterministic=True, ema=0.9)
    train(tmp_path / "whole", config, str)

    def tell(done: int, steps: int, note: str) -> None:
        if done == step:
            signal.raise_signal(told)

    before, lines = signal.getsignal(told), list[str]()
    with pytest.raises(SystemExit) as end:
        train(tmp_path / "told", config, lines.append, tell)
    assert end.value.code == 143
    assert lines[-1] == f"told to end after step {step + 1}; run the same command again to go on"
    assert signal.getsignal(told) is before
    assert not (tmp_path / "told" / "training.json").exists()
    train(tmp_path / "told", config, lines.append)
    assert_same(tmp_path / "told", tmp_path / "whole")


def test_state_is_saved_within_an_interval(make_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    config = make_config(steps=8, batch=1, validate_every=4, deterministic=True, save_every_minutes=1e-9)
    train(tmp_path / "whole", config, str)

    def fail(done: int, steps: int, note: str) -> None:
        if done == 7:
            raise OSError("pulled the plug")

    with pytest.raises(OSError, match="pulled the plug"):
        train(tmp_path / "again", config, str, fail)
    state = torch.load(tmp_path / "again" / "last.ckpt", weights_only=True)
    assert state["global_step"] == 7
    train(tmp_path / "again", config, str)
    assert_same(tmp_path / "again", tmp_path / "whole")


def assert_same(out: Path, whole: Path) -> None:
    """Two runs ended with the same weights and states, to the last bit."""
    first, second = (load_file(folder / "model.safetensors") for folder in (out, whole))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    states = [torch.load(folder / "last.ckpt", weights_only=True) for folder in (out, whole)]
    for part in ("state_dict", "optimizer_states", "callbacks"):
        torch.testing.assert_close(states[0][part], states[1][part], rtol=0, atol=0, equal_nan=True)


def test_second_training_in_a_folder_is_refused_while_the_first_lives(
    make_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    out, config = tmp_path / "run", make_config()
    out.mkdir()
    hold = "import sys, time; from msdet.io.files import held; from pathlib import Path\n"
    hold += "with held(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", hold, out], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout and first.stdout.readline() == "held\n"
        with pytest.raises(MsdetError, match="run: another process is working in it"):
            train(out, config, str)
        first.kill()
    train(out, config, str)
    assert (out / "training.json").is_file()
    with held(out):  # the training has let go of it
        pass
