"""Curves of a system's certainty: by hand, against the rank statistic, and from a set's posteriors."""

from __future__ import annotations

import numpy as np
import pytest

from msdet.scoring.confidence_calibration import calibration, curve_notes, curves, posterior_curves


def test_curves_by_hand():
    found = posterior_curves(np.array([0.9, 0.4]), np.array([0.5, 0.1, 0.1]), np.array([0.5]))
    assert found["threshold"] == [0.9, 0.5, 0.4, 0.1]
    assert found["true_positive_rate"] == [0.5, 0.5, 1.0, 1.0]
    assert found["false_positive_rate"] == pytest.approx([0.0, 1 / 3, 1 / 3, 1.0], abs=1e-6)
    assert found["precision"] == pytest.approx([1.0, 0.5, 2 / 3, 2 / 3], abs=1e-6)
    assert found["average_precision"] == pytest.approx(0.5 * 1.0 + 0.5 * 2 / 3, abs=1e-6)
    assert posterior_curves(np.zeros(0), np.array([0.5]), np.zeros(0)) is None


def test_the_area_under_the_roc_is_how_often_a_talker_outranks_a_direction_elsewhere():
    rng = np.random.default_rng(0)
    talkers, elsewhere = rng.integers(0, 40, 300) / 40, rng.integers(-10, 30, 500).clip(0) / 40
    above = talkers[:, None] > elsewhere[None]
    ties = talkers[:, None] == elsewhere[None]
    found = posterior_curves(talkers, elsewhere, elsewhere[:5])
    assert found["roc_area"] == pytest.approx((above + 0.5 * ties).mean(), abs=1e-6)


def rows_of(pairs):
    return [{"doa_confidence": [c], "doa_error_deg": [e]} for c, e in pairs]


def test_calibration_by_hand():
    pairs = [(0.95, 1.0), (0.91, 50.0), (1.0, 10.0), (0.35, 2.0)]
    found = calibration([*rows_of(pairs), {"doa_confidence": None}, {"doa_confidence": [None]}])
    low, high = found["bins"]
    assert (low["low"], low["n"], low["accuracy"]) == (0.3, 1, 1.0)
    assert (high["high"], high["n"], high["accuracy"]) == (1.0, 3, pytest.approx(2 / 3, abs=1e-6))
    gap = (0.65 + 3 * abs((0.95 + 0.91 + 1.0) / 3 - 2 / 3)) / 4
    assert found["expected_calibration_error"] == pytest.approx(gap, abs=1e-5)
    assert calibration([{"doa_error_deg": [1.0]}]) is None


def test_confidences_that_are_no_probabilities_are_not_calibrated():
    found = calibration(rows_of([(0.5, 1.0), (3.0, 1.0)]))
    assert found == {"undefined": "confidences are 0.5 to 3, expected probabilities from 0 to 1"}
    (note,) = curve_notes("mine", {"posterior": None, "calibration": found})
    assert note.startswith("mine: confidence not calibrated")


def test_curves_of_a_set_leave_out_what_is_malformed(make_set):
    scene_set = make_set([[40.0, 140.0], [90.0, 60.0]], 0.05)
    peaked = np.full((2, 36), 0.01)
    peaked[0, 4], peaked[1, 14] = 0.8, 0.9  # at 40 and 140 degrees
    found = {
        "scene0": {"azimuth_deg": [40.0, 140.0], "posterior": peaked.tolist()},
        "scene1": {"azimuth_deg": [40.0, 140.0], "posterior": [[2.0]]},
    }
    result = curves(scene_set, found, [])["posterior"]
    assert (result["talkers"], result["roc_area"], result["average_precision"]) == (2, 1.0, 1.0)
    # of 36 directions, 3 are near each talker, and as many near its mirror image in the line of the array
    assert result["directions_elsewhere"] == 24
    assert curves(scene_set, {}, [])["posterior"] is None
