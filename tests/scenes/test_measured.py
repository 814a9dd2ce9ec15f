"""Banks of measured rooms: their labels, their sound, whether both agree, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
import shutil
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.signal import fftconvolve

from msdet import cli
from msdet.arrays import MicrophoneArray, load_array
from msdet.conventions import SPEED_OF_SOUND, angular_distance_deg, direction_vector, rotation_matrix
from msdet.corpora import load_corpus
from msdet.data.dataset import DynamicMixingDataset
from msdet.data.simulate import simulate
from msdet.dsp.spatial import pick_peaks, srp_phat
from msdet.dsp.stft import Stft
from msdet.errors import MsdetError
from msdet.io import audio
from msdet.io.jobs import IN_PROGRESS
from msdet.models.frontends import ArrayGeometry
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.dry_sounds import Sounds
from msdet.scenes.rendering import render
from msdet.scenes.rir.bank import RirBank
from msdet.scenes.rir.measured import make_measured_bank
from msdet.scenes.rir.room_response import room_response

Numbers = npt.NDArray[Any]

RATE, FILE_RATE = 8000, 16000
ROOM_M, CENTER_M = (4.4, 3.9, 2.7), np.array([2.1, 2.0, 1.2])
ARRAY = load_array("circular4_5cm")
EQUIPMENT_DELAY, EQUIPMENT_GAIN = 37, 0.013
COUNT = 12
SCENES = SceneDistribution(duration_s=1.5, minimum_gap_deg=20.0)


@dataclasses.dataclass(frozen=True)
class Positions:
    azimuth_deg: Numbers
    elevation_deg: Numbers
    distance_m: Numbers

    @property
    def points_m(self) -> Numbers:
        return self.distance_m[:, None] * direction_vector(self.azimuth_deg, self.elevation_deg)


def draw_positions(seed: int, count: int = COUNT) -> Positions:
    rng = np.random.default_rng(seed)
    spread = 360.0 / count * (np.arange(count) + rng.uniform(-0.3, 0.3, count))
    return Positions(spread % 360.0, rng.uniform(5.0, 25.0, count), rng.uniform(0.8, 1.5, count))


def measure(positions: Positions, t60_s: float, array: MicrophoneArray = ARRAY) -> Numbers:
    """Responses as equipment records them: late and at some gain."""
    sources, microphones = CENTER_M + positions.points_m, CENTER_M + array.positions
    rirs = room_response(ROOM_M, t60_s, microphones, sources, FILE_RATE).rirs
    return EQUIPMENT_GAIN * np.pad(rirs, ((0, 0), (0, 0), (EQUIPMENT_DELAY, 0)))


def write_table(root: Path, columns: dict[str, Sequence[object]]) -> None:
    rows = zip(*columns.values(), strict=True)
    lines = ["\t".join(columns), *("\t".join(map(str, row)) for row in rows)]
    (root / "positions.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def columns_of(positions: Positions, rooms: Sequence[str] | None = None) -> dict[str, Sequence[object]]:
    return {
        "file": [f"rirs/{n}.wav" for n in range(len(positions.distance_m))],
        "room": rooms or ["office"] * len(positions.distance_m),
        "azimuth_deg": positions.azimuth_deg.tolist(),
        "elevation_deg": positions.elevation_deg.tolist(),
        "distance_m": positions.distance_m.tolist(),
    }


def write_responses(root: Path, responses: Numbers, rate: int = FILE_RATE) -> None:
    for n, response in enumerate(responses):
        audio.write(root / "rirs" / f"{n}.wav", response, rate, subtype="FLOAT")


def make(out: Path, source: Path, array: str | None = ARRAY.name, rate: int = RATE, positions: int = 0) -> RirBank:
    bank = make_measured_bank(out, source, array, rate, positions, jobs=1)
    assert bank is not None
    return bank


def direct_delays(positions: Positions, array: MicrophoneArray = ARRAY) -> Numbers:
    """Samples ``(position, mic)`` after which sound from the positions arrives."""
    return np.linalg.norm(positions.points_m[:, None] - array.positions, axis=-1) / SPEED_OF_SOUND * RATE


@pytest.fixture(scope="module")
def positions() -> Positions:
    return draw_positions(1)


@pytest.fixture(scope="module")
def responses(positions: Positions) -> Numbers:
    return measure(positions, 0.2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, positions: Positions, responses: Numbers) -> Path:
    root = tmp_path_factory.mktemp("collection")
    write_responses(root, responses)
    write_table(root, columns_of(positions))
    return root


def test_channels_of_the_files_may_be_chosen(
    tmp_path: Path, bank: RirBank, positions: Positions, responses: Numbers
) -> None:
    wide = np.concatenate([np.zeros_like(responses[:, :1]), responses], axis=1)
    write_responses(tmp_path / "wide", wide)
    write_table(tmp_path / "wide", columns_of(positions))
    made = make_measured_bank(tmp_path / "a", tmp_path / "wide", ARRAY.name, RATE, 0, 1, channels=(1, 2, 3, 4))
    assert made is not None
    np.testing.assert_array_equal(made.room(0, range(2)).rirs, bank.room(0, range(2)).rirs)
    with pytest.raises(MsdetError, match=r"0\.wav: has 5 channels, the array 'circular4_5cm' has 4"):
        make(tmp_path / "b", tmp_path / "wide")
    write_responses(tmp_path / "wide", wide[:1, 1:])
    with pytest.raises(MsdetError, match="has no channel 4"):
        make_measured_bank(tmp_path / "c", tmp_path / "wide", ARRAY.name, RATE, 0, 1, channels=(1, 2, 3, 4))


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> RirBank:
    return make(tmp_path_factory.mktemp("bank"), folder)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(folder, tmp_path / "copy")


# ---- labels and sound


def check_labels(bank: RirBank, positions: Positions, tolerance: float = 1e-9) -> None:
    (room,) = bank.table
    assert angular_distance_deg(room.azimuths_deg, positions.azimuth_deg).max() <= tolerance
    np.testing.assert_allclose(room.elevations_deg, positions.elevation_deg, atol=tolerance)
    np.testing.assert_allclose(room.distances_m, positions.distance_m, atol=tolerance)


def check_arrivals(bank: RirBank, positions: Positions) -> None:
    direct = bank.room(0, range(bank.positions)).direct
    np.testing.assert_allclose(np.abs(direct).argmax(-1), direct_delays(positions, bank.array), atol=1.0)


def test_labels_are_those_of_the_table(bank: RirBank, positions: Positions) -> None:
    assert (bank.rooms, bank.positions, bank.sample_rate, bank.array) == (1, COUNT, RATE, ARRAY)
    check_labels(bank, positions)
    assert bank.table[0].room_m is None
    assert bank.table[0].t60_target_s is None


def test_time_0_is_emission_at_every_microphone(bank: RirBank, positions: Positions) -> None:
    check_arrivals(bank, positions)


def test_direct_path_is_the_response_around_its_arrival_and_nothing_else(bank: RirBank, positions: Positions) -> None:
    response = bank.room(0, range(COUNT))
    taps = response.direct.shape[-1]
    after_s = (np.arange(taps) - direct_delays(positions)[..., None]) / RATE
    whole, outside = np.abs(after_s - 0.75e-3) < 1.1e-3, np.abs(after_s - 0.75e-3) > 1.9e-3
    np.testing.assert_array_equal(response.direct[whole], response.rirs[..., :taps][whole])
    assert not response.direct[outside].any()


def test_t60_is_that_of_the_room(bank: RirBank) -> None:
    assert bank.table[0].t60_measured_s == pytest.approx(0.2, rel=0.1)


def test_noise_after_a_response_is_cut_off(copy: Path, responses: Numbers, bank: RirBank, tmp_path: Path) -> None:
    long = np.pad(responses, ((0, 0), (0, 0), (0, FILE_RATE)))
    noise = np.random.default_rng(0).standard_normal(long.shape)
    write_responses(copy, long + 1e-3 * np.abs(responses).max() * noise)
    noisy = make(tmp_path / "bank", copy)
    assert noisy.table[0].t60_measured_s == pytest.approx(bank.table[0].t60_measured_s, rel=0.1)
    taps = [b.room(0, [0]).rirs.shape[-1] for b in (noisy, bank)]
    assert taps[0] <= taps[1] < long.shape[-1] / 2


def test_cartesian_positions_and_other_rates_give_the_same(
    copy: Path, positions: Positions, responses: Numbers, bank: RirBank, tmp_path: Path
) -> None:
    write_responses(copy, audio.resample(responses, FILE_RATE, 44100), 44100)
    x, y, z = positions.points_m.T.tolist()
    columns = columns_of(positions)
    write_table(copy, {k: columns[k] for k in ("file", "room")} | {"x_m": x, "y_m": y, "z_m": z})
    other = make(tmp_path / "bank", copy)
    check_labels(other, positions)
    check_arrivals(other, positions)
    ours, theirs = (b.room(0, range(COUNT)).rirs[..., :400] for b in (bank, other))
    assert np.sum((ours - theirs) ** 2) < 0.01 * np.sum(ours**2)


def test_response_may_start_at_once_or_after_a_silence(
    copy: Path, positions: Positions, responses: Numbers, tmp_path: Path
) -> None:
    first = (direct_delays(positions).min(axis=1) * FILE_RATE / RATE + EQUIPMENT_DELAY).astype(int)
    cut = [response[:, start:] for response, start in zip(responses, first, strict=True)]
    made = []
    for silence in (0, 200):
        for n, response in enumerate(cut):
            late = np.pad(response, ((0, 0), (silence, 0)))
            audio.write(copy / "rirs" / f"{n}.wav", late, FILE_RATE, subtype="FLOAT")
        made.append(make(tmp_path / f"bank{silence}", copy))
        check_arrivals(made[-1], positions)
    at_once, later = (b.room(0, range(COUNT)).rirs[..., :400] for b in made)
    np.testing.assert_allclose(at_once, later, atol=1e-6)


def test_channel_of_other_polarity_arrives_when_the_others_do(
    copy: Path, positions: Positions, responses: Numbers, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_responses(copy, responses * np.array([1, 1, -1, 1])[:, None])
    check_arrivals(make(tmp_path / "bank", copy), positions)
    assert not caplog.messages


# ---- scenes


def test_set_made_from_it_is_what_its_scenes_say(bank: RirBank, speech: Path, tmp_path: Path) -> None:
    made = simulate(tmp_path / "set", speech, "folder", "train", SCENES, 3, seed=2, jobs=1, bank=bank.root)
    assert made is not None
    sounds = Sounds(speech, RATE)
    for scene in made.scenes:
        mixture, rendered = render(scene, made.array, sounds, bank)
        assert rendered == scene
        np.testing.assert_allclose(mixture.mixture, mixture.images.sum(0) + mixture.noise, atol=1e-6)
        np.testing.assert_allclose(made.mixture(scene), mixture.mixture, atol=1 / 32768)
        assert scene.t60_s == bank.table[0].t60_measured_s
        assert (scene.room_m, scene.t60_target_s) == (None, None)
        for source, reference in zip(scene.sources, mixture.references, strict=True):
            check_reference(reference, sounds.source(source, scene.samples), source.position_m)


def check_reference(reference: Numbers, dry: Numbers, position_m: Sequence[float]) -> None:
    """The reference is what is said, as late as sound takes to the reference microphone."""
    delay = np.linalg.norm(np.array(position_m) - ARRAY.positions[0]) / SPEED_OF_SOUND * RATE
    correlation = fftconvolve(reference, dry[::-1])[len(dry) - 1 :]
    assert np.argmax(correlation) == pytest.approx(delay, abs=1.0)
    likeness = correlation.max() / np.linalg.norm(reference) / np.linalg.norm(dry)
    assert likeness > 0.8


def test_training_mixes_from_it(bank: RirBank, speech: Path) -> None:
    data = DynamicMixingDataset(bank, load_corpus("folder", speech), "train", SCENES, seed=3, epoch_size=None)
    example = data[0]
    assert example["mixture"].shape == (ARRAY.microphones, 12000)
    for azimuth in example["azimuth_deg"].tolist():
        assert angular_distance_deg(azimuth, bank.table[0].azimuths_deg).min() < 1e-4


def test_srp_phat_finds_the_label_in_the_sound(tmp_path: Path, speech: Path) -> None:
    positions = draw_positions(4, 6)
    root = tmp_path / "dry"
    write_responses(root, measure(positions, 0.0))
    write_table(root, columns_of(positions))
    dry = make(tmp_path / "bank", root)
    alone = SceneDistribution(duration_s=1.5, talkers=1)
    made = simulate(tmp_path / "set", speech, "folder", "train", alone, 4, seed=0, jobs=1, bank=dry.root)
    assert made is not None
    steering = ArrayGeometry(ARRAY, 129, RATE, 72).steering
    for scene in made.scenes:
        spectrum = Stft(256)(torch.tensor(made.mixture(scene))[None])
        found = pick_peaks(srp_phat(spectrum, steering), 1)[0, 0]
        assert angular_distance_deg(float(found), scene.sources[0].azimuth_deg) < 4.0


@pytest.mark.parametrize("change", [{"t60_s": (0.2, 0.3)}, {"distance_m": (0.5, 1.0)}, {"image_order": 3}])
def test_rooms_other_than_measured_ones_cannot_be_chosen(bank: RirBank, change: dict[str, Any]) -> None:
    (name,) = change
    with pytest.raises(MsdetError, match=rf"rooms of this RIR bank were measured, {name} cannot be chosen"):
        bank.check_for(dataclasses.replace(SCENES, **change))
    bank.check_for(dataclasses.replace(SCENES, talkers=3, snr_db=(5.0, 10.0), array="linear4_5cm"))


# ---- rooms of the bank


def rooms_of(folder: Path, sizes: dict[str, int]) -> None:
    """Give the table of a collection rooms of these sizes; its last positions are left out."""
    lines = (folder / "positions.tsv").read_text(encoding="utf-8").splitlines()
    names = [name for name, size in sizes.items() for _ in range(size)]
    rows = [line.replace("office", name) for line, name in zip(lines[1:], names, strict=False)]
    (folder / "positions.tsv").write_text("\n".join([lines[0], *rows]) + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("sizes", "asked", "shape", "left_out"),
    [
        ({"a": 4, "b": 4}, 0, (2, 4), None),
        ({"a": 3, "b": 9}, 0, (4, 3), None),
        ({"a": 7, "b": 4}, 0, (2, 4), "3 of 11 positions .* 4 each, measured ones 4 to 7"),
        ({"a": 7, "b": 4}, 5, (1, 5), "6 of 11 positions .* 5 each, measured ones 4 to 7"),
        ({"a": 1, "b": 5}, 0, (2, 2), "2 of 6 positions .* 2 each, measured ones 1 to 5"),
        ({"a": 1, "b": 1}, 0, (2, 1), None),
        ({"a": 12}, 5, (2, 5), "2 of 12 positions .* 5 each, measured ones 12"),
    ],
)
def test_rooms_are_divided_evenly(
    copy: Path,
    tmp_path: Path,
    positions: Positions,
    caplog: pytest.LogCaptureFixture,
    sizes: dict[str, int],
    asked: int,
    shape: tuple[int, int],
    left_out: str | None,
) -> None:
    rooms_of(copy, sizes)
    divided = make(tmp_path / "bank", copy, positions=asked)
    assert (divided.rooms, divided.positions) == shape
    first = next(iter(sizes.values()))
    known = {round(a, 6): "a" if n < first else "b" for n, a in enumerate(positions.azimuth_deg.tolist())}
    owners = [{known[round(a, 6)] for a in room.azimuths_deg} for room in divided.table]
    assert all(len(owner) == 1 for owner in owners), "positions of two rooms are in one"
    used = [a for room in divided.table for a in room.azimuths_deg]
    assert len(set(used)) == len(used)
    if left_out is None:
        assert not caplog.messages
    else:
        assert len(caplog.messages) == 1
        assert re.search(left_out, caplog.messages[0])


def test_positions_of_a_divided_room_are_dealt_across_it(copy: Path, tmp_path: Path) -> None:
    divided = make(tmp_path / "bank", copy, positions=4)
    spans = [np.ptp(room.azimuths_deg) for room in divided.table]
    assert min(spans) > 90.0, "neighbors in the table, a third of the circle, became one room"


# ---- resuming


def test_bank_is_finished_after_a_kill_without_a_trace(
    copy: Path, tmp_path: Path, file_bytes: Callable[[Path], dict[str, bytes]]
) -> None:
    made = make(tmp_path / "bank", copy, positions=4)
    before = file_bytes(made.root)
    settings = json.loads((made.root / "bank.json").read_text(encoding="utf-8"))["settings"]
    (made.root / "bank.json").unlink()
    (made.root / IN_PROGRESS).write_text(json.dumps({"settings": settings}), encoding="utf-8")
    (made.root / "room-000001.safetensors").unlink()
    (made.root / ".part-left.safetensors").write_bytes(b"half")
    assert make(made.root, copy, positions=4) == made
    assert file_bytes(made.root) == before


def test_changed_table_is_other_settings(copy: Path, bank: RirBank, tmp_path: Path) -> None:
    assert make(bank.root, copy) == bank
    table = copy / "positions.tsv"
    changed = table.read_text(encoding="utf-8").replace("office", "kitchen")
    table.write_text(changed, encoding="utf-8")
    with pytest.raises(MsdetError, match="exists with other settings: measured is"):
        make(bank.root, copy)


# ---- positions that disagree with the sound

MISTAKES = {
    "clockwise": (lambda p: {"azimuth_deg": -p.azimuth_deg}, "azimuths counted clockwise (negate them)"),
    "radians": (
        lambda p: {
            "azimuth_deg": np.deg2rad(np.where(p.azimuth_deg > 180, p.azimuth_deg - 360, p.azimuth_deg)),
            "elevation_deg": np.deg2rad(p.elevation_deg),
        },
        "angles in radians",
    ),
    "another zero": (
        lambda p: {"azimuth_deg": p.azimuth_deg - 20},
        "azimuths counted from another zero (add 20 degrees)",
    ),
    "compass": (
        lambda p: {"azimuth_deg": 70 - p.azimuth_deg},
        "azimuths counted clockwise from another zero (subtract them from 70 degrees)",
    ),
    "zenith": (lambda p: {"elevation_deg": 90 - p.elevation_deg}, "elevations counted from the zenith"),
}


def warned(caplog: pytest.LogCaptureFixture) -> str:
    (message,) = caplog.messages
    assert "\n" not in message
    assert caplog.records[0].levelno == logging.WARNING
    return message


@pytest.mark.parametrize("mistake", MISTAKES)
def test_labels_by_another_convention_are_found_out(
    copy: Path, tmp_path: Path, positions: Positions, caplog: pytest.LogCaptureFixture, mistake: str
) -> None:
    change, named = MISTAKES[mistake]
    write_table(copy, columns_of(dataclasses.replace(positions, **change(positions))))
    make(tmp_path / "bank", copy)
    message = warned(caplog)
    assert re.search(r"0\.\d\d\d ms off \(median of 12 positions; 0\.\d\d\d ms at rirs/\d+\.wav, ", message)
    assert f"explained by {named}" in message
    assert str(copy) in message


def test_clockwise_azimuths_of_a_symmetric_array_may_be_channels_counted_the_other_way(
    copy: Path, tmp_path: Path, positions: Positions, caplog: pytest.LogCaptureFixture
) -> None:
    write_table(copy, columns_of(dataclasses.replace(positions, azimuth_deg=-positions.azimuth_deg)))
    make(tmp_path / "bank", copy)
    assert "or by channels in another order (they are microphones 0, 3, 2, 1 of the array)" in warned(caplog)


def test_channels_in_another_order_are_found_out(
    copy: Path, tmp_path: Path, responses: Numbers, caplog: pytest.LogCaptureFixture
) -> None:
    write_responses(copy, responses[:, [2, 0, 1, 3]])
    make(tmp_path / "bank", copy)
    named = "explained by channels in another order (they are microphones 2, 0, 1, 3 of the array)"
    assert warned(caplog).endswith(named)


def test_array_of_another_size_is_found_out(copy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    halved = [[c / 2 for c in row] for row in ARRAY.positions_m]
    (tmp_path / "small.toml").write_text(f'name = "small"\npositions_m = {halved}\n', encoding="utf-8")
    make(tmp_path / "bank", copy, str(tmp_path / "small.toml"))
    assert re.search(r"explained by an array (1\.9\d|2\.0\d) times as large", warned(caplog))


def test_mixed_up_rows_are_named(
    copy: Path, tmp_path: Path, positions: Positions, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = positions.azimuth_deg.copy()
    wrong[7] += 160.0
    write_table(copy, columns_of(dataclasses.replace(positions, azimuth_deg=wrong)))
    make(tmp_path / "bank", copy)
    message = warned(caplog)
    assert "disagree in 1 of 12" in message
    heard = re.search(r"at rirs/7\.wav, noted at azimuth (\d+) and heard at (\d+)", message)
    assert heard
    assert angular_distance_deg(float(heard[1]), wrong[7]) < 1.0
    assert angular_distance_deg(float(heard[2]), positions.azimuth_deg[7]) < 3.0


def test_positions_all_mixed_up_are_not_explained_away(
    copy: Path, tmp_path: Path, positions: Positions, caplog: pytest.LogCaptureFixture
) -> None:
    mixed = np.random.default_rng(1).permutation(positions.azimuth_deg)
    write_table(copy, columns_of(dataclasses.replace(positions, azimuth_deg=mixed)))
    make(tmp_path / "bank", copy)
    assert "no usual mistake explains it; are rows mixed up" in warned(caplog)


def test_right_positions_raise_no_alarm_in_noise_and_reverberation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    positions = draw_positions(9)
    responses = measure(positions, 0.5)
    noise = np.random.default_rng(0).standard_normal(responses.shape)
    write_responses(tmp_path / "noisy", responses + 10 ** (-35 / 20) * np.abs(responses).max() * noise)
    write_table(tmp_path / "noisy", columns_of(positions))
    noisy = make(tmp_path / "bank", tmp_path / "noisy")
    assert not caplog.messages
    check_arrivals(noisy, positions)


# ---- SOFA files


def write_sofa(path: Path, convention: str, **fields: object) -> None:
    import sofar

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of conventions that may change
        sofa = sofar.Sofa(convention, mandatory=True)
        for name, value in fields.items():
            if hasattr(sofa, name):
                setattr(sofa, name, value)
            else:
                sofa.add_attribute(name, value)
        sofar.write_sofa(str(path), sofa)


LISTENER_M, YAW_DEG, PITCH_DEG = np.array([2.1, 2.0, 1.2]), 130.0, -20.0


def placed(points_m: Numbers) -> Numbers:
    """Points of the listener's frame in the room, the listener turned and bent."""
    return LISTENER_M + points_m @ rotation_matrix(YAW_DEG, PITCH_DEG).T


def listener() -> dict[str, object]:
    turn = rotation_matrix(YAW_DEG, PITCH_DEG)
    return {"ListenerView": turn[:, 0], "ListenerUp": 0.3 * turn[:, 2] + turn[:, 0]}  # up need not be upright


def single_room(positions: Positions, responses: Numbers) -> dict[str, Any]:
    """Fields of one measurement a position; receivers by their angles, channel 1 late by a delay noted."""
    distance_m = np.linalg.norm(ARRAY.positions, axis=-1)
    angle_deg = np.rad2deg(np.arctan2(ARRAY.positions[:, 1], ARRAY.positions[:, 0]))
    early = responses.copy()
    early[:, 1, :-3], early[:, 1, -3:] = responses[:, 1, 3:], 0.0
    count = len(responses)
    return listener() | {
        "GLOBAL_RoomType": "reverberant",
        "GLOBAL_RoomDescription": "an office",
        "Data_IR": early,
        "Data_SamplingRate": FILE_RATE,
        "Data_Delay": np.array([[0.0, 3.0, 0.0, 0.0]]),
        "ListenerPosition": np.tile(LISTENER_M, (count, 1)),
        "ReceiverPosition": np.stack([angle_deg, 0 * angle_deg, distance_m], -1)[..., None],
        "SourcePosition": placed(positions.points_m),
        "SourceView": np.array([[0.0, 1.0, 0.0]]),
        "SourceUp": np.array([[0.0, 0.0, 1.0]]),
    }


def test_sofa_file_of_a_turned_listener(
    tmp_path: Path, positions: Positions, responses: Numbers, caplog: pytest.LogCaptureFixture
) -> None:
    write_sofa(tmp_path / "hall.sofa", "SingleRoomSRIR", **single_room(positions, responses))
    made = make(tmp_path / "bank", tmp_path / "hall.sofa", array=None)
    np.testing.assert_allclose(made.array.positions, ARRAY.positions, atol=1e-6)
    assert made.array.name == "hall"
    check_labels(made, positions, 1e-6)
    check_arrivals(made, positions)
    assert not caplog.messages


def test_sofa_file_of_spherical_sources_around_a_moved_array(
    tmp_path: Path, positions: Positions, responses: Numbers, caplog: pytest.LogCaptureFixture
) -> None:
    seen = [positions.azimuth_deg, positions.elevation_deg, positions.distance_m]
    write_sofa(
        tmp_path / "free.sofa", "GeneralFIR", Data_IR=responses, Data_SamplingRate=FILE_RATE,
        Data_Delay=np.zeros((1, 4)), SourcePosition=np.stack(seen, -1), ReceiverPosition=ARRAY.positions,
    )  # fmt: skip
    made = make(tmp_path / "bank", tmp_path / "free.sofa", array=ARRAY.name)
    assert made.array == ARRAY
    check_labels(made, positions, 1e-6)
    check_arrivals(made, positions)
    assert not caplog.messages


def reorder(path: Path, dimensions: str) -> None:
    """Store the responses of a file with their dimensions in another order, as older conventions do."""
    from netCDF4 import Dataset

    path.rename(path.with_suffix(".old"))
    with Dataset(path.with_suffix(".old")) as old, Dataset(path, "w") as new:
        new.setncatts({name: old.getncattr(name) for name in old.ncattrs()})
        for name, dimension in old.dimensions.items():
            new.createDimension(name, dimension.size)
        for name, variable in old.variables.items():
            order = tuple(dimensions) if name == "Data.IR" else variable.dimensions
            made = new.createVariable(name, variable.dtype, order)
            made.setncatts({key: variable.getncattr(key) for key in variable.ncattrs()})
            made[:] = variable[:].transpose([variable.dimensions.index(letter) for letter in order])


@pytest.mark.parametrize("convention", ["SingleRoomMIMOSRIR", "GeneralFIR-E", "GeneralFIRE"])
def test_sofa_file_of_several_emitters(
    tmp_path: Path, positions: Positions, responses: Numbers, caplog: pytest.LogCaptureFixture, convention: str
) -> None:
    """Emitters are placed in the source's frame, which one of the conventions lets turn."""
    source_m = np.array([0.5, 0.3, 0.1])
    single_room = convention == "SingleRoomMIMOSRIR"
    turn = rotation_matrix(90.0) if single_room else np.eye(3)
    emitters_m = (positions.points_m - source_m) @ turn
    fields: dict[str, object] = {
        "Data_IR": responses.transpose(1, 2, 0)[None],
        "Data_SamplingRate": FILE_RATE,
        "Data_Delay": np.zeros((1, 4, 1 if single_room else COUNT)),
        "ReceiverPosition": ARRAY.positions[..., None] if single_room else ARRAY.positions,
        "ReceiverPosition_Type": "cartesian",
        "ReceiverPosition_Units": "meter",
        "SourcePosition": source_m[None],
        "SourcePosition_Type": "cartesian",
        "SourcePosition_Units": "meter",
        "EmitterPosition": emitters_m[..., None] if single_room else emitters_m,
        "EmitterPosition_Type": "cartesian",
        "EmitterPosition_Units": "meter",
    }
    if single_room:
        fields |= {"SourceView": turn[:, 0][None], "SourceUp": turn[:, 2][None]}
        fields |= {"GLOBAL_RoomType": "reverberant", "GLOBAL_RoomDescription": "an office"}
    write_sofa(tmp_path / "many.sofa", convention.replace("FIRE", "FIR-E"), **fields)
    if convention == "GeneralFIRE":
        reorder(tmp_path / "many.sofa", "MREN")
    made = make(tmp_path / "bank", tmp_path / "many.sofa", array=None)
    check_labels(made, positions, 1e-6)
    check_arrivals(made, positions)
    assert not caplog.messages


def test_folder_of_sofa_files_is_a_room_each_unless_they_name_one(
    tmp_path: Path, positions: Positions, responses: Numbers
) -> None:
    root = tmp_path / "files"
    (root / "deeper").mkdir(parents=True)
    for n, (name, room) in enumerate([("a", ""), ("deeper/b", "hall"), ("c", "hall")]):
        part = slice(4 * n, 4 * n + 4)
        some = Positions(*(column[part] for column in vars(positions).values()))
        fields = single_room(some, responses[part])
        if room:
            fields["GLOBAL_RoomShortName"] = room
        write_sofa(root / f"{name}.sofa", "SingleRoomSRIR", **fields)
    made = make(tmp_path / "bank", root, array=None)
    assert (made.rooms, made.positions) == (3, 4)
    owners = [{int(np.argmin(angular_distance_deg(positions.azimuth_deg, a))) // 4 for a in room.azimuths_deg}
              for room in made.table]  # fmt: skip
    assert owners[0] == {0}
    assert owners[1] | owners[2] == {1, 2}


def test_array_other_than_the_receivers_is_refused_by_channel(
    tmp_path: Path, positions: Positions, responses: Numbers
) -> None:
    fields = single_room(positions, responses)
    fields["ReceiverPosition"][2] += np.array([0.0, 0.0, 0.02])[:, None]
    write_sofa(tmp_path / "hall.sofa", "SingleRoomSRIR", **fields)
    with pytest.raises(MsdetError, match=r"hall\.sofa: ReceiverPosition of channel 2 is \[.*1\.5 cm from where"):
        make(tmp_path / "bank", tmp_path / "hall.sofa")
    assert not (tmp_path / "bank").exists()


def test_array_is_taken_from_the_user_where_receivers_are_all_in_one_place(
    tmp_path: Path, positions: Positions, responses: Numbers
) -> None:
    fields = single_room(positions, responses) | {"ReceiverPosition": np.zeros((4, 3, 1))}
    write_sofa(tmp_path / "hall.sofa", "SingleRoomSRIR", **fields)
    with pytest.raises(MsdetError, match=r"ReceiverPosition makes no array .* give --array"):
        make(tmp_path / "bank", tmp_path / "hall.sofa", array=None)
    check_labels(make(tmp_path / "bank", tmp_path / "hall.sofa"), positions, 1e-6)


def test_listener_turned_the_wrong_way_is_found_out(
    tmp_path: Path, positions: Positions, responses: Numbers, caplog: pytest.LogCaptureFixture
) -> None:
    fields = single_room(positions, responses)
    level = rotation_matrix(40.0)
    fields |= {"ListenerView": level[:, 0], "ListenerUp": level[:, 2]}
    fields["SourcePosition"] = LISTENER_M + positions.points_m  # as if it looked along x
    write_sofa(tmp_path / "hall.sofa", "SingleRoomSRIR", **fields)
    make(tmp_path / "bank", tmp_path / "hall.sofa", array=None)
    assert "explained by azimuths counted from another zero (add 40 degrees)" in warned(caplog)


SOFA_DAMAGES: dict[str, tuple[dict[str, object], str]] = {
    "no impulse responses": ({"GLOBAL_DataType": "TF"}, "DataType is TF, expected impulse responses"),
    "radians": ({"SourcePosition_Units": "radian"}, "SourcePosition is in 'radian', expected 'meter'"),
    "no view": ({"ListenerView": np.zeros((1, 3))}, "ListenerView and ListenerUp are parallel or zero"),
    "not finite": ({"SourcePosition": np.full((COUNT, 3), np.nan)}, "SourcePosition holds values that are"),
    "harmonics": (
        {"ReceiverPosition_Type": "spherical harmonics"},
        "ReceiverPosition is of type 'spherical harmonics', expected cartesian or spherical",
    ),
    "at the array": ({"SourcePosition": np.tile(LISTENER_M, (COUNT, 1))}, "m from the array, expected 0.01"),
}


@pytest.mark.parametrize("damage", SOFA_DAMAGES)
def test_sofa_file_that_says_what_cannot_be_is_refused(
    tmp_path: Path, positions: Positions, responses: Numbers, damage: str
) -> None:
    from netCDF4 import Dataset

    changes, message = SOFA_DAMAGES[damage]
    path = tmp_path / "hall.sofa"
    write_sofa(path, "SingleRoomSRIR", **single_room(positions, responses))
    with Dataset(path, "a") as file:
        for name, value in changes.items():
            if name.startswith("GLOBAL_"):
                file.setncattr(name.removeprefix("GLOBAL_"), value)
            elif "_" in name:
                file.variables[name.split("_")[0]].setncattr(name.split("_")[1], value)
            else:
                file.variables[name][:] = value
    with pytest.raises(MsdetError, match=re.escape(message)) as refused:
        make(tmp_path / "bank", path, array=None)
    assert str(refused.value).startswith(str(path)) or "hall.sofa, measurement 0" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "bank").exists()


@pytest.mark.parametrize("kept", [0.0, 0.5])
def test_damaged_sofa_file_is_one_line(tmp_path: Path, positions: Positions, responses: Numbers, kept: float) -> None:
    path = tmp_path / "hall.sofa"
    write_sofa(path, "SingleRoomSRIR", **single_room(positions, responses))
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))] or b"this is no SOFA file")
    with pytest.raises(MsdetError, match=r"hall\.sofa: not readable as SOFA \(.+\)$") as refused:
        make(tmp_path / "bank", path, array=None)
    assert "\n" not in str(refused.value)


def test_sofa_file_without_sofar_says_what_to_install(
    tmp_path: Path, positions: Positions, responses: Numbers, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sofa(tmp_path / "hall.sofa", "SingleRoomSRIR", **single_room(positions, responses))
    monkeypatch.setitem(sys.modules, "sofar", None)
    with pytest.raises(MsdetError, match=r"SOFA files need sofar: pip install msdet\[sofa\]$"):
        make(tmp_path / "bank", tmp_path / "hall.sofa", array=None)


# ---- faulty folders

Spoil = Callable[[Path], object]


def edit(change: Callable[[str], str]) -> Spoil:
    def spoil(root: Path) -> None:
        table = root / "positions.tsv"
        table.write_text(change(table.read_text(encoding="utf-8")), encoding="utf-8")

    return spoil


def replace_column(line: int, column: int, value: str) -> Spoil:
    def change(text: str) -> str:
        lines = [row.split("\t") for row in text.splitlines()]
        lines[line - 1][column] = value
        return "\n".join("\t".join(row) for row in lines)

    return edit(change)


def rewrite(samples: Numbers, rate: int = FILE_RATE) -> Spoil:
    return lambda root: audio.write(root / "rirs" / "3.wav", samples, rate, subtype="FLOAT")


FAULTS: dict[str, tuple[Spoil, str]] = {
    "misspelt column": (
        edit(lambda text: text.replace("azimuth_deg", "azimut_deg")),
        "positions.tsv: no column 'azimuth_deg' in its header; did you mean 'azimut_deg'?",
    ),
    "misspelt optional column": (
        edit(lambda text: text.replace("elevation_deg", "elevation")),
        "positions.tsv: unknown column 'elevation'; did you mean 'elevation_deg'?",
    ),
    "no room": (edit(lambda text: text.replace("room", "hall", 1)), "no column 'room' in its header"),
    "two kinds of position": (
        edit(lambda text: text.replace("file\troom", "x_m\troom", 1)),
        "positions.tsv: no column 'file'",
    ),
    "half a point": (
        edit(lambda text: text.replace("azimuth_deg", "x_m").replace("distance_m", "y_m")),
        "positions.tsv: no column 'z_m' in its header",
    ),
    "both": (
        edit(lambda text: "\n".join(f"{row}\t{c}\t{c}\t{c}" for row, c in zip(
            text.splitlines(), ["#"] + ["1.0"] * COUNT, strict=True)
        ).replace("#\t#\t#", "x_m\ty_m\tz_m")),
        "columns 'x_m' and 'azimuth_deg' both place the source, expected one",
    ),
    "empty table": (edit(lambda text: text.splitlines()[0] + "\n\n"), "positions.tsv: has no positions"),
    "ragged table": (edit(lambda text: text.rstrip() + "\tmore\n"), "line 13: 6 columns, expected 5"),
    "no number": (replace_column(4, 2, "left"), "line 4: azimuth_deg is 'left', expected a number"),
    "decimal comma": (replace_column(4, 4, "1,5"), "line 4: distance_m is '1,5', expected a number"),
    "not finite": (replace_column(4, 2, "nan"), "line 4: azimuth_deg is 'nan', expected a number"),
    "too high": (replace_column(4, 3, "95"), "line 4: elevation_deg is 95, expected -90 to 90"),
    "centimeters": (replace_column(4, 4, "150"), "line 4: distance_m is 150, expected 0.01 to 100 meters"),
    "no distance": (replace_column(4, 4, "0"), "line 4: distance_m is 0, expected 0.01 to 100 meters"),
    "empty room": (replace_column(4, 1, ""), "line 4: room is empty"),
    "missing file": (replace_column(4, 0, "rirs/99.wav"), "rirs/99.wav: no such file"),
    "path outside": (replace_column(4, 0, "../2.wav"), "path '../2.wav' leaves the"),
    "absolute path": (replace_column(4, 0, "/etc/passwd"), "path '/etc/passwd' leaves the"),
    "file twice": (replace_column(4, 0, "rirs/0.wav"), "line 4: file 'rirs/0.wav' is already in line 2"),
    "other array": (
        rewrite(np.ones((3, 99))),
        "3.wav: has 3 channels, the array 'circular4_5cm' has 4; give the recording's own by --array",
    ),
    "low rate": (rewrite(np.ones((4, 99)), 4000), "3.wav: is at 4000 Hz, too low for a bank at 8000 Hz"),
    "no audio": (lambda root: (root / "rirs/3.wav").write_text("none"), "3.wav: not readable as audio"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_folder_is_refused_in_one_line(copy: Path, tmp_path: Path, fault: str) -> None:
    spoil, message = FAULTS[fault]
    spoil(copy)
    with pytest.raises(MsdetError, match=re.escape(message)) as refused:
        make(tmp_path / "bank", copy)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "bank").exists(), "claimed a folder for nothing"


def test_silent_channel_is_refused(copy: Path, responses: Numbers, tmp_path: Path) -> None:
    rewrite(responses[3] * np.array([1, 1, 0, 1])[:, None])(copy)
    with pytest.raises(MsdetError, match=r"channel 2 is silent in rirs/3\.wav"):
        make(tmp_path / "bank", copy)


def test_channel_of_another_time_is_refused(copy: Path, responses: Numbers, tmp_path: Path) -> None:
    late = responses[3].copy()
    late[2] = np.roll(late[2], FILE_RATE // 20)
    rewrite(late)(copy)
    with pytest.raises(MsdetError, match=r"rirs/3\.wav: channel \d has no direct sound beside the others'"):
        make(tmp_path / "bank", copy)


def test_more_positions_than_any_room_has_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(MsdetError, match="13 positions a room are asked for, the largest room has 12"):
        make(tmp_path / "bank", folder, positions=13)


def test_source_that_is_no_collection_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(MsdetError, match="rirs: holds no measured responses, expected a folder with positions"):
        make(tmp_path / "bank", folder / "rirs")
    with pytest.raises(MsdetError, match="nowhere: no such file or folder"):
        make(tmp_path / "bank", tmp_path / "nowhere")
    with pytest.raises(MsdetError, match=r"positions\.tsv: give the array of the recordings by --array"):
        make(tmp_path / "bank", folder, array=None)


# ---- the command


def test_command_makes_a_bank(copy: Path, bank: RirBank, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--measured", str(copy), "--array", ARRAY.name, "--positions", "6", "--jobs", "1"]
    for name, rate, given in (("own", 16000, []), ("lower", 8000, ["--sample_rate", "8000"])):
        assert cli.main(["bank", "--out", str(tmp_path / name), *options, *given]) == 0
        assert f"2 rooms x 6 positions at {rate} Hz" in capsys.readouterr().out
        assert RirBank.open(tmp_path / name).sample_rate == rate


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--measured", "x", "--rooms", "3"], "--rooms 3 is for simulated rooms; those of --measured are as"),
        (["--measured", "x", "--seed", "9"], "--seed 9 is for simulated rooms"),
        (["--measured", "x", "--scenes.t60_s", "[0.2,0.3]"], "--scenes.t60_s (0.2, 0.3) is for simulated"),
        (["--measured", "x", "--scenes.array", "linear4_5cm"], "choose it by --array"),
        (["--array", "linear4_5cm"], "--array linear4_5cm is for --measured rooms"),
        (["--measured", "x", "--sample_rate", "10"], "sample_rate is 10, expected 4000 to 192000"),
        (["--measured", "x", "--scenes.sample_rate", "16000"], "choose it by --sample_rate"),
        (["--sample_rate", "16000"], "--sample_rate 16000 is for --measured rooms"),
    ],
)
def test_contradictory_options_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert cli.main(["bank", "--out", str(tmp_path / "b"), "--jobs", "1", *options]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (np.eye(1, 40), "is 5 ms long, expected a response of 20 ms or more"),
        (np.random.default_rng(0).standard_normal((1, 4000)), "never rises above its noise, expected the response of"),
    ],
)
def test_recording_that_is_no_response_is_refused(
    copy: Path, responses: Numbers, response: Numbers, message: str, tmp_path: Path
) -> None:
    channels = np.repeat(response.astype(np.float32), responses.shape[1], axis=0)
    audio.write(copy / "rirs" / "0.wav", channels, RATE, subtype="FLOAT")
    with pytest.raises(MsdetError, match=message):
        make(tmp_path / "bank", copy)
