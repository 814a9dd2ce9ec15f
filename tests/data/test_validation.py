"""A set as it was rendered has no problems; every fault planted in one is found, and named alone."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from msdet import cli
from msdet.conventions import Array
from msdet.data import validation
from msdet.data.leaks import find_leaks
from msdet.data.scene_checks import Problem
from msdet.data.scene_set import SceneSet, finish_set, record_path, write_scene
from msdet.data.simulate import simulate
from msdet.data.validation import read_checksums, validate_set
from msdet.errors import MsdetError
from msdet.io import audio
from msdet.io.files import read_json, read_jsonl, write_json, write_jsonl
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.rir.bank import RirBank
from msdet.scenes.scene import mixture_path, reference_path

FIRST, SECOND = "dev-000000", "dev-000001"

Row = dict[str, Any]
Damage = Callable[[Array], Array]


@pytest.fixture
def copy(dev_set: SceneSet, tmp_path: Path) -> Path:
    """A copy of the set that a test may damage."""
    return Path(shutil.copytree(dev_set.root, tmp_path / "dev"))


@pytest.fixture(scope="module")
def walking_set(tmp_path_factory: pytest.TempPathFactory, speech: Path, small_room: SceneDistribution) -> SceneSet:
    """One scene of two talkers that move, take turns and speak into diffuse and point noise."""
    distribution = dataclasses.replace(
        small_room,
        moving=1.0,
        overlap=(0.3, 0.3),
        tilt_deg=(-5.0, 5.0),
        talker_height_m=(1.2, 1.7),
        diffuse="spherical",
        point_noises=1,
    )
    out = tmp_path_factory.mktemp("walking")
    return simulate(out, speech, "folder", "train", distribution, 1, seed=2, jobs=1)  # type: ignore[return-value]


@pytest.fixture
def walk(walking_set: SceneSet, tmp_path: Path) -> Path:
    return Path(shutil.copytree(walking_set.root, tmp_path / "walking"))


def finish_again(root: Path) -> None:
    """Write manifest, tables and checksums again, as if the scenes had been written as they are now."""
    header, records = read_json(root / "dataset.json"), sorted(root.glob("audio/*/scene.json"))
    array = SceneSet.open(root).array
    finish_set(root, header["settings"], array, [path.parent.name for path in records])


def relabel(root: Path, change: Callable[[Row], object], scene_id: str = FIRST) -> None:
    """Change a scene's labels everywhere, so that only they themselves are wrong."""
    record = read_json(record_path(root, scene_id))
    change(record["scene"])
    write_json(record_path(root, scene_id), record)
    finish_again(root)


def rewrite(root: Path, change: Callable[[Array, Array], None], scene_id: str = FIRST) -> None:
    """Change a scene's mixture and references in place and write them with right checksums."""
    data = SceneSet.open(root)
    scene = next(s for s in data.scenes if s.id == scene_id)
    mixture, references = data.mixture(scene), data.references(scene)
    change(mixture, references)
    write_scene(root, scene, mixture, references)
    finish_again(root)


def the_problem(root: Path, kind: str, scene: str = FIRST) -> str:
    """The text of the one problem there is, which must be of this kind and scene."""
    (found,) = validate_set(root)
    assert (found.kind, found.scene) == (kind, scene), found
    return found.text


def swap(row: Row, *fields: str) -> None:
    first, second = row["sources"]
    for field in fields:
        first[field], second[field] = second[field], first[field]


def test_a_rendered_set_has_no_problems(dev_set: SceneSet, walking_set: SceneSet) -> None:
    for data in (dev_set, walking_set):
        assert validate_set(data.root) == []
        assert validate_set(data.root, quick=True) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"target": "image", "array": "linear4_5cm"},
        {"target": "early", "image_order": 3, "t60_s": (0.3, 0.3)},
        {"t60_s": (0.0, 0.0)},
        {"talkers": {1: 1.0, 2: 1.0}, "gain_error_db": 1.0, "phase_error_deg": 8.0, "position_error_m": 0.002},
    ],
    ids=["image", "traced", "anechoic", "mismatch"],
)
def test_other_kinds_of_sets_have_no_problems(
    changes: dict[str, Any], speech: Path, small_room: SceneDistribution, tmp_path: Path
) -> None:
    distribution = dataclasses.replace(small_room, **changes)
    simulate(tmp_path / "set", speech, "folder", "train", distribution, 3, seed=4, jobs=1)
    assert validate_set(tmp_path / "set") == []


def test_a_set_made_from_a_bank_has_no_problems(
    bank: RirBank, speech: Path, small_room: SceneDistribution, tmp_path: Path
) -> None:
    simulate(tmp_path / "set", speech, "folder", "dev", small_room, 2, seed=4, jobs=1, bank=bank.root)
    assert validate_set(tmp_path / "set") == []


def test_a_set_of_which_little_is_known_has_no_problems(copy: Path) -> None:
    """As imported from elsewhere: no speakers, rooms, T60 asked for, noise or seeds."""
    for scene_id in (FIRST, SECOND, "dev-000002"):
        unknown = {"room_m": None, "t60_target_s": None, "t60_measured_s": None, "noises": [], "seed": 0}
        relabel(copy, lambda row: row.update(unknown), scene_id)  # noqa: B023
        relabel(copy, lambda row: [s.update(speaker="", path="") for s in row["sources"]], scene_id)
    assert validate_set(copy) == []
    data = SceneSet.open(copy)
    assert {problem.kind for problem in find_leaks([data, data])} == {"shared ids", "shared sound"}


# files


def test_one_flipped_bit_is_found(copy: Path) -> None:
    path = copy / reference_path(FIRST, 1)
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    assert the_problem(copy, "checksums") == "talker2.wav: differs from its checksum"
    assert validate_set(copy, quick=True) == []


def test_a_truncated_file_is_found(copy: Path) -> None:
    path = copy / mixture_path(SECOND)
    path.write_bytes(path.read_bytes()[:-800])
    text = the_problem(copy, "format", SECOND)
    assert "mixture.wav: 4 channel(s) x 11900 samples at 8000 Hz, expected 4 channel(s) x 12000" in text
    assert "differs from its checksum" in text


def test_a_file_that_is_no_audio_is_found(copy: Path) -> None:
    (copy / mixture_path(FIRST)).write_bytes(b"RIFF" + bytes(100))
    assert the_problem(copy, "files").startswith("mixture.wav: not readable as audio")


def test_a_missing_file_is_found(copy: Path) -> None:
    (copy / reference_path(FIRST, 0)).unlink()
    assert the_problem(copy, "files") == "talker1.wav is missing"
    assert validate_set(copy, quick=True) == validate_set(copy)


def test_a_missing_scene_is_found(copy: Path) -> None:
    shutil.rmtree(copy / "audio" / FIRST)
    assert the_problem(copy, "files") == "its folder is missing"


@pytest.mark.parametrize(
    ("rate", "channels", "found"),
    [(16000, 4, "4 channel(s) x 12000 samples at 16000 Hz"), (8000, 3, "3 channel(s) x 12000")],
)
def test_a_wrong_rate_or_channel_count_is_found(copy: Path, rate: int, channels: int, found: str) -> None:
    samples, _ = audio.read(copy / mixture_path(FIRST))
    audio.write(copy / mixture_path(FIRST), samples[:channels], rate)
    assert found in the_problem(copy, "format")


def test_samples_that_are_not_finite_are_found(copy: Path) -> None:
    samples, rate = audio.read(copy / mixture_path(FIRST))
    samples[0, 100] = np.nan
    soundfile.write(copy / mixture_path(FIRST), samples.T, rate, subtype="FLOAT")
    assert "mixture.wav: holds NaN or infinite samples" in the_problem(copy, "files")


def test_what_does_not_belong_in_the_set_is_found(copy: Path) -> None:
    (copy / "audio" / "dev-000009").mkdir()
    (copy / "in-progress.json").write_text("{}")
    (copy / ".part-x.wav").write_text("")
    (copy / "audio" / FIRST / "notes.txt").write_text("")
    found = validate_set(copy)
    assert {problem.kind for problem in found} == {"files"}
    assert {(problem.scene, problem.text) for problem in found} == {
        ("", "audio/dev-000009 is of no scene in scenes.jsonl"),
        ("", "in-progress.json: a run is at work in the set, or was killed"),
        ("", ".part-x.wav: left by a run that was killed"),
        (FIRST, "notes.txt does not belong there"),
    }


def test_paths_that_leave_are_found(copy: Path, tmp_path: Path) -> None:
    shutil.move(copy / "audio" / SECOND, tmp_path / "elsewhere")
    (copy / "audio" / SECOND).symlink_to(tmp_path / "elsewhere")
    assert "leaves the data set's folder" in the_problem(copy, "files", SECOND)


# sound


def clip(mixture: Array, references: Array) -> None:
    mixture[2, 4000:4005] = -1.0


def silence(mixture: Array, references: Array) -> None:
    references[1] = 1e-5 * np.sign(references[1])


def kill_channel(mixture: Array, references: Array) -> None:
    mixture[3] *= 1e-3


def copy_channel(mixture: Array, references: Array) -> None:
    mixture[2] = mixture[1]


@pytest.mark.parametrize(
    ("damage", "kind", "text"),
    [
        (clip, "clipping", "mixture.wav: channel 2 is clipped at 0.500 s"),
        (silence, "silence", "talker2.wav: is silent"),
        (kill_channel, "silence", "mixture.wav: channel 3 is dead"),
        (copy_channel, "silence", "mixture.wav: channel 2 is a copy of channel 1"),
    ],
)
def test_damaged_sound_is_found(copy: Path, damage: Callable[[Array, Array], None], kind: str, text: str) -> None:
    rewrite(copy, damage)
    assert the_problem(copy, kind) == text


def test_a_single_sample_at_full_scale_is_no_clipping(copy: Path) -> None:
    def peak(mixture: Array, references: Array) -> None:
        mixture[0, [100, 102]] = -1.0

    rewrite(copy, peak)
    assert validate_set(copy) == []


def test_references_heard_elsewhere_are_found(copy: Path) -> None:
    """Labels and positions of the talkers swapped: geometry agrees, the sound does not."""
    fields = ("position_m", "azimuth_deg", "elevation_deg", "distance_m")
    relabel(copy, lambda row: swap(row, *fields))
    found = validate_set(copy)
    assert [problem.kind for problem in found] == ["arrival", "arrival"]
    first, second = (source.azimuth_deg for source in SceneSet.open(copy).scenes[0].sources)
    for problem, off in zip(found, (second - first, first - second), strict=True):
        off = (off + 180) % 360 - 180
        told = float(problem.text.split("heard ")[1].split("°")[0])
        assert told == pytest.approx(off, abs=5.0)


def test_a_late_reference_is_found(copy: Path) -> None:
    def delay(mixture: Array, references: Array) -> None:
        references[0] = np.roll(references[0], 40)

    rewrite(copy, delay)
    assert the_problem(copy, "arrival") == "talker 1: its reference is heard -5.0 ms off in the mixture"


def test_sound_outside_its_time_is_found(copy: Path) -> None:
    relabel(copy, lambda row: row["sources"][0].update(onset_s=0.7, duration_s=0.5))
    text = the_problem(copy, "arrival")
    assert text.startswith("talker 1: ")
    assert "of its reference's energy is outside 0.70 to 1.2" in text


def test_weak_talkers_are_not_judged_by_where_they_are_heard(copy: Path) -> None:
    fields = ("position_m", "azimuth_deg", "elevation_deg", "distance_m")
    relabel(copy, lambda row: swap(row, *fields))
    relabel(copy, lambda row: row["sources"][0].update(level_db=-20.0))
    assert "talker 2" in the_problem(copy, "arrival")


# labels


def test_swapped_azimuths_are_found(copy: Path, dev_set: SceneSet) -> None:
    relabel(copy, lambda row: swap(row, "azimuth_deg"))
    found = validate_set(copy)
    first, second = (source.azimuth_deg for source in dev_set.scenes[0].sources)
    assert [(problem.kind, problem.text) for problem in found] == [
        ("geometry", f"talker 1: azimuth_deg is {second:.2f}, its position gives {first:.2f}"),
        ("geometry", f"talker 2: azimuth_deg is {first:.2f}, its position gives {second:.2f}"),
    ]


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        ({"elevation_deg": 7.0}, "geometry", "talker 2: elevation_deg is 7.00, its position gives"),
        ({"distance_m": 3.0}, "geometry", "talker 2: distance_m is 3.00, its position gives"),
        ({"azimuth_deg": -1.0}, "geometry", "talker 2: azimuth_deg is -1.00, its position gives"),
        ({"onset_s": 1.2}, "timing", "talker 2: talks from 1.200 to 2.700 s of a scene of 1.5 s"),
        ({"onset_s": -0.1}, "timing", "talker 2: talks from -0.100"),
        ({"offset_s": -0.1}, "timing", "talker 2: offset_s is -0.100, expected 0 or more"),
    ],
)
def test_a_wrong_label_is_found(copy: Path, change: Row, kind: str, text: str) -> None:
    relabel(copy, lambda row: row["sources"][1].update(change))
    assert the_problem(copy, kind).startswith(text)


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        ({"t60_measured_s": 0.3}, "T60", "T60 measured is 0.300 s, asked for were 0.2"),
        ({"sample_rate": 16000}, "format", "sample_rate is 16000 in scenes.jsonl, 8000 in dataset.json"),
        ({"room_m": [4.4, 3.9, 0.9]}, "geometry", "is outside the room of 4.40 x 3.90 x 0.90 m"),
        (
            {"mismatch": {"gain_db": [0.0], "phase_deg": [0.0], "offset_m": [[0.0, 0.0, 0.0]]}},
            "geometry",
            "mismatch describes 1 microphones, the array has 4",
        ),
    ],
)
def test_a_wrong_field_of_a_scene_is_found(copy: Path, change: Row, kind: str, text: str) -> None:
    relabel(copy, lambda row: row.update(change), SECOND)
    found = validate_set(copy, quick=True)
    assert {(problem.scene, problem.kind) for problem in found} == {(SECOND, kind)}
    assert text in found[0].text


def test_a_traced_t60_may_differ_more(copy: Path) -> None:
    asked = SceneSet.open(copy).scenes[0].t60_target_s
    assert asked is not None
    relabel(copy, lambda row: row.update(t60_measured_s=0.72 * asked))
    assert the_problem(copy, "T60").endswith("(± 25%)")
    relabel(copy, lambda row: row.update(image_order=3))
    assert validate_set(copy) == []


# moving talkers


def turn(row: Row) -> None:
    frame = row["sources"][0]["track"][5]
    frame["azimuth_deg"] = (frame["azimuth_deg"] + 3.0) % 360.0


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (turn, "talker 1: azimuth_deg is"),
        (lambda row: row["sources"][1].update(track=row["sources"][1]["track"][:8]), "talker 2: track is at 0,"),
        (lambda row: row["sources"][1].update(track=[]), "talker 2: has waypoints but no track"),
        (lambda row: row["sources"][0]["waypoints"][-1].update(time_s=1.0), "talker 1: waypoints are at 0"),
    ],
    ids=["turned", "short", "none", "waypoints"],
)
def test_a_wrong_track_is_found(walk: Path, change: Callable[[Row], object], text: str) -> None:
    relabel(walk, change, "train-000000")
    assert the_problem(walk, "track", "train-000000").startswith(text)


def test_a_path_out_of_the_room_is_found(walk: Path) -> None:
    relabel(walk, lambda row: row["sources"][0]["waypoints"][-1].update(position_m=[4.6, 1, 1]), "train-000000")
    found = validate_set(walk)
    assert "talker 1 on its path at [4.6, 1.0, 1.0] is outside the room" in found[0].text
    assert {problem.kind for problem in found} == {"geometry", "track"}


def test_a_track_that_goes_elsewhere_than_the_sound_is_found(walk: Path) -> None:
    """Track and waypoints mirrored at the array: they agree with each other, not with the sound."""

    def mirror(row: Row) -> None:
        source, center = row["sources"][1], np.array(row["array_center_m"])
        for place in (source, *source["waypoints"]):
            place["position_m"] = (2 * center - place["position_m"]).tolist()
        for label in (source, *source["track"]):
            label["azimuth_deg"] = (label["azimuth_deg"] + 180.0) % 360.0
            label["elevation_deg"] *= -1.0

    relabel(walk, mirror, "train-000000")
    assert the_problem(walk, "arrival", "train-000000").startswith("talker 2: is heard")


# tables, records, checksums


def test_tables_that_differ_are_found(copy: Path) -> None:
    lines = (copy / "utt2doa").read_text().splitlines()
    (copy / "utt2doa").write_text("\n".join([f"{FIRST} 1.00 2.00", *lines[1:]]) + "\n")
    true = lines[0].partition(" ")[2]
    assert the_problem(copy, "tables") == f"utt2doa has '1.00 2.00', scenes.jsonl gives '{true}'"


def test_missing_and_extra_tables_are_found(copy: Path) -> None:
    (copy / "spk2.scp").rename(copy / "spk3.scp")
    found = validate_set(copy, quick=True)
    assert [problem.text for problem in found] == ["spk3.scp does not belong there", "spk2.scp is missing"]


def test_a_manifest_edited_by_hand_is_found(copy: Path) -> None:
    rows = read_jsonl(copy / "scenes.jsonl")
    write_jsonl(copy / "scenes.jsonl", [rows[0] | {"seed": 1}, *rows[1:]])
    assert {(p.scene, p.kind, p.text) for p in validate_set(copy)} == {
        ("", "checksums", "scenes.jsonl: differs from its checksum"),
        (FIRST, "files", "scene.json and scenes.jsonl differ"),
    }


def test_a_record_that_is_no_scene_is_found(copy: Path) -> None:
    record_path(copy, FIRST).write_text("[]")
    assert the_problem(copy, "files") == "scene.json is not readable as a scene"


def test_the_same_scene_twice_is_found(copy: Path) -> None:
    rows = read_jsonl(copy / "scenes.jsonl")
    write_jsonl(copy / "scenes.jsonl", [*rows[:2], rows[0]])
    texts = [problem.text for problem in validate_set(copy, quick=True)]
    assert "scenes.jsonl has 2 scenes of this id" in texts
    assert "audio/dev-000002 is of no scene in scenes.jsonl" in texts


def test_gaps_in_the_checksums_are_found(copy: Path) -> None:
    lines = (copy / "SHA256SUMS").read_text().splitlines()
    left_out = lines.pop(0).split("  ")[1]
    (copy / "SHA256SUMS").write_text("\n".join([*lines, f"{'0' * 64}  audio/more.wav"]) + "\n")
    assert {(problem.kind, problem.text) for problem in validate_set(copy)} == {
        ("checksums", f"SHA256SUMS has no line for {left_out}"),
        ("checksums", "SHA256SUMS has a line for audio/more.wav, which is not of the set"),
    }
    (copy / "SHA256SUMS").write_text("\n".join([*lines, "word"]) + "\n")
    assert f"SHA256SUMS, line {len(lines) + 1}: expected a checksum" in validate_set(copy)[0].text
    (copy / "SHA256SUMS").unlink()
    assert the_problem(copy, "files", "") == "SHA256SUMS is missing or unreadable"


def test_settings_edited_by_hand_are_found(copy: Path) -> None:
    header = read_json(copy / "dataset.json")
    header["settings"]["seed"] += 1
    write_json(copy / "dataset.json", header)
    assert the_problem(copy, "checksums", "").startswith("dataset.json: its settings are not those")


def test_what_is_no_set_is_refused(tmp_path: Path, copy: Path) -> None:
    with pytest.raises(MsdetError, match="not a data set"):
        validate_set(tmp_path)
    (copy / "scenes.jsonl").write_text("{}\n")
    with pytest.raises(MsdetError, match="line 1: key 'id' is missing"):
        validate_set(copy)


def test_workers_find_the_same(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (copy / mixture_path(FIRST)).unlink()
    (copy / reference_path(SECOND, 0)).write_bytes(b"")
    monkeypatch.setattr(validation, "FEW_SCENES", 0)
    told: list[tuple[int, int]] = []
    found = validate_set(copy, jobs=2, progress=lambda done, total: told.append((done, total)))
    assert found == validate_set(copy)
    assert [problem.scene for problem in found] == [FIRST, SECOND]
    assert told == [(n, 3) for n in range(4)]


# several sets


@pytest.fixture(scope="module")
def train_set(tmp_path_factory: pytest.TempPathFactory, speech: Path, small_room: SceneDistribution) -> SceneSet:
    out = tmp_path_factory.mktemp("train")
    return simulate(out, speech, "folder", "train", small_room, 2, seed=5, jobs=1)  # type: ignore[return-value]


def with_scene(data: SceneSet, **changes: Any) -> SceneSet:
    """The set with its first scene changed."""
    first = dataclasses.replace(data.scenes[0], **changes)
    return dataclasses.replace(data, scenes=(first, *data.scenes[1:]))


def test_splits_share_nothing(dev_set: SceneSet, train_set: SceneSet, bank: RirBank) -> None:
    assert find_leaks([dev_set, train_set], bank) == []


def test_a_talker_in_two_sets_is_found(dev_set: SceneSet, train_set: SceneSet) -> None:
    speaker = dev_set.scenes[1].sources[0].speaker
    first, second = train_set.scenes[0].sources
    changed = with_scene(train_set, sources=(first, dataclasses.replace(second, speaker=speaker)))
    (found,) = find_leaks([dev_set, changed])
    assert found.kind == "shared talkers"
    assert found.text.startswith(f"talker '{speaker}' is in {dev_set.root.name} (dev-00000")
    assert found.text.endswith(f"and in {train_set.root.name} (train-000000)")


@pytest.mark.parametrize("field", ["id", "seed"])
def test_an_id_or_seed_in_two_sets_is_found(dev_set: SceneSet, train_set: SceneSet, field: str) -> None:
    value = getattr(dev_set.scenes[0], field)
    (found,) = find_leaks([dev_set, with_scene(train_set, **{field: value})])
    assert found.kind == f"shared {field}s"
    assert str(value) in found.text


def test_a_speech_file_in_two_sets_is_found(dev_set: SceneSet, train_set: SceneSet) -> None:
    path = dev_set.scenes[0].sources[0].path
    first, second = train_set.scenes[0].sources
    changed = with_scene(train_set, sources=(first, dataclasses.replace(second, path=path)))
    (found,) = find_leaks([dev_set, changed])
    assert (found.kind, f"speech file '{path}'" in found.text) == ("shared speech", True)


def test_a_room_in_two_sets_is_found(dev_set: SceneSet, train_set: SceneSet) -> None:
    fields = ("room_m", "array_center_m", "array_rotation_deg")
    room = {field: getattr(dev_set.scenes[0], field) for field in fields}
    (found,) = find_leaks([dev_set, with_scene(train_set, **room)])
    assert found.kind == "shared rooms"
    moved = room | {"array_rotation_deg": (1.0, 0.0, 0.0)}
    assert find_leaks([dev_set, with_scene(train_set, **moved)]) == []


def test_the_same_noise_in_two_sets_is_found(
    dev_set: SceneSet, speech: Path, small_room: SceneDistribution, tmp_path: Path
) -> None:
    """Recordings cut in time for the splits are no leak until their parts overlap."""
    rng = np.random.default_rng(3)
    audio.write(tmp_path / "noise" / "hum.wav", 0.1 * rng.standard_normal(8000 * 16).clip(-4, 4), 8000)
    noisy = dataclasses.replace(small_room, point_noises=1, t60_s=(0.0, 0.0))
    sets = [
        simulate(tmp_path / split, speech, "folder", split, noisy, 1, seed=6, jobs=1, noise=tmp_path / "noise")
        for split in ("train", "dev")
    ]
    train, dev = sets
    assert train is not None
    assert dev is not None
    assert find_leaks([train, dev]) == []
    (found,) = find_leaks([train, with_scene(dev, noises=train.scenes[0].noises)])
    assert (found.kind, "noise 'hum.wav'" in found.text) == ("shared noise", True)


def test_the_same_sound_under_another_name_is_found(train_set: SceneSet, dev_set: SceneSet, copy: Path) -> None:
    digest = dict(read_checksums(train_set.root))[mixture_path("train-000001")]
    sums = "".join(f"{old}  {path}\n" for path, old in read_checksums(copy)[1:])
    (copy / "SHA256SUMS").write_text(f"{digest}  {mixture_path(FIRST)}\n{sums}")
    (found,) = find_leaks([SceneSet.open(copy), train_set])
    files = f"{mixture_path(FIRST)} and {mixture_path('train-000001')}"
    assert (found.kind, found.text.startswith(files)) == ("shared sound", True)
    (copy / "SHA256SUMS").unlink()
    assert find_leaks([SceneSet.open(copy), train_set]) == []


def test_a_bank_of_the_same_rooms_is_found(
    dev_set: SceneSet, bank: RirBank, speech: Path, small_room: SceneDistribution, tmp_path: Path
) -> None:
    table = bank.table[2]
    same_room = with_scene(dev_set, room_m=table.room_m, t60_target_s=table.t60_target_s)
    (found,) = find_leaks([same_room], bank)
    assert found == Problem("", "shared rooms", f"room 2 of {bank.root} is that of {FIRST}, of {dev_set.root.name}")
    from_bank = simulate(tmp_path / "set", speech, "folder", "dev", small_room, 3, seed=4, jobs=1, bank=bank.root)
    assert from_bank is not None
    (found,) = find_leaks([from_bank], bank)
    assert f"all rooms are those of {bank.root}" in found.text
    unnamed = dataclasses.replace(bank, identity="measured again")  # places and T60 tell
    rooms = {scene.rir_room for scene in from_bank.scenes}
    assert len(find_leaks([from_bank], unnamed)) == len(rooms)


def test_sets_made_from_one_bank_share_its_rooms(
    bank: RirBank, speech: Path, small_room: SceneDistribution, tmp_path: Path
) -> None:
    sets = [
        simulate(tmp_path / split, speech, "folder", split, small_room, 6, seed=4, jobs=1, bank=bank.root)
        for split in ("train", "dev")
    ]
    first, second = ({scene.rir_room for scene in data.scenes} for data in sets if data)
    found = find_leaks([data for data in sets if data])
    assert first & second
    assert {problem.kind for problem in found} == {"shared rooms"}
    assert len(found) == len(first & second)


# the command


def run(*arguments: object) -> int:
    return cli.main(["validate", *map(str, arguments), "--jobs=1"])


def test_the_command_tells_that_all_is_well(
    dev_set: SceneSet, train_set: SceneSet, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(dev_set.root, train_set.root) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{dev_set.root}: 3 scenes valid",
        f"{train_set.root}: 2 scenes valid",
        "sets share nothing",
    ]


def test_the_command_groups_problems_and_counts_the_rest(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for talker in (0, 1):
        (copy / reference_path(FIRST, talker)).unlink()
    (copy / mixture_path(SECOND)).unlink()
    write_json(record_path(copy, SECOND), {"scene": {}})
    assert run(copy, "--quick", "--lines=2") == 1
    assert capsys.readouterr().out.splitlines() == [
        "files:",
        f"  {FIRST}: talker1.wav is missing",
        f"  {FIRST}: talker2.wav is missing",
        "  … and 2 more",
        f"{copy}: 4 problems in 2 of 3 scenes (quick look)",
    ]


def test_the_command_tells_what_sets_and_bank_share(
    dev_set: SceneSet,
    copy: Path,
    bank: RirBank,
    tmp_path: Path,
    small_room: SceneDistribution,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(dev_set.root, copy, "--quick", "--lines=1", f"--bank={bank.root}") == 1
    text = capsys.readouterr().out
    for kind in ("ids", "seeds", "speech", "talkers", "rooms", "sound"):
        assert f"shared {kind}:\n" in text
    assert "sets and bank: " in text.splitlines()[-1]


def test_the_command_refuses_what_is_no_set(
    dev_set: SceneSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(dev_set.root, tmp_path / "nowhere") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"error: {tmp_path / 'nowhere'}: not a data set, dataset.json is missing\n"
