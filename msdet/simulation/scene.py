"""Records of a simulated scene, written as one JSON line each."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from msdet.conventions import SPEED_OF_SOUND, Array, angular_distance_deg
from msdet.errors import MsdetError

SCHEMA_VERSION = 1
"""Version of the layout of a rendered set."""

Target = Literal["direct", "early", "image"]
"""What a reference holds: the direct path, the first 50 ms as well, or the full reverberant image."""

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Source:
    """One talker in a scene.

    Attributes:
        speaker: the talker's name in the corpus.
        path: speech file, relative to the corpus' root.
        offset_s: where in the file the speech starts.
        onset_s: where in the scene it starts.
        level_db: level of the reverberant image at the reference microphone, relative to the other talkers'.
        position_m: ``(x, y, z)`` in the room.
        azimuth_deg: seen from the array, in its frame, [0, 360).
        elevation_deg: seen from the array, in its frame.
        distance_m: to the array's centre.
    """

    speaker: str
    path: str
    offset_s: float
    onset_s: float
    level_db: float
    position_m: Point
    azimuth_deg: float
    elevation_deg: float
    distance_m: float


@dataclass(frozen=True)
class Noise:
    """Noise of a scene: its kind, and the ratio of speech to noise at the reference microphone."""

    kind: str
    snr_db: float


@dataclass(frozen=True)
class Scene:
    """Everything needed to render one mixture, and its labels."""

    id: str
    seed: int
    sample_rate: int
    duration_s: float
    room_m: Point
    t60_asked_s: float
    array: str
    array_centre_m: Point
    array_rotation_deg: float
    sources: tuple[Source, ...]
    noise: Noise
    target: Target
    speed_of_sound: float = SPEED_OF_SOUND
    t60_measured_s: float | None = None

    @property
    def samples(self) -> int:
        """Length of the mixture."""
        return round(self.duration_s * self.sample_rate)

    @property
    def azimuths_deg(self) -> Array:
        """Azimuth ``(talker,)`` of each talker."""
        return np.array([s.azimuth_deg for s in self.sources])

    @property
    def azimuth_gap_deg(self) -> float:
        """Smallest azimuth difference between two talkers."""
        a = self.azimuths_deg
        gaps = angular_distance_deg(a[:, None], a[None])
        return float(gaps[np.triu_indices(len(a), 1)].min(initial=180.0))

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, row: dict[str, Any], origin: str) -> Scene:
        """Read the JSON form back.

        Raises:
            MsdetError: a key is missing, unknown or of the wrong type; `origin` (file and line) is named.
        """
        _check_keys(cls, row, origin)
        values = dict(row)
        try:
            values["sources"] = tuple(_nested(Source, s, f"{origin}, sources") for s in row["sources"])
            values["noise"] = _nested(Noise, row["noise"], f"{origin}, noise")
            for key in ("room_m", "array_centre_m"):
                values[key] = _point(row[key])
        except (TypeError, ValueError) as error:
            raise MsdetError(f"{origin}: malformed scene ({error})") from error
        if row["target"] not in get_args(Target):
            raise MsdetError(f"{origin}: target is '{row['target']}', expected one of {get_args(Target)}")
        return cls(**values)


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


def _point(value: Any) -> Point:
    x, y, z = (float(v) for v in value)
    return (x, y, z)


_PLAIN_TYPES: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float)}


def _check_keys(record: type, row: Any, origin: str) -> None:
    if not isinstance(row, dict):
        raise MsdetError(f"{origin}: expected an object, found {type(row).__name__}")
    fields = dataclasses.fields(record)
    missing = [f.name for f in fields if f.default is dataclasses.MISSING and f.name not in row]
    unknown = [key for key in row if key not in {f.name for f in fields}]
    if missing or unknown:
        problem = f"key '{missing[0]}' is missing" if missing else f"unknown key '{unknown[0]}'"
        raise MsdetError(f"{origin}: {problem}")
    for field in fields:
        expected = _PLAIN_TYPES.get(str(field.type))
        value = row.get(field.name, field.default)
        if expected and (not isinstance(value, expected) or isinstance(value, bool)):
            raise MsdetError(f"{origin}: {field.name} is {value!r}, expected {field.type}")


def _nested(record: type, row: Any, origin: str) -> Any:
    _check_keys(record, row, origin)
    values = {k: _point(v) if k.endswith("position_m") else v for k, v in row.items()}
    return record(**values)
