"""Collections of measured responses: one audio file a position and a table of the positions.

``positions.tsv`` is tab-separated with a header. Columns ``file`` (inside the folder, one channel a
microphone) and ``room``; then ``azimuth_deg``, ``distance_m`` and, if talkers are not level with the array,
``elevation_deg``; or else ``x_m``, ``y_m`` and ``z_m`` in the array's frame. Others are ignored.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from msdet.arrays import MicrophoneArray
from msdet.arrays.recorded import choose
from msdet.conventions import Array, azimuth_elevation_deg, wrap_deg
from msdet.errors import MsdetError, did_you_mean
from msdet.io import audio
from msdet.io.files import resolve_inside
from msdet.io.reading import read_tsv

TABLE = "positions.tsv"
NEAREST_M, FARTHEST_M = 0.01, 100.0  # beyond these, a distance is taken to be in another unit than meters
_SPHERICAL, _OPTIONAL, _CARTESIAN = ("azimuth_deg", "distance_m"), "elevation_deg", ("x_m", "y_m", "z_m")
_TOO_SIMILAR = 0.7  # a column so similar to the optional one is a misspelling of it, not one to ignore


@dataclass(frozen=True)
class Measurement:
    """Responses in a file, measured from one position in the array's frame, azimuths in [0, 360).

    `name` is the file relative to the collection, and where in it, for people; `sample_rate` is in hertz, of a SOFA
    file its lowest; `place` are measurement and emitter in a SOFA file; `channels` are those of an audio file that are
    taken, if not all.
    """

    path: Path
    name: str
    room: str
    azimuth_deg: float
    elevation_deg: float
    distance_m: float
    sample_rate: float
    place: tuple[int, int] | None = None
    channels: tuple[int, ...] | None = None


def measurement_at(
    source_m: Array, path: Path, name: str, room: str, sample_rate: float, place: tuple[int, int] | None = None
) -> Measurement:
    """A measurement of a source at ``(x, y, z)`` in the array's frame, neither at its origin nor too far."""
    azimuth, elevation = azimuth_elevation_deg(source_m)
    distance_m = float(np.linalg.norm(source_m))
    if not NEAREST_M <= distance_m <= FARTHEST_M:
        expected = f"expected {NEAREST_M:g} to {FARTHEST_M:g}"
        raise MsdetError(f"{name}: source is {distance_m:.3g} m from the array, {expected}")
    return Measurement(path, name, room, float(azimuth), float(elevation), distance_m, sample_rate, place)


def check_format(name: str, channels: int, rate: float, array: MicrophoneArray, sample_rate: int) -> None:
    """Refuse, by an `MsdetError`, responses of another array or with too low a sample rate."""
    if channels != array.microphones:
        expected = f"{array.microphones}, one for each microphone of array '{array.name}'"
        raise MsdetError(f"{name}: has {channels} channels, expected {expected}")
    if rate < sample_rate:
        remark = f"too low for a bank at {sample_rate} Hz; nothing is known above {rate / 2:g} Hz"
        raise MsdetError(f"{name}: is at {rate:g} Hz, {remark}")


def read_table(
    root: Path, array: MicrophoneArray, sample_rate: int, channels: Sequence[int] | None = None
) -> tuple[MicrophoneArray, list[Measurement]]:
    """The measurements of ``positions.tsv`` in `root`, in its order, and the array of the channels that are taken.

    Opens headers of audio files only.
    """
    table = root / TABLE
    header, rows = read_tsv(table)
    if not rows:
        raise MsdetError(f"{table}: has no positions, expected a header and a row for each audio file")
    cartesian = _CARTESIAN[0] in header or _CARTESIAN[1] in header
    _check_header(table, header, cartesian)
    measurements: list[Measurement] = []
    seen: dict[Path, str] = {}
    for line, row in rows:
        for column in ("file", "room"):
            if not row[column]:
                raise MsdetError(f"{line}: {column} is empty")
        path = resolve_inside(root, row["file"])
        if path in seen:
            raise MsdetError(f"{line}: file '{row['file']}' is already in {seen[path]}")
        seen[path] = line.rpartition(", ")[2]
        info = audio.info(path)
        chosen = choose(str(path), info.channels, array, channels)
        check_format(str(path), len(chosen.numbers), info.sample_rate, chosen.array, sample_rate)
        numbers = chosen.numbers if chosen.words else None
        if cartesian:
            source_m = np.array([_number(line, row, column) for column in _CARTESIAN])
            found = measurement_at(source_m, path, row["file"], row["room"], info.sample_rate)
        else:
            found = Measurement(path, row["file"], row["room"], *_direction(line, row), info.sample_rate)
        if measurements and measurements[-1].channels != numbers:
            raise MsdetError(f"{line}: {path} has {info.channels} channels, expected as many as the file before it")
        measurements.append(replace(found, channels=numbers))
    return chosen.array, measurements


def _check_header(table: Path, header: Sequence[str], cartesian: bool) -> None:
    place = _CARTESIAN if cartesian else _SPHERICAL
    required = ("file", "room", *place)
    others = [name for name in header if name not in required]
    for column in required:
        if column not in header:
            raise MsdetError(f"{table}: no column '{column}' in its header{did_you_mean(column, others)}")
    both = [column for column in (*_SPHERICAL, _OPTIONAL) if cartesian and column in header]
    if both:
        raise MsdetError(f"{table}: columns '{place[0]}' and '{both[0]}' both place the source, expected one")
    similar = difflib.get_close_matches(_OPTIONAL, others, n=1, cutoff=_TOO_SIMILAR)
    if not cartesian and _OPTIONAL not in header and similar:
        raise MsdetError(f"{table}: unknown column '{similar[0]}'; did you mean '{_OPTIONAL}'?")


def _direction(line: str, row: dict[str, str]) -> tuple[float, float, float]:
    azimuth, distance = (_number(line, row, column) for column in _SPHERICAL)
    elevation = _number(line, row, _OPTIONAL) if _OPTIONAL in row else 0.0
    if not -90 <= elevation <= 90:
        raise MsdetError(f"{line}: {_OPTIONAL} is {elevation:g}, expected -90 to 90, up from the array's plane")
    if not NEAREST_M <= distance <= FARTHEST_M:
        raise MsdetError(f"{line}: distance_m is {distance:g}, expected {NEAREST_M:g} to {FARTHEST_M:g} meters")
    return float(wrap_deg(azimuth)), elevation, distance


def _number(line: str, row: dict[str, str], column: str) -> float:
    try:
        value = float(row[column])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise MsdetError(f"{line}: {column} is '{row[column]}', expected a number")
    return value
