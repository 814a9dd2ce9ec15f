"""Kaldi directories: round trips, what their tables do not tell, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from msdet.arrays import load_array
from msdet.conventions import angular_distance_deg, direction_vector
from msdet.data.formats.external import write_external_dataset
from msdet.data.formats.kaldi import read_kaldi
from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError
from msdet.io import audio

ARRAY = load_array("circular4_5cm")
TABLES = ("wav.scp", "spk1.scp", "spk2.scp", "utt2spk", "utt2dur", "utt2doa", "utt2distance", "utt2rt60")


@pytest.fixture
def folder(dev_set: SceneSet, tmp_path: Path) -> Path:
    """The set's tables and audio alone, in a folder whose name holds a space; a test may change them."""
    root = tmp_path / "kaldi dir"
    for scene in dev_set.scenes:
        shutil.copytree(dev_set.root / "audio" / scene.id, root / "audio" / scene.id)
        (root / "audio" / scene.id / "scene.json").unlink()
    for name in TABLES:
        shutil.copy(dev_set.root / name, root)
    return root


def change(path: Path, line: int, text: str | None) -> None:
    """Replace a line of a table, counted from 1; None removes it."""
    lines = path.read_text().splitlines()
    lines[line - 1 : line] = [] if text is None else [text]
    path.write_text("".join(f"{row}\n" for row in lines))


def test_tables_hold_distances(dev_set: SceneSet) -> None:
    rows = dict(line.split(" ", 1) for line in (dev_set.root / "utt2distance").read_text().splitlines())
    for scene in dev_set.scenes:
        distances = [float(d) for d in rows[scene.id].split()]
        assert distances == pytest.approx([s.distance_m for s in scene.sources], abs=5e-4)


@pytest.mark.parametrize("jobs", [1, 2])
def test_round_trip_keeps_what_the_tables_say(dev_set: SceneSet, folder: Path, tmp_path: Path, jobs: int) -> None:
    back = write_external_dataset(tmp_path / "back", read_kaldi(folder, ARRAY, "direct"), jobs)
    assert (back.sample_rate, back.array) == (dev_set.sample_rate, dev_set.array)
    assert [scene.id for scene in back.scenes] == [scene.id for scene in dev_set.scenes]
    for before, after in zip(dev_set.scenes, back.scenes, strict=True):
        assert angular_distance_deg(after.azimuths_deg, before.azimuths_deg).max() <= 0.0051
        assert (after.t60_s, after.target) == (pytest.approx(before.t60_s, abs=5e-4), "direct")
        assert (after.room_m, after.noises, after.samples) == (None, (), before.samples)
        for one, other in zip(before.sources, after.sources, strict=True):
            assert other.distance_m == pytest.approx(one.distance_m, abs=5e-4)
            position = other.distance_m * direction_vector(other.azimuth_deg)
            np.testing.assert_allclose(other.position_m, position, atol=1e-9)
        np.testing.assert_array_equal(back.mixture(after), dev_set.mixture(before))
        np.testing.assert_array_equal(back.references(after), dev_set.references(before))
    for name in TABLES:
        assert (tmp_path / "back" / name).read_text() == (folder / name).read_text()


def test_times_and_levels_are_those_of_the_references(folder: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    talk = np.zeros((2, 12000))
    talk[0, 2000:10000] = 0.2 * rng.choice([-1, 1], 8000)
    talk[1, 4000:12000] = 0.1 * rng.choice([-1, 1], 8000)
    talk[1, :4000] = 1e-4 * rng.choice([-1, 1], 4000)  # noise of a recording
    scene_id = (folder / "wav.scp").read_text().split()[0]
    for k in range(2):
        audio.write(folder / "audio" / scene_id / f"talker{k + 1}.wav", talk[k], 8000)
    scene = write_external_dataset(tmp_path / "back", read_kaldi(folder, ARRAY, "image"), 1).scenes[0]
    assert [s.onset_s for s in scene.sources] == [0.25, 0.5]
    assert [s.duration_s for s in scene.sources] == [1.0, 1.0]
    assert [s.level_db for s in scene.sources] == pytest.approx([3.01, -3.01], abs=0.01)


def test_optional_tables_may_be_missing(folder: Path) -> None:
    for name in ("utt2spk", "utt2dur", "utt2rt60"):
        (folder / name).unlink()
    found = read_kaldi(folder, ARRAY, "early")
    assert [entry.scene.t60_s for entry in found.scenes] == [None] * 3
    assert {entry.scene.duration_s for entry in found.scenes} == {1.5}


def test_scenes_may_differ_in_number_of_talkers(folder: Path) -> None:
    for name in ("utt2doa", "utt2distance"):
        key, first, _ = (folder / name).read_text().splitlines()[1].split()
        change(folder / name, 2, f"{key} {first}")
    change(folder / "spk2.scp", 2, None)
    assert [len(entry.scene.sources) for entry in read_kaldi(folder, ARRAY, "early").scenes] == [2, 1, 2]


def test_one_distance_may_stand_for_all(folder: Path) -> None:
    with pytest.raises(MsdetError, match="utt2distance: tells the distances, so --distance_m has no use"):
        read_kaldi(folder, ARRAY, "early", distance_m=1.5)
    (folder / "utt2distance").unlink()
    with pytest.raises(
        MsdetError, match=r"utt2distance: no such file, expected distances of a mixture's talkers, in meters; --dist"
    ):
        read_kaldi(folder, ARRAY, "early")
    found = read_kaldi(folder, ARRAY, "early", distance_m=1.5)
    assert {s.distance_m for entry in found.scenes for s in entry.scene.sources} == {1.5}


def test_missing_and_empty_tables_are_named(folder: Path) -> None:
    tables = {
        "wav.scp": "one recording of the array a line",
        "spk1.scp": "references of a talker",
        "utt2doa": "azimuths of a mixture's talkers, in degrees",
    }
    for name, expected in tables.items():
        content = (folder / name).read_text()
        (folder / name).write_text("")
        with pytest.raises(MsdetError, match=f"kaldi dir/{name}: is empty, expected {expected}$"):
            read_kaldi(folder, ARRAY, "early")
        (folder / name).write_text(content)
    (folder / "wav.scp").unlink()
    with pytest.raises(MsdetError, match=r"kaldi dir/wav\.scp: no such file, expected one recording of the"):
        read_kaldi(folder, ARRAY, "early")


def test_tables_that_tell_no_talkers_are_refused(folder: Path) -> None:
    scene_id = (folder / "wav.scp").read_text().split()[0]
    for name in ("spk1.scp", "spk2.scp", "utt2doa"):
        change(folder / name, 1, None)
    with pytest.raises(MsdetError, match=f"neither spk1.scp nor utt2doa has a line for {scene_id}$"):
        read_kaldi(folder, ARRAY, "early")
    for name in ("spk1.scp", "spk2.scp", "utt2doa"):
        (folder / name).unlink()
    with pytest.raises(MsdetError, match=r"kaldi dir: has neither spk1\.scp nor utt2doa, expected references"):
        read_kaldi(folder, ARRAY, "early")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("wav.scp", "sox in.wav -t wav - |", r"wav\.scp, ID: is a command \('sox in\.wav -t wav - \|'\), expected a"),
        ("spk2.scp", "cat x |", r"spk2\.scp, ID: is a command"),
        ("wav.scp", "raw.ark:1234", r"wav\.scp, ID: is in an archive \(raw\.ark:1234\), expected a file; extract it"),
        ("wav.scp", "gone.wav", r"wav\.scp, ID: no such file: gone\.wav; if audio was moved, give --audio_root"),
        ("wav.scp", None, r"wav\.scp, line 2: is 'ID', expected an id and a value"),
        ("utt2doa", "none", r"utt2doa, ID: is 'none', expected numbers"),
        ("utt2doa", "10 nan", r"utt2doa, ID: is '10 nan', expected finite numbers"),
        ("utt2doa", "10", r"utt2doa, ID: has 1 numbers, expected 2"),
        ("utt2distance", "1 2 3", r"utt2distance, ID: has 3 numbers, expected 2"),
        ("utt2distance", "1 0", r"ID: a talker's distance is 0 m, expected more than 0"),
        ("utt2dur", "2.5", r"utt2dur, ID: is 2\.500 s, but .*mixture\.wav lasts 1\.500 s"),
        ("utt2rt60", "0.1 0.2", r"utt2rt60, ID: has 2 numbers, expected 1"),
    ],
)
def test_wrong_line_is_refused(folder: Path, name: str, value: str | None, message: str) -> None:
    scene_id = (folder / name).read_text().splitlines()[1].split()[0]
    change(folder / name, 2, scene_id if value is None else f"{scene_id} {value}")
    with pytest.raises(MsdetError, match=message.replace("ID", scene_id)) as caught:
        read_kaldi(folder, ARRAY, "early")
    assert "\n" not in str(caught.value)


def test_missing_and_double_lines_are_refused(folder: Path) -> None:
    rows = {name: (folder / name).read_text().splitlines() for name in TABLES}
    scene_id = rows["wav.scp"][1].split()[0]
    for name in ("spk1.scp", "utt2distance"):
        change(folder / name, 2, None)
        with pytest.raises(MsdetError, match=f"{name}: has no line for {scene_id}$"):
            read_kaldi(folder, ARRAY, "early")
        change(folder / name, 2, "\n".join(rows[name][1:]))
    change(folder / "wav.scp", 3, rows["wav.scp"][1])
    with pytest.raises(MsdetError, match=rf"wav\.scp, line 3: '{scene_id}' comes a second time"):
        read_kaldi(folder, ARRAY, "early")


def test_id_that_leaves_the_folder_is_refused(folder: Path) -> None:
    change(folder / "wav.scp", 1, "../../x audio/x.wav")
    with pytest.raises(MsdetError, match=r"wav\.scp: id is '\.\./\.\./x', expected a plain name"):
        read_kaldi(folder, ARRAY, "early")


def test_audio_of_another_array_or_rate_is_refused(folder: Path) -> None:
    with pytest.raises(MsdetError, match=r"mixture\.wav: has 4 channels, expected 6 as array 'sms_wsj'; give"):
        read_kaldi(folder, load_array("sms_wsj"), "early")
    path = folder / (folder / "wav.scp").read_text().splitlines()[1].split()[1]
    audio.write(path, np.full((4, 24000), 0.1), 16000)
    with pytest.raises(MsdetError, match=r"mixture\.wav: is at 16000 Hz, expected 8000 Hz as .*mixture\.wav$"):
        read_kaldi(folder, ARRAY, "early")


def test_paths_may_be_absolute_or_moved(folder: Path, tmp_path: Path) -> None:
    for name in ("wav.scp", "spk1.scp", "spk2.scp"):
        text = (folder / name).read_text().replace(" audio/", " /old/place/audio/")
        (tmp_path / name).write_text(text)
    for name in ("utt2doa", "utt2distance"):
        shutil.copy(folder / name, tmp_path)
    with pytest.raises(MsdetError, match="no such file: /old/place/audio/"):
        read_kaldi(tmp_path, ARRAY, "early")
    for root in (str(folder), f"/old/place={folder}"):
        found = read_kaldi(tmp_path, ARRAY, "early", audio_root=root)
        assert all(entry.mixture.is_relative_to(folder / "audio") for entry in found.scenes)
    for name in ("wav.scp", "spk1.scp", "spk2.scp"):
        (tmp_path / name).write_text((tmp_path / name).read_text().replace("/old/place", str(folder)))
    assert read_kaldi(tmp_path, ARRAY, "early").scenes[0].mixture.is_relative_to(folder)
