"""The side view of a scene: from where talkers do not cover each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from msdet.conventions import Array, direction_vector
from msdet.plots.geometry import side_view
from msdet.scenes.scene import Scene


def around(scene: Scene) -> Scene:
    """The scene with its talkers where their azimuths say, 1.5 m from an array that is not turned."""
    center = np.array(scene.array_center_m)
    places = [(center + 1.5 * direction_vector(source.azimuth_deg)).tolist() for source in scene.sources]
    placed = (dataclasses.replace(s, position_m=tuple(p)) for s, p in zip(scene.sources, places, strict=True))
    return dataclasses.replace(scene, sources=tuple(placed))


def nearest(scene: Scene, view: Array) -> float:
    """How near two talkers, or a talker and the array, come to each other in a view."""
    seen = [view @ point for point in (scene.array_center_m, *(source.position_m for source in scene.sources))]
    return min(float(np.linalg.norm(a - b)) for n, a in enumerate(seen) for b in seen[:n])


@pytest.mark.parametrize("azimuths_deg", [(0.0, 90.0), (45.0, 135.0, 225.0), (5.0, 95.0, 185.0, 275.0)])
def test_talkers_do_not_cover_each_other(make_scene: Callable[..., Scene], azimuths_deg: Sequence[float]) -> None:
    scene = around(make_scene("a", azimuths_deg, 1.0))
    view = side_view(scene)
    np.testing.assert_allclose(view @ view.T, np.eye(2), atol=1e-12)
    walls = [nearest(scene, np.eye(3)[[axis, 2]]) for axis in (0, 1)]
    assert nearest(scene, view) > 0.25 > min(walls)


def test_it_is_along_a_wall_where_that_is_as_good(make_scene: Callable[..., Scene]) -> None:
    np.testing.assert_array_equal(side_view(around(make_scene("a", (0.0, 180.0), 1.0))), np.eye(3)[[0, 2]])
