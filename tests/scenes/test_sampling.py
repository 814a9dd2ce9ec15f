"""Scenes are drawn purely, uniformly over the area, and impossible settings are refused by name."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from msdet.conventions import angular_distance_deg, to_array_frame
from msdet.corpora import Utterance
from msdet.errors import MsdetError
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.room_geometry import WALL_MARGIN_M, sample_geometry
from msdet.scenes.sampling import Material, sample_scene, sample_turns
from msdet.scenes.scene import Scene, scene_seed

SMS_WSJ = SceneDistribution()


def draw(material: Material, count: int, distribution: SceneDistribution = SMS_WSJ) -> list[Scene]:
    return [sample_scene(f"train-{n:06d}", distribution, material, 7) for n in range(count)]


def test_same_id_and_seed_give_the_same_scene(material: Material) -> None:
    before = sample_scene("train-000004", SMS_WSJ, material, 7)
    draw(material, 3)
    np.random.default_rng(0).random(10)
    assert sample_scene("train-000004", SMS_WSJ, material, 7) == before
    assert draw(material, 6)[4] == before


def test_order_of_speakers_in_the_table_does_not_matter(material: Material) -> None:
    shuffled = dataclasses.replace(material, speech=dict(reversed(material.speech.items())))
    assert draw(material, 5) == draw(shuffled, 5)


def test_other_id_or_seed_gives_another_scene(material: Material) -> None:
    base = sample_scene("train-000000", SMS_WSJ, material, 7)
    for other in (
        sample_scene("train-000001", SMS_WSJ, material, 7),
        sample_scene("train-000000", SMS_WSJ, material, 8),
    ):
        assert other.room_m != base.room_m
        assert other.sources[0].position_m != base.sources[0].position_m


def test_scene_seeds_do_not_collide_and_fit_63_bits() -> None:
    seeds = [scene_seed(s, f"train-{n:06d}") for s in range(3) for n in range(500)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_everything_drawn_is_within_its_interval(material: Material) -> None:
    d = SMS_WSJ
    for scene in draw(material, 60):
        for value, interval in [
            *zip(scene.room_m, (d.room_x_m, d.room_y_m, d.room_z_m), strict=True),
            (scene.t60_target_s, d.t60_s),
            (scene.snr_db, d.snr_db),
            *((c - r / 2, d.center_offset_m) for c, r in zip(scene.array_center_m, scene.room_m, strict=True)),
            *((s.distance_m, d.distance_m) for s in scene.sources),
            *((s.level_db, d.level_db) for s in scene.sources),
        ]:
            assert interval[0] - 1e-9 <= value <= interval[1] + 1e-9
        assert scene.sources[0].speaker != scene.sources[1].speaker


def test_labels_are_the_positions_seen_from_the_array(material: Material) -> None:
    for scene in draw(material, 20):
        for source in scene.sources:
            x, y, z = to_array_frame(source.position_m, scene.array_center_m, scene.array_rotation_deg)
            assert source.azimuth_deg == pytest.approx(math.degrees(math.atan2(y, x)) % 360.0)
            assert source.distance_m == pytest.approx(math.sqrt(x * x + y * y + z * z))
            assert source.elevation_deg == pytest.approx(0.0, abs=1e-6)
            assert all(
                WALL_MARGIN_M < p < size - WALL_MARGIN_M
                for p, size in zip(source.position_m, scene.room_m, strict=True)
            )


def test_distances_are_uniform_over_the_area_and_azimuths_around_the_circle() -> None:
    rng = np.random.default_rng(0)
    drawn = [sample_geometry(SMS_WSJ, 4, rng) for _ in range(250)]
    distance = np.concatenate([g.from_array()[2] for g in drawn])
    low, high = SMS_WSJ.distance_m
    area_share = (distance**2 - low**2) / (high**2 - low**2)
    assert kstest(area_share, "uniform").pvalue > 0.01
    assert kstest(np.concatenate([g.from_array()[0] for g in drawn]) / 360.0, "uniform").pvalue > 0.01
    # the test can tell: distances uniform along the radius would fail it
    assert kstest((distance - low) / (high - low), "uniform").pvalue < 1e-6


@settings(deadline=None, max_examples=25)
@given(gap_deg=st.floats(0.0, 80.0), count=st.integers(2, 3), seed=st.integers(0, 2**32))
def test_talkers_keep_the_smallest_gap(gap_deg: float, count: int, seed: int) -> None:
    distribution = dataclasses.replace(SMS_WSJ, talkers=count, minimum_gap_deg=gap_deg)
    azimuths = sample_geometry(distribution, count, np.random.default_rng(seed)).from_array()[0]
    gaps = angular_distance_deg(azimuths[:, None], azimuths[None])[np.triu_indices(count, 1)]
    assert gaps.min() >= gap_deg - 1e-9


def test_gap_that_fits_never_fails() -> None:
    distribution = dataclasses.replace(SMS_WSJ, talkers=3, minimum_gap_deg=100.0)
    distribution.check()
    for seed in range(20):
        azimuths = np.sort(sample_geometry(distribution, 3, np.random.default_rng(seed)).from_array()[0])
        assert np.diff(azimuths, append=azimuths[0] + 360.0).min() >= 100.0 - 1e-6


def test_gap_property_of_a_scene_is_around_the_circle(material: Material) -> None:
    scene = draw(material, 1)[0]
    sources = tuple(dataclasses.replace(s, azimuth_deg=a) for s, a in zip(scene.sources, (355.0, 15.0), strict=True))
    assert dataclasses.replace(scene, sources=sources).azimuth_gap_deg == pytest.approx(20.0)


def test_long_utterances_are_preferred_and_cut(material: Material) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        for turn in sample_turns(material.speech, 2, SMS_WSJ, rng):
            assert turn.utterance.seconds == 6.0
            assert 0.0 <= turn.offset_s <= 2.0
            assert (turn.onset_s, turn.duration_s) == (0.0, 4.0)


def test_short_utterance_starts_at_an_onset_that_keeps_it_whole() -> None:
    short = {f"s{n}": [Utterance(f"s{n}", "x.wav", 1.0, "train")] for n in range(2)}
    onsets = [
        turn.onset_s
        for seed in range(20)
        for turn in sample_turns(short, 2, SMS_WSJ, np.random.default_rng(seed))
        if turn.offset_s == 0.0 and turn.duration_s == 1.0
    ]
    assert len(onsets) == 40
    assert 0.0 <= min(onsets) < 1.0 < 2.0 < max(onsets) <= 3.0


def test_fewer_speakers_than_talkers_is_refused(material: Material) -> None:
    with pytest.raises(MsdetError, match="has 6 speakers, expected at least 7"):
        sample_turns(material.speech, 7, SMS_WSJ, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("t60_s", (0.01, 0.02)),
        ("t60_s", (0.4, 0.2)),
        ("t60_s", (0.0, 0.3)),
        ("t60_s", (-0.1, 0.3)),
        ("t60_s", (math.nan, 0.3)),
        ("t60_s", (0.2, math.inf)),
        ("duration_s", 0.0),
        ("duration_s", math.inf),
        ("duration_s", math.nan),
        ("sample_rate", 0),
        ("talkers", 0),
        ("room_z_m", (0.0, 3.0)),
        ("distance_m", (0.0, 1.0)),
        ("distance_m", (2.0, 1.0)),
        ("minimum_gap_deg", 181.0),
        ("minimum_gap_deg", math.nan),
        ("snr_db", (30.0, 20.0)),
        ("snr_db", (20.0, math.inf)),
    ],
)
def test_impossible_setting_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(MsdetError, match=field):
        dataclasses.replace(SMS_WSJ, **{field: value}).check()


@pytest.mark.parametrize("t60_s", [SMS_WSJ.t60_s, (0.0, 0.0)])
def test_default_and_anechoic_settings_are_possible(t60_s: tuple[float, float]) -> None:
    distribution = dataclasses.replace(SMS_WSJ, t60_s=t60_s)
    distribution.check()
    geometry = sample_geometry(distribution, 2, np.random.default_rng(0))
    assert t60_s[0] <= geometry.t60_s <= t60_s[1]


def test_talkers_outside_the_room_are_refused_with_what_was_asked() -> None:
    distant = dataclasses.replace(SMS_WSJ, distance_m=(6.0, 7.0))
    with pytest.raises(MsdetError, match=r"distance_m \[6\.0, 7\.0\].* rooms, the last one of"):
        sample_geometry(distant, 2, np.random.default_rng(0))


def test_reverberation_beyond_memory_is_refused() -> None:
    with pytest.raises(MsdetError, match=r"t60_s is \[6.0, 6.0\]: .* can be rendered with image sources"):
        dataclasses.replace(SceneDistribution(), t60_s=(6.0, 6.0)).check()
