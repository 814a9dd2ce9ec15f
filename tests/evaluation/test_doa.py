"""DoA metrics: hand-computed values across 0 degrees."""

from __future__ import annotations

import numpy as np
import pytest

from msdet.errors import MsdetError
from msdet.evaluation.doa import (
    azimuth_errors_deg,
    best_azimuth_assignment,
)
from msdet.evaluation.separation import UndefinedMetricError


def test_errors_go_around_the_circle():
    errors = azimuth_errors_deg([0.0, 359.0, 10.0, 90.0], [358.0, 1.0, 370.0, -90.0])
    np.testing.assert_allclose(errors, [2.0, 2.0, 0.0, 180.0], atol=1e-9)


def test_assignment_minimises_the_total_circular_error():
    assert best_azimuth_assignment([355.0, 20.0], [15.0, 5.0]).tolist() == [1, 0]
    # talker 0's nearest is estimate 0 in both; the total decides: 8 + 1 against 1 + 12
    assert best_azimuth_assignment([10.0, 12.0], [11.0, 2.0]).tolist() == [1, 0]
    assert best_azimuth_assignment([100.0], [10.0, 200.0, 101.0]).tolist() == [2]


def test_bad_azimuths_say_why():
    with pytest.raises(MsdetError, match="1 azimuths estimated, expected 2"):
        azimuth_errors_deg([1.0, 2.0], [1.0])
    with pytest.raises(UndefinedMetricError, match="NaN"):
        azimuth_errors_deg([1.0], [np.nan])
    with pytest.raises(MsdetError, match="shape"):
        azimuth_errors_deg([[1.0]], [[1.0]])
