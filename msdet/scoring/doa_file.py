"""Estimated directions of one scene: a line of ``doa.jsonl``.

A line is an object with ``id`` and ``azimuth_deg``, one azimuth a talker, in the order of the audio files.
It may also have, in the same order, ``elevation_deg``; ``confidence``, best a probability of being right;
``posterior``, of each talker (or one for all) the probabilities of directions evenly around the circle, the
first at azimuth 0; and ``track``, an object with ``time_s``, ascending, and ``azimuth_deg``, for each talker
a list of as many azimuths, null where there is none, and maybe ``elevation_deg`` likewise. Other keys are
left alone.

A malformed ``azimuth_deg``, be it one number of it, leaves the scene without directions: how many talkers
the system found is not known then. A malformed value of another key costs what needs that key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from msdet.conventions import Array
from msdet.errors import MsdetError
from msdet.io.files import read_jsonl

DOA_FILE = "doa.jsonl"

_TRACK_KEYS = ("time_s", "azimuth_deg", "elevation_deg")

_LARGEST = 1e6  # degrees; a larger number is no angle

T = TypeVar("T")


@dataclass(frozen=True)
class Track:
    """Directions over time.

    Attributes:
        time_s: ``(frame,)``, ascending.
        azimuth_deg: ``(talker, frame)``; NaN without an estimate.
        elevation_deg: the same; None if not estimated.
    """

    time_s: Array
    azimuth_deg: Array
    elevation_deg: Array | None = None

    def at(self, time_s: Array) -> Track:
        """The nearest frame to each of other times; NaN at more than half a frame from any."""
        nearest = np.abs(self.time_s[None] - time_s[:, None]).argmin(axis=1)
        steps = (np.diff(t).max() if t.size > 1 else 0.0 for t in (self.time_s, time_s))
        near = np.abs(self.time_s[nearest] - time_s) <= 0.501 * max(*steps, 1e-6)
        azimuth, elevation = self.azimuth_deg, self.elevation_deg
        return Track(
            time_s,
            np.where(near, azimuth[:, nearest], np.nan),
            None if elevation is None else np.where(near, elevation[:, nearest], np.nan),
        )


@dataclass(frozen=True)
class DoaEstimates:
    """What a system says of a scene's directions.

    Attributes:
        azimuth_deg: ``(talker,)``.
        elevation_deg: ``(talker,)``; None if not estimated, as for all that follow.
        confidence: ``(talker,)``.
        posterior: ``(talker, class)`` or ``(1, class)`` in [0, 1]; class k of K is at ``360 k / K`` degrees.
        track: over time.
        faults: of keys whose values are malformed and therefore None, what was found and expected.
    """

    azimuth_deg: Array
    elevation_deg: Array | None = None
    confidence: Array | None = None
    posterior: Array | None = None
    track: Track | None = None
    faults: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_row(cls, row: dict[str, Any] | None) -> DoaEstimates:
        """Read a line of ``doa.jsonl``.

        Raises:
            MsdetError: there are no azimuths, or they are malformed; says what was found and expected.
        """
        if row is None or row.get("azimuth_deg") is None:
            raise MsdetError(f"{DOA_FILE}: has no azimuth_deg of this scene")
        azimuths = _numbers(row["azimuth_deg"], "azimuth_deg", "a list of degrees", _LARGEST)
        talkers, faults = len(azimuths), {}

        def read(key: str, parse: Callable[[Any], T]) -> T | None:
            try:
                return None if row.get(key) is None else parse(row[key])
            except MsdetError as error:
                faults[key] = str(error)
                return None

        expected = f"{talkers} elevations up to 90 degrees"
        return cls(
            azimuths,
            read("elevation_deg", lambda v: _numbers(v, "elevation_deg", expected, 90.0, length=talkers)),
            read(
                "confidence",
                lambda v: _numbers(v, "confidence", f"{talkers} numbers", _LARGEST, length=talkers),
            ),
            read("posterior", lambda v: _posterior(v, talkers)),
            read("track", lambda v: _track(v, talkers)),
            faults,
        )


def read_directions(estimates: Path) -> dict[str, dict[str, Any]] | None:
    """The lines of ``doa.jsonl`` by scene, otherwise unchecked; None without the file.

    Raises:
        MsdetError: not readable, a line without ``id``, or two of one scene.
    """
    path = estimates / DOA_FILE
    if not path.is_file():
        return None
    rows: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(read_jsonl(path), start=1):
        if not isinstance(row, dict) or not isinstance(row.get("id"), str):
            raise MsdetError(f"{path}, line {number}: expected an object with key 'id'")
        if row["id"] in rows:
            raise MsdetError(f"{path}, line {number}: scene '{row['id']}' was in an earlier line")
        rows[row["id"]] = row
    return rows


def _numbers(
    value: Any,
    key: str,
    expected: str,
    largest: float,
    least: float | None = None,
    length: int | None = None,
) -> Array:
    low = -largest if least is None else least
    fits = isinstance(value, list) and all(type(v) in (int, float) and low <= v <= largest for v in value)
    if not fits or length not in (None, len(value)):
        shown = str(value) if len(str(value)) <= 60 else f"{str(value)[:57]}..."
        raise MsdetError(f"{DOA_FILE}: {key} is {shown}, expected {expected}")
    return np.array(value, dtype=np.float64)


def _table(value: Any, key: str, expected: str, least: float, largest: float) -> Array:
    """Lists of the same length as ``(list, number)``; null becomes NaN."""
    if not isinstance(value, list) or not value or not all(isinstance(line, list) for line in value):
        raise MsdetError(f"{DOA_FILE}: {key} is no list of lists, expected {expected}")
    lines = []
    for line in value:
        known = _numbers([v for v in line if v is not None], key, expected, largest, least)
        filled = np.full(len(line), np.nan)
        filled[[v is not None for v in line]] = known
        lines.append(filled)
    if len({line.size for line in lines}) != 1:
        raise MsdetError(f"{DOA_FILE}: {key} has lists of different lengths, expected {expected}")
    return np.stack(lines)


def _posterior(value: Any, talkers: int) -> Array:
    posterior = _table(value, "posterior", "a list of probabilities for each talker", 0.0, 1.0)
    if len(posterior) not in (1, talkers) or posterior.shape[1] < 2 or np.isnan(posterior).any():
        raise MsdetError(
            f"{DOA_FILE}: posterior is {len(posterior)} x {posterior.shape[1]} numbers, "
            f"expected 1 or {talkers} lists of a probability a direction"
        )
    return posterior


def _track(value: Any, talkers: int) -> Track:
    if not isinstance(value, dict) or not {"time_s", "azimuth_deg"} <= value.keys() <= set(_TRACK_KEYS):
        raise MsdetError(f"{DOA_FILE}: track is not an object of {', '.join(_TRACK_KEYS)}")
    times = _numbers(value["time_s"], "track time_s", "ascending seconds", _LARGEST)
    if times.size == 0 or (np.diff(times) <= 0).any():
        raise MsdetError(f"{DOA_FILE}: track time_s is not ascending")
    tables: dict[str, Array | None] = {"elevation_deg": None}
    for key, largest in (("azimuth_deg", _LARGEST), ("elevation_deg", 90.0)):
        if value.get(key) is None:
            continue
        expected = f"{talkers} lists of {times.size} degrees or null"
        tables[key] = table = _table(value[key], f"track {key}", expected, -largest, largest)
        if table.shape != (talkers, times.size):
            found = " x ".join(map(str, table.shape))
            raise MsdetError(f"{DOA_FILE}: track {key} is {found} numbers, expected {expected}")
    azimuth = tables["azimuth_deg"]
    if azimuth is None:
        raise MsdetError(f"{DOA_FILE}: track azimuth_deg is null, expected {talkers} lists of degrees")
    return Track(times, azimuth, tables["elevation_deg"])
