"""Drawing rooms, the array in them, positions of talkers and noises, and paths of moving talkers."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import numpy as np

from msdet.conventions import Array, angular_distance_deg, seen_from_array, to_room_frame
from msdet.errors import MsdetError
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.rir.reverberation import longest_t60_s, shortest_t60_s
from msdet.scenes.scene import Direction, Point, Rotation, Waypoint, as_point, size_text

WALL_MARGIN_M = 0.2  # talkers keep this distance to every wall
NOISE_DISTANCE_M = 0.5  # noise sources keep this distance to the array's center
TRACK_STEP_S = 0.1  # time between the labels of a moving talker
ARRAY_MARGIN_M = 0.05  # the array's center keeps this distance to every wall, floor and ceiling
MAX_DRAWS, MAX_ROOMS, DRAWS_A_ROOM, DRAWS_BEFORE_RESTART = 10_000, 100, 1000, 50

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RoomGeometry:
    """A room, an array in it, and positions of sound sources: talkers first, then noises."""

    room_m: Point
    t60_s: float
    center_m: Point
    rotation_deg: Rotation
    positions_m: tuple[Point, ...]

    def from_array(self) -> tuple[Array, Array, Array]:
        """Azimuth, elevation and distance ``(position,)`` of each position, in the array's frame."""
        return seen_from_array(self.positions_m, self.center_m, self.rotation_deg)

    def microphones_m(self, positions: Array) -> Array:
        """Room coordinates ``(mic, 3)`` of microphones given in the array's frame."""
        return to_room_frame(positions, self.center_m, self.rotation_deg)


def sample_geometry(
    distribution: SceneDistribution, talkers: int, rng: np.random.Generator, name: str = "room"
) -> RoomGeometry:
    """Draw a room, the array in it, and positions of so many talkers and of the distribution's point noises.

    The log has `name` and why where a room is drawn again that cannot have its T60. An `MsdetError` says that no such
    room or positions were found in many draws.
    """
    d = distribution
    for _ in range(MAX_ROOMS):
        room, t60_s = _draw_room(d, rng, name)
        center = np.array(room) / 2 + rng.uniform(*d.center_offset_m, size=3)
        if d.array_height_m is not None:
            center[2] = rng.uniform(*d.array_height_m)
        yaw, pitch, roll = (float(rng.uniform(*interval)) for interval in (d.rotation_deg, d.tilt_deg, d.tilt_deg))
        points = _draw_talkers(d, talkers, room, center, (yaw, pitch, roll), rng)
        if points is not None:
            points += [_draw_noise_position(room, center, rng) for _ in range(d.point_noises)]
            return RoomGeometry(room, t60_s, as_point(center), (yaw, pitch, roll), tuple(points))
    raise MsdetError(
        f"no room for {talkers} talkers at distance_m {list(d.distance_m)} with minimum_gap_deg "
        f"{d.minimum_gap_deg} in {MAX_ROOMS} rooms, the last one of {size_text(room)}"
    )


def sample_path(
    distribution: SceneDistribution, start: Point, geometry: RoomGeometry, rng: np.random.Generator
) -> tuple[Waypoint, ...]:
    """Draw a path from `start` at an even speed: straight lines to places that a talker may stand at.

    No line comes nearer to the array than half the smallest distance; an `MsdetError` if many draws find none.
    """
    d = distribution
    center = np.array(geometry.center_m)
    speed = rng.uniform(*d.speed_m_s)
    time, here = 0.0, np.array(start)
    path = [Waypoint(0.0, start)]
    for _ in range(MAX_DRAWS):
        there = _draw_position(d, center, (0.0, 2 * np.pi), rng)
        there[2] = start[2]
        seconds = float(np.linalg.norm(there - here) / speed)
        nearest = np.linalg.norm(here + np.linspace(0, 1, 50)[:, None] * (there - here) - center, axis=-1).min()
        if not _inside(there, geometry.room_m) or seconds < TRACK_STEP_S or nearest < d.distance_m[0] / 2:
            continue
        share = min(1.0, (d.duration_s - time) / seconds)
        here = here + share * (there - here)
        time = d.duration_s if share < 1.0 else time + seconds
        path.append(Waypoint(time, as_point(here)))
        if time >= d.duration_s:
            return tuple(path)
    raise MsdetError(f"no path at distance_m {list(d.distance_m)} found in a room of {size_text(geometry.room_m)}")


def positions_along(waypoints: tuple[Waypoint, ...], times_s: Array) -> Array:
    """Position ``(time, 3)`` on a path of straight lines at each time."""
    corners = [w.time_s for w in waypoints]
    axes = np.array([w.position_m for w in waypoints]).T
    return np.stack([np.interp(times_s, corners, axis) for axis in axes], axis=-1)


def track_along(
    waypoints: tuple[Waypoint, ...], duration_s: float, center_m: Point, rotation_deg: Rotation
) -> tuple[Direction, ...]:
    """Labels of a path, one every `TRACK_STEP_S` from time 0 on."""
    times_s = np.arange(int(duration_s / TRACK_STEP_S + 1e-9) + 1) * TRACK_STEP_S
    columns = (times_s.round(6), *seen_from_array(positions_along(waypoints, times_s), center_m, rotation_deg))
    return tuple(Direction(*map(float, row)) for row in zip(*columns, strict=True))


def _draw_room(d: SceneDistribution, rng: np.random.Generator, name: str) -> tuple[Point, float]:
    largest = (d.room_x_m[1], d.room_y_m[1], d.room_z_m[1])
    for _ in range(MAX_DRAWS):
        x, y, z = (float(rng.uniform(*i)) for i in (d.room_x_m, d.room_y_m, d.room_z_m))
        t60_s = float(rng.uniform(*d.t60_s))
        room = (x, y, z)
        # smaller rooms can be drier: most draws need no look at the very room
        if t60_s == 0 or t60_s >= shortest_t60_s(largest) or t60_s >= (shortest := shortest_t60_s(room)):
            if d.image_order is not None or t60_s <= (longest := longest_t60_s(room)):
                return room, t60_s
            reason = f"more than {longest:.3f} s, all that image sources can render there"
        else:
            reason = f"less than the {shortest:.3f} s of its driest walls"
        log.warning("%s: drawn again: T60 %.3f s in a room of %s is %s", name, t60_s, size_text(room), reason)
    raise MsdetError(f"no room with t60_s {list(d.t60_s)} found in {MAX_DRAWS} draws")


def _draw_talkers(
    d: SceneDistribution, talkers: int, room: Point, center: Array, rotation: Rotation, rng: np.random.Generator
) -> list[Point] | None:
    """Positions that keep margins, gap and sector; None if this room has none to be found."""
    points: list[Point] = []
    azimuths: list[float] = []
    rejected = 0
    if not ((center > ARRAY_MARGIN_M) & (center < np.array(room) - ARRAY_MARGIN_M)).all():
        return None
    sector_rad = _draw_sector(d, rng)
    for _ in range(DRAWS_A_ROOM):
        if len(points) == talkers:
            return points
        if rejected == DRAWS_BEFORE_RESTART:  # those taken may leave no gap wide enough for the next
            points, azimuths, rejected, sector_rad = [], [], 0, _draw_sector(d, rng)
        point = _draw_position(d, center, sector_rad, rng)
        azimuth = float(seen_from_array(point, center, rotation)[0])
        if _inside(point, room) and (angular_distance_deg(azimuth, azimuths) >= d.minimum_gap_deg).all():
            points.append(as_point(point))
            azimuths.append(azimuth)
            rejected = 0
        else:
            rejected += 1
    return points if len(points) == talkers else None


def _draw_sector(d: SceneDistribution, rng: np.random.Generator) -> tuple[float, float]:
    first_rad = rng.uniform(0.0, 2 * np.pi)
    return first_rad, first_rad + math.radians(d.sector_deg)


def _draw_position(
    d: SceneDistribution, center: Array, sector_rad: tuple[float, float], rng: np.random.Generator
) -> Array:
    """A point at one of the distances over the floor plan and one of the heights; perhaps outside."""
    angle_rad = rng.uniform(*sector_rad)
    distance = np.sqrt(rng.uniform(d.distance_m[0] ** 2, d.distance_m[1] ** 2))
    point: Array = center + distance * np.array([np.cos(angle_rad), np.sin(angle_rad), 0.0])
    if d.talker_height_m is not None:
        point[2] = rng.uniform(*d.talker_height_m)
    elif d.elevation_deg is not None:
        point[2] += distance * np.tan(np.deg2rad(rng.uniform(*d.elevation_deg)))
    return point


def _draw_noise_position(room: Point, center: Array, rng: np.random.Generator) -> Point:
    while True:
        point = rng.uniform(WALL_MARGIN_M, np.array(room) - WALL_MARGIN_M)
        if np.linalg.norm(point - center) >= NOISE_DISTANCE_M:
            return as_point(point)


def _inside(point: Array, room: Point) -> bool:
    return bool(((point > WALL_MARGIN_M) & (point < np.array(room) - WALL_MARGIN_M)).all())
