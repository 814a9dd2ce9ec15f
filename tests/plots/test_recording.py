"""Figures of a recording."""

from __future__ import annotations

import numpy as np
import pytest

from msdet.plots.recording import tracks_figure
from msdet.plots.theme import styles


@pytest.mark.parametrize(("axis_deg", "azimuth_deg"), [(0.0, 170.0), (330.0, 20.0)])
def test_an_array_that_mirrors_talkers_is_drawn_over_its_half_plane(axis_deg: float, azimuth_deg: float) -> None:
    track = (np.arange(20.0), np.full((1, 20), azimuth_deg), np.ones((1, 20)), 20.0, [styles(["a"])["a"]], [False])
    flat, polar = tracks_figure(*track, axis_deg).axes
    low, high = polar.get_xlim()
    assert np.rad2deg([low, high]) == pytest.approx([axis_deg, axis_deg + 180.0])
    drawn = polar.lines[0].get_xdata()
    assert ((low <= drawn) & (drawn <= high)).all()
    assert flat.lines[0].get_ydata() == pytest.approx(azimuth_deg)
    _, polar = tracks_figure(*track).axes
    assert np.rad2deg(polar.get_xlim()) == pytest.approx([0.0, 360.0])
