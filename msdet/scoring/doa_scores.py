"""Scores of the directions of one scene: fields of its row.

Errors of a moving talker are means over the frames of its label; an estimate without a track stands still.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array
from msdet.errors import UndefinedMetricError
from msdet.scenes.scene import Scene
from msdet.scoring.doa_file import DoaEstimates, Track
from msdet.scoring.doa_metrics import (
    assignment,
    folded_distance_deg,
    frame_mean,
    great_circle_errors_deg,
    match,
    pairwise_azimuth_errors_deg,
)
from msdet.scoring.permutations import UNTOLD

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

NOBODY_MOVES = "nobody moves"

NO_REFERENCES, NOT_LOCATED = "no references", "directions are not known"
"""Why a scene of a set that is labeled in part has no scores of voices or directions."""

TIED = "azimuths tie: another assignment of them is as good"
"""Why it is not known whether a voice is at its own direction; no failure of a system."""

_TRACK_LIMIT_DEG = 10.0


def score_directions(
    scene: Scene,
    array: MicrophoneArray,
    found: DoaEstimates,
    permutation: Array | None,
    fields: tuple[str, ...],
    unsure: Array | None = None,
    unknown: str | None = None,
) -> tuple[dict[str, Any], dict[str, str], Array | None]:
    """Scores of a scene's directions.

    Args:
        scene: with the truth.
        array: what it cannot tell apart is no error.
        found: the estimates, of any number of talkers.
        permutation: ``(talker,)`` the estimate of each talker, from its audio; None without audio.
        fields: which are wanted.
        unsure: ``(talker,)`` whose part of `permutation` is arbitrary; None if nobody's is. What would be
            another value under another order of these talkers is null.
        unknown: why there is no permutation although the system gives audio: what would follow it is null,
            what goes by the azimuths alone is scored.

    Returns:
        The fields; for those that are null (or hold a null) the reason; and the estimates' own best
        assignment ``(talker,)``, None if their number is not the talkers'.
    """
    truth = true_track(scene)
    estimate = _over_time(found, truth.time_s)
    scores: dict[str, Any] = dict.fromkeys(fields)
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
    own = assignment(errors)
    scores["doa_error_own_deg"] = errors[np.arange(talkers), own.estimates]
    case = _Case(array, truth, estimate, found, errors, fields, moves(scene))
    if unknown is not None:
        return scores, case.reasons(scores, unknown), own.estimates
    used = own.estimates if permutation is None else permutation
    scores |= case.under(used)
    if permutation is not None:
        scores["doa_assigned"] = (permutation == own.estimates).astype(np.float64)
    undefined = case.reasons(scores, NO_AUDIO)
    if permutation is not None:
        _leave_out(scores, undefined, "doa_assigned", own.tied, TIED)
    if unsure is not None:
        for field, of_talkers in {**case.unlike(used, unsure), "doa_assigned": unsure}.items():
            _leave_out(scores, undefined, field, of_talkers, UNTOLD)
    return scores, undefined, own.estimates


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


@dataclass(frozen=True)
class _Case:
    """A scene with as many estimates as talkers.

    Attributes:
        array: of the scene.
        truth: of all talkers.
        estimate: in the same frames, in the system's order.
        found: all that the system says.
        errors_deg: ``(talker, estimate)``.
        fields: which are wanted.
        moving: whether a talker moves.
    """

    array: MicrophoneArray
    truth: Track
    estimate: Track
    found: DoaEstimates
    errors_deg: Array
    fields: tuple[str, ...]
    moving: bool

    def under(self, permutation: Array) -> dict[str, Array]:
        """The wanted fields that follow a permutation, as far as the system gives them."""
        elevation_deg = self.estimate.elevation_deg
        aligned = Track(
            self.truth.time_s,
            self.estimate.azimuth_deg[permutation],
            None if elevation_deg is None else elevation_deg[permutation],
        )
        scores = {"doa_error_deg": self.errors_deg[np.arange(len(permutation)), permutation]}
        if "doa_confidence" in self.fields and self.found.confidence is not None:
            scores["doa_confidence"] = self.found.confidence[permutation]
        if "doa_great_circle_deg" in self.fields and aligned.elevation_deg is not None:
            assert self.truth.elevation_deg is not None
            on_sphere = great_circle_errors_deg(
                (self.truth.azimuth_deg, self.truth.elevation_deg),
                (aligned.azimuth_deg, aligned.elevation_deg),
                self.array,
            )
            scores["doa_great_circle_deg"] = frame_mean(on_sphere)
        if "track_error_deg" in self.fields and self.moving and "track" not in self.found.faults:
            scores |= _track_scores(self.truth, aligned, self.array)
        return scores

    def unlike(self, permutation: Array, unsure: Array) -> dict[str, Array]:
        """Of each field, the talkers ``(talker,)`` whose value is another if the unsure change places."""
        first, places = self.under(permutation), np.flatnonzero(unsure)
        differs = {field: np.zeros(len(permutation), dtype=bool) for field in first}
        for turn in range(1, len(places)):
            other = permutation.copy()
            other[places] = np.roll(permutation[places], turn)
            for field, values in self.under(other).items():
                differs[field] |= ~np.isclose(values, first[field], rtol=0.0, atol=1e-9, equal_nan=True)
        return differs

    def reasons(self, scores: dict[str, Any], otherwise: str) -> dict[str, str]:
        """Why wanted fields are null, or hold a null; `otherwise` where the estimates do not tell why."""
        faults = self.found.faults
        absent = {} if self.moving else dict.fromkeys(TRACK_FIELDS, NOBODY_MOVES)
        if self.moving and "track" in faults:
            absent = dict.fromkeys(TRACK_FIELDS, faults["track"])
        if self.estimate.elevation_deg is None:
            why = faults.get("elevation_deg", "no elevation estimates in this scene")
            absent["doa_great_circle_deg"] = why
        if self.found.confidence is None:
            absent["doa_confidence"] = faults.get("confidence", "no confidence in this scene")
        reasons = {f: absent.get(f, otherwise) for f in self.fields if scores[f] is None}
        for field in self.fields:
            if isinstance(scores[field], np.ndarray) and np.isnan(scores[field]).any():
                reasons[field] = "the track has no azimuth in the talker's frames"
        return reasons


def _over_time(found: DoaEstimates, time_s: Array) -> Track:
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


def _leave_out(
    scores: dict[str, Any], undefined: dict[str, str], field: str, talkers: Array, why: str
) -> None:
    """Make a field null for some talkers, and say why beside what is said already."""
    if talkers.any():
        scores[field] = np.where(talkers, np.nan, scores[field])
        undefined[field] = f"{undefined[field]}; {why}" if field in undefined else why
