"""Where an array is in a room and how it is turned, from the positions of its microphones there."""

from __future__ import annotations

import warnings

import numpy as np

from msdet.arrays import MicrophoneArray, array_names, load_array
from msdet.conventions import Array
from msdet.errors import MsdetError
from msdet.scenes.scene import Point, Rotation, as_point

Pose = tuple[Point, Rotation]
"""Center of an array in a room, and its yaw, pitch and roll."""

MAX_RESIDUAL_M = 0.005  # a microphone further from where the array has it is another array's, or another channel


def fit_pose(array: MicrophoneArray, microphones_m: Array, place: str) -> Pose:
    """Where an array is and how it is turned, from room coordinates ``(mic, 3)`` of its microphones.

    The rigid fit with the least squared residual (Kabsch, Acta Cryst. A32, 1976). Of the two fits of a planar array,
    which are each other's mirror image, it is the one that does not mirror. Errors begin with `place`.
    """
    if len(microphones_m) != array.microphones:
        differ = f"has {len(microphones_m)} microphones, array '{array.name}' has {array.microphones}"
        raise MsdetError(f"{place}: {differ}{_other_array(array, microphones_m)}")
    if array.is_linear:
        unknown = "so its microphones do not tell how it is turned about its line"
        raise MsdetError(f"{place}: array '{array.name}' is linear, {unknown}")
    center, rotation_deg, residuals_m = _fit(array, microphones_m)
    worst = int(np.argmax(residuals_m))
    if residuals_m[worst] > MAX_RESIDUAL_M:
        raise MsdetError(
            f"{place}: channel {worst} is {1000 * residuals_m[worst]:.1f} mm from where array '{array.name}' "
            f"has it, expected at most {1000 * MAX_RESIDUAL_M:.0f} mm{_other_array(array, microphones_m)}"
        )
    return center, rotation_deg


def _fit(array: MicrophoneArray, microphones_m: Array) -> tuple[Point, Rotation, Array]:
    """Center, yaw, pitch and roll, and the residual ``(mic,)`` in meters."""
    from scipy.spatial.transform import Rotation as Rotations

    nominal = array.positions - array.centroid_m
    centroid = microphones_m.mean(axis=0)
    with warnings.catch_warnings():
        # of microphones on a line, which the residuals tell; of an array on edge, whose yaw and roll are one
        warnings.simplefilter("ignore", UserWarning)
        rotation, _ = Rotations.align_vectors(microphones_m - centroid, nominal)
        yaw, pitch, roll = (float(angle) for angle in rotation.as_euler("ZYX", degrees=True))
    turned = rotation.apply(nominal) + centroid
    center = as_point(centroid - rotation.apply(array.centroid_m))
    return center, (yaw, pitch, roll), np.linalg.norm(turned - microphones_m, axis=-1)


def _other_array(array: MicrophoneArray, microphones_m: Array) -> str:
    """What the microphones might be instead, as the end of a sentence."""
    for name in array_names():
        other = load_array(name)
        if other.microphones == len(microphones_m) and not other.is_linear:
            residuals_m = _fit(other, microphones_m)[2]
            if residuals_m.max() <= MAX_RESIDUAL_M:
                return f"; they fit --array {name}"
    if len(microphones_m) == array.microphones:
        found, nominal = _spacings(microphones_m), _spacings(array.positions)
        if np.abs(found - nominal).max() <= 2 * MAX_RESIDUAL_M:
            return "; they are the array's, but in another order of channels, or mirrored"
    return "; give the array that was used by --array"


def _spacings(microphones_m: Array) -> Array:
    """Distances between all pairs of microphones, in rising order."""
    distances = np.linalg.norm(microphones_m[:, None] - microphones_m[None], axis=-1)
    return np.sort(distances[np.triu_indices(len(microphones_m), 1)])
