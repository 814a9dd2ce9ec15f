"""Banks with paths: talkers who move in scenes that are mixed on the fly."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from msdet.conventions import angular_distance_deg
from msdet.corpora import Corpus, load_corpus
from msdet.data.dataset import DynamicMixingDataset, MixedArraysDataset
from msdet.errors import MsdetError
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.rendering import reverberate
from msdet.scenes.rir.bank import RirBank, make_bank
from msdet.scenes.sampling import Material, sample_scene


@pytest.fixture(scope="module")
def corpus(speech: Path) -> Corpus:
    return load_corpus("folder", speech)


@pytest.fixture(scope="module")
def walks(small_room: SceneDistribution) -> SceneDistribution:
    return dataclasses.replace(small_room, moving=1.0, speed_m_s=(0.5, 0.6), minimum_gap_deg=0.0)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory, walks: SceneDistribution) -> RirBank:
    """Two rooms of three paths of ten places."""
    return make_bank(tmp_path_factory.mktemp("paths"), walks, 2, 3, seed=3, jobs=1)


def test_places_of_a_path_are_close(paths: RirBank) -> None:
    assert (paths.places, paths.positions) == (10, 30)
    assert RirBank.open(paths.root) == paths
    for room in paths.table:
        azimuth_rad = np.deg2rad(np.array(room.azimuths_deg).reshape(3, 10))
        elevation_rad = np.deg2rad(np.array(room.elevations_deg).reshape(3, 10))
        level_m = np.array(room.distances_m).reshape(3, 10) * np.cos(elevation_rad)
        steps_m = np.abs(np.diff(level_m * np.exp(1j * azimuth_rad), axis=1))
        assert (steps_m < 0.1).all()
        assert (steps_m.sum(axis=1) > 0.4).all()  # 1.5 s at 0.5 to 0.6 m/s, perhaps around a corner


def test_movers_follow_a_path_either_way(paths: RirBank, walks: SceneDistribution, material: Material) -> None:
    material = dataclasses.replace(material, microphones=4, bank=paths)
    ways = set()
    for n in range(12):
        scene = sample_scene(f"{n}", walks, material, 0)
        assert scene.rir_room is not None
        assert len({source.rir_path[0] // 10 for source in scene.sources}) == 2
        for source in scene.sources:
            assert abs(source.rir_path[-1] - source.rir_path[0]) == 9
            ways.add(source.rir_path[-1] > source.rir_path[0])
            azimuths_deg = paths.table[scene.rir_room].azimuths_deg
            ends = (source.track[0].azimuth_deg, source.track[-1].azimuth_deg)
            expected = [azimuths_deg[source.rir_path[end]] for end in (0, -1)]
            assert angular_distance_deg(np.array(ends), np.array(expected)).max() < 1e-3
            assert source.azimuth_deg == pytest.approx(ends[0], abs=1e-3)
    assert ways == {True, False}


def test_some_stand_anywhere_on_a_path(paths: RirBank, walks: SceneDistribution, material: Material) -> None:
    material = dataclasses.replace(material, microphones=4, bank=paths)
    half = dataclasses.replace(walks, moving=0.5)
    sources = [source for n in range(20) for source in sample_scene(f"{n}", half, material, 0).sources]
    standing = [source for source in sources if not source.rir_path]
    assert 8 < len(standing) < 32
    assert len({source.rir for source in standing}) > 5
    assert all(not source.track for source in standing)


def test_gap_is_kept_all_the_way(paths: RirBank, walks: SceneDistribution, material: Material) -> None:
    material = dataclasses.replace(material, microphones=4, bank=paths)
    apart = dataclasses.replace(walks, minimum_gap_deg=25.0)
    for n in range(10):
        first, second = sample_scene(f"{n}", apart, material, 0).sources
        tracks = [np.array([place.azimuth_deg for place in source.track]) for source in (first, second)]
        assert angular_distance_deg(*tracks).min() >= 25.0


def test_mixture_has_the_sound_along_the_path(paths: RirBank, walks: SceneDistribution, corpus: Corpus) -> None:
    alone = dataclasses.replace(walks, talkers=1, snr_db=(100.0, 100.0))
    mixing = DynamicMixingDataset(paths, corpus, "train", alone, seed=1)
    scene = sample_scene("mixture-0", alone, mixing.material, 1)
    source = scene.sources[0]
    assert scene.rir_room is not None
    response = paths.room(scene.rir_room, source.rir_path)
    dry = mixing.sounds.source(source, scene.samples)
    times_s = np.linspace(0.0, scene.duration_s, len(source.rir_path))
    image = reverberate(dry, response.rirs, times_s, scene.sample_rate)
    example = mixing[0]
    mixture = example["mixture"].numpy()
    scale = (mixture * image).sum() / np.square(image).sum()
    assert np.abs(mixture - scale * image).max() < 1e-4 * np.abs(mixture).max()
    track_deg = example["track_deg"][0]
    assert track_deg[0] == pytest.approx(source.azimuth_deg, abs=1e-3)
    assert float((track_deg - track_deg[0]).abs().max()) > 5.0


def test_who_moves_is_not_mixed_on_the_device(paths: RirBank, walks: SceneDistribution, corpus: Corpus) -> None:
    mixing = DynamicMixingDataset(paths, corpus, "train", walks, seed=1, dry=True)
    with pytest.raises(MsdetError, match="a talker moves, and mixing on the device takes talkers who stand"):
        mixing[0]
    standing = dataclasses.replace(walks, moving=0.0)
    assert "dry" in DynamicMixingDataset(paths, corpus, "train", standing, seed=1, dry=True)[0]


def test_of_several_banks_those_without_paths_stand(
    paths: RirBank, bank: RirBank, walks: SceneDistribution, corpus: Corpus
) -> None:
    mixed = MixedArraysDataset([bank, paths], corpus, "train", walks, 0, None, 2)
    moved: dict[int, set[bool]] = {0: set(), 1: set()}
    for n in range(8):
        example = mixed[n]
        moved[int(example["array"])].add(bool((example["track_deg"].diff() != 0).any()))
    assert moved == {0: {False}, 1: {True}}
    with pytest.raises(
        MsdetError, match=r"talkers of this RIR bank are fixed, moving is 1\.0; one made with scenes\.moving"
    ):
        MixedArraysDataset([bank], corpus, "train", walks, 0, None, 2)


def test_paths_are_positions_for_talkers(paths: RirBank, walks: SceneDistribution, tmp_path: Path) -> None:
    with pytest.raises(MsdetError, match="has 3 positions a room, 4 talkers"):
        paths.check_for(dataclasses.replace(walks, talkers=4))
    header = json.loads((paths.root / "bank.json").read_text())
    header["settings"]["places"] = 0
    (tmp_path / "bank.json").write_text(json.dumps(header))
    with pytest.raises(MsdetError, match="places is 0, expected a number from 1 up"):
        RirBank.open(tmp_path)


def test_same_seed_gives_the_same_bank(paths: RirBank, walks: SceneDistribution, tmp_path: Path) -> None:
    again = make_bank(tmp_path / "again", walks, 2, 3, seed=3, jobs=2)
    assert again.table == paths.table
    np.testing.assert_array_equal(again.room(1, [4]).rirs, paths.room(1, [4]).rirs)
