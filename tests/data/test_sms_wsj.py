"""``sms_wsj.json``: array poses and directions against plain geometry, references, round trips, refusals."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from scipy.signal import fftconvolve

from msdet.arrays import MicrophoneArray, load_array
from msdet.cli import main
from msdet.conventions import Array, rotation_matrix
from msdet.data.formats.external import Sound, scales, write_external_dataset
from msdet.data.formats.pose import fit_pose
from msdet.data.formats.sms_wsj import read_sms_wsj, write_sms_wsj
from msdet.data.scene_set import SceneSet
from msdet.data.validation import validate_set
from msdet.errors import MsdetError
from msdet.io import audio
from msdet.io.files import read_json, write_json
from msdet.scenes.mismatch import Mismatch
from msdet.scenes.rir.image_method import image_responses
from msdet.scenes.scene import Waypoint, mixture_path

RATE = 8000
ROOM = (8.1, 5.9, 3.05)
SMS_WSJ = load_array("sms_wsj")


def turned(point: list[float], x: float, y: float, z: float) -> list[float]:
    """A point turned about x, then y, then z, by angles in radians: the order of SMS-WSJ."""
    a, b, c = point
    b, c = b * math.cos(x) - c * math.sin(x), b * math.sin(x) + c * math.cos(x)
    a, c = a * math.cos(y) + c * math.sin(y), -a * math.sin(y) + c * math.cos(y)
    a, b = a * math.cos(z) - b * math.sin(z), a * math.sin(z) + b * math.cos(z)
    return [a, b, c]


def sensors(center: list[float], tilt: tuple[float, float, float], decimals: int = 9) -> list[list[float]]:
    """Six microphones on a circle of 10 cm, the first at -30 degrees, turned and placed: rows x, y and z."""
    ring = [(0.1 * math.cos(p), 0.1 * math.sin(p), 0.0) for p in (math.pi / 3 * k - math.pi / 6 for k in range(6))]
    placed = [[c + m for c, m in zip(center, turned(list(p), *tilt), strict=True)] for p in ring]
    return [[round(p[axis], decimals) for p in placed] for axis in range(3)]


def plain_azimuth_deg(sensor_position: list[list[float]], source: list[float]) -> float:
    """Azimuth of a source by three microphones alone: +x is halfway from 0 to 1, +y is where 2 is."""
    mics = list(zip(*sensor_position, strict=True))
    center = [sum(m[axis] for m in mics) / 6 for axis in range(3)]
    along_x = [(mics[0][axis] + mics[1][axis]) / 2 - center[axis] for axis in range(3)]
    along_y = [mics[2][axis] - center[axis] for axis in range(3)]
    seen = [source[axis] - center[axis] for axis in range(3)]
    x = sum(s * a for s, a in zip(seen, along_x, strict=True)) / math.hypot(*along_x)
    y = sum(s * a for s, a in zip(seen, along_y, strict=True)) / math.hypot(*along_y)
    return math.degrees(math.atan2(y, x)) % 360


SCENES: dict[str, dict[str, Any]] = {
    "0_aaa_bbb": {
        "room_dimensions": [[length] for length in ROOM],
        "sound_decay_time": 0.3,
        "source_position": [[5.1, 2.9], [3.6, 1.9], [1.45, 1.45]],
        "sensor_position": sensors([4.05, 2.95, 1.45], (0.03, 0.05, 2.1)),
        "num_samples": {"observation": 12000, "original_source": [12000, 8000]},
        "offset": [0, 2500],
        "log_weights": [1.25, -1.25],
        "gender": ["female", "male"],
        "speaker_id": ["s01", "s02"],
        "snr": 25.0,
    },
    "1_ccc_ddd": {
        "room_dimensions": [[length] for length in ROOM],
        "sound_decay_time": 0.25,
        "source_position": [[3.2, 4.6], [3.9, 4.1], [1.55, 1.55]],
        "sensor_position": sensors([3.95, 3.05, 1.55], (0.06, 0.01, 5.5), decimals=3),
        "num_samples": {"observation": 10000, "original_source": [7000, 10000]},
        "offset": [1000, 0],
        "log_weights": [-0.5, 0.5],
        "gender": ["male", "male"],
        "speaker_id": ["s03", "s04"],
        "snr": 21.0,
    },
}


def placed(signal: Array, offset: int, samples: int) -> Array:
    """SMS-WSJ's extract_piece: cut or fill on the left, then on the right."""
    signal = signal[..., -offset:] if offset < 0 else np.pad(signal, [*[(0, 0)] * (signal.ndim - 1), (offset, 0)])
    missing = max(0, samples - signal.shape[-1])
    return np.pad(signal, [*[(0, 0)] * (signal.ndim - 1), (0, missing)])[..., :samples]


def high_passed(response: Array) -> Array:
    """The last step of the generator that SMS-WSJ uses, sample by sample."""
    w = 2 * math.pi * 100 / RATE
    r = math.exp(-w)
    y0 = y1 = 0.0
    filtered = []
    for x in response.tolist():
        y0, y1, y2 = 2 * r * math.cos(w) * y0 - r * r * y1 + x, y0, y1
        filtered.append(y0 - (1 + r) * y1 + r * y2)
    return np.array(filtered)


def write(path: Path, samples: Array) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples.T, RATE, subtype="FLOAT")
    return str(path)


def heard(root: Path, scene_id: str, example: dict[str, Any], rng: np.random.Generator) -> Array:
    """Write an example's signals as SMS-WSJ makes them; returns the direct paths at channel 0."""
    samples = example["num_samples"]["observation"]
    mics, sources = np.array(example["sensor_position"]).T, np.array(example["source_position"]).T
    responses = image_responses(ROOM, 0.35, 25.0, mics, sources, RATE)
    alone = image_responses(ROOM, 1.0, 3.0, mics, sources, RATE)
    if scene_id.startswith("1"):
        alone = np.pad(alone, ((0, 0), (0, 0), (0, 2000)))
        responses, alone = (np.apply_along_axis(high_passed, -1, h) for h in (responses, alone))
    paths: dict[str, Any] = {"original_source": [], "rir": []}
    paths |= {"speech_reverberation_early": [], "speech_reverberation_tail": []}
    clean, directs = np.zeros((6, samples)), []
    for k, h in enumerate(responses):
        speech = np.convolve(rng.standard_normal(example["num_samples"]["original_source"][k]), [1, 0.9, 0.5, 0.2])
        speech = speech[: example["num_samples"]["original_source"][k]]
        speech *= np.repeat(rng.uniform(0.1, 1, len(speech) // 500 + 1), 500)[: len(speech)]
        start = min(int(np.argmax(np.abs(row) > 0.1 * np.abs(row).max())) for row in h)
        offset = example["offset"][k] - start
        early, tail = h.copy(), h.copy()
        early[:, start + 400 :], tail[:, : start + 400] = 0, 0
        image, early, tail, direct = (
            placed(fftconvolve(speech[None], response, axes=-1), offset, samples)
            for response in (h, early, tail, alone[k, :1])
        )
        scale = 10 ** (example["log_weights"][k] / 20) / image.std() / 71
        name = f"{scene_id}_{k}.wav"
        paths["original_source"].append(write(root / "dry" / name, speech[None]))
        paths["rir"].append(write(root / "rirs" / scene_id / f"h_{k}.wav", h))
        paths["speech_reverberation_early"].append(write(root / "early" / "cv_dev93" / name, scale * early))
        paths["speech_reverberation_tail"].append(write(root / "tail" / "cv_dev93" / name, scale * tail))
        clean += scale * image
        directs.append(scale * direct[0])
    noise = rng.standard_normal(clean.shape) * clean.std() * 10 ** (-example["snr"] / 20)
    paths["observation"] = write(root / "observation" / "cv_dev93" / f"{scene_id}.wav", clean + noise)
    example["audio_path"] = paths
    return np.array(directs)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Array]]:
    """A small SMS-WSJ of two scenes with all its signals, and the direct paths by scene."""
    root = tmp_path_factory.mktemp("sms wsj")
    rng = np.random.default_rng(3)
    examples = json.loads(json.dumps(SCENES))
    directs = {scene_id: heard(root, scene_id, example, rng) for scene_id, example in examples.items()}
    write_json(root / "sms_wsj.json", {"datasets": {"cv_dev93": examples}})
    return root, directs


@pytest.fixture
def database(made: tuple[Path, dict[str, Array]], tmp_path: Path) -> Path:
    """A manifest that a test may change, far from its audio, which it names by absolute paths."""
    return Path(shutil.copy(made[0] / "sms_wsj.json", tmp_path))


def change(database: Path, scene_id: str = "0_aaa_bbb", **values: Any) -> None:
    """Change keys of an example; None removes one."""
    content = read_json(database)
    example = content["datasets"]["cv_dev93"][scene_id]
    example |= values
    content["datasets"]["cv_dev93"][scene_id] = {k: v for k, v in example.items() if v is not None}
    write_json(database, content)


def change_paths(database: Path, **values: Any) -> None:
    paths = read_json(database)["datasets"]["cv_dev93"]["0_aaa_bbb"]["audio_path"] | values
    change(database, audio_path={k: v for k, v in paths.items() if v is not None})


def test_directions_are_those_of_a_plain_calculation(database: Path) -> None:
    found = read_sms_wsj(database, SMS_WSJ)
    assert [entry.scene.id for entry in found.scenes] == list(SCENES)
    for entry in found.scenes:
        example = SCENES[entry.scene.id]
        tolerance_deg = 1e-5 if entry.scene.id.startswith("0") else 0.4  # microphones rounded to millimeters
        for k, source in enumerate(entry.scene.sources):
            position = [row[k] for row in example["source_position"]]
            azimuth_deg = plain_azimuth_deg(example["sensor_position"], position)
            assert source.azimuth_deg == pytest.approx(azimuth_deg, abs=tolerance_deg)
            assert source.position_m == tuple(position)
            assert source.distance_m == pytest.approx(math.dist(position, entry.scene.array_center_m))


def test_pose_is_that_by_which_the_microphones_were_turned(database: Path) -> None:
    scene = read_sms_wsj(database, SMS_WSJ).scenes[0].scene
    np.testing.assert_allclose(scene.array_center_m, [4.05, 2.95, 1.45], atol=1e-6)
    # the array's z axis is tilted, by the same turns
    np.testing.assert_allclose(
        rotation_matrix(*scene.array_rotation_deg)[:, 2], turned([0, 0, 1], 0.03, 0.05, 2.1), atol=1e-4
    )
    yaw, pitch, roll = np.rad2deg([2.1, 0.05, 0.03])
    np.testing.assert_allclose(scene.array_rotation_deg, [yaw, pitch, roll], atol=0.01)
    assert max(abs(s.elevation_deg) for s in scene.sources) > 1.0


@pytest.mark.parametrize("name", ["sms_wsj", "eigenmike32", "chime_tablet", "circular8_10cm"])
def test_any_pose_is_found_again(name: str) -> None:
    array = load_array(name)
    rng = np.random.default_rng(0)
    for _ in range(20):
        angles_deg, center = rng.uniform(-180, 180, 3), rng.uniform(1, 3, 3)
        microphones = array.positions @ rotation_matrix(*angles_deg).T + center
        found_center, found_deg = fit_pose(array, microphones, "here")
        np.testing.assert_allclose(found_center, center, atol=1e-9)
        np.testing.assert_allclose(rotation_matrix(*found_deg), rotation_matrix(*angles_deg), atol=1e-7)


def test_array_on_edge_is_placed_without_a_warning() -> None:
    microphones = SMS_WSJ.positions @ rotation_matrix(0.0, 90.0, 40.0).T
    _, found_deg = fit_pose(SMS_WSJ, microphones, "here")
    np.testing.assert_allclose(rotation_matrix(*found_deg), rotation_matrix(0.0, 90.0, 40.0), atol=1e-7)


def test_labels_are_the_file_s(database: Path) -> None:
    scene = read_sms_wsj(database, SMS_WSJ).scenes[0].scene
    assert (scene.room_m, scene.t60_s, scene.array, scene.target) == (ROOM, 0.3, "sms_wsj", "early")
    assert (scene.sample_rate, scene.samples, scene.snr_db) == (RATE, 12000, pytest.approx(25.0))
    first, second = scene.sources
    assert (first.speaker, first.gender, first.level_db) == ("s01", "f", 1.25)
    assert (second.speaker, second.gender, second.level_db) == ("s02", "m", -1.25)
    assert (second.onset_s, second.duration_s) == (2500 / RATE, 1.0)


@pytest.mark.parametrize("jobs", [1, 2])
def test_set_made_from_the_file_holds_its_signals(database: Path, tmp_path: Path, jobs: int) -> None:
    made = write_external_dataset(tmp_path / "set", read_sms_wsj(database, SMS_WSJ), jobs)
    assert (made.sample_rate, made.array) == (RATE, SMS_WSJ)
    assert scales(made) == {}
    examples = read_json(database)["datasets"]["cv_dev93"]
    for scene in SceneSet.open(tmp_path / "set").scenes:
        paths = examples[scene.id]["audio_path"]
        observation, _ = audio.read(Path(paths["observation"]))
        np.testing.assert_allclose(made.mixture(scene), observation, atol=2**-15)
        for reference, path in zip(made.references(scene), paths["speech_reverberation_early"], strict=True):
            np.testing.assert_allclose(reference, audio.read(Path(path))[0][0], atol=2**-15)


def test_image_is_early_part_and_tail_or_a_file_of_its_own(database: Path, tmp_path: Path) -> None:
    made = write_external_dataset(tmp_path / "set", read_sms_wsj(database, SMS_WSJ, "image"), 1)
    scene = made.scenes[0]
    paths = read_json(database)["datasets"]["cv_dev93"][scene.id]["audio_path"]
    early, tail = (
        [audio.read(Path(p))[0][0] for p in paths[f"speech_reverberation_{part}"]] for part in ("early", "tail")
    )
    np.testing.assert_allclose(made.references(scene), np.array(early) + tail, atol=2**-15)
    change_paths(database, speech_image=paths["speech_reverberation_tail"])
    entry = read_sms_wsj(database, SMS_WSJ, "image").scenes[0]
    np.testing.assert_array_equal(entry.references[1].read(entry.scene, 0), tail[1])


def test_direct_path_is_that_of_the_room_without_walls_with_and_without_a_high_pass(
    made: tuple[Path, dict[str, Array]], database: Path, tmp_path: Path
) -> None:
    found = write_external_dataset(tmp_path / "set", read_sms_wsj(database, SMS_WSJ, "direct"), 1)
    for scene in found.scenes:
        assert scene.target == "direct"
        for reference, direct in zip(found.references(scene), made[1][scene.id], strict=True):
            error_db = 10 * np.log10(np.sum((reference - direct) ** 2) / np.sum(direct**2))
            assert error_db < -40.0


def test_padded_dry_speech_is_taken_as_it_stands(
    made: tuple[Path, dict[str, Array]], database: Path, tmp_path: Path
) -> None:
    padded = []
    for k, length in enumerate((12000, 8000)):
        dry, _ = audio.read(made[0] / "dry" / f"0_aaa_bbb_{k}.wav")
        assert dry.shape[-1] == length
        padded.append(write(tmp_path / f"{k}.wav", placed(dry, (0, 2500)[k], 12000)))
    before = read_sms_wsj(database, SMS_WSJ, "direct").scenes[0]
    change_paths(database, original_source=None, speech_source=padded)
    after = read_sms_wsj(database, SMS_WSJ, "direct").scenes[0]
    for one, other in zip(before.references, after.references, strict=True):
        np.testing.assert_allclose(one.read(before.scene, 0), other.read(after.scene, 0), atol=1e-6)


def test_direct_path_that_cannot_be_had_is_refused(database: Path, tmp_path: Path) -> None:
    def refused(match: str) -> None:
        with pytest.raises(MsdetError, match=match):
            entry = read_sms_wsj(database, SMS_WSJ, "direct").scenes[0]
            entry.references[1].read(entry.scene, 0)

    paths = read_json(database)["datasets"]["cv_dev93"]["0_aaa_bbb"]["audio_path"]
    change_paths(database, rir=None)
    refused(r"0_aaa_bbb, audio_path: has no 'rir', from which the references of target direct are taken$")
    change_paths(database, rir=paths["rir"][::-1])
    refused(r"starts at \d\.\d\d ms, but the direct path should at \d\.\d\d ms by the positions")
    response, _ = audio.read(Path(paths["rir"][1]))
    doubled = write(tmp_path / "doubled.wav", response + 0.8 * np.roll(response, 6, axis=-1))
    change_paths(database, rir=[paths["rir"][0], doubled])
    refused(r"doubled\.wav: does not start with a single pulse, so the direct path cannot be told from the rest")
    change_paths(database, rir=paths["rir"], original_source=paths["original_source"][::-1])
    refused(r"is not made of .*so the direct path's level is unknown; choose target early")
    change_paths(database, original_source=paths["original_source"])
    change(database, room_dimensions=[[8.1], [5.9], [1.5]])  # a ceiling 5 cm above
    refused(r"talker 2: the first reflection comes 0\.\d\d ms after the direct path and cannot be told from it")
    change(database, room_dimensions=None)
    refused("key 'room_dimensions' is missing, which target direct needs")


def test_clipping_scene_is_scaled_as_a_whole(database: Path, made: tuple[Path, Any], tmp_path: Path) -> None:
    loud, _ = audio.read(made[0] / "observation" / "cv_dev93" / "0_aaa_bbb.wav")
    factor = 1.8 / np.abs(loud).max()
    change_paths(database, observation=write(tmp_path / "loud.wav", factor * loud))
    found = write_external_dataset(tmp_path / "set", read_sms_wsj(database, SMS_WSJ), 1)
    assert scales(found) == {"0_aaa_bbb": pytest.approx(0.5)}
    np.testing.assert_allclose(found.mixture(found.scenes[0]), 0.5 * factor * loud, atol=2**-15)
    early, _ = audio.read(made[0] / "early" / "cv_dev93" / "0_aaa_bbb_1.wav")
    np.testing.assert_allclose(found.references(found.scenes[0])[1], 0.5 * early[0], atol=2**-15)


def test_killed_import_is_finished_by_the_same_call(
    database: Path, tmp_path: Path, file_bytes: Callable[[Path], dict[str, bytes]]
) -> None:
    whole = write_external_dataset(tmp_path / "whole", read_sms_wsj(database, SMS_WSJ), 1)
    found = read_sms_wsj(database, SMS_WSJ)
    broken = dataclasses.replace(found.scenes[1], mixture=Sound(tmp_path / "gone.wav"))
    with pytest.raises(MsdetError, match=r"gone\.wav: no such file"):
        write_external_dataset(tmp_path / "set", dataclasses.replace(found, scenes=(found.scenes[0], broken)), 1)
    assert (tmp_path / "set" / mixture_path("0_aaa_bbb")).is_file()
    assert not (tmp_path / "set" / "dataset.json").exists()
    first = (tmp_path / "set" / mixture_path("0_aaa_bbb")).stat().st_mtime_ns
    write_external_dataset(tmp_path / "set", read_sms_wsj(database, SMS_WSJ), 1)
    assert (tmp_path / "set" / mixture_path("0_aaa_bbb")).stat().st_mtime_ns == first
    assert file_bytes(tmp_path / "set") == file_bytes(whole.root)
    with pytest.raises(MsdetError, match=r"exists with other settings: target is early, asked for image"):
        write_external_dataset(tmp_path / "set", read_sms_wsj(database, SMS_WSJ, "image"), 1)


def test_audio_that_was_moved_is_found(made: tuple[Path, Any], tmp_path: Path) -> None:
    text = (made[0] / "sms_wsj.json").read_text().replace(str(made[0]), "/net/other/sms_wsj")
    far = tmp_path / "far" / "sms_wsj.json"
    far.parent.mkdir()
    far.write_text(text)
    with pytest.raises(
        MsdetError, match=r"no such file: /net/other/sms_wsj/observation/.*; if audio was moved, give --audio_root OLD"
    ):
        read_sms_wsj(far, SMS_WSJ)
    for root in (f"/net/other/sms_wsj={made[0]}", str(made[0]), str(made[0].parent)):
        if root == str(made[0].parent):
            text = text.replace("/net/other/sms_wsj", f"/net/other/{made[0].name}")
            far.write_text(text)
        found = read_sms_wsj(far, SMS_WSJ, audio_root=root)
        assert found.scenes[0].mixture.path == made[0] / "observation" / "cv_dev93" / "0_aaa_bbb.wav"
    beside = made[0] / "moved.json"
    beside.write_text(text)
    assert read_sms_wsj(beside, SMS_WSJ).scenes[1].mixture.path.is_relative_to(made[0])
    with pytest.raises(MsdetError, match="no such file: /net/other"):
        read_sms_wsj(far, SMS_WSJ, audio_root=f"/net/other={tmp_path}")


def test_file_of_another_folder_is_not_mistaken_for_one_of_the_same_name(
    made: tuple[Path, Any], tmp_path: Path
) -> None:
    text = (made[0] / "sms_wsj.json").read_text().replace(str(made[0] / "early"), "/net/lost")
    text = text.replace("/net/lost/cv_dev93/", "/net/lost/")
    (tmp_path / "sms_wsj.json").write_text(text)
    with pytest.raises(MsdetError, match=r"no such file: /net/lost/0_aaa_bbb_0\.wav"):
        read_sms_wsj(tmp_path / "sms_wsj.json", SMS_WSJ, audio_root=str(made[0] / "tail" / "cv_dev93"))


def reordered(order: list[int]) -> list[list[float]]:
    return [[row[k] for k in order] for row in SCENES["0_aaa_bbb"]["sensor_position"]]


def test_other_order_of_channels_is_refused(database: Path) -> None:
    change(database, sensor_position=reordered([0, 2, 1, 3, 4, 5]))
    with pytest.raises(
        MsdetError,
        match=r"cv_dev93, 0_aaa_bbb: channel \d is \d+\.\d mm from where array 'sms_wsj' has it, expected at "
        r"most 5 mm; they are the array's, but in another order of channels, or mirrored$",
    ):
        read_sms_wsj(database, SMS_WSJ)


def test_other_array_is_refused_and_named(database: Path) -> None:
    tablet = load_array("chime_tablet").positions + [4.0, 3.0, 1.5]
    change(database, sensor_position=tablet.T.tolist())
    with pytest.raises(MsdetError, match=r"expected at most 5 mm; they fit --array chime_tablet$"):
        read_sms_wsj(database, SMS_WSJ)
    change(database, sensor_position=(load_array("circular4_5cm").positions + 2.0).T.tolist())
    with pytest.raises(MsdetError, match=r"has 4 microphones, array 'sms_wsj' has 6; they fit --array circ"):
        read_sms_wsj(database, SMS_WSJ)
    change(database, sensor_position=(1.3 * SMS_WSJ.positions + 2.0).T.tolist())
    with pytest.raises(MsdetError, match=r"channel \d is 30\.0 mm .*; give the array that was used by --array$"):
        read_sms_wsj(database, SMS_WSJ)


def test_microphones_on_a_line_are_refused(database: Path) -> None:
    line = np.zeros((6, 3)) + 2.0
    line[:, 0] += 0.02 * np.arange(6)
    change(database, sensor_position=line.T.tolist())
    with pytest.raises(MsdetError, match=r"mm from where array 'sms_wsj' has it"):
        read_sms_wsj(database, SMS_WSJ)
    array = MicrophoneArray("line", tuple((0.02 * k - 0.05, 0.0, 0.0) for k in range(6)))
    with pytest.raises(MsdetError, match=r"array 'line' is linear, so its microphones do not tell how"):
        read_sms_wsj(database, array)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sensor_position": None}, "key 'sensor_position' is missing"),
        ({"sensor_position": [[1, 2], [3, 4]]}, "sensor_position is not three rows of x, y and z in meters"),
        ({"source_position": [[1, 2], [3, 4], [5, "six"]]}, "source_position is not three rows"),
        ({"source_position": [[1, 2], [3, 4], [5]]}, "source_position is not three rows"),
        ({"source_position": [[1, 1e308], [3, 4], [5, 6]]}, "source_position has a coordinate of 1e.308 m"),
        ({"speaker_id": None}, "key 'speaker_id' is missing"),
        ({"speaker_id": ["one"]}, r"speaker_id is \['one'\], expected a list of 2, one a talker"),
        ({"speaker_id": [1, 2]}, r"speaker_id is \[1, 2\], expected strings"),
        ({"log_weights": ["a", "b"]}, "log_weights is .*, expected numbers"),
        ({"sound_decay_time": "long"}, "sound_decay_time is 'long', expected a number"),
        ({"num_samples": 5}, "num_samples: is int, expected an object"),
        ({"num_samples": {"observation": 77}}, "has 12000 samples, but .*0_aaa_bbb says 77"),
        ({"audio_path": {}}, "audio_path: has no path 'observation'; write the database's signals to files"),
    ],
)
def test_malformed_example_is_refused_by_key(database: Path, values: dict[str, Any], message: str) -> None:
    change(database, **values)
    with pytest.raises(MsdetError, match=message) as caught:
        read_sms_wsj(database, SMS_WSJ)
    assert "\n" not in str(caught.value)


def test_references_that_are_not_there_are_refused(database: Path) -> None:
    change_paths(database, speech_reverberation_early=None)
    for target in ("early", "image", "direct"):
        with pytest.raises(MsdetError, match=rf"has no 'speech_reverberation_early', .* of target {target} are"):
            read_sms_wsj(database, SMS_WSJ, target)


def test_example_without_sound_of_its_talkers_has_no_references(database: Path, tmp_path: Path) -> None:
    paths = read_json(database)["datasets"]["cv_dev93"]["0_aaa_bbb"]["audio_path"]
    change_paths(database, **dict.fromkeys(paths.keys() - {"observation"}))
    made = write_external_dataset(tmp_path / "set", read_sms_wsj(database, SMS_WSJ), 1)
    assert [(s.referenced, s.located, s.timed) for s in made.scenes] == [(False, True, True), (True, True, True)]
    assert [s.onset_s for s in made.scenes[0].sources] == [0.0, 2500 / RATE], "the file tells it"
    assert validate_set(made.root) == []


def test_example_without_positions_is_not_located(database: Path, tmp_path: Path) -> None:
    known = write_external_dataset(tmp_path / "known", read_sms_wsj(database, SMS_WSJ), 1)
    for keys in ({"source_position": None}, {"sensor_position": None}):
        change(database, **keys)
        found = read_sms_wsj(database, SMS_WSJ)
        assert [entry.scene.located for entry in found.scenes] == [False, True]
        assert np.isnan(found.scenes[0].scene.azimuths_deg).all()
    made = write_external_dataset(tmp_path / "set", found, 1)
    np.testing.assert_array_equal(made.references(made.scenes[0]), known.references(known.scenes[0]))
    assert validate_set(made.root) == []
    write_sms_wsj(made, "cv_dev93")
    again = read_sms_wsj(made.root / "sms_wsj.json", SMS_WSJ)
    assert again.scenes[0].scene.to_dict()["sources"][0].keys() == {
        "speaker", "path", "offset_s", "onset_s", "duration_s", "level_db", "gender"
    }  # fmt: skip
    with pytest.raises(MsdetError, match="key 'source_position' is missing, which target direct needs"):
        read_sms_wsj(database, SMS_WSJ, "direct")


def test_audio_that_does_not_fit_is_refused(database: Path, tmp_path: Path) -> None:
    paths = read_json(database)["datasets"]["cv_dev93"]["0_aaa_bbb"]["audio_path"]
    change_paths(database, observation=paths["original_source"][0])
    with pytest.raises(MsdetError, match=r"has 1 channels, expected 6 as array 'sms_wsj'; give the array that"):
        read_sms_wsj(database, SMS_WSJ)
    change_paths(database, observation=paths["observation"], speech_reverberation_early=paths["rir"])
    with pytest.raises(MsdetError, match=r"h_0\.wav: \d+ samples at 8000 Hz, expected 12000 at 8000 Hz"):
        write_external_dataset(tmp_path / "set", read_sms_wsj(database, SMS_WSJ), 1)
    silent = [write(tmp_path / f"silent{k}.wav", np.zeros((1, 12000))) for k in range(2)]
    change_paths(database, speech_reverberation_early=silent)
    with pytest.raises(MsdetError, match="the reference of talker 1 is silent"):
        write_external_dataset(tmp_path / "set", read_sms_wsj(database, SMS_WSJ), 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "has no key 'datasets', expected an sms_wsj.json"),
        ({"datasets": {}}, "has no key 'datasets'"),
        ({"datasets": {"a": {}}}, "a: has no examples"),
        ({"datasets": {"a": {"x": 3}}}, "a, x: is int, expected an object"),
        ({"datasets": {"a": {"../x": {}}}}, r"id is '\.\./x', expected a plain name"),
        ({"datasets": {"a": {}, "b": {}}}, "has several data sets, choose one by --dataset: a, b"),
    ],
)
def test_file_that_is_none_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    write_json(tmp_path / "sms_wsj.json", content)
    with pytest.raises(MsdetError, match=message):
        read_sms_wsj(tmp_path / "sms_wsj.json", SMS_WSJ)


def test_unknown_data_set_offers_the_nearest(database: Path) -> None:
    with pytest.raises(MsdetError, match="unknown data set 'cv_dev'; did you mean 'cv_dev93'"):
        read_sms_wsj(database, SMS_WSJ, dataset="cv_dev")


def test_round_trip_keeps_what_the_scenes_say(dev_set: SceneSet, tmp_path: Path) -> None:
    root = Path(shutil.copytree(dev_set.root, tmp_path / "dev"))
    path = write_sms_wsj(SceneSet.open(root), "dev")
    assert path == root / "sms_wsj.json"
    assert str(tmp_path) not in path.read_text()
    moved = root.rename(tmp_path / "elsewhere") / "sms_wsj.json"
    back = write_external_dataset(tmp_path / "back", read_sms_wsj(moved, dev_set.array, "direct"), 1)
    assert [scene.id for scene in back.scenes] == [scene.id for scene in dev_set.scenes]
    for before, after in zip(dev_set.scenes, back.scenes, strict=True):
        assert (after.room_m, after.t60_s, after.target) == (before.room_m, before.t60_s, before.target)
        np.testing.assert_allclose(after.array_center_m, before.array_center_m, atol=1e-9)
        np.testing.assert_allclose(after.azimuths_deg, before.azimuths_deg, atol=1e-6)
        for one, other in zip(before.sources, after.sources, strict=True):
            assert other.elevation_deg == pytest.approx(one.elevation_deg, abs=1e-6)
            assert other.distance_m == pytest.approx(one.distance_m)
            assert (other.position_m, other.speaker, other.gender) == (one.position_m, one.speaker, one.gender)
            assert other.onset_s == pytest.approx(one.onset_s, abs=0.5 / RATE)
            assert other.level_db == one.level_db
        np.testing.assert_array_equal(back.mixture(after), dev_set.mixture(before))
        np.testing.assert_array_equal(back.references(after), dev_set.references(before))


def test_written_file_is_laid_out_as_sms_wsj_s_own(
    dev_set: SceneSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(shutil.copytree(dev_set.root, tmp_path / "dev_set"))
    write_sms_wsj(SceneSet.open(root))
    examples = json.loads((root / "sms_wsj.json").read_text())["datasets"]["dev_set"]
    monkeypatch.chdir(root)
    for scene in dev_set.scenes:
        example = examples[scene.id]
        assert np.array(example["sensor_position"]).shape == (3, 4)
        assert np.array(example["source_position"]).shape == (3, 2)
        assert np.array(example["room_dimensions"]).shape == (3, 1)
        assert (example["num_speakers"], example["num_samples"]["observation"]) == (2, 12000)
        assert example["example_id"] == scene.id
        observation, rate = soundfile.read(example["audio_path"]["observation"])
        assert (observation.shape, rate) == ((12000, 4), RATE)
        assert len([soundfile.read(path)[0] for path in example["audio_path"]["speech_direct"]]) == 2


def test_moving_talker_has_no_place_in_the_file(dev_set: SceneSet, tmp_path: Path) -> None:
    scene = dev_set.scenes[1]
    waypoints = (Waypoint(0.0, scene.sources[1].position_m), Waypoint(1.5, (1.0, 1.0, 1.5)))
    moving = dataclasses.replace(scene.sources[1], waypoints=waypoints)
    walk = dataclasses.replace(scene, sources=(scene.sources[0], moving))
    with pytest.raises(MsdetError, match=rf"scene {scene.id}: talker 2 moves; sms_wsj\.json has one position"):
        write_sms_wsj(dataclasses.replace(dev_set, root=tmp_path, scenes=(dev_set.scenes[0], walk)))
    assert not list(tmp_path.iterdir())


def test_mismatched_microphones_are_written_where_the_array_has_them(dev_set: SceneSet, tmp_path: Path) -> None:
    scene = dev_set.scenes[0]
    off = dataclasses.replace(scene, mismatch=Mismatch((0.0,) * 4, (0.0,) * 4, ((0.004, 0.0, -0.003),) * 4))
    written = []
    for name, what in (("plain", scene), ("off", off)):
        path = write_sms_wsj(dataclasses.replace(dev_set, root=tmp_path / name, scenes=(what,)), "x")
        written.append(read_json(path)["datasets"]["x"][scene.id]["sensor_position"])
    assert written[0] == written[1]


def test_signals_are_laid_out_for_their_reader(dev_set: SceneSet, speech: Path, tmp_path: Path) -> None:
    """What ``sms_wsj.database.AudioReader`` does: reads each path as ``(channel, time)``, lists of them stacked."""
    out = tmp_path / "db"
    options = ["export", str(dev_set.root), "--format=sms_wsj", "--dataset=cv", f"--out={out}"]
    assert main([*options, f"--speech={speech}"]) == 0

    def read(paths: Any) -> Any:
        return [read(path) for path in paths] if isinstance(paths, list) else soundfile.read(paths)[0].T

    examples = read_json(out / "sms_wsj.json")["datasets"]["cv"]
    for scene in dev_set.scenes:
        example = examples[scene.id]
        data = {key: read(paths) for key, paths in example["audio_path"].items()}
        early, tail = (np.stack(data[f"speech_reverberation_{part}"]) for part in ("early", "tail"))
        assert (early.shape, tail.shape, data["noise_image"].shape) == ((2, 4, 12000), (2, 4, 12000), (4, 12000))
        np.testing.assert_array_equal(data["observation"], dev_set.mixture(scene))
        np.testing.assert_allclose((early + tail).sum(0) + data["noise_image"], data["observation"], atol=4e-5)
        for k, dry in enumerate(data["original_source"]):
            assert dry.shape == (example["num_samples"]["original_source"][k],)
            source = np.pad(dry, (example["offset"][k], 12000))[:12000]  # their speech_source
            lag = int(np.correlate(early[k, 0], source, "full").argmax()) - 11999
            assert 0 <= lag <= 3, "microphones are 5 cm from the middle"
            made = fftconvolve(source, data["rir"][k][0])[
                example["offset"][k] - round(scene.sources[k].onset_s * RATE) :
            ]
            assert np.corrcoef(made[:12000], (early + tail)[k, 0])[0, 1] > 0.99
    back = read_sms_wsj(out / "sms_wsj.json", dev_set.array, "early")
    np.testing.assert_allclose(back.scenes[0].references[1].read(back.scenes[0].scene, 2), read(
        examples[dev_set.scenes[0].id]["audio_path"]["speech_reverberation_early"][1])[2], atol=1e-7)  # fmt: skip
    np.testing.assert_array_equal(
        write_external_dataset(tmp_path / "back", read_sms_wsj(out / "sms_wsj.json", dev_set.array, "direct"), 1)
        .references(dev_set.scenes[2]), dev_set.references(dev_set.scenes[2]))  # fmt: skip


def test_signals_of_other_speech_are_refused(
    dev_set: SceneSet, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Path(shutil.copytree(speech, tmp_path / "other"))
    for path in other.rglob("*.wav"):
        samples, rate = audio.read(path)
        audio.write(path, samples[:, ::-1], rate)
    options = ["export", str(dev_set.root), "--format=sms_wsj"]
    assert main([*options, f"--speech={other}", f"--out={tmp_path / 'db'}"]) == 2
    assert "rendered again it is another mixture; give the speech that the set was" in capsys.readouterr().err
    assert not (tmp_path / "db" / "sms_wsj.json").exists()
    assert main([*options, f"--speech={speech}"]) == 2
    assert "but only format sms_wsj with --speech and --out renders signals" in capsys.readouterr().err


def test_early_references_at_one_microphone_have_a_key_of_their_own(dev_set: SceneSet, tmp_path: Path) -> None:
    scenes = tuple(dataclasses.replace(scene, target="early") for scene in dev_set.scenes)
    path = write_sms_wsj(dataclasses.replace(dev_set, scenes=scenes), "x", tmp_path)
    paths = read_json(path)["datasets"]["x"][scenes[0].id]["audio_path"]
    assert paths.keys() == {"observation", "speech_early"}, "speech_reverberation_early is of all microphones"
    assert all(Path(name).is_absolute() for name in paths["speech_early"])
    found = read_sms_wsj(path, dev_set.array, "early").scenes[0]
    np.testing.assert_array_equal(found.references[0].read(found.scene, 0), dev_set.references(scenes[0])[0])
