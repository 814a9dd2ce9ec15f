"""Records of a simulated scene, written as one JSON line each."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from msdet.conventions import SAMPLE_RATES, SPEED_OF_SOUND, Array, angular_distance_deg, seen_from_array, to_room_frame
from msdet.errors import MsdetError
from msdet.io.files import plain_name, relative_path
from msdet.io.records import read_record
from msdet.scenes.mismatch import Mismatch
from msdet.scenes.noise import NoiseExcerpt

SCHEMA_VERSION = 2  # version of the layout of a rendered set

Target = Literal["direct", "early", "image"]
"""What a reference holds: the direct path, the first 50 ms as well, or the full reverberant image."""

T60Rule = Literal["measured", "sabine"]
"""What a target T60 means: what is measured on the responses, or what Sabine's formula says of the walls."""

T60_RULES: dict[T60Rule, str] = {
    "measured": "T60 asked for is what is measured",
    "sabine": "T60 asked for is by Sabine's formula, as in SMS-WSJ; of long ones a fifth more is measured",
}
"""The rules as people read them."""

NoiseKind = Literal["sensor", "spherical", "cylindrical", "point"]
"""Independent at each microphone; diffuse, from all directions or all horizontal ones; or from one place."""

Point = tuple[float, float, float]
"""``x, y, z`` in meters."""

Rotation = tuple[float, float, float]
"""Yaw, pitch and roll of an array in the room, in degrees (`msdet.conventions.rotation_matrix`)."""

NOWHERE: Point = (math.nan, math.nan, math.nan)  # position of a talker of whom it is not known


def as_point(vector: Array) -> Point:
    """A vector of three as plain numbers."""
    x, y, z = (float(v) for v in vector)
    return (x, y, z)


def size_text(room_m: Sequence[float]) -> str:
    """The size of a room: ``8.00 x 6.00 x 3.00 m``."""
    return " x ".join(f"{length:.2f}" for length in room_m) + " m"


def places_from_array(positions_m: Array, center_m: Point, rotation_deg: Rotation) -> list[dict[str, Any]]:
    """Where positions ``(position, 3)`` in the room are, and where an array there sees them: fields of a `Source`."""
    columns = seen_from_array(positions_m, center_m, rotation_deg)
    names = ("azimuth_deg", "elevation_deg", "distance_m")
    return [
        {"position_m": as_point(position_m), **dict(zip(names, map(float, seen), strict=True))}
        for position_m, *seen in zip(positions_m, *columns, strict=True)
    ]


@dataclass(frozen=True)
class Waypoint:
    """Where a moving talker is at a time; between two waypoints it moves on a straight line, evenly."""

    time_s: float
    position_m: Point


@dataclass(frozen=True)
class Direction:
    """Where a moving talker is seen from the array at a time: the label of one frame."""

    time_s: float
    azimuth_deg: float
    elevation_deg: float
    distance_m: float


@dataclass(frozen=True)
class Source:
    """One talker in a scene; where it is, is NaN where that is not known (`Scene.located`)."""

    speaker: str  # the talker's name in the corpus
    path: str  # of the speech file, relative to the corpus' root
    offset_s: float  # where in the file the speech starts
    onset_s: float  # where in the scene it starts
    duration_s: float
    level_db: float  # of the reverberant image at the reference microphone, relative to the other talkers'
    position_m: Point = NOWHERE  # in the room; of a moving talker, at the start of the scene, as what follows
    azimuth_deg: float = math.nan  # seen from the array, in its frame, [0, 360), as are elevation and distance
    elevation_deg: float = math.nan
    distance_m: float = math.nan
    gender: str = ""  # ``f``, ``m``, or empty where the corpus does not say
    waypoints: tuple[Waypoint, ...] = ()  # path of a moving talker, from time 0 to the scene's end
    track: tuple[Direction, ...] = ()  # directions of a moving talker, one a frame
    rir: int | None = None  # position in the room of the scene's RIR bank, for scenes made from one
    rir_path: tuple[int, ...] = ()  # positions there that a moving talker takes, evenly from the start to the end


@dataclass(frozen=True)
class Noise:
    """One noise of a scene, and all talkers' images against it at the reference microphone.

    The material is recordings of a noise folder, or babble of talkers of the corpus, to which paths of excerpts are
    relative; empty for sensor noise. A point source has a position, and in the room of an RIR bank its number.
    """

    kind: NoiseKind
    snr_db: float
    material: Literal["", "recordings", "babble"] = ""
    excerpts: tuple[NoiseExcerpt, ...] = ()
    position_m: Point | None = None
    rir: int | None = None


@dataclass(frozen=True)
class Scene:
    """Everything needed to render one mixture, and its labels."""

    id: str  # its name in the set
    seed: int  # of everything random in its rendering
    sample_rate: int
    duration_s: float
    room_m: Point | None  # size of the room; None where responses were measured and it is not known
    t60_target_s: float | None  # that was rendered for; None where responses were measured
    array: str  # name of the microphone array
    array_center_m: Point  # the origin of its frame, in the room
    array_rotation_deg: Rotation
    sources: tuple[Source, ...]
    noises: tuple[Noise, ...]  # at least sensor noise, as a rule
    target: Target  # what the references hold
    speed_of_sound: float = SPEED_OF_SOUND
    t60_measured_s: float | None = None  # of the responses (`msdet.scenes.rir.room_response.RoomResponse`)
    mismatch: Mismatch | None = None
    rir_room: int | None = None  # room of the RIR bank that the scene was made from
    image_order: int | None = None  # reflections beyond this order came from ray tracing; None for image sources alone
    referenced: bool = True  # whether there are references; a recording may have none
    t60_rule: T60Rule = "measured"  # what the target T60 means
    located: bool = True  # whether it is known where the talkers are; their distances alone may be known without it
    renamed: ClassVar[dict[str, str]] = {"t60_asked_s": "t60_target_s", "array_centre_m": "array_center_m"}

    @property
    def samples(self) -> int:
        """Length of the mixture."""
        return round(self.duration_s * self.sample_rate)

    @property
    def t60_s(self) -> float | None:
        """Reverberation time as measured, or else the target."""
        return self.t60_target_s if self.t60_measured_s is None else self.t60_measured_s

    @property
    def azimuths_deg(self) -> Array:
        """Azimuth ``(talker,)`` of each talker; NaN where it is not known."""
        return np.array([s.azimuth_deg for s in self.sources])

    @property
    def azimuth_gap_deg(self) -> float:
        """Smallest azimuth difference between two talkers; NaN where directions are not known."""
        if not self.located:
            return math.nan
        a = self.azimuths_deg
        gaps = angular_distance_deg(a[:, None], a[None])
        return float(gaps[np.triu_indices(len(a), 1)].min(initial=180.0))

    @property
    def snr_db(self) -> float | None:
        """All talkers' images against all noises together, at the reference microphone; None if not known."""
        if not self.noises:
            return None
        return float(-10 * np.log10(sum(10 ** (-noise.snr_db / 10) for noise in self.noises)))

    @property
    def timed(self) -> bool:
        """Whether it is known who talks when; without references, all of the time means that it is not."""
        all_along = all(s.onset_s == 0 and s.duration_s >= self.duration_s for s in self.sources)
        return self.referenced or not all_along

    @property
    def overlap_ratio(self) -> float:
        """Fraction of the time with speech in which two or more talk, by onsets and durations."""
        edges = [(s.onset_s, 1) for s in self.sources] + [(s.onset_s + s.duration_s, -1) for s in self.sources]
        talking, before, someone, several = 0, 0.0, 0.0, 0.0
        for time, change in sorted(edges):
            someone += (time - before) * (talking >= 1)
            several += (time - before) * (talking >= 2)
            talking, before = talking + change, time
        return several / someone if someone else 0.0

    def microphones_m(self, positions: Array) -> Array:
        """Room coordinates ``(mic, 3)`` of microphones given in the array's frame."""
        if self.mismatch:
            positions = positions + np.array(self.mismatch.offset_m)
        return to_room_frame(positions, self.array_center_m, self.array_rotation_deg)

    def to_dict(self) -> dict[str, Any]:
        """JSON form; what is usual, such as defaults of a source or a noise and true flags, is left out."""
        row = dataclasses.asdict(self)
        for name, record in (("sources", Source), ("noises", Noise)):
            row[name] = [_without_defaults(record, value) for value in row[name]]
        usual = {"referenced": True, "located": True, "t60_rule": "measured"}
        return {name: value for name, value in row.items() if name not in usual or value != usual[name]}

    @classmethod
    def from_dict(cls, row: dict[str, Any], origin: str) -> Scene:
        """Read the JSON form back; an `MsdetError` names `origin` (file and line) and what is wrong there."""
        scene = read_record(cls, row, origin)
        plain_name(scene.id, "id", origin)
        _check_plausible(scene, origin)
        for excerpt in (excerpt for noise in scene.noises for excerpt in noise.excerpts):
            relative_path(excerpt.path, "path of a noise", origin)
        for number, source in enumerate(scene.sources):
            place = f"{origin}, sources {number}"
            records: list[Source | Waypoint | Direction] = [source, *source.waypoints, *source.track]
            for record in records:
                _check_plausible(record, place)
            if source.speaker:
                plain_name(source.speaker, "speaker", place)
            relative_path(source.path, "path", place)
            for name in ("position_m", "azimuth_deg", "elevation_deg", "distance_m"):
                unknown = _is_unknown(getattr(source, name))
                if unknown and scene.located:
                    raise MsdetError(f"{place}: key '{name}' is missing")
                if not unknown and not scene.located and name != "distance_m":
                    raise MsdetError(f"{place}: has {name}, but located is false in the scene")
            if not scene.located and (source.waypoints or source.track):
                raise MsdetError(f"{place}: moves on a path, but located is false in the scene")
        return scene


def mixture_path(scene_id: str) -> str:
    """Path of a scene's mixture, relative to the set."""
    return f"audio/{scene_id}/mixture.wav"


def reference_path(scene_id: str, talker: int) -> str:
    """Path of a scene's reference of talker `talker` (from 0), relative to the set."""
    return f"audio/{scene_id}/talker{talker + 1}.wav"


def scene_seed(set_seed: int, scene_id: str) -> int:
    """The seed of one scene: a hash of the set's seed and the scene's id, so any scene renders alone."""
    digest = hashlib.sha256(f"{set_seed}/{scene_id}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


MAX_COORDINATE_M = 1e4
"""Of anything in a room, and the largest size of one."""

_ANYWHERE = (-MAX_COORDINATE_M, MAX_COORDINATE_M)

_PLAUSIBLE = {
    "sample_rate": SAMPLE_RATES,
    "duration_s": (0.0, 1e6),
    "time_s": (0.0, 1e6),
    "onset_s": (-1e6, 1e6),
    "offset_s": (-1e7, 1e7),
    "room_m": (0.0, MAX_COORDINATE_M),
    "t60_target_s": (0.0, 1e3),
    "array_center_m": _ANYWHERE,
    "array_rotation_deg": (-1e4, 1e4),
    "speed_of_sound": (100.0, 1e4),
    "level_db": (-300.0, 300.0),
    "position_m": _ANYWHERE,
    "azimuth_deg": (-1e4, 1e4),
    "elevation_deg": (-90.0, 90.0),
    "distance_m": (0.0, MAX_COORDINATE_M),
}
"""Numbers of a scene or a source, and between what they lie wherever people talk."""


def _check_plausible(record: Scene | Source | Waypoint | Direction, place: str) -> None:
    """Refuse numbers that no room, recording or talker has: they would overflow, or take all memory."""
    for name, (low, high) in _PLAUSIBLE.items():
        value = getattr(record, name, None)
        for number in value if isinstance(value, tuple) else () if value is None else (value,):
            if not (low <= number <= high or math.isnan(number)):
                raise MsdetError(f"{place}: {name} is {number:g}, expected {low:g} to {high:g}")


def _without_defaults(record: type, row: dict[str, Any]) -> dict[str, Any]:
    defaults = {f.name: f.default for f in dataclasses.fields(record)}
    unknown = [name for name, value in row.items() if _is_unknown(value) and _is_unknown(defaults[name])]
    return {name: value for name, value in row.items() if defaults[name] != value and name not in unknown}


def _is_unknown(value: Any) -> bool:
    """Whether a number, or any of a point, is NaN."""
    return any(isinstance(v, float) and math.isnan(v) for v in (value if isinstance(value, tuple) else (value,)))
