"""Talkers who walk: paths in maps of moments."""

from __future__ import annotations

import numpy as np
import pytest

from msdet.conventions import Array, angular_distance_deg
from msdet.methods.moment_tracks import activity, are_apart, moment_tracks, someone_walks

MOMENT_S = 0.128
MOMENTS = 63
TIME = np.linspace(0.0, 1.0, MOMENTS)


def heard(*tracks_deg: Array, silent: tuple[slice, ...] = (), noise: float = 0.0) -> Array:
    """Logits ``(class, moment)`` of talkers along tracks ``(moment,)``, the n-th one silent in the n-th slice."""
    grid_deg = 5.0 * np.arange(72)
    logits = np.full((72, MOMENTS), -6.0)
    for n, track_deg in enumerate(tracks_deg):
        bump = 9.0 * np.exp(-0.5 * (angular_distance_deg(grid_deg[:, None], track_deg) / 8.0) ** 2) - 6.0
        if n < len(silent):
            bump[:, silent[n]] = -6.0
        logits = np.maximum(logits, bump)
    return logits + noise * np.random.default_rng(0).standard_normal(logits.shape)


def walk(start_deg: float, end_deg: float) -> Array:
    return np.asarray((start_deg + (end_deg - start_deg) * TIME) % 360.0)


def error_deg(found: Array, *tracks_deg: Array) -> float:
    """Largest mean error of a track, the nearest found being its."""
    errors = angular_distance_deg(found[:, None], np.array(tracks_deg)).mean(axis=-1)
    return float(errors.min(axis=0).max())


def test_who_walks_is_followed_past_0_degrees() -> None:
    track, other = walk(300.0, 420.0), walk(150.0, 150.0)
    logits = heard(track, other, noise=0.3)
    tracks = moment_tracks(logits, MOMENT_S, 4)
    assert len(tracks.azimuth_deg) == 2
    assert error_deg(tracks.azimuth_deg, track, other) < 2.0
    assert sorted(tracks.walked_deg.round(-1).tolist()) == [0.0, 110.0]
    assert someone_walks(logits, tracks, np.array([330.0, 30.0, 150.0]))
    assert (np.diff(tracks.ordered.overall_deg) > 0).all()
    assert error_deg(tracks.overall_deg[:, None], np.array([0.0]), np.array([150.0])) < 3.0
    assert (tracks.confidence(activity(logits, tracks.azimuth_deg)) > 0.8).all()


def test_a_pause_is_bridged() -> None:
    track = walk(100.0, 200.0)
    tracks = moment_tracks(heard(track, silent=(slice(25, 35),)), MOMENT_S, 4)
    assert len(tracks.azimuth_deg) == 1
    assert error_deg(tracks.azimuth_deg, track) < 3.0


def test_two_who_cross_go_on() -> None:
    first, second = walk(60.0, 180.0), walk(170.0, 70.0)
    tracks = moment_tracks(heard(first, second, noise=0.3), MOMENT_S, 2)
    assert error_deg(tracks.azimuth_deg, first, second) < 6.0


def test_who_stands_does_not_walk() -> None:
    logits = heard(walk(40.0, 40.0), walk(200.0, 200.0), noise=0.5)
    tracks = moment_tracks(logits, MOMENT_S, 4)
    assert not someone_walks(logits, tracks, np.array([40.0, 200.0]))
    assert tracks.walked_deg.max() < 10.0


@pytest.mark.parametrize("gap_deg", [30.0, 40.0, 50.0, 60.0])
@pytest.mark.parametrize("pause", [5, 8, 12])
def test_two_in_turn_are_not_one_who_walks(gap_deg: float, pause: int) -> None:
    half = MOMENTS // 2
    fixed_deg = np.array([40.0, 40.0 + gap_deg])
    logits = heard(*(walk(a, a) for a in fixed_deg), silent=(slice(half, None), slice(half + pause)), noise=0.5)
    tracks = moment_tracks(logits, MOMENT_S, 4)
    assert len(tracks.azimuth_deg) == 1  # a path that leaps in the pause
    assert not someone_walks(logits, tracks, fixed_deg)


def test_activity_is_told_apart_by_direction_where_that_can_be() -> None:
    assert are_apart(np.array([40.0, 90.0, 350.0]))
    assert are_apart(np.array([40.0]))
    assert not are_apart(np.array([352.0, 90.0, 3.0]))


def test_nobody_leaves_no_track() -> None:
    logits = np.full((72, MOMENTS), -6.0)
    tracks = moment_tracks(logits, MOMENT_S, 4)
    assert tracks.azimuth_deg.shape == (0, MOMENTS)
    assert not someone_walks(logits, tracks, np.array([40.0]))
    logits[10, 5] = 5.0  # a click
    assert not len(moment_tracks(logits, MOMENT_S, 4).azimuth_deg)


def test_who_speaks_when_is_heard_at_directions() -> None:
    logits = heard(walk(40.0, 40.0), walk(200.0, 200.0), silent=(slice(20, 40),))
    speaks = activity(logits, np.array([[44.0], [197.0], [120.0]])) > 0.5
    assert speaks[0].tolist() == [not 20 <= moment < 40 for moment in range(MOMENTS)]
    assert speaks[1].all()
    assert not speaks[2].any()
