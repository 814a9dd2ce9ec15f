"""Scores of the directions of one scene, as fields of its row.

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
from msdet.scoring import doa_metrics
from msdet.scoring.permutations import AMBIGUOUS
from msdet.scoring.submission import DoaEstimates, Track

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

# more fields, where a system gives elevations or confidences, or where talkers move
ELEVATION_FIELDS, CONFIDENCE_FIELDS = ("doa_great_circle_deg",), ("doa_confidence",)
TRACK_FIELDS = ("track_error_deg", "track_within_10deg", "track_coverage")
NO_AUDIO, NO_DOA = "no audio estimates", "no DoA estimates"  # of a system
NO_REFERENCES, NO_TRUE_DOA = "no references", "directions are not known"  # of a scene
STATIC_TALKERS = "no talker moves"  # so that there are no scores of tracks
TIED = "azimuths tie: another assignment of them is as good"  # so that ``doa_assigned`` is not known
_TRACK_LIMIT_DEG = 10.0


def score_directions(
    scene: Scene,
    array: MicrophoneArray,
    estimates: DoaEstimates,
    permutation: Array | None,
    fields: tuple[str, ...],
    ambiguous: Array | None = None,
    no_permutation: str | None = None,
) -> tuple[dict[str, Any], dict[str, str], Array | None]:
    """The wanted fields of a scene's directions, of any number of talkers.

    The permutation ``(talker,)`` is the estimate of each talker, from its audio; None without audio, or where
    `no_permutation` says why there is none although there is audio: what would follow it is null. `ambiguous`
    ``(talker,)`` says whose part of it is arbitrary: what would differ under another order of these talkers is null.

    Returned as well: why fields are null (or hold a null), and the azimuths' optimal assignment ``(talker,)``, None if
    their number is not the talkers'.
    """
    truth = true_track(scene)
    assert truth.elevation_deg is not None  # of every talker
    truth = Track(truth.time_s, *array.resolved(truth.azimuth_deg, truth.elevation_deg))
    over_time = _over_time(estimates, truth.time_s)
    scores: dict[str, Any] = dict.fromkeys(fields)
    talkers, count = len(scene.sources), len(estimates.azimuth_deg)
    try:
        errors = doa_metrics.pairwise_azimuth_errors_deg(truth.azimuth_deg, over_time.azimuth_deg, array)
    except UndefinedMetricError as error:
        return scores, dict.fromkeys(fields, str(error)), None
    scores |= dict(zip(DOA_FIELDS[3:6], doa_metrics.match(np.nan_to_num(errors, nan=np.inf)), strict=True))
    scores["doa_count_error"] = abs(count - talkers)
    if count != talkers:
        reason = f"{count} azimuths estimated, expected {talkers}"
        return scores, {field: reason for field in fields if scores[field] is None}, None
    optimal = doa_metrics.assignment(errors)
    scores["doa_error_own_deg"] = errors[np.arange(talkers), optimal.estimates]
    scorer = _PermutedScores(array, truth, over_time, estimates, errors, fields, moves(scene))
    if no_permutation is not None:
        return scores, scorer.reasons(scores, no_permutation), optimal.estimates
    if permutation is None:
        scores |= scorer.under(optimal.estimates)
        return scores, scorer.reasons(scores, NO_AUDIO), optimal.estimates
    scores |= scorer.under(permutation)
    scores["doa_assigned"] = (permutation == optimal.estimates).astype(np.float64)
    undefined = scorer.reasons(scores, NO_AUDIO)
    _leave_out(scores, undefined, "doa_assigned", optimal.tied, TIED)
    if ambiguous is not None:
        differing = scorer.differing(permutation, ambiguous) | {"doa_assigned": ambiguous}
        for field, of_talkers in differing.items():
            _leave_out(scores, undefined, field, of_talkers, AMBIGUOUS)
    return scores, undefined, optimal.estimates


def moves(scene: Scene) -> bool:
    """Whether a talker of a scene has a track."""
    return any(source.track for source in scene.sources)


def true_track(scene: Scene) -> Track:
    """Directions of all talkers in the frames of the first that moves; in one frame if all stand still."""
    mover = next((source for source in scene.sources if source.track), None)
    time_s = np.array([d.time_s for d in mover.track] if mover else [0.0])
    tracks = []
    for source in scene.sources:
        standing = [(time, source.azimuth_deg, source.elevation_deg) for time in time_s]
        rows = [(d.time_s, d.azimuth_deg, d.elevation_deg) for d in source.track] or standing
        times, azimuths, elevations = np.array(rows).T
        tracks.append(Track(times, azimuths[None], elevations[None]).at(time_s))
    elevation_deg = [track.elevation_deg for track in tracks if track.elevation_deg is not None]
    return Track(time_s, np.concatenate([track.azimuth_deg for track in tracks]), np.concatenate(elevation_deg))


@dataclass(frozen=True)
class _PermutedScores:
    """The wanted fields of a scene, with as many estimates as talkers, that follow a permutation.

    `over_time` are the estimates in the frames of the truth, in the system's order; `errors_deg` is
    ``(talker, estimate)``; `moving` says whether a talker moves.
    """

    array: MicrophoneArray
    truth: Track
    over_time: Track
    estimates: DoaEstimates
    errors_deg: Array
    fields: tuple[str, ...]
    moving: bool

    def under(self, permutation: Array) -> dict[str, Array]:
        """The wanted fields that follow a permutation, as far as the system gives them."""
        azimuth_deg, elevation_deg = self.over_time.azimuth_deg[permutation], self.over_time.elevation_deg
        scores = {"doa_error_deg": self.errors_deg[np.arange(len(permutation)), permutation]}
        if "doa_confidence" in self.fields and self.estimates.confidence is not None:
            scores["doa_confidence"] = self.estimates.confidence[permutation]
        if "doa_great_circle_deg" in self.fields and elevation_deg is not None:
            assert self.truth.elevation_deg is not None
            on_sphere = doa_metrics.great_circle_errors_deg(
                (self.truth.azimuth_deg, self.truth.elevation_deg),
                (azimuth_deg, elevation_deg[permutation]),
                self.array,
            )
            scores["doa_great_circle_deg"] = doa_metrics.frame_mean(on_sphere)
        if "track_error_deg" in self.fields and self.moving and "track" not in self.estimates.faults:
            # a frame without an estimate has no error, but is not within any limit either
            errors = doa_metrics.azimuth_errors_deg(self.truth.azimuth_deg, azimuth_deg, self.array)
            scores["track_error_deg"] = doa_metrics.frame_mean(errors)
            scores["track_within_10deg"] = (errors <= _TRACK_LIMIT_DEG).mean(axis=-1)
            scores["track_coverage"] = (~np.isnan(errors)).mean(axis=-1)
        return scores

    def differing(self, permutation: Array, ambiguous: Array) -> dict[str, Array]:
        """Of each field, the talkers ``(talker,)`` whose value differs if ambiguous ones change places."""
        first, places = self.under(permutation), np.flatnonzero(ambiguous)
        differs = {field: np.zeros(len(permutation), dtype=bool) for field in first}
        for turn in range(1, len(places)):
            other = permutation.copy()
            other[places] = np.roll(permutation[places], turn)
            for field, values in self.under(other).items():
                differs[field] |= ~np.isclose(values, first[field], rtol=0.0, atol=1e-9, equal_nan=True)
        return differs

    def reasons(self, scores: dict[str, Any], otherwise: str) -> dict[str, str]:
        """Why wanted fields are null, or hold a null; `otherwise` where the estimates do not tell why."""
        faults = self.estimates.faults
        no_tracks = faults.get("track") if self.moving else STATIC_TALKERS
        absent = dict.fromkeys(TRACK_FIELDS, no_tracks) if no_tracks else {}
        if self.over_time.elevation_deg is None:
            absent["doa_great_circle_deg"] = faults.get("elevation_deg", "no elevation estimates in this scene")
        if self.estimates.confidence is None:
            absent["doa_confidence"] = faults.get("confidence", "no confidence in this scene")
        reasons = {f: absent.get(f, otherwise) for f in self.fields if scores[f] is None}
        for field in self.fields:
            if isinstance(scores[field], np.ndarray) and np.isnan(scores[field]).any():
                reasons[field] = "the track has no azimuth in the talker's frames"
        return reasons


def _over_time(estimates: DoaEstimates, time_s: Array) -> Track:
    """Estimates in the frames of the label."""
    if estimates.track is not None and time_s.size > 1:
        return estimates.track.at(time_s)
    frames, elevation = np.ones(time_s.size), estimates.elevation_deg
    return Track(
        time_s, np.outer(estimates.azimuth_deg, frames), None if elevation is None else np.outer(elevation, frames)
    )


def _leave_out(scores: dict[str, Any], undefined: dict[str, str], field: str, talkers: Array, why: str) -> None:
    """Make a field null for some talkers, and say why beside what is said already."""
    if talkers.any():
        scores[field] = np.where(talkers, np.nan, scores[field])
        undefined[field] = f"{undefined[field]}; {why}" if field in undefined else why
