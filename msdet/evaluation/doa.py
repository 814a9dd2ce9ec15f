"""Direction-of-arrival metrics: errors are distances around the circle, in degrees."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from msdet.conventions import Array, angular_distance_deg
from msdet.errors import MsdetError
from msdet.evaluation.separation import UndefinedMetricError, best_permutation


def azimuth_errors_deg(reference_deg: npt.ArrayLike, estimate_deg: npt.ArrayLike) -> Array:
    """Circular error of each talker, in [0, 180] degrees.

    Args:
        reference_deg: ``(talker,)`` true azimuths.
        estimate_deg: ``(talker,)`` estimates in the same order; any turn of the circle.

    Raises:
        UndefinedMetricError: a NaN or infinite azimuth.
        MsdetError: the shapes differ.

    >>> azimuth_errors_deg([359.0, 90.0], [1.0, -90.0]).tolist()
    [2.0, 180.0]
    """
    reference, estimate = _azimuths(reference_deg), _azimuths(estimate_deg)
    if reference.shape != estimate.shape:
        raise MsdetError(f"{estimate.size} azimuths estimated, expected {reference.size}")
    return angular_distance_deg(reference, estimate)


def best_azimuth_assignment(reference_deg: npt.ArrayLike, estimate_deg: npt.ArrayLike) -> Array:
    """The assignment of estimated azimuths to talkers with the smallest total circular error.

    Args:
        reference_deg: ``(N,)`` true azimuths.
        estimate_deg: ``(M,)`` estimates, ``M >= N``.

    Returns:
        ``(N,)`` integers: estimate ``assignment[n]`` belongs to talker ``n``.

    Raises:
        UndefinedMetricError: a NaN or infinite azimuth.
        MsdetError: fewer estimates than talkers.
    """
    reference, estimate = _azimuths(reference_deg), _azimuths(estimate_deg)
    return best_permutation(-angular_distance_deg(reference[:, None], estimate[None]))


def _azimuths(value: npt.ArrayLike) -> Array:
    azimuths = np.asarray(value, dtype=np.float64)
    if azimuths.ndim != 1:
        raise MsdetError(f"azimuths have shape {azimuths.shape}, expected one per talker")
    if not np.isfinite(azimuths).all():
        raise UndefinedMetricError("an azimuth is NaN or infinite")
    return azimuths
