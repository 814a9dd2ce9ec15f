"""Sets and banks on disk: the same bytes from any workers and after any kill; others' folders kept."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from msdet.data.scene_set import SceneSet
from msdet.data.simulate import simulate
from msdet.errors import MsdetError, UnknownNameError
from msdet.io.files import write_json
from msdet.io.jobs import IN_PROGRESS
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.rir.bank import RirBank, make_bank

FileBytes = Callable[[Path], dict[str, bytes]]


def make_dev(out: Path, speech: Path, distribution: SceneDistribution, jobs: int = 1) -> SceneSet:
    return simulate(out, speech, "folder", "dev", distribution, 3, seed=5, jobs=jobs)


def unfinished_copy(finished: Path, out: Path, header: str) -> Path:
    """The folder as a killed run leaves it: no header yet, settings noted as in progress."""
    shutil.copytree(finished, out)
    settings = json.loads((out / header).read_text())["settings"]
    (out / header).unlink()
    write_json(out / IN_PROGRESS, {"settings": settings})
    return out


def test_two_workers_write_the_same_set(
    dev_set: SceneSet, speech: Path, small_room: SceneDistribution, tmp_path: Path, file_bytes: FileBytes
) -> None:
    make_dev(tmp_path / "two", speech, small_room, jobs=2)
    assert file_bytes(tmp_path / "two") == file_bytes(dev_set.root)


def test_two_workers_write_the_same_bank(
    bank: RirBank, small_room: SceneDistribution, tmp_path: Path, file_bytes: FileBytes
) -> None:
    make_bank(tmp_path / "two", small_room, 4, 3, seed=11, jobs=2)
    assert file_bytes(tmp_path / "two") == file_bytes(bank.root)


def test_larger_set_starts_with_the_smaller_one(
    dev_set: SceneSet, speech: Path, small_room: SceneDistribution, tmp_path: Path
) -> None:
    larger = simulate(tmp_path / "larger", speech, "folder", "dev", small_room, 4, seed=5, jobs=1)
    assert larger.scenes[:3] == dev_set.scenes
    for scene in dev_set.scenes:
        np.testing.assert_array_equal(larger.mixture(scene), dev_set.mixture(scene))


def test_splits_share_no_rooms_and_no_talkers(
    dev_set: SceneSet, speech: Path, small_room: SceneDistribution, tmp_path: Path
) -> None:
    test_set = simulate(tmp_path / "test", speech, "folder", "test", small_room, 3, seed=5, jobs=1)
    for of in (lambda s: [s.room_m], lambda s: [source.speaker for source in s.sources]):
        dev, test = ({value for s in scenes for value in of(s)} for scenes in (dev_set.scenes, test_set.scenes))
        assert not dev & test


KILLED_RUN = """
import os, pathlib, signal, sys
from msdet.data.simulate import simulate
from msdet.scenes.distribution import SceneDistribution

out, speech, distribution, where = sys.argv[1:]
write, written = pathlib.Path.write_bytes, []

def write_half(path, data):
    written.append(path)
    if len(written) < 5:  # the fifth file is in the second scene
        return write(path, data)
    write(path, data[: len(data) // 2])
    os.kill(os.getpid(), signal.SIGKILL)

def between_scenes(done, total):
    if done == 1:
        os.kill(os.getpid(), signal.SIGKILL)

if where == "within a file":
    pathlib.Path.write_bytes = write_half
progress = between_scenes if where == "between scenes" else None
settings = SceneDistribution(**eval(distribution))
simulate(pathlib.Path(out), pathlib.Path(speech), "folder", "dev", settings, 3, 5, 1, progress)
"""


@pytest.mark.parametrize("where", ["between scenes", "within a file"])
def test_set_is_finished_after_a_kill_without_a_trace(
    dev_set: SceneSet, speech: Path, small_room: SceneDistribution, tmp_path: Path, file_bytes: FileBytes, where: str
) -> None:
    out = tmp_path / "killed"
    arguments = [str(out), str(speech), repr(dataclasses.asdict(small_room)), where]
    killed = subprocess.run([sys.executable, "-c", KILLED_RUN, *arguments], check=False)
    assert killed.returncode == -signal.SIGKILL
    with pytest.raises(MsdetError, match="unfinished: run the same command again"):
        SceneSet.open(out)
    rendered: list[int] = []
    simulate(
        out, speech, "folder", "dev", small_room, 3, seed=5, jobs=1,
        progress=lambda done, total: rendered.append(done),
    )  # fmt: skip
    assert rendered == [1, 2, 3], "the scene finished before the kill was rendered again"
    assert file_bytes(out) == file_bytes(dev_set.root)


KILLED_POOL = """
import multiprocessing, os, pathlib, signal, sys
from msdet.data.simulate import simulate
from msdet.scenes.distribution import SceneDistribution

def tell(done, total):
    if done == 1:
        print(*(child.pid for child in multiprocessing.active_children()), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    out, speech, distribution = sys.argv[1:]
    settings = SceneDistribution(**eval(distribution))
    simulate(pathlib.Path(out), pathlib.Path(speech), "folder", "dev", settings, 12, 5, 2, tell)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
def test_workers_end_after_their_parent_was_killed(speech: Path, small_room: SceneDistribution, tmp_path: Path) -> None:
    program = tmp_path / "run.py"
    program.write_text(KILLED_POOL)
    arguments = [str(tmp_path / "set"), str(speech), repr(dataclasses.asdict(small_room))]
    with subprocess.Popen([sys.executable, str(program), *arguments], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        workers = [int(pid) for pid in parent.stdout.readline().split()]
    assert parent.returncode == -signal.SIGKILL
    assert len(workers) == 2
    try:
        for _ in range(100):
            left = [pid for pid in workers if is_running(pid)]
            if not left:
                break
            time.sleep(0.1)
        assert not left
    finally:
        for pid in left:
            os.kill(pid, signal.SIGKILL)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_half_written_scene_is_rendered_again(
    dev_set: SceneSet, speech: Path, small_room: SceneDistribution, tmp_path: Path, file_bytes: FileBytes
) -> None:
    out = unfinished_copy(dev_set.root, tmp_path / "half", "dataset.json")
    shutil.rmtree(out / "audio" / "dev-000000")
    (out / "audio" / "dev-000001" / "scene.json").unlink()
    (out / "audio" / "dev-000001" / "talker2.wav").unlink()
    (out / ".part-left.json").write_text("{")
    make_dev(out, speech, small_room)
    assert file_bytes(out) == file_bytes(dev_set.root)


def test_bank_is_finished_after_a_kill_without_a_trace(
    bank: RirBank, small_room: SceneDistribution, tmp_path: Path, file_bytes: FileBytes
) -> None:
    out = unfinished_copy(bank.root, tmp_path / "half", "bank.json")
    (out / "room-000002.safetensors").unlink()
    (out / ".part-left.safetensors").write_bytes(b"half")
    with pytest.raises(MsdetError, match=r"not a finished RIR bank, bank\.json is missing"):
        RirBank.open(out)
    make_bank(out, small_room, 4, 3, seed=11, jobs=1)
    assert file_bytes(out) == file_bytes(bank.root)


def test_finished_folder_is_left_alone(
    dev_set: SceneSet, bank: RirBank, speech: Path, small_room: SceneDistribution
) -> None:
    def refuse(done: int, total: int) -> None:
        raise AssertionError("rendered something")

    again = simulate(dev_set.root, speech, "folder", "dev", small_room, 3, seed=5, jobs=1, progress=refuse)
    assert again == dev_set
    assert make_bank(bank.root, small_room, 4, 3, seed=11, jobs=1, progress=refuse) == bank


@pytest.mark.parametrize(
    ("field", "changes"),
    [("seed", {"seed": 6}), ("split", {"split": "test"}), ("scenes", {"scenes": 4}), ("t60_s", {})],
)
@pytest.mark.parametrize("finished", [True, False])
def test_folder_with_other_settings_is_refused_by_field(
    dev_set: SceneSet,
    speech: Path,
    small_room: SceneDistribution,
    tmp_path: Path,
    file_bytes: FileBytes,
    field: str,
    changes: dict[str, object],
    finished: bool,
) -> None:
    out = dev_set.root if finished else unfinished_copy(dev_set.root, tmp_path / "half", "dataset.json")
    before = file_bytes(out)
    other = dataclasses.replace(small_room, t60_s=(0.2, 0.3)) if field == "t60_s" else small_room
    arguments = {"split": "dev", "distribution": other, "scenes": 3, "seed": 5} | changes
    with pytest.raises(MsdetError, match=rf"exists with other settings: (\w+\.)*{field} is "):
        simulate(out, speech, "folder", jobs=1, **arguments)  # type: ignore[arg-type]
    assert file_bytes(out) == before


def test_bank_with_other_settings_is_refused_by_field(bank: RirBank, small_room: SceneDistribution) -> None:
    with pytest.raises(MsdetError, match="exists with other settings: positions is 3, asked for 2"):
        make_bank(bank.root, small_room, 4, 2, seed=11, jobs=1)


def test_bank_ignores_what_is_drawn_when_mixing(bank: RirBank, small_room: SceneDistribution) -> None:
    louder = dataclasses.replace(small_room, level_db=(-5.0, 5.0), snr_db=(5.0, 10.0), duration_s=3.0)
    assert make_bank(bank.root, louder, 4, 3, seed=11, jobs=1) == bank


def test_changed_speech_is_other_settings(
    dev_set: SceneSet, speech: Path, small_room: SceneDistribution, tmp_path: Path
) -> None:
    changed = shutil.copytree(speech, tmp_path / "speech")
    (changed / "talker4" / "1.wav").unlink()
    with pytest.raises(MsdetError, match="other settings: speech is"):
        make_dev(dev_set.root, changed, small_room)


def test_folder_of_someone_else_is_refused_and_kept(
    speech: Path, small_room: SceneDistribution, tmp_path: Path
) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(MsdetError, match="is not one of msdet's folders"):
        make_dev(tmp_path, speech, small_room)
    with pytest.raises(MsdetError, match="is not one of msdet's folders"):
        make_bank(tmp_path, small_room, 4, 3, seed=11, jobs=1)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_file_in_place_of_the_folder_is_refused(speech: Path, small_room: SceneDistribution, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("precious")
    with pytest.raises(MsdetError, match="is a file, expected a folder"):
        make_dev(tmp_path / "out", speech, small_room)
    assert (tmp_path / "out").read_text() == "precious"


@pytest.mark.parametrize(("rooms", "positions"), [(0, 3), (4, 1)])
def test_bank_too_small_is_refused(small_room: SceneDistribution, tmp_path: Path, rooms: int, positions: int) -> None:
    with pytest.raises(MsdetError, match="expected at least 1 room and 2 positions"):
        make_bank(tmp_path / "bank", small_room, rooms, positions, seed=0, jobs=1)
    assert not (tmp_path / "bank").exists()


def test_bank_and_set_of_an_older_version_are_read(bank: RirBank, dev_set: SceneSet, tmp_path: Path) -> None:
    for old, folder in ((bank.root, "bank"), (dev_set.root, "set")):
        shutil.copytree(old, tmp_path / folder)
    for path in (tmp_path / "bank" / "bank.json", tmp_path / "set" / "scenes.jsonl"):
        text = path.read_text()
        assert "t60_target_s" in text
        path.write_text(text.replace("t60_target_s", "t60_asked_s"))
    assert RirBank.open(str(tmp_path / "bank")).table == bank.table
    assert SceneSet.open(str(tmp_path / "set")).scenes == dev_set.scenes


def test_bank_holds_responses_of_every_room(bank: RirBank) -> None:
    opened = RirBank.open(bank.root)
    assert opened == bank
    assert (bank.rooms, bank.positions, bank.array.microphones) == (4, 3, 4)
    rooms = [bank.room(n, range(3)) for n in range(bank.rooms)]
    for response, room in zip(rooms, bank.table, strict=True):
        assert response.rirs.shape[:2] == response.direct.shape[:2] == (3, 4)
        assert response.rirs.dtype == np.float32
        assert np.isfinite(response.rirs).all()
        assert room.t60_target_s is not None and 0.2 <= room.t60_target_s <= 0.25
        assert response.t60_measured_s == room.t60_measured_s == pytest.approx(room.t60_target_s, rel=0.1)
        assert all(0 <= azimuth < 360 for azimuth in room.azimuths_deg)
    assert len({room.t60_measured_s for room in bank.table}) == 4


def test_positions_of_a_room_come_in_the_order_asked(bank: RirBank) -> None:
    whole, some = bank.room(2, range(3)), bank.room(2, [2, 0])
    np.testing.assert_array_equal(some.rirs, whole.rirs[[2, 0]])
    np.testing.assert_array_equal(some.direct, whole.direct[[2, 0]])
    with pytest.raises(MsdetError, match="room-000002"):
        bank.room(2, [3])


@pytest.mark.parametrize("text", ['{"settings": {"rooms": 3}, "hash": "x"}', "[]", '{"hash": "x"}', "{"])
def test_damaged_bank_header_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "bank.json").write_text(text)
    with pytest.raises(MsdetError, match=r"bank\.json"):
        RirBank.open(tmp_path)


@pytest.mark.parametrize("column", ["azimuths_deg", "elevations_deg", "distances_m"])
def test_a_bank_whose_table_has_another_number_of_positions_is_refused(
    bank: RirBank, tmp_path: Path, column: str
) -> None:
    root = shutil.copytree(bank.root, tmp_path / "bank")
    header = json.loads((root / "bank.json").read_text())
    header["rooms"][1][column].append(1.0)
    (root / "bank.json").write_text(json.dumps(header))
    with pytest.raises(MsdetError, match=rf"bank\.json, room 1: {column} has 4 values, expected 3, one a position"):
        RirBank.open(root)


@pytest.mark.parametrize("scenes", [0, 1_000_001, 2**63])
def test_numbers_of_scenes_that_no_set_has_are_refused(
    speech: Path, small_room: SceneDistribution, tmp_path: Path, scenes: int
) -> None:
    with pytest.raises(MsdetError, match="expected 1 to 1000000 and at least 0"):
        simulate(tmp_path / "set", speech, "folder", "dev", small_room, scenes)


def test_damaged_room_of_a_bank_is_named(bank: RirBank, tmp_path: Path) -> None:
    root = shutil.copytree(bank.root, tmp_path / "bank")
    path = root / "room-000001.safetensors"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(MsdetError, match="room-000001"):
        RirBank.open(root).room(1, [0])


def test_unknown_split_offers_the_nearest(speech: Path, small_room: SceneDistribution, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'test'"):
        simulate(tmp_path / "x", speech, "folder", "tests", small_room, 3, seed=5, jobs=1)


@pytest.mark.parametrize("error", [MsdetError("bad"), UnknownNameError("array", "cirular", ["circular"])])
def test_errors_survive_the_way_from_a_worker(error: MsdetError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)


def test_error_in_a_worker_process_is_the_error_reported(
    speech: Path, small_room: SceneDistribution, tmp_path: Path
) -> None:
    broken = shutil.copytree(speech, tmp_path / "speech")
    for path in (broken / "talker4").iterdir():  # the header stays, the samples go
        path.write_bytes(path.read_bytes()[:44])
    with pytest.raises(MsdetError, match="talker4"):
        make_dev(tmp_path / "set", broken, small_room, jobs=2)
    assert not (tmp_path / "set" / "dataset.json").exists()


def test_drawing_that_takes_long_is_told(
    speech: Path, small_room: SceneDistribution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("msdet.data.simulate.QUIET_S", -1.0)
    told: list[tuple[int, int]] = []
    simulate(tmp_path / "dev", speech, "folder", "dev", small_room, 3, seed=5, progress=lambda *done: told.append(done))
    assert told[0] == (0, 3)
    assert told[-1] == (3, 3)
    assert told.count((0, 3)) <= 2
