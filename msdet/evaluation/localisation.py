"""Scores of the directions of one scene: fields of its row.

Errors of a moving talker are means over the frames of its label; an estimate without a track stands still.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array
from msdet.evaluation.directions import Directions, Track
from msdet.evaluation.doa import (
    best_azimuth_assignment,
    folded_distance_deg,
    frame_mean,
    great_circle_errors_deg,
    match,
    pairwise_azimuth_errors_deg,
)
from msdet.evaluation.undefined import UndefinedMetricError
from msdet.simulation.scene import Scene

DOA_FIELDS: tuple[str, ...] = (
    "doa_error_deg",
    "doa_error_own_deg",
    "doa_assigned",
    "doa_matched",
    "doa_missed",
    "doa_false",
    "doa_count_error",
)
"""Fields of every system with directions: lists over talkers, then numbers of the scene."""

ELEVATION_FIELDS = ("doa_great_circle_deg",)
CONFIDENCE_FIELDS = ("doa_confidence",)
TRACK_FIELDS = ("track_error_deg", "track_within_10deg", "track_coverage")
"""Fields that a row has as well where a system gives elevations or confidences, or where talkers move."""

NO_AUDIO, NO_DOA = "no audio estimates", "no DoA estimates"

_TRACK_LIMIT_DEG = 10.0


def score_directions(
    scene: Scene,
    array: MicrophoneArray,
    found: Directions,
    permutation: Array | None,
    fields: tuple[str, ...],
) -> tuple[dict[str, Any], dict[str, str], Array | None]:
    """Scores of a scene's directions.

    Args:
        scene: with the truth.
        array: what it cannot tell apart is no error.
        found: the estimates, of any number of talkers.
        permutation: ``(talker,)`` the estimate of each talker, from its audio; None without audio.
        fields: which are wanted.

    Returns:
        The fields; for those that are null (or hold a null) the reason; and the estimates' own best
        assignment ``(talker,)``, None if their number is not the talkers'.
    """
    truth = true_track(scene)
    estimate = _over_time(found, truth.time_s)
    scores: dict[str, Any] = dict.fromkeys(fields)
    undefined: dict[str, str] = {}
    talkers, estimates = len(scene.sources), len(found.azimuth_deg)
    try:
        errors = pairwise_azimuth_errors_deg(truth.azimuth_deg, estimate.azimuth_deg, array)
    except UndefinedMetricError as error:
        return scores, dict.fromkeys(fields, str(error)), None
    scores |= dict(zip(DOA_FIELDS[3:6], match(np.nan_to_num(errors, nan=np.inf)), strict=True))
    scores["doa_count_error"] = abs(estimates - talkers)
    if estimates != talkers:
        reason = f"{estimates} azimuths estimated, expected {talkers}"
        return scores, {field: reason for field in fields if scores[field] is None}, None
    own = best_azimuth_assignment(truth.azimuth_deg, estimate.azimuth_deg, array)
    used = own if permutation is None else permutation
    every = np.arange(talkers)
    scores["doa_error_deg"], scores["doa_error_own_deg"] = errors[every, used], errors[every, own]
    if permutation is None:
        undefined["doa_assigned"] = NO_AUDIO
    else:
        scores["doa_assigned"] = (permutation == own).astype(np.int64)
    if "doa_confidence" in fields:
        scores["doa_confidence"] = None if found.confidence is None else found.confidence[used]
    aligned = Track(
        truth.time_s,
        estimate.azimuth_deg[used],
        None if estimate.elevation_deg is None else estimate.elevation_deg[used],
    )
    if "doa_great_circle_deg" in fields and aligned.elevation_deg is not None:
        assert truth.elevation_deg is not None
        on_sphere = great_circle_errors_deg(
            (truth.azimuth_deg, truth.elevation_deg), (aligned.azimuth_deg, aligned.elevation_deg), array
        )
        scores["doa_great_circle_deg"] = frame_mean(on_sphere)
    if "track_error_deg" in fields and moves(scene):
        scores |= _track_scores(truth, aligned, array)
    return scores, undefined | _reasons(scores, undefined, fields), own


def moves(scene: Scene) -> bool:
    """Whether a talker of a scene has a track."""
    return any(source.track for source in scene.sources)


def true_track(scene: Scene) -> Track:
    """Directions of all talkers in the frames of the first that moves; in one frame if nobody does."""
    mover = next((source for source in scene.sources if source.track), None)
    time_s = np.array([d.time_s for d in mover.track] if mover else [0.0])
    tracks = [
        Track(
            np.array([d.time_s for d in source.track]),
            np.array([[d.azimuth_deg for d in source.track]]),
            np.array([[d.elevation_deg for d in source.track]]),
        ).at(time_s)
        if source.track
        else Track(
            time_s,
            np.full((1, time_s.size), source.azimuth_deg),
            np.full((1, time_s.size), source.elevation_deg),
        )
        for source in scene.sources
    ]
    return Track(
        time_s,
        np.concatenate([track.azimuth_deg for track in tracks]),
        np.concatenate([track.elevation_deg for track in tracks if track.elevation_deg is not None]),
    )


def _over_time(found: Directions, time_s: Array) -> Track:
    """Estimates in the frames of the label."""
    if found.track is not None and time_s.size > 1:
        return found.track.at(time_s)
    frames = np.ones(time_s.size)
    elevation = None if found.elevation_deg is None else np.outer(found.elevation_deg, frames)
    return Track(time_s, np.outer(found.azimuth_deg, frames), elevation)


def _track_scores(truth: Track, estimate: Track, array: MicrophoneArray) -> dict[str, Array]:
    """Per-frame scores; a frame without an estimate has no error, but is not within any limit either."""
    errors = folded_distance_deg(truth.azimuth_deg, estimate.azimuth_deg, array)
    return {
        "track_error_deg": frame_mean(errors),
        "track_within_10deg": (errors <= _TRACK_LIMIT_DEG).mean(axis=-1),
        "track_coverage": (~np.isnan(errors)).mean(axis=-1),
    }


def _reasons(scores: dict[str, Any], known: dict[str, str], fields: tuple[str, ...]) -> dict[str, str]:
    missing = {
        "doa_great_circle_deg": "no elevation estimates in this scene",
        "doa_confidence": "no confidence in this scene",
        **dict.fromkeys(TRACK_FIELDS, "nobody moves"),
    }
    reasons = {f: missing[f] for f in fields if f not in known and scores[f] is None}
    for field in fields:
        values = scores[field]
        if isinstance(values, np.ndarray) and np.isnan(values).any():
            reasons[field] = "the track has no azimuth in the talker's frames"
    return reasons
