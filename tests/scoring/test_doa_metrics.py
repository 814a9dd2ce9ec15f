"""DoA metrics: hand-computed values across 0 degrees."""

from __future__ import annotations

import numpy as np
import pytest

from msdet.arrays import MicrophoneArray
from msdet.errors import MsdetError, UndefinedMetricError
from msdet.scoring.doa_metrics import (
    assignment,
    azimuth_errors_deg,
    great_circle_errors_deg,
    match,
    pairwise_azimuth_errors_deg,
)

LINE = MicrophoneArray("line", ((0.0, 0.0, 0.0), (0.05, 0.05, 0.0)))  # towards azimuth 45
WALL = MicrophoneArray("wall", ((0.0, 0.0, 0.0), (0.0, 0.05, 0.0), (0.0, 0.0, 0.05)))  # normal to +x
TABLE = MicrophoneArray("table", ((0.0, 0.0, 0.0), (0.05, 0.0, 0.0), (0.0, 0.05, 0.0)))
POLE = MicrophoneArray("pole", ((0.0, 0.0, 0.0), (0.0, 0.0, 0.05)))


def test_errors_go_around_the_circle():
    errors = azimuth_errors_deg([0.0, 359.0, 10.0, 90.0], [358.0, 1.0, 370.0, -90.0])
    np.testing.assert_allclose(errors, [2.0, 2.0, 0.0, 180.0], atol=1e-9)


def test_assignment_minimizes_the_total_circular_error():
    assert assignment(pairwise_azimuth_errors_deg([355.0, 20.0], [15.0, 5.0])).estimates.tolist() == [1, 0]
    # talker 0's nearest is estimate 0 in both; the total decides: 8 + 1 against 1 + 12
    assert assignment(pairwise_azimuth_errors_deg([10.0, 12.0], [11.0, 2.0])).estimates.tolist() == [1, 0]
    assert assignment(pairwise_azimuth_errors_deg([100.0], [10.0, 200.0, 101.0])).estimates.tolist() == [2]


def test_of_equal_totals_the_smaller_squares_decide_whatever_the_order():
    # 20 + 20 and 30 + 10; errors within 10 degrees would go by the list's order
    for order in ([0, 1], [1, 0]):
        talkers, estimates = np.array([0.0, 10.0])[order], np.array([20.0, 30.0])
        found = assignment(pairwise_azimuth_errors_deg(talkers, estimates))
        assert found.estimates.tolist() == order and not found.tied.any()
    errors = pairwise_azimuth_errors_deg([0.0, 90.0], [40.0, 40.0, 91.0])
    assert assignment(errors).tied.tolist() == [True, False]
    with pytest.raises(MsdetError, match="cannot assign"):
        assignment(np.ones((2, 1)))


def test_what_an_array_cannot_tell_apart_is_no_error():
    # mirrored in the line at 45 degrees, azimuth a is 90 - a; in the wall at 90 degrees, 180 - a
    assert azimuth_errors_deg([10.0, 10.0, 50.0], [80.0, 12.0, 230.0], LINE).tolist() == [0.0, 2.0, 170.0]
    assert azimuth_errors_deg([10.0, 350.0], [170.0, 195.0], WALL).tolist() == [0.0, 5.0]
    assert azimuth_errors_deg([10.0], [170.0], TABLE).tolist() == [160.0]
    with pytest.raises(UndefinedMetricError, match="'pole' tells no azimuths apart"):
        azimuth_errors_deg([10.0], [10.0], POLE)


def test_great_circle_errors_fold_what_an_array_cannot_tell_apart():
    def error(reference, estimate, array=None):
        return float(great_circle_errors_deg(reference, estimate, array))

    assert error((0.0, 30.0), (0.0, -20.0)) == pytest.approx(50.0)
    assert error((0.0, 30.0), (0.0, -20.0), TABLE) == pytest.approx(10.0)  # up or down look alike
    assert error((20.0, 30.0), (160.0, 30.0), WALL) == pytest.approx(0.0, abs=1e-9)
    assert error((45.0, 60.0), (105.0, 0.0), LINE) == pytest.approx(0.0, abs=1e-9)  # both 60 off the line
    assert error((0.0, 0.0), (1e-7, 0.0)) == pytest.approx(1e-7)  # an arc cosine would give 0


def test_errors_of_moving_talkers_are_means_over_the_frames_with_an_estimate():
    truth = np.array([[0.0, 10.0, 20.0], [100.0, 100.0, 100.0]])
    estimates = np.array([[99.0, np.nan, 95.0], [0.0, 10.0, 26.0], [np.nan] * 3])
    errors = pairwise_azimuth_errors_deg(truth, estimates)
    np.testing.assert_allclose(errors[:, :2], [[87.0, 2.0], [3.0, 88.0]])
    assert np.isnan(errors[:, 2]).all()
    assert assignment(pairwise_azimuth_errors_deg(truth, estimates)).estimates.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([[3.0, 50.0], [50.0, 4.0]], (2, 0, 0)),
        ([[3.0, 50.0, 9.0], [50.0, 40.0, 50.0]], (1, 1, 2)),
        ([[19.0, 1.0], [60.0, 19.0]], (2, 0, 0)),  # both within the limit, though not the nearest
        ([[20.0], [20.1]], (1, 1, 0)),
        (np.zeros((2, 0)), (0, 2, 0)),
        (np.zeros((0, 3)), (0, 0, 3)),
    ],
)
def test_matching_finds_as_many_talkers_as_it_can(errors, expected):
    assert match(np.array(errors)) == expected
