"""Drawing scenes from a distribution: pure, seeded, microseconds each.

The defaults are the rules of SMS-WSJ (Drude et al., arXiv:1910.13934): a circular array of six
microphones, randomly rotated, near the middle of a room of about 8 x 6 x 3 m; talkers at 1 to 2 m, uniform
over the area, at the array's height; T60 of 0.2 to 0.5 s; sensor noise at 20 to 30 dB.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from msdet.conventions import (
    Array,
    angular_distance_deg,
    azimuth_elevation_deg,
    rotation_matrix,
    to_array_frame,
)
from msdet.corpora import Utterance
from msdet.errors import MsdetError
from msdet.simulation.acoustics import MAX_ABSORPTION, longest_t60_s, predicted_t60_s
from msdet.simulation.scene import Noise, Point, Scene, Source, Target, scene_seed

Interval = tuple[float, float]
"""Lower and upper end of a uniform distribution."""

WALL_MARGIN_M = 0.2
"""Talkers keep this distance to every wall."""

MAX_DRAWS = 10_000

DRAWS_BEFORE_RESTART = 50


@dataclass(frozen=True)
class SceneDistribution:
    """What scenes are drawn from; intervals are uniform.

    Attributes:
        sample_rate: of everything rendered, hertz.
        duration_s: length of a mixture.
        talkers: number of talkers.
        array: name of a shipped array, or path of a TOML file.
        room_x_m: length of the room.
        room_y_m: width of the room.
        room_z_m: height of the room.
        centre_offset_m: of the array's centre from the room's, on each axis.
        t60_s: reverberation time asked for; 0 is anechoic.
        distance_m: talker to array centre, uniform over the area.
        minimum_gap_deg: smallest azimuth difference between two talkers.
        level_db: level of each talker.
        snr_db: all talkers' images against sensor noise.
        target: what a reference holds.
    """

    sample_rate: int = 8000
    duration_s: float = 4.0
    talkers: int = 2
    array: str = "circular6_10cm"
    room_x_m: Interval = (7.8, 8.2)
    room_y_m: Interval = (5.8, 6.2)
    room_z_m: Interval = (2.8, 3.2)
    centre_offset_m: Interval = (-0.2, 0.2)
    t60_s: Interval = (0.2, 0.5)
    distance_m: Interval = (1.0, 2.0)
    minimum_gap_deg: float = 0.0
    level_db: Interval = (-2.5, 2.5)
    snr_db: Interval = (20.0, 30.0)
    target: Target = "direct"

    def check(self) -> None:
        """Refuse a distribution from which scenes cannot be drawn.

        Raises:
            MsdetError: names the field, what it holds and what is possible.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            numbers = value if isinstance(value, tuple) else (value,)
            if any(isinstance(n, float) and not math.isfinite(n) for n in numbers):
                raise MsdetError(f"{field.name} is {value}, expected finite numbers")
            if isinstance(value, tuple) and not value[0] <= value[1]:
                raise MsdetError(f"{field.name} is {list(value)}, expected [low, high] with low <= high")
        for name in ("sample_rate", "duration_s", "talkers"):
            if getattr(self, name) <= 0:
                raise MsdetError(f"{name} is {getattr(self, name)}, expected more than 0")
        for name in ("room_x_m", "room_y_m", "room_z_m", "distance_m"):
            if getattr(self, name)[0] <= 0:
                raise MsdetError(f"{name} is {list(getattr(self, name))}, expected more than 0")
        if self.minimum_gap_deg * self.talkers > 360.0:
            raise MsdetError(f"minimum_gap_deg is {self.minimum_gap_deg}: {self.talkers} talkers do not fit")
        smallest = (self.room_x_m[0], self.room_y_m[0], self.room_z_m[0])
        if self.t60_s[1] > (latest := longest_t60_s(smallest)):
            raise MsdetError(
                f"t60_s is {list(self.t60_s)}: in a room of {smallest} m up to {latest:.2f} s can be "
                "rendered with image sources"
            )
        if self.sample_rate < 4000:
            raise MsdetError(f"sample_rate is {self.sample_rate}, expected at least 4000 Hz")
        largest = (self.room_x_m[1], self.room_y_m[1], self.room_z_m[1])
        low, high = self.t60_s
        shortest = predicted_t60_s(largest, MAX_ABSORPTION)
        if low < 0 or 0 < low < shortest or (low == 0 < high):
            raise MsdetError(
                f"t60_s is {list(self.t60_s)}: in a room of {largest} m it is at least "
                f"{math.ceil(shortest * 1000) / 1000:.3f} s, or [0, 0] for anechoic"
            )


@dataclass(frozen=True)
class RoomGeometry:
    """A room, an array in it, and talker positions around the array."""

    room_m: Point
    t60_s: float
    centre_m: Point
    rotation_deg: float
    positions_m: tuple[Point, ...]

    @property
    def azimuths_deg(self) -> Array:
        """Azimuth ``(position,)`` of each position in the array's frame."""
        return azimuth_elevation_deg(self._in_array_frame())[0]

    @property
    def elevations_deg(self) -> Array:
        """Elevation ``(position,)`` of each position in the array's frame."""
        return azimuth_elevation_deg(self._in_array_frame())[1]

    @property
    def distances_m(self) -> Array:
        """Distance ``(position,)`` of each position to the array's centre."""
        distances: Array = np.linalg.norm(self._in_array_frame(), axis=-1)
        return distances

    def microphones_m(self, positions: Array) -> Array:
        """Room coordinates ``(mic, 3)`` of microphones given in the array's frame."""
        placed: Array = positions @ rotation_matrix(self.rotation_deg).T + np.asarray(self.centre_m)
        return placed

    def _in_array_frame(self) -> Array:
        return to_array_frame(np.array(self.positions_m), self.centre_m, self.rotation_deg)


def sample_geometry(
    distribution: SceneDistribution, positions: int, rng: np.random.Generator
) -> RoomGeometry:
    """Draw a room, the array in it and `positions` talker positions, each within the room.

    Raises:
        MsdetError: no such positions found in many draws.
    """
    d = distribution
    x, y, z = (float(rng.uniform(*i)) for i in (d.room_x_m, d.room_y_m, d.room_z_m))
    room = (x, y, z)
    centre = np.array(room) / 2 + rng.uniform(*d.centre_offset_m, size=3)
    t60_s = float(rng.uniform(*d.t60_s))
    rotation_deg = float(rng.uniform(0.0, 360.0))
    points: list[Point] = []
    azimuths: list[float] = []
    refused = 0
    for _ in range(MAX_DRAWS):
        if len(points) == positions:
            break
        if refused == DRAWS_BEFORE_RESTART:  # those taken may leave no gap wide enough for the next
            points, azimuths, refused = [], [], 0
        angle_rad = rng.uniform(0.0, 2 * np.pi)
        distance = np.sqrt(rng.uniform(d.distance_m[0] ** 2, d.distance_m[1] ** 2))
        point = centre + distance * np.array([np.cos(angle_rad), np.sin(angle_rad), 0.0])
        inside = ((point > WALL_MARGIN_M) & (point < np.array(room) - WALL_MARGIN_M)).all()
        azimuth = np.rad2deg(angle_rad)
        if inside and (angular_distance_deg(azimuth, azimuths) >= d.minimum_gap_deg).all():
            points.append(_as_point(point))
            azimuths.append(azimuth)
            refused = 0
        else:
            refused += 1
    if len(points) < positions:
        raise MsdetError(
            f"no room for {positions} talkers at distance_m {list(d.distance_m)} with minimum_gap_deg "
            f"{d.minimum_gap_deg} in a room of {x:.1f} x {y:.1f} x {z:.1f} m"
        )
    return RoomGeometry(room, t60_s, _as_point(centre), rotation_deg, tuple(points))


def sample_talkers(
    speech: dict[str, list[Utterance]], talkers: int, duration_s: float, rng: np.random.Generator
) -> list[tuple[Utterance, float, float]]:
    """Draw `talkers` different speakers, one utterance each, with its offset and onset in seconds.

    An utterance at least as long as the scene is preferred and cut at a random offset; a shorter one starts
    at a random onset.

    Raises:
        MsdetError: fewer speakers than talkers.
    """
    names = sorted(speech)
    if len(names) < talkers:
        raise MsdetError(f"corpus split has {len(names)} speakers, expected at least {talkers}")
    drawn = []
    for index in rng.choice(len(names), size=talkers, replace=False):
        utterances = speech[names[index]]
        long_enough = [u for u in utterances if u.seconds >= duration_s]
        utterance = _choose(long_enough or utterances, rng)
        offset_s = rng.uniform(0.0, max(utterance.seconds - duration_s, 0.0))
        onset_s = rng.uniform(0.0, max(duration_s - utterance.seconds, 0.0))
        drawn.append((utterance, float(offset_s), float(onset_s)))
    return drawn


def sample_scene(
    scene_id: str, distribution: SceneDistribution, speech: dict[str, list[Utterance]], set_seed: int
) -> Scene:
    """Draw one scene; the same arguments give the same scene on any machine and in any order.

    Args:
        scene_id: decides, with `set_seed`, everything random about the scene.
        distribution: what to draw from.
        speech: utterances of each speaker of a split.
        set_seed: seed of the set.
    """
    seed = scene_seed(set_seed, scene_id)
    rng = np.random.default_rng(seed)
    d = distribution
    geometry = sample_geometry(d, d.talkers, rng)
    azimuths, elevations = geometry.azimuths_deg, geometry.elevations_deg
    distances = geometry.distances_m
    sources = tuple(
        Source(
            speaker=utterance.speaker,
            path=utterance.path,
            offset_s=offset_s,
            onset_s=onset_s,
            level_db=float(rng.uniform(*d.level_db)),
            position_m=geometry.positions_m[k],
            azimuth_deg=float(azimuths[k]),
            elevation_deg=float(elevations[k]),
            distance_m=float(distances[k]),
        )
        for k, (utterance, offset_s, onset_s) in enumerate(
            sample_talkers(speech, d.talkers, d.duration_s, rng)
        )
    )
    return Scene(
        id=scene_id,
        seed=seed,
        sample_rate=d.sample_rate,
        duration_s=d.duration_s,
        room_m=geometry.room_m,
        t60_asked_s=geometry.t60_s,
        array=d.array,
        array_centre_m=geometry.centre_m,
        array_rotation_deg=geometry.rotation_deg,
        sources=sources,
        noise=Noise("sensor", float(rng.uniform(*d.snr_db))),
        target=d.target,
    )


def _choose(utterances: Sequence[Utterance], rng: np.random.Generator) -> Utterance:
    return utterances[int(rng.integers(len(utterances)))]


def _as_point(vector: Array) -> Point:
    x, y, z = (float(v) for v in vector)
    return (x, y, z)
