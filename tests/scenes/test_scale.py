"""Parts, clusters and kills: whoever renders, in whatever order, a set's bytes are the same."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from msdet.cli import main
from msdet.data.scene_set import SceneSet
from msdet.data.simulate import simulate
from msdet.errors import MsdetError
from msdet.io.jobs import Shard
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.rir.bank import RirBank, make_bank

FileBytes = Callable[[Path], dict[str, bytes]]


def test_parts_in_any_order_make_the_same_set(
    dev_set: SceneSet, speech: Path, small_room: SceneDistribution, tmp_path: Path, file_bytes: FileBytes
) -> None:
    out = tmp_path / "parts"

    def run(share: str) -> SceneSet | None:
        return simulate(out, speech, "folder", "dev", small_room, 3, seed=5, jobs=1, share=Shard.parse(share))

    assert run("2/2") is None
    with pytest.raises(MsdetError, match="unfinished"):
        SceneSet.open(out)
    assert run("1/2") is None
    assert run("1/1") is not None
    assert file_bytes(out) == file_bytes(dev_set.root)


def test_parts_of_a_bank(bank: RirBank, small_room: SceneDistribution, tmp_path: Path, file_bytes: FileBytes) -> None:
    for share in ("3/3", "1/3", "2/3", "1/1"):
        made = make_bank(tmp_path / "b", small_room, 4, 3, seed=11, jobs=1, share=Shard.parse(share))
        assert (made is None) == (share != "1/1")
    assert file_bytes(tmp_path / "b") == file_bytes(bank.root)


def test_finishing_run_renders_what_a_part_left_out(
    dev_set: SceneSet, speech: Path, small_room: SceneDistribution, tmp_path: Path, file_bytes: FileBytes
) -> None:
    out = tmp_path / "set"
    simulate(out, speech, "folder", "dev", small_room, 3, 5, jobs=1, share=Shard(2, 3))
    (out / "audio" / ".part-left").write_bytes(b"of a killed part")
    simulate(out, speech, "folder", "dev", small_room, 3, 5, jobs=1)
    assert file_bytes(out) == file_bytes(dev_set.root)


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0", "-1/2", "1/2/3"])
def test_impossible_part_is_refused(text: str) -> None:
    with pytest.raises(MsdetError, match=rf"shard is '{text}', expected k/n"):
        Shard.parse(text)


def test_dask_cluster_renders_the_same_bytes(
    dev_set: SceneSet, speech: Path, small_room: SceneDistribution, tmp_path: Path, file_bytes: FileBytes
) -> None:
    port, workers = 18786 + os.getpid() % 1000, []
    address = f"tcp://127.0.0.1:{port}"
    tool = Path(sys.executable).parent
    scheduler = subprocess.Popen(
        [tool / "dask", "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"],
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
    )
    try:
        for _ in range(2):
            command = [tool / "dask", "worker", address, "--nthreads", "1", "--no-dashboard"]
            workers.append(subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=tmp_path))
        from distributed import Client

        with Client(address, timeout=30, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
            done: list[int] = []
            with client.get_executor(pure=False) as executor:
                simulate(
                    tmp_path / "set", speech, "folder", "dev", small_room, 3, 5, executor,
                    lambda n, total: done.append(n),
                )  # fmt: skip
        assert done == [0, 1, 2, 3]
    finally:
        for process in (*workers, scheduler):
            process.terminate()
            process.wait(30)
    assert file_bytes(tmp_path / "set") == file_bytes(dev_set.root)


def test_nobody_at_the_dask_address_is_one_line(
    speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("msdet.commands._progress.CONNECT_S", 0.5)
    arguments = ["--out", str(tmp_path / "x"), "--speech", str(speech), "--dask", "tcp://127.0.0.1:9"]
    assert main(["simulate", *arguments]) == 2
    assert "error: --dask tcp://127.0.0.1:9: no Dask scheduler answers there" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_set_survives_kills_at_random_moments(
    speech: Path, small_room: SceneDistribution, tmp_path: Path, file_bytes: FileBytes
) -> None:
    arguments = ["--speech", str(speech), "--split", "dev", "--count", "16", "--jobs", "2"]
    arguments += ["--scenes.duration_s", "1.5", "--scenes.array", small_room.array]
    arguments += ["--scenes.room_x_m", "[4.3,4.5]", "--scenes.room_y_m", "[3.8,4.0]"]
    arguments += ["--scenes.distance_m", "[0.8,1.5]", "--scenes.center_offset_m", "[-0.1,0.1]"]
    command = [sys.executable, "-m", "msdet.cli", "simulate", *arguments, "--out"]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
    rng, kills = random.Random(0), 0
    for _ in range(3):
        run = subprocess.Popen(
            [*command, str(tmp_path / "killed")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(rng.uniform(0.8, 2.5))
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
            kills += 1
        run.wait()
    subprocess.run([*command, str(tmp_path / "killed")], check=True, capture_output=True)
    assert kills
    assert file_bytes(tmp_path / "killed") == file_bytes(tmp_path / "whole")
