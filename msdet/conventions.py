"""The conventions of msdet, fixed here and nowhere else.

Azimuth is in degrees in [0, 360), 0° on the array's own +x axis, counter-clockwise seen from above;
elevation is in degrees from the array's xy-plane, positive towards +z. Both are relative to the
array's frame. Lengths are meters, times seconds, frequencies hertz, levels decibels.

Axis order: waveform ``(batch, mic, time)``, reference ``(batch, talker, time)``, spectrum
``(batch, channel, freq, frame)``, feature ``(batch, freq, frame, feature)``, DoA logits
``(batch, talker, class)``. DoA class ``k`` of ``K`` is centered on ``360 k / K`` degrees.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
"""A NumPy array of any element type; the docstrings state shape and unit."""

Angles = TypeVar("Angles", bound=Any)

MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = SAMPLE_RATES = (1000, 1_000_000)
"""Of recordings and scenes, hertz."""

SPEED_OF_SOUND = 343.0
"""Meters per second, unless a scene says otherwise."""

DOA_CLASSES = 72
"""Number of azimuth classes: 5 degrees each."""


def wrap_deg(angle_deg: npt.ArrayLike) -> Array:
    """Angles wrapped to [0, 360) degrees.

    >>> wrap_deg([-90.0, 360.0, -1e-20]).tolist()
    [270.0, 0.0, 0.0]
    """
    wrapped = np.mod(np.asarray(angle_deg, dtype=np.float64), 360.0)
    return np.where(wrapped >= 360.0, 0.0, wrapped)  # mod rounds tiny negatives up to 360


def wrap_signed_deg(angle_deg: Angles) -> Angles:
    """Angles or differences of angles, an array or a tensor, wrapped to [-180, 180) degrees.

    >>> wrap_signed_deg(np.array([350.0, -190.0, 20.0])).tolist()
    [-10.0, 170.0, 20.0]
    """
    wrapped: Angles = (angle_deg + 180.0) % 360.0 - 180.0
    return wrapped


def angular_distance_deg(a_deg: npt.ArrayLike, b_deg: npt.ArrayLike) -> Array:
    """Distance around the circle, in [0, 180] degrees; broadcasts.

    >>> float(angular_distance_deg(359.0, 2.0))
    3.0
    """
    difference = wrap_deg(np.asarray(a_deg, dtype=np.float64) - np.asarray(b_deg, dtype=np.float64))
    return np.minimum(difference, 360.0 - difference)


def direction_vector(azimuth_deg: npt.ArrayLike, elevation_deg: npt.ArrayLike = 0.0) -> Array:
    """Unit vectors ``(..., 3)`` pointing from the array towards a direction.

    >>> direction_vector(90.0).round(12).tolist()
    [0.0, 1.0, 0.0]
    """
    azimuth_rad = np.deg2rad(np.asarray(azimuth_deg, dtype=np.float64))
    elevation_rad = np.deg2rad(np.asarray(elevation_deg, dtype=np.float64))
    azimuth_rad, elevation_rad = np.broadcast_arrays(azimuth_rad, elevation_rad)
    horizontal = np.cos(elevation_rad)
    return np.stack(
        [horizontal * np.cos(azimuth_rad), horizontal * np.sin(azimuth_rad), np.sin(elevation_rad)], axis=-1
    )


def azimuth_elevation_deg(vector: npt.ArrayLike) -> tuple[Array, Array]:
    """Azimuth and elevation in degrees of vectors ``(..., 3)`` in the array's frame.

    >>> azimuth, elevation = azimuth_elevation_deg([0.0, -1.0, 1.0])
    >>> float(azimuth), float(elevation)
    (270.0, 45.0)
    """
    v = np.asarray(vector, dtype=np.float64)
    azimuth = wrap_deg(np.rad2deg(np.arctan2(v[..., 1], v[..., 0])))
    elevation = np.rad2deg(np.arctan2(v[..., 2], np.hypot(v[..., 0], v[..., 1])))
    return azimuth, elevation


def class_azimuths_deg(classes: int = DOA_CLASSES) -> Array:
    """Centers ``(classes,)`` of the DoA classes in degrees."""
    return np.arange(classes) * (360.0 / classes)


def azimuth_to_class(azimuth_deg: npt.ArrayLike, classes: int = DOA_CLASSES) -> Array:
    """The class whose center is nearest on the circle.

    >>> azimuth_to_class([0.0, 2.4, 2.6, 358.0]).tolist()
    [0, 0, 1, 0]
    """
    return np.round(wrap_deg(azimuth_deg) * (classes / 360.0)).astype(np.int64) % classes


def rotation_matrix(yaw_deg: float, pitch_deg: float = 0.0, roll_deg: float = 0.0) -> Array:
    """Rotation ``(3, 3)`` that takes the array's frame to the room's: about x (roll), then y (pitch), then z.

    >>> (rotation_matrix(90.0) @ [1.0, 0.0, 0.0]).round(12).tolist()
    [0.0, 1.0, 0.0]
    """
    (cz, sz), (cy, sy), (cx, sx) = (
        (np.cos(a_rad), np.sin(a_rad)) for a_rad in np.deg2rad([yaw_deg, pitch_deg, roll_deg])
    )
    about_z = np.array([[cz, -sz, 0.0], [sz, cz, 0.0], [0.0, 0.0, 1.0]])
    about_y = np.array([[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]])
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, cx, -sx], [0.0, sx, cx]])
    return np.asarray(about_z @ about_y @ about_x)


def to_array_frame(points: npt.ArrayLike, center: npt.ArrayLike, rotation_deg: tuple[float, float, float]) -> Array:
    """Room coordinates ``(..., 3)``, seen from an array at `center` turned by yaw, pitch and roll."""
    offset = np.asarray(points, dtype=np.float64) - np.asarray(center, dtype=np.float64)
    return np.asarray(offset @ rotation_matrix(*rotation_deg))


def to_room_frame(points: npt.ArrayLike, center: npt.ArrayLike, rotation_deg: tuple[float, float, float]) -> Array:
    """The way back from `to_array_frame`."""
    return np.asarray(np.asarray(points) @ rotation_matrix(*rotation_deg).T + np.asarray(center))


def seen_from_array(
    points: npt.ArrayLike, center: npt.ArrayLike, rotation_deg: tuple[float, float, float]
) -> tuple[Array, Array, Array]:
    """Azimuth and elevation in degrees, and distance, of room coordinates ``(..., 3)`` as of `to_array_frame`."""
    seen = to_array_frame(points, center, rotation_deg)
    return *azimuth_elevation_deg(seen), np.linalg.norm(seen, axis=-1)
