"""Direction-of-arrival metrics, in degrees, over what an array can tell apart.

Errors are distances around the circle. A linear array, or a flat one that stands upright, cannot tell a
direction from its mirror image: there an error is the distance to the nearer of the two.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array, angular_distance_deg, direction_vector
from msdet.errors import UndefinedMetricError
from msdet.scoring.permutations import ambiguous_references, best_permutation, tied_permutations

MATCH_DEG = 20.0  # largest error of an estimate that detects a talker
_LESS_SQUARED = 1e-9  # weight of squared errors in an assignment: they decide between equal sums alone


class DoaAssignment(NamedTuple):
    """The optimal assignment by errors alone: estimate ``estimates[n]`` belongs to talker ``n``.

    Where `tied` ``(N,)``, another estimate would be as good: the order of the list decided.
    """

    estimates: Array
    tied: Array


class Matches(NamedTuple):
    """Counts of detected talkers, missed talkers, and estimates that match no talker."""

    matched: int
    missed: int
    false: int


def azimuth_errors_deg(
    reference_deg: npt.ArrayLike, estimate_deg: npt.ArrayLike, array: MicrophoneArray | None = None
) -> Array:
    """Distance around the circle, or to the mirror image if that is nearer, in [0, 180] degrees; broadcasts.

    Mirror images are those that the array cannot tell apart; without one there are none. Undefined for an array that
    tells no azimuths apart.

    >>> azimuth_errors_deg([359.0, 90.0], [1.0, -90.0]).tolist()
    [2.0, 180.0]
    """
    reference, estimate = np.asarray(reference_deg), np.asarray(estimate_deg)
    distance = angular_distance_deg(reference, estimate)
    if array is None or (domain := array.resolvable_domain).azimuth_span_deg == 360 or domain.axis is None:
        return distance
    if domain.azimuth_span_deg == 0:
        raise UndefinedMetricError(f"the array '{array.name}' tells no azimuths apart")
    mirror_deg = array.mirror_axis_deg or 0.0
    return np.minimum(distance, angular_distance_deg(reference, 2 * mirror_deg - estimate))


def great_circle_errors_deg(
    reference_deg: tuple[npt.ArrayLike, npt.ArrayLike],
    estimate_deg: tuple[npt.ArrayLike, npt.ArrayLike],
    array: MicrophoneArray | None = None,
) -> Array:
    """Angle between directions, azimuths and elevations, on the sphere, in [0, 180] degrees; broadcasts.

    Of a linear array, only the angles to its line are compared; of a planar one, the nearer of an estimate and
    its mirror image counts.

    >>> round(float(great_circle_errors_deg((0.0, 80.0), (180.0, 80.0))), 6)
    20.0
    """
    u, v = direction_vector(*reference_deg), direction_vector(*estimate_deg)
    if array is None or (axis := array.resolvable_domain.axis) is None:
        return _angle_deg(u, v)
    line = np.array(axis)
    if array.is_linear:
        return np.asarray(np.abs(_angle_deg(u, line) - _angle_deg(v, line)))
    mirrored = v - 2 * (v @ line)[..., None] * line
    return np.asarray(np.minimum(_angle_deg(u, v), _angle_deg(u, mirrored)))


def pairwise_azimuth_errors_deg(
    reference_deg: npt.ArrayLike, estimate_deg: npt.ArrayLike, array: MicrophoneArray | None = None
) -> Array:
    """Error ``(N, M)`` in degrees of every estimate for every talker; see `azimuth_errors_deg`.

    Of moving ones, azimuths ``(N, frame)`` and ``(M, frame)``, the mean over the frames in which the estimate is
    not NaN; NaN without any.
    """
    reference, estimate = (np.asarray(x, dtype=np.float64) for x in (reference_deg, estimate_deg))
    reference, estimate = (x if x.ndim == 2 else x[:, None] for x in (reference, estimate))
    return frame_mean(azimuth_errors_deg(reference[:, None], estimate[None], array))


def frame_mean(values: Array) -> Array:
    """Mean over the last axis of what is not NaN; NaN where everything is."""
    known = ~np.isnan(values)
    total, count = np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1)
    return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))


def assignment(errors_deg: Array) -> DoaAssignment:
    """The assignment of M estimates to N talkers with the smallest total of errors ``(N, M)``; NaN is the worst.

    Of equal totals, which are common (two estimates beyond both talkers on the same side), the one whose
    squares have the smaller sum: neither the order of talkers nor rounding decides. What still is equal is
    tied: talkers at one azimuth, estimates at one azimuth, or mirror images that the array takes for one.

    >>> assignment(np.array([[20.0, 30.0], [10.0, 20.0]]))  # talkers at 0 and 10, estimates at 20 and 30
    DoaAssignment(estimates=array([0, 1]), tied=array([False, False]))
    """
    scores = -errors_deg - _LESS_SQUARED * errors_deg**2
    best = best_permutation(scores)
    return DoaAssignment(best, ambiguous_references(best, tied_permutations(scores, best)))


def match(errors_deg: Array, limit_deg: float = MATCH_DEG) -> Matches:
    """Match N talkers to M estimates by errors ``(N, M)``, one to one: as many as possible within a limit."""
    from scipy.optimize import linear_sum_assignment

    talkers, estimates = errors_deg.shape
    if not talkers or not estimates:
        return Matches(0, talkers, estimates)
    beyond = (limit_deg + 1.0) * min(errors_deg.shape)  # one more match outweighs all errors within
    cost = np.where(errors_deg <= limit_deg, errors_deg, beyond)
    matched = int((cost[linear_sum_assignment(cost)] < beyond).sum())
    return Matches(matched, talkers - matched, estimates - matched)


def _angle_deg(u: Array, v: Array) -> Array:
    """Angle between unit vectors ``(..., 3)``; exact for small angles too, where the arc cosine is not."""
    angle_rad = 2 * np.arctan2(np.linalg.norm(u - v, axis=-1), np.linalg.norm(u + v, axis=-1))
    return np.asarray(np.rad2deg(angle_rad))
