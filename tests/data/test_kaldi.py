"""Kaldi directories: round trips, what their tables do not tell, and what is refused."""

from __future__ import annotations

import logging
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from msdet.arrays import load_array
from msdet.cli import main
from msdet.conventions import angular_distance_deg, direction_vector
from msdet.data.formats.external import write_external_dataset
from msdet.data.formats.kaldi import read_kaldi
from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError
from msdet.io import audio

ARRAY = load_array("circular4_5cm")
TABLES = ("wav.scp", "spk1.scp", "spk2.scp", "utt2spk", "spk2utt", "utt2dur", "utt2doa", "utt2distance", "utt2rt60")


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
        ("wav.scp", "sox in.wav -t wav - |", r"is a command \('sox in\.wav -t wav - \|'\), expected a file; co"),
        ("spk2.scp", "cat x |", r"spk2\.scp, ID: is a command .* commands run only with --allow_commands"),
        ("wav.scp", "| cat", r"wav\.scp, ID: is a command \('\| cat'\), expected a file; give one that writes audio"),
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
        assert all(entry.mixture.path.is_relative_to(folder / "audio") for entry in found.scenes)
    for name in ("wav.scp", "spk1.scp", "spk2.scp"):
        (tmp_path / name).write_text((tmp_path / name).read_text().replace("/old/place", str(folder)))
    assert read_kaldi(tmp_path, ARRAY, "early").scenes[0].mixture.path.is_relative_to(folder)


# ---- Kaldi's own rules


def problems(folder: Path, base: Path) -> list[str]:
    """What ``validate_data_dir.sh --no-feats --no-text`` would refuse, and files that do not open from `base`."""
    names = [p.name for p in folder.iterdir() if re.fullmatch(r"\w+\.scp|[a-z]+2[a-z0-9]+|segments|text", p.name)]
    tables = {name: (folder / name).read_bytes().decode() for name in names}
    rows = {name: [re.split(r"[ \t]+", line) for line in text.split("\n")[:-1]] for name, text in tables.items()}
    found = [f"{name}: no line feed at the end" for name, text in tables.items() if not text.endswith("\n")]
    found += [f"{name} is missing" for name in ("utt2spk", "spk2utt", "wav.scp") if name not in tables]
    for name, table in rows.items():
        keys = [row[0].encode() for row in table]
        found += [f"{name}: not sorted in the C locale, or with duplicates"] * (keys != sorted(set(keys)))
    speakers = [row[1].encode() for row in rows.get("utt2spk", [])]
    found += ["utt2spk: not sorted by speaker"] * (speakers != sorted(speakers))
    found += ["utt2spk: not two columns"] * any(len(row) != 2 for row in rows["utt2spk"])
    spoken = [[utterance, row[0]] for row in rows.get("spk2utt", []) for utterance in row[1:]]
    found += ["spk2utt does not match utt2spk"] * (spoken != rows["utt2spk"])
    ids = [row[0] for row in rows["utt2spk"]]
    for name in ("wav.scp", "utt2dur"):
        found += [f"{name}: other utterances"] * ([row[0] for row in rows.get(name, [])] != ids)
    found += ["utt2dur: not above 0"] * any(len(row) != 2 or float(row[1]) <= 0 for row in rows.get("utt2dur", []))
    for name in rows:
        if name.endswith(".scp"):
            lines = [line.split(" ", 1)[1] for line in tables[name].split("\n")[:-1]]
            found += [f"{name}: {path}" for path in lines if path.startswith("~") or not (base / path).is_file()]
    return found


def test_the_rules_are_kaldis(dev_set: SceneSet, tmp_path: Path) -> None:
    root = Path(shutil.copytree(dev_set.root, tmp_path / "set"))
    assert problems(root, root) == []
    (root / "spk2utt").unlink()
    assert problems(root, root) == ["spk2utt is missing", "spk2utt does not match utt2spk"]
    shutil.copy(root / "utt2spk", root / "spk2utt")
    change(root / "wav.scp", 1, (root / "wav.scp").read_text().split("\n")[1])
    assert len(problems(root, root)) == 2
    assert problems(dev_set.root, tmp_path) != [], "paths are relative to the set"


def test_exported_tables_are_a_kaldi_directory_from_anywhere(
    dev_set: SceneSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(dev_set.root.parent)
    out = tmp_path / "tables"
    assert main(["export", dev_set.root.name, "--format=kaldi", f"--out={out}"]) == 0
    assert f"{out}: 3 scenes in wav.scp" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == sorted(TABLES)
    assert problems(out, Path("/")) == []
    back = read_kaldi(out, ARRAY, "direct")
    assert [entry.scene.id for entry in back.scenes] == [scene.id for scene in dev_set.scenes]


# ---- what others write


def test_commands_run_if_allowed_and_not_before(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    expected = [entry.mixture.read()[0] for entry in read_kaldi(folder, ARRAY, "early").scenes]
    rows = [line.split(" ", 1) for line in (folder / "wav.scp").read_text().splitlines()]
    lines = [f"{key} touch ran; cat '{folder / path}' |" for key, path in rows]
    (folder / "wav.scp").write_text("".join(f"{line}\n" for line in lines))
    with pytest.raises(MsdetError, match="commands run only with --allow_commands"):
        read_kaldi(folder, ARRAY, "early")
    assert not (tmp_path / "ran").exists()
    found = read_kaldi(folder, ARRAY, "early", allow_commands=True)
    assert (tmp_path / "ran").exists(), "in the working directory, as Kaldi does"
    made = write_external_dataset(tmp_path / "back", found, 1)
    for scene, mixture in zip(made.scenes, expected, strict=True):
        np.testing.assert_array_equal(made.mixture(scene), mixture)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("echo no such tool >&2; exit 3", r"^echo no .* exit 3: ends with exit code 3 \(no such tool\)$"),
        ("echo hello", "^echo hello: not readable as audio"),
    ],
)
def test_command_that_fails_is_one_line(folder: Path, command: str, message: str) -> None:
    scene_id = (folder / "wav.scp").read_text().split()[0]
    change(folder / "wav.scp", 1, f"{scene_id} {command} |")
    with pytest.raises(MsdetError, match=message) as caught:
        read_kaldi(folder, ARRAY, "early", allow_commands=True)
    assert "\n" not in str(caught.value)


def segmented(folder: Path, references_too: bool) -> None:
    """Make the first mixture of a folder a recording of two utterances, with a directory's other tables to match."""
    recording = (folder / "wav.scp").read_text().split()[0]
    durations = {"utt/a": "0.600", "utt/b": "0.750"}
    for name in TABLES:
        first = (folder / name).read_text().splitlines()[0].split(" ", 1)[1]
        whole = name == "wav.scp" or (references_too and name.startswith("spk") and name.endswith(".scp"))
        rows = {recording: first} if whole else durations if name == "utt2dur" else dict.fromkeys(durations, first)
        (folder / name).write_text("".join(f"{key} {value}\r\n" for key, value in rows.items()))
    (folder / "reco2dur").write_text(f"{recording} 1.5\n")
    (folder / "segments").write_text(f"utt/a {recording} 0.15 0.75\nutt/b {recording} 0.75 -1\n")


def test_segments_are_parts_of_recordings(
    dev_set: SceneSet, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    segmented(folder, references_too=True)
    with caplog.at_level(logging.WARNING):
        found = read_kaldi(folder, ARRAY, "early")
    assert "segments: 2 ids get hyphens for slashes: utt/a is utt-a" in caplog.text
    made = write_external_dataset(tmp_path / "back", found, 1)
    assert [scene.id for scene in made.scenes] == ["utt-a", "utt-b"]
    for scene, part in zip(made.scenes, (slice(1200, 6000), slice(6000, 12000)), strict=True):
        np.testing.assert_array_equal(made.mixture(scene), dev_set.mixture(dev_set.scenes[0])[:, part])
        np.testing.assert_array_equal(made.references(scene), dev_set.references(dev_set.scenes[0])[:, part])


def test_references_of_segments_may_be_listed_by_utterance(dev_set: SceneSet, folder: Path, tmp_path: Path) -> None:
    segmented(folder, references_too=False)
    for talker in (1, 2):
        part = dev_set.references(dev_set.scenes[0])[talker - 1 : talker, 1200:6000]
        audio.write(folder / f"{talker}.wav", part, 8000)
        (folder / f"spk{talker}.scp").write_text(f"utt/a {talker}.wav\n")
    made = write_external_dataset(tmp_path / "back", read_kaldi(folder, ARRAY, "early"), 1)
    assert [scene.referenced for scene in made.scenes] == [True, False]
    expected = dev_set.references(dev_set.scenes[0])[:, 1200:6000]
    np.testing.assert_array_equal(made.references(made.scenes[0]), expected)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("segments", "utt/a REC 0.15\n", "segments, utt/a: is 'REC 0.15', expected a recording, start and end in s"),
        ("segments", "utt/a REC 0.15 nan\n", "segments, utt/a: is 'REC 0.15 nan', expected finite times"),
        ("segments", "utt/a REC 0.15 2.75\n", r"lasts 1\.500 s and has no such part: a part from 0\.15 to 2\.75 s"),
        ("segments", "utt/a REC 0.9 0.8\n", r"has no such part: a part from 0\.9 to 0\.8 s"),
        ("segments", "utt/a none 0.15 0.75\n", r"wav\.scp: has no line for none$"),
        ("segments", "utt/../a REC 0.15 0.75\n", r"segments: id is 'utt/\.\./a', expected a plain name"),
        ("segments", "a/b REC 0 1\na-b REC 0 1\n", "segments: ids differ only in slashes and hyphens, such as a/b"),
        ("utt2dur", "utt/a 0.9\n", r"utt2dur, utt/a: is 0\.900 s, but .*mixture\.wav lasts 0\.600 s"),
        ("reco2dur", "REC 0.9\n", r"reco2dur, REC: is 0\.900 s, but .*mixture\.wav lasts 1\.500 s"),
    ],
)
def test_wrong_segments_are_refused(folder: Path, name: str, text: str, message: str) -> None:
    recording = (folder / "wav.scp").read_text().split()[0]
    segmented(folder, references_too=True)
    (folder / name).write_text(text.replace("REC", recording))
    with pytest.raises(MsdetError, match=message.replace("REC", recording)) as caught:
        read_kaldi(folder, ARRAY, "early")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scene_id", ["sw02001-A_000098-001156", "a:b=c%d", "été", "#1", "-x", "o'x"])
def test_odd_ids_are_kept(folder: Path, tmp_path: Path, scene_id: str) -> None:
    for name in TABLES:
        old, *rest = (folder / name).read_text().splitlines()
        value = scene_id if name in ("utt2spk", "spk2utt") else old.split(" ", 1)[1]
        text = "".join(f"{line}\r\n" for line in (f"{scene_id}\t{value}", *rest))
        (folder / name).write_text("\ufeff" + text, encoding="utf-8")
    made = write_external_dataset(tmp_path / "back", read_kaldi(folder, ARRAY, "early"), 1)
    assert made.scenes[0].id == scene_id
    assert problems(tmp_path / "back", tmp_path / "back") == []
