"""Scenes of every kind render to what their records say: noise, movement, overlap, mismatch, banks."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.signal import fftconvolve

from msdet.arrays import load_array
from msdet.conventions import angular_distance_deg, direction_vector
from msdet.corpora import load_corpus
from msdet.errors import MsdetError
from msdet.io import audio
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.dry_sounds import Sounds
from msdet.scenes.noise import read_noise_folder
from msdet.scenes.rendering import PATH_STEP_M, Mixture, render, reverberate, scene_response
from msdet.scenes.rir.bank import RirBank
from msdet.scenes.room_geometry import TRACK_STEP_S, positions_along
from msdet.scenes.sampling import Material, sample_scene, turn_taking
from msdet.scenes.scene import Scene, Source, Waypoint

RATE = 8000
ARRAY = load_array("circular4_5cm")


@pytest.fixture(scope="module")
def noise_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("noise")
    for n in range(2):
        samples = 0.1 * np.random.default_rng(n).standard_normal(40 * RATE)
        audio.write(root / f"{n}.wav", samples, RATE)
    return root


@pytest.fixture(scope="module")
def train(speech: Path) -> Material:
    return Material(load_corpus("folder", speech).by_speaker("train"), ARRAY.microphones)


def draw(material: Material, distribution: SceneDistribution, **changes: Any) -> Scene:
    changed = dataclasses.replace(distribution, **changes)
    changed.check()
    return sample_scene("train-000000", changed, material, 3)


def level_db(signal: npt.NDArray[Any]) -> float:
    return float(10 * np.log10(np.mean(signal.astype(float) ** 2)))


def check_sum(mixed: Mixture) -> None:
    error = mixed.mixture - (mixed.images.sum(0) + mixed.noise)
    assert np.abs(error).max() <= 2e-6 * np.abs(mixed.mixture).max()


@pytest.mark.parametrize("kind", ["spherical", "cylindrical", "point"])
@pytest.mark.parametrize("recorded", [True, False])
def test_noise_has_the_level_of_the_scene(
    train: Material, small_room: SceneDistribution, speech: Path, noise_folder: Path, kind: str, recorded: bool
) -> None:
    wanted = {"point_noises": 1} if kind == "point" else {"diffuse": kind}
    recordings = tuple(r for r in read_noise_folder(noise_folder) if r.split == "train") if recorded else ()
    material = dataclasses.replace(train, recordings=recordings)
    scene = draw(material, small_room, **wanted, snr_db=(90.0, 90.0))
    assert [n.kind for n in scene.noises] == ["sensor", kind]
    assert scene.noises[1].material == ("recordings" if recorded else "babble")
    mixed, _ = render(scene, ARRAY, Sounds(speech, RATE, noise_folder))
    check_sum(mixed)
    clean = mixed.images.sum(0)[ARRAY.reference]
    snr_db = level_db(clean) - level_db(mixed.noise[ARRAY.reference])
    assert snr_db == pytest.approx(scene.snr_db, abs=0.05)
    talking = {source.speaker for source in scene.sources}
    if not recorded:
        assert not talking & {e.path.split("/")[0] for e in scene.noises[1].excerpts}


def test_recorded_noise_without_its_folder_is_refused(
    train: Material, small_room: SceneDistribution, speech: Path, noise_folder: Path
) -> None:
    material = dataclasses.replace(train, recordings=read_noise_folder(noise_folder))
    scene = draw(material, small_room, diffuse="spherical")
    with pytest.raises(MsdetError, match=r"uses the noise recording \d.wav, but no noise folder was given"):
        render(scene, ARRAY, Sounds(speech, RATE))


def test_nobody_left_to_babble_is_refused(train: Material, small_room: SceneDistribution) -> None:
    two = dataclasses.replace(train, speech=dict(list(train.speech.items())[:2]))
    with pytest.raises(MsdetError, match="no talkers but the 2 of a scene to babble"):
        draw(two, small_room, diffuse="spherical")


def test_talker_that_moves_on_the_spot_sounds_as_one_that_stands() -> None:
    rng = np.random.default_rng(0)
    speech = rng.standard_normal(4000).astype(np.float32)
    response = rng.standard_normal((1, 3, 500)).astype(np.float32)
    still = reverberate(speech, response, np.zeros(1), RATE)
    times_s = np.linspace(0.0, 0.5, 7)
    moving = reverberate(speech, np.repeat(response, 7, axis=0), times_s, RATE)
    np.testing.assert_allclose(moving, still, atol=1e-3)
    np.testing.assert_allclose(still, fftconvolve(speech[None], response[0], axes=-1)[:, :4000], atol=1e-3)


def test_moving_talker_arrives_later_as_it_walks_away(speech: Path) -> None:
    """In an anechoic room, clicks said on the way arrive after the distance at that moment."""
    scene = walking_scene(speech, ((2.0, 3.0, 1.5), (8.0, 3.0, 1.5)), duration_s=3.0)
    response, [(positions, times_s)], _ = scene_response(scene, ARRAY)
    clicks = np.zeros(scene.samples, dtype=np.float32)
    at = np.array([4000, 12000, 20000])
    clicks[at] = 1.0
    heard = reverberate(clicks, response.direct[positions], times_s, RATE)[ARRAY.reference]
    microphone = scene.microphones_m(ARRAY.positions)[ARRAY.reference]
    for sample in at:
        where = positions_along(scene.sources[0].waypoints, np.array([sample / RATE]))[0]
        arrival = sample + np.linalg.norm(where - microphone) / 343.0 * RATE
        found = sample + np.abs(heard[sample : sample + 400]).argmax()
        assert found == pytest.approx(arrival, abs=1.5)


def walking_scene(speech: Path, ends: tuple[tuple[float, float, float], ...], duration_s: float) -> Scene:
    center = (1.0, 3.0, 1.5)
    waypoints = (Waypoint(0.0, ends[0]), Waypoint(duration_s, ends[1]))
    source = Source("talker0", "talker0/0.wav", 0.0, 0.0, duration_s, 0.0, ends[0], 0.0, 0.0, 1.0)
    return Scene(
        "walk", 1, RATE, duration_s, (10.0, 6.0, 3.0), 0.0, ARRAY.name, center, (0.0, 0.0, 0.0),
        (dataclasses.replace(source, waypoints=waypoints),), (), "direct",
    )  # fmt: skip


def test_drawn_walk_keeps_speed_room_and_labels(train: Material, small_room: SceneDistribution) -> None:
    for seed in range(8):
        changed = dataclasses.replace(small_room, moving=1.0, speed_m_s=(0.5, 0.8), minimum_gap_deg=0.0)
        scene = sample_scene("train-000000", changed, train, seed)
        for source in scene.sources:
            corners = np.array([w.position_m for w in source.waypoints])
            times = np.array([w.time_s for w in source.waypoints])
            speeds = np.linalg.norm(np.diff(corners, axis=0), axis=1) / np.diff(times)
            assert times[0] == 0.0 and times[-1] == pytest.approx(scene.duration_s)
            assert (speeds >= 0.5 - 1e-6).all() and (speeds <= 0.8 + 1e-6).all()
            np.testing.assert_allclose(speeds, speeds[0], rtol=1e-6)
            assert scene.room_m is not None
            assert ((corners > 0.2) & (corners < np.array(scene.room_m) - 0.2)).all()
            assert len(source.track) == round(scene.duration_s / TRACK_STEP_S) + 1
            for label in source.track:
                towards = label.distance_m * direction_vector(label.azimuth_deg, label.elevation_deg)
                seen = scene.microphones_m(towards[None])[0]
                where = positions_along(source.waypoints, np.array([label.time_s]))[0]
                np.testing.assert_allclose(seen, where, atol=1e-6)
            assert (source.azimuth_deg, source.distance_m) == (
                pytest.approx(source.track[0].azimuth_deg),
                pytest.approx(source.track[0].distance_m),
            )


def test_walkers_keep_the_gap_all_the_way(train: Material, small_room: SceneDistribution) -> None:
    changed = dataclasses.replace(small_room, moving=0.5, minimum_gap_deg=40.0, duration_s=3.0)
    scenes = [sample_scene(f"train-{n:06d}", changed, train, 0) for n in range(12)]
    walked = 0
    for scene in scenes:
        tracks = [[t.azimuth_deg for t in s.track] or [s.azimuth_deg] * 31 for s in scene.sources]
        walked += sum(bool(s.track) for s in scene.sources)
        assert angular_distance_deg(*tracks).min() >= 40.0
    assert 0 < walked < 24


def test_moving_scene_renders(train: Material, small_room: SceneDistribution, speech: Path) -> None:
    scene = draw(train, small_room, moving=1.0)
    response, paths, _ = scene_response(scene, ARRAY)
    for source, (positions, times_s) in zip(scene.sources, paths, strict=True):
        where = positions_along(source.waypoints, times_s)
        assert np.linalg.norm(np.diff(where, axis=0), axis=1).max() <= PATH_STEP_M + 1e-9
        assert len(positions) == len(times_s) > 5
    mixed, measured = render(scene, ARRAY, Sounds(speech, RATE))
    check_sum(mixed)
    assert measured.t60_measured_s == response.t60_measured_s
    assert (np.abs(mixed.references).max(axis=-1) > 1e-3).all()


@pytest.mark.parametrize("talkers", [2, 3, 5])
@pytest.mark.parametrize("overlap", [0.0, 0.2, 0.6, 1.0])
def test_overlap_is_the_one_asked_for(talkers: int, overlap: float) -> None:
    starts, length_s = turn_taking(talkers, 10.0, overlap)
    time_s = np.arange(0.005, 10.0, 0.01)
    talking = sum(((time_s > s) & (time_s < s + length_s)).astype(int) for s in starts)
    assert talking.min() >= 1
    assert np.mean(talking >= 2) == pytest.approx(overlap, abs=0.005)


def test_overlapping_scene_says_its_overlap_and_sounds_like_it(
    train: Material, small_room: SceneDistribution, speech: Path
) -> None:
    scene = draw(train, small_room, overlap=(0.25, 0.25), snr_db=(60.0, 60.0))
    assert scene.overlap_ratio == pytest.approx(0.25, abs=1e-6)
    mixed, _ = render(scene, ARRAY, Sounds(speech, RATE))
    order = np.argsort([source.onset_s for source in scene.sources])
    first, second = mixed.references[order]
    alone = round(0.375 * scene.samples)
    assert level_db(second[:alone]) < level_db(first[:alone]) - 40
    assert level_db(first[-alone + 200 :]) < level_db(second[-alone + 200 :]) - 40
    levels = [
        level_db(image[ARRAY.reference]) - 10 * np.log10(source.duration_s) - source.level_db
        for image, source in zip(mixed.images, scene.sources, strict=True)
    ]
    assert levels[0] == pytest.approx(levels[1], abs=1e-3), "levels are those while talking"


def test_number_of_talkers_follows_its_weights(material: Material) -> None:
    distribution = SceneDistribution(talkers={1: 1.0, 2: 3.0, 3: 0.0})
    counts = [len(sample_scene(f"train-{n:06d}", distribution, material, 0).sources) for n in range(300)]
    assert set(counts) == {1, 2}
    assert np.mean(np.array(counts) == 2) == pytest.approx(0.75, abs=0.08)


def test_talkers_of_a_sector_are_within_it(material: Material) -> None:
    narrow = SceneDistribution(talkers=3, sector_deg=50.0, minimum_gap_deg=5.0)
    for n in range(30):
        azimuths = np.sort(sample_scene(f"train-{n:06d}", narrow, material, 0).azimuths_deg)
        gaps = np.diff(azimuths, append=azimuths[0] + 360.0)
        assert gaps.max() >= 310.0 - 1e-6
        assert gaps.min() >= 5.0 - 1e-6


def test_heights_and_elevations(material: Material) -> None:
    high = SceneDistribution(array_height_m=(0.7, 0.8), talker_height_m=(1.5, 1.7))
    up = SceneDistribution(elevation_deg=(20.0, 30.0), distance_m=(0.5, 1.2))
    for n in range(20):
        scene = sample_scene(f"train-{n:06d}", high, material, 0)
        assert 0.7 <= scene.array_center_m[2] <= 0.8
        assert all(1.5 <= s.position_m[2] <= 1.7 for s in scene.sources)
        assert all(20 < s.elevation_deg < 45 for s in scene.sources)
        scene = sample_scene(f"train-{n:06d}", up, material, 0)
        assert all(20 <= s.elevation_deg <= 30 for s in scene.sources)
    both = dataclasses.replace(high, elevation_deg=(0.0, 1.0))
    with pytest.raises(MsdetError, match="talker_height_m and elevation_deg are both set"):
        both.check()


def test_mismatched_microphones_change_the_mixture_and_the_reference_alike(
    train: Material, small_room: SceneDistribution, speech: Path
) -> None:
    errors = {"gain_error_db": 1.0, "phase_error_deg": 5.0, "position_error_m": 0.002}
    scene = draw(train, small_room, **errors, t60_s=(0.0, 0.0), snr_db=(90.0, 90.0))
    assert scene.mismatch is not None
    mixed, _ = render(scene, ARRAY, Sounds(speech, RATE))
    at_reference = mixed.images[:, ARRAY.reference]
    np.testing.assert_allclose(at_reference, mixed.references, atol=1e-4 * np.abs(at_reference).max())
    perfect, _ = render(dataclasses.replace(scene, mismatch=None), ARRAY, Sounds(speech, RATE))
    ratio_db = [
        level_db(changed[m]) - level_db(plain[m])
        for changed, plain in zip(mixed.images, perfect.images, strict=True)
        for m in range(4)
    ]
    expected_db = np.array(scene.mismatch.gain_db) - scene.mismatch.gain_db[ARRAY.reference]
    np.testing.assert_allclose(ratio_db, np.tile(expected_db, 2), atol=0.2)


def test_scene_of_a_bank_takes_its_rooms_and_labels(
    bank: RirBank, train: Material, small_room: SceneDistribution, speech: Path
) -> None:
    material = dataclasses.replace(train, bank=bank)
    scene = draw(material, small_room, point_noises=1)
    assert scene.rir_room is not None
    room = bank.table[scene.rir_room]
    for source in scene.sources:
        assert source.rir is not None
        assert source.azimuth_deg == room.azimuths_deg[source.rir]
        assert source.distance_m == room.distances_m[source.rir]
    assert len({s.rir for s in scene.sources} | {scene.noises[1].rir}) == 3
    mixed, measured = render(scene, ARRAY, Sounds(speech, RATE), bank)
    check_sum(mixed)
    assert measured.t60_measured_s == room.t60_measured_s
    with pytest.raises(MsdetError, match="takes its responses from an RIR bank, but none was given"):
        render(scene, ARRAY, Sounds(speech, RATE))


def test_room_that_cannot_have_the_t60_is_drawn_again_and_logged(
    material: Material, caplog: pytest.LogCaptureFixture
) -> None:
    dry = SceneDistribution(t60_s=(0.02, 0.1), room_x_m=(3.0, 9.0), room_y_m=(3.0, 9.0), distance_m=(0.5, 1.0))
    scenes = [sample_scene(f"train-{n:06d}", dry, material, 0) for n in range(40)]
    reasons = [r.getMessage() for r in caplog.records]
    assert reasons
    assert all("drawn again: T60 0." in reason and "driest walls" in reason for reason in reasons)
    assert any(reason.startswith("train-0000") for reason in reasons)
    assert len({s.room_m for s in scenes}) == 40


def test_reference_of_a_moving_talker_follows_it(train: Material, small_room: SceneDistribution, speech: Path) -> None:
    scene = draw(train, small_room, moving=1.0, t60_s=(0.0, 0.0))
    mixed, _ = render(scene, ARRAY, Sounds(speech, RATE))
    heard = mixed.images[:, ARRAY.reference]
    np.testing.assert_allclose(heard, mixed.references, atol=1e-4 * np.abs(heard).max())


@pytest.mark.parametrize("wanted", [{"point_noises": 1}, {"diffuse": "spherical"}])
def test_mismatched_microphones_hear_noise_as_they_hear_talkers(
    train: Material, small_room: SceneDistribution, speech: Path, wanted: dict[str, Any]
) -> None:
    scene = draw(train, small_room, **wanted, gain_error_db=3.0, snr_db=(100.0, 100.0))
    assert scene.mismatch is not None
    noise, perfect = (
        render(dataclasses.replace(scene, mismatch=mismatch), ARRAY, Sounds(speech, RATE))[0].noise
        for mismatch in (scene.mismatch, None)
    )
    ratio_db = [level_db(n) - level_db(p) for n, p in zip(noise, perfect, strict=True)]
    gains_db = np.array(scene.mismatch.gain_db)
    np.testing.assert_allclose(np.subtract(ratio_db, ratio_db[0]), gains_db - gains_db[0], atol=0.05)
