"""Directions of a scene: unknown counts, moving talkers, elevations and what a row of doa.jsonl may hold."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from msdet.arrays import MicrophoneArray, load_array
from msdet.errors import MsdetError
from msdet.scenes.scene import Direction
from msdet.scoring.doa_scores import (
    CONFIDENCE_FIELDS,
    DOA_FIELDS,
    ELEVATION_FIELDS,
    TIED,
    TRACK_FIELDS,
    score_directions,
)
from msdet.scoring.permutations import AMBIGUOUS
from msdet.scoring.submission import DoaEstimates

CIRCLE = load_array("circular4_5cm")
EVERY = DOA_FIELDS + ELEVATION_FIELDS + CONFIDENCE_FIELDS + TRACK_FIELDS


LINE = MicrophoneArray("line", ((0.05, 0.0, 0.0), (-0.05, 0.0, 0.0)))


def scored(scene, row, permutation=None, fields=DOA_FIELDS, array=CIRCLE, **options):
    found = DoaEstimates.from_row({"id": scene.id} | row)
    permutation = None if permutation is None else np.array(permutation)
    return score_directions(scene, array, found, permutation, fields, **options)


def test_another_number_of_talkers_is_counted_and_has_no_errors(make_scene):
    scene = make_scene("a", [10.0, 100.0, 250.0])
    scores, undefined, own = scored(scene, {"azimuth_deg": [105.0, 350.0, 180.0, 252.0]}, [0, 1, 2])
    counts = [scores[f] for f in ("doa_matched", "doa_missed", "doa_false", "doa_count_error")]
    assert counts == [3, 0, 1, 1] and own is None
    assert scores["doa_error_deg"] is None
    assert undefined["doa_error_deg"] == "4 azimuths estimated, expected 3"
    scores, _, _ = scored(scene, {"azimuth_deg": []})
    assert (scores["doa_matched"], scores["doa_missed"], scores["doa_count_error"]) == (0, 3, 3)


def test_a_voice_at_its_own_direction_is_told_from_a_swapped_one(make_scene):
    scene = make_scene("a", [10.0, 100.0])
    for permutation, expected in (([1, 0], [1, 1]), ([0, 1], [0, 0])):
        scores, undefined, own = scored(scene, {"azimuth_deg": [98.0, 11.0]}, permutation)
        assert scores["doa_assigned"].tolist() == expected and own.tolist() == [1, 0]
        assert undefined == {}
    scores, undefined, _ = scored(scene, {"azimuth_deg": [98.0, 11.0]})
    assert scores["doa_assigned"] is None and undefined == {"doa_assigned": "no audio estimates"}


def test_elevation_and_confidence_follow_the_permutation(make_scene):
    scene = make_scene("a", [10.0, 100.0])  # both level with the array
    row = {"azimuth_deg": [100.0, 10.0], "elevation_deg": [5.0, 0.0], "confidence": [0.25, 0.75]}
    scores, undefined, _ = scored(scene, row, [1, 0], EVERY)
    assert scores["doa_confidence"].tolist() == [0.75, 0.25]
    np.testing.assert_allclose(scores["doa_great_circle_deg"], [0.0, 5.0], atol=1e-9)
    assert undefined == dict.fromkeys(TRACK_FIELDS, "no talker moves")
    _, undefined, _ = scored(scene, {"azimuth_deg": [100.0, 10.0]}, [1, 0], DOA_FIELDS + ELEVATION_FIELDS)
    assert undefined == {"doa_great_circle_deg": "no elevation estimates in this scene"}


@pytest.fixture
def moving(make_scene):
    """Talker 1 goes from 0 to 30 degrees in four frames; talker 2 stands at 100."""
    scene = make_scene("a", [0.0, 100.0])
    track = tuple(Direction(0.1 * k, 10.0 * k, 0.0, 1.0) for k in range(4))
    mover = dataclasses.replace(scene.sources[0], track=track)
    return dataclasses.replace(scene, sources=(mover, scene.sources[1]))


def test_a_moving_talker_is_scored_frame_by_frame(moving):
    track = {"time_s": [0.0, 0.1, 0.2, 0.3], "azimuth_deg": [[100.0, 100.0, 112.0, 100.0], [2.0, 8.0, None, 50.0]]}
    row = {"azimuth_deg": [100.0, 10.0], "track": track}
    scores, undefined, own = scored(moving, row, [1, 0], DOA_FIELDS + TRACK_FIELDS)
    assert own.tolist() == [1, 0] and undefined == {}
    np.testing.assert_allclose(scores["track_error_deg"], [(2 + 2 + 20) / 3, 3.0])
    np.testing.assert_allclose(scores["track_within_10deg"], [0.5, 0.75])  # no estimate is not within
    np.testing.assert_allclose(scores["track_coverage"], [0.75, 1.0])
    np.testing.assert_allclose(scores["doa_error_deg"], scores["track_error_deg"])


def test_an_estimate_without_a_track_stands_still(moving):
    scores, _, _ = scored(moving, {"azimuth_deg": [15.0, 100.0]}, [0, 1], DOA_FIELDS + TRACK_FIELDS)
    np.testing.assert_allclose(scores["doa_error_deg"], [10.0, 0.0])  # of 15, 5, 5 and 15
    np.testing.assert_allclose(scores["track_within_10deg"], [0.5, 1.0])


def test_frames_of_another_rate_count_by_the_nearest_and_only_where_they_are(moving):
    track = {"time_s": [0.0, 0.05, 0.1], "azimuth_deg": [[0.0, 5.0, 10.0], [100.0, 100.0, None]]}
    row = {"azimuth_deg": [0.0, 100.0], "track": track}
    scores, _, _ = scored(moving, row, [0, 1], DOA_FIELDS + TRACK_FIELDS)
    np.testing.assert_allclose(scores["track_coverage"], [0.5, 0.25])
    np.testing.assert_allclose(scores["track_error_deg"], [0.0, 0.0])
    nowhere = {"time_s": [0.0], "azimuth_deg": [[None], [100.0]]}
    row = {"azimuth_deg": [0.0, 100.0], "track": nowhere}
    scores, undefined, _ = scored(moving, row, [0, 1], DOA_FIELDS + TRACK_FIELDS)
    assert np.isnan(scores["track_error_deg"][0])
    assert undefined["track_error_deg"] == "the track has no azimuth in the talker's frames"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"azimuth_deg": [1.0], "elevation_deg": [float("nan")]}, "expected 1 elevations up to 90 degrees"),
        ({"azimuth_deg": [1.0], "elevation_deg": [95.0]}, "expected 1 elevations up to 90 degrees"),
        ({"azimuth_deg": [1.0], "confidence": [0.1, 0.2]}, "expected 1 numbers"),
        ({"azimuth_deg": [1.0], "posterior": [0.1, 0.2]}, "posterior is no list of lists"),
        ({"azimuth_deg": [1.0], "posterior": [[0.1, 1.2]]}, "expected a list of probabilities"),
        ({"azimuth_deg": [1.0], "posterior": [[0.1, 0.2], [0.3]]}, "different lengths"),
        ({"azimuth_deg": [1.0], "posterior": [[0.1, 0.2]] * 2}, "posterior is 2 x 2 numbers, expected 1 or 1"),
        ({"azimuth_deg": [1.0], "track": [1.0]}, "track is not an object"),
        ({"azimuth_deg": [1.0], "track": {"time_s": [1, 0], "azimuth_deg": [[1, 2]]}}, "not ascending"),
        (
            {"azimuth_deg": [1.0], "track": {"time_s": [0, 1], "azimuth_deg": [[1]]}},
            "track azimuth_deg is 1 x 1 numbers, expected 1 lists of 2 degrees",
        ),
    ],
)
def test_malformed_values_say_what_was_expected_and_leave_the_azimuths(row, reason):
    found = DoaEstimates.from_row(row)
    ((key, fault),) = found.faults.items()
    assert key in row and reason in fault and getattr(found, key) is None
    assert found.azimuth_deg.tolist() == [1.0]


@pytest.mark.parametrize("azimuths", [None, [float("nan"), 312.0], [None, 312.0], "north"])
def test_without_azimuths_there_are_no_directions(azimuths):
    with pytest.raises(MsdetError, match="azimuth_deg"):
        DoaEstimates.from_row({"azimuth_deg": azimuths, "elevation_deg": [0.0, 0.0]})


def test_a_fault_in_a_key_costs_only_what_needs_it(make_scene, moving):
    scene = make_scene("a", [10.0, 100.0])
    bad = {"elevation_deg": [0.0, float("nan")], "confidence": [0.5], "track": 1, "posterior": [[2.0]]}
    fields = DOA_FIELDS + ELEVATION_FIELDS + CONFIDENCE_FIELDS
    whole, _, _ = scored(scene, {"azimuth_deg": [11.0, 98.0]}, [0, 1])
    scores, undefined, _ = scored(scene, {"azimuth_deg": [11.0, 98.0], **bad}, [0, 1], fields)
    for field in DOA_FIELDS:
        np.testing.assert_array_equal(scores[field], whole[field])
    assert undefined.keys() == {"doa_great_circle_deg", "doa_confidence"}
    assert "expected 2 elevations" in undefined["doa_great_circle_deg"]
    assert "expected 2 numbers" in undefined["doa_confidence"]
    row = {"azimuth_deg": [5.0, 100.0], "track": {"time_s": [0.0]}}
    scores, undefined, _ = scored(moving, row, [0, 1], DOA_FIELDS + TRACK_FIELDS)
    assert undefined.keys() == set(TRACK_FIELDS) and scores["doa_error_deg"] is not None
    assert all("track is not an object" in why for why in undefined.values())


@pytest.mark.parametrize(
    ("array", "truth_deg", "estimates_deg", "tied"),
    [
        (CIRCLE, [40.0, 40.0], [38.0, 44.0], [True, True]),
        (CIRCLE, [10.0, 100.0], [50.0, 50.0], [True, True]),
        (CIRCLE, [10.0, 100.0], [50.0, 410.0], [True, True]),
        (CIRCLE, [40.0, 40.0, 200.0], [38.0, 44.0, 201.0], [True, True, False]),
        (CIRCLE, [10.0, 100.0, 200.0], [50.0, 50.0, 201.0], [True, True, False]),
        (CIRCLE, [10.0, 350.0], [12.0, 349.0], [False, False]),
        (LINE, [10.0, 350.0], [12.0, 349.0], [True, True]),  # mirror images
        (LINE, [10.0, 100.0], [70.0, 290.0], [True, True]),
        (LINE, [10.0, 100.0], [12.0, 260.0], [False, False]),
        # both estimates beyond both talkers: the sums are equal, the smaller squares decide
        (CIRCLE, [0.0, 10.0], [20.0, 30.0], [False, False]),
    ],
)
def test_no_list_order_decides_whether_a_voice_is_at_its_direction(make_scene, array, truth_deg, estimates_deg, tied):
    talkers = len(truth_deg)
    for order in (list(range(talkers)), list(range(talkers))[::-1]):
        scene = make_scene("a", [truth_deg[n] for n in order])
        for of_estimates in (list(range(talkers)), list(range(talkers))[::-1]):
            row = {"azimuth_deg": [estimates_deg[n] for n in of_estimates]}
            permutation = [of_estimates.index(n) for n in order]  # estimate n is talker n's
            scores, undefined, _ = scored(scene, row, permutation, array=array)
            expected = [np.nan if tied[n] else 1.0 for n in order]
            np.testing.assert_array_equal(scores["doa_assigned"], expected)
            assert undefined == ({"doa_assigned": TIED} if any(tied) else {})


def test_reasons_that_are_known_stay_beside_those_of_the_track(moving):
    nowhere = {"time_s": [0.0, 0.1], "azimuth_deg": [[None, None], [100.0, 100.0]]}
    row = {"azimuth_deg": [0.0, 100.0], "track": nowhere}
    unsure = np.array([True, True])
    scores, undefined, _ = scored(moving, row, [0, 1], DOA_FIELDS + TRACK_FIELDS, ambiguous=unsure)
    assert np.isnan(scores["doa_assigned"]).all() and undefined["doa_assigned"] == AMBIGUOUS
    assert undefined["track_error_deg"] == f"the track has no azimuth in the talker's frames; {AMBIGUOUS}"
    assert undefined["track_coverage"] == AMBIGUOUS
    _, undefined, _ = scored(moving, {"azimuth_deg": [5.0, 5.0], "track": nowhere}, [0, 1])
    assert "doa_assigned" not in undefined  # a track goes before the azimuths of a scene in which one moves


def test_without_a_permutation_azimuths_are_scored_by_themselves(make_scene):
    scene = make_scene("a", [10.0, 100.0])
    row = {"azimuth_deg": [98.0, 11.0], "confidence": [0.5, 0.6]}
    scores, undefined, own = scored(scene, row, None, EVERY, no_permutation="no such file")
    assert scores["doa_error_own_deg"].tolist() == [1.0, 2.0] and own.tolist() == [1, 0]
    assert [scores[f] for f in ("doa_matched", "doa_missed", "doa_false", "doa_count_error")] == [2, 0, 0, 0]
    assert undefined == {
        **dict.fromkeys(("doa_error_deg", "doa_assigned", "doa_confidence"), "no such file"),
        "doa_great_circle_deg": "no elevation estimates in this scene",
        **dict.fromkeys(TRACK_FIELDS, "no talker moves"),
    }
