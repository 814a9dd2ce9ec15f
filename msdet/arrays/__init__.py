"""Microphone arrays: presets shipped as TOML files, and users' own files of the same form.

A file holds ``name``, ``positions_m`` (one ``[x, y, z]`` per channel, in order), ``source`` (where they come from)
and, if it is not channel 0, ``reference``; ``description`` is free text. Directions are seen from the origin, which
should be the microphones' centroid. ``recorded_as`` says what the device's files hold that have more channels than
microphones: for each kind of file a list of its channels, each the number of a microphone or what else it is.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from numbers import Real
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from msdet.conventions import SPEED_OF_SOUND, Array, azimuth_elevation_deg, direction_vector, wrap_deg, wrap_signed_deg
from msdet.errors import MsdetError, UnknownNameError, did_you_mean
from msdet.io.files import plain_name
from msdet.io.reading import parse_toml, read_toml

Geometry = Literal["linear", "planar", "spatial"]
"""Whether the microphones span a line, a plane or space."""

# beyond these, coordinates are taken to be in another unit than meters
MIN_APERTURE_M, MAX_APERTURE_M = 0.005, 5.0

WIDE_M = 1.0  # from here on the description of an array asks whether the unit is right
SAME_POINT_M = 1e-4
FLAT = 0.01  # extent across a line or plane, relative to the aperture, that is no more than a ruler's error
OFF_CENTER = 0.1  # distance of the centroid from the origin, relative to the aperture, of which the description warns
UPRIGHT_DEG = 10.0  # a line or plane this near to vertical or horizontal counts as such
_KEYS = ("name", "source", "description", "positions_m", "reference", "recorded_as")


@dataclass(frozen=True)
class ResolvableDomain:
    """What directions an array can tell apart, by the delays between its microphones alone.

    Attributes:
        axis: unit vector, along the line of a linear array or across the plane of a planar one; None of a
            spatial array. Turning a direction about the line, or mirroring it in the plane, changes no delay.
        azimuth_span_deg: how much of the circle is told apart among talkers level with the array: 360, 180
            (the other half is its mirror image) or 0.
        words: the same for a person.
    """

    axis: tuple[float, float, float] | None
    azimuth_span_deg: int
    words: str


@dataclass(frozen=True)
class MicrophoneArray:
    """Geometry of an array, in its own frame.

    Attributes:
        name: its name.
        positions_m: ``[x, y, z]`` of each microphone in meters, in channel order.
        reference: index of the reference microphone.
        source: where the coordinates come from.
        description: what a user should know; not stored in models and data sets.
        recorded_as: channels of the device's files that hold more than the microphones: of each the number of a
            microphone, or what else it is, such as ``playback``; not stored either.
    """

    name: str
    positions_m: tuple[tuple[float, float, float], ...]
    reference: int = 0
    source: str = ""
    description: str = field(default="", compare=False)
    recorded_as: tuple[tuple[int | str, ...], ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        plain_name(self.name, "name", "array")
        if problem := _problem(self.positions_m, self.reference) or _layout_problem(self.recorded_as, self.microphones):
            raise MsdetError(f"array '{self.name}': {problem}")

    def of(self, microphones: Sequence[int]) -> MicrophoneArray:
        """The array of some of its microphones, in the order given; the first is the reference if its own is not left.

        >>> load_array("circular4_5cm").of([2, 1]).positions_m
        ((-0.05, 0.0, 0.0), (0.0, 0.05, 0.0))
        """
        positions_m = tuple(self.positions_m[m] for m in microphones)
        reference = list(microphones).index(self.reference) if self.reference in microphones else 0
        return MicrophoneArray(self.name, positions_m, reference, self.source, self.description)

    @property
    def positions(self) -> Array:
        """Coordinates ``(mic, 3)`` in meters."""
        return np.asarray(self.positions_m, dtype=np.float64).reshape(len(self.positions_m), 3)

    @property
    def microphones(self) -> int:
        """Number of microphones."""
        return len(self.positions_m)

    @property
    def distances_m(self) -> Array:
        """Distances ``(mic, mic)`` between microphones."""
        return _distances(self.positions)

    @property
    def aperture_m(self) -> float:
        """Largest distance between two microphones."""
        return float(self.distances_m.max())

    @property
    def closest_pair(self) -> tuple[int, int]:
        """The two channels that are nearest to each other; the first such pair in channel order."""
        first, second = np.triu_indices(self.microphones, 1)
        distance = self.distances_m[first, second]
        nearest = int(np.argmax(distance <= distance.min() + SAME_POINT_M))  # not by rounding errors
        return int(first[nearest]), int(second[nearest])

    @property
    def closest_distance_m(self) -> float:
        """Smallest distance between two microphones."""
        return float(self.distances_m[np.triu_indices(self.microphones, 1)].min())

    @property
    def aliasing_frequency_hz(self) -> float:
        """Frequency above which the closest pair of microphones is ambiguous: c / (2 d)."""
        return SPEED_OF_SOUND / (2 * self.closest_distance_m)

    @property
    def centroid_m(self) -> Array:
        """Mean ``(3,)`` of the microphones' positions."""
        return cast(Array, self.positions.mean(axis=0))

    @property
    def geometry(self) -> Geometry:
        """The shape that the microphones span; what is within `FLAT` of a line or plane counts as on it."""
        _, extents_m = self._principal()
        thin = extents_m < FLAT * self.aperture_m
        return "linear" if thin[1:].all() else "planar" if thin[2] else "spatial"

    @property
    def is_linear(self) -> bool:
        """Whether all microphones lie on one line, so that only the angle to that line can be told."""
        return self.geometry == "linear"

    @property
    def resolvable_domain(self) -> ResolvableDomain:
        """The directions that the array can tell apart.

        >>> load_array("circular4_5cm").resolvable_domain.azimuth_span_deg
        360
        >>> load_array("linear4_5cm").resolvable_domain.azimuth_span_deg
        180
        """
        axes, extents_m = self._principal()
        if self.geometry == "linear":
            return _linear_domain(_upward(axes[0]))
        if self.geometry == "planar":
            return _planar_domain(_upward(axes[2]))
        words = "azimuth 0 to 360 degrees and elevation -90 to 90 degrees"
        if extents_m[2] < self.aperture_m / 4:
            words += f", the two sides of its flat shape by its depth of {100 * extents_m[2]:.1f} cm alone"
        return ResolvableDomain(None, 360, words)

    @property
    def mirror_axis_deg(self) -> float | None:
        """Azimuth of the line in which talkers level with the array are mirrored; None if they are told apart.

        >>> load_array("linear4_5cm").mirror_axis_deg
        0.0
        """
        domain = self.resolvable_domain
        if domain.axis is None or domain.azimuth_span_deg != 180:
            return None
        axis_deg = float(azimuth_elevation_deg(domain.axis)[0])
        return axis_deg if self.is_linear else float(wrap_deg(axis_deg + 90.0))

    def resolved(self, azimuth_deg: Array, elevation_deg: Array) -> tuple[Array, Array]:
        """A direction as the array can tell it: azimuth and elevation in degrees, of the same shape; NaN stays.

        Of a linear array, level with it and counter-clockwise from its line, at the same angle to the line; of a flat
        one that stands upright, on that side of it. Other directions stay as they are.

        >>> azimuth, elevation = load_array("linear4_5cm").resolved(np.array([270.0, 0.0]), np.array([0.0, 60.0]))
        >>> azimuth.round(6).tolist(), elevation.tolist()
        ([90.0, 60.0], [0.0, 0.0])
        """
        axis_deg = self.mirror_axis_deg
        if axis_deg is None:
            return azimuth_deg, elevation_deg
        if self.is_linear:
            cosine = direction_vector(azimuth_deg, elevation_deg) @ np.array(self.resolvable_domain.axis)
            angle_deg, elevation_deg = np.rad2deg(np.arccos(np.clip(cosine, -1.0, 1.0))), elevation_deg * 0.0
        else:
            angle_deg = np.abs(wrap_signed_deg(azimuth_deg - axis_deg))
        return wrap_deg(axis_deg + angle_deg), elevation_deg

    @property
    def cautions(self) -> tuple[str, ...]:
        """What is allowed but looks like a mistake, in one sentence each."""
        cautions = []
        distance_m = float(np.linalg.norm(self.centroid_m))
        if distance_m > OFF_CENTER * self.aperture_m:
            centroid = ", ".join(f"{c:.4f}" for c in self.centroid_m + 0.0)
            cautions.append(
                f"the microphones' centroid is {100 * distance_m:.1f} cm from the origin, from which "
                f"directions are seen; to center the array, subtract [{centroid}] from every position"
            )
        if self.aperture_m >= WIDE_M:
            wide = f"the array is {self.aperture_m:.2f} m wide"
            cautions.append(f"{wide}; if it is not, its coordinates are not in meters")
        return tuple(cautions)

    def to_dict(self) -> dict[str, Any]:
        """JSON form, read back by `from_dict`."""
        positions_m = [list(p) for p in self.positions_m]
        return {"name": self.name, "positions_m": positions_m, "reference": self.reference, "source": self.source}

    @classmethod
    def from_dict(cls, value: dict[str, Any], origin: str = "array") -> MicrophoneArray:
        """Build from a TOML or JSON table; `origin` is what an error calls it."""
        if not isinstance(value, dict):
            raise MsdetError(f"{origin}: is {value!r}, expected a table with name and positions_m")
        for key in value:
            if key not in _KEYS:
                raise MsdetError(f"{origin}: unknown key '{key}'{did_you_mean(key, _KEYS)}")
        for key in ("name", "positions_m"):
            if key not in value:
                raise MsdetError(f"{origin}: key '{key}' is missing")
        for key in ("name", "source", "description"):
            if not isinstance(value.get(key, ""), str):
                raise MsdetError(f"{origin}: {key} is {value[key]!r}, expected text")
        plain_name(value["name"], "name", origin)
        rows, reference = value["positions_m"], value.get("reference", 0)
        if not isinstance(rows, (list, tuple)):
            raise MsdetError(f"{origin}: positions_m is {rows!r}, expected a list of [x, y, z] in meters")
        layouts = value.get("recorded_as", [])
        if problem := _problem(rows, reference) or _layout_problem(layouts, len(rows)):
            raise MsdetError(f"{origin}: {problem}")
        points = tuple((float(x), float(y), float(z)) for x, y, z in rows)
        told = value.get("source", ""), value.get("description", "")
        return cls(value["name"], points, reference, *told, tuple(map(tuple, layouts)))

    def _principal(self) -> tuple[Array, Array]:
        """Principal axes ``(axis, 3)``, widest first, and the extent ``(axis,)`` in meters along each."""
        return _principal(tuple(map(tuple, self.positions_m)))


@functools.lru_cache(maxsize=1024)
def _principal(positions_m: tuple[tuple[float, float, float], ...]) -> tuple[Array, Array]:
    """Asked for every talker of every scene."""
    centered = np.array(positions_m) - np.mean(positions_m, axis=0)
    axes = np.linalg.svd(centered)[2]
    extents_m = np.ptp(centered @ axes.T, axis=0)
    for shared in (axes, extents_m):
        shared.setflags(write=False)
    return axes, extents_m


def _distances(positions: Array) -> Array:
    """Distances ``(mic, mic)`` between all microphones."""
    return cast(Array, np.linalg.norm(positions[:, None] - positions[None], axis=-1))


def _problem(rows: Sequence[Any], reference: Any) -> str | None:
    """The first thing wrong with an array's coordinates or reference: field, found, expected."""
    for channel, row in enumerate(rows):
        if problem := _row_problem(row):
            return f"positions_m, channel {channel}: {problem}"
    if len(rows) < 2:
        return f"positions_m: has {len(rows)} microphone{'s' * (len(rows) != 1)}, expected at least 2"
    if not isinstance(reference, int) or isinstance(reference, bool) or not 0 <= reference < len(rows):
        return f"reference is {reference!r}, expected a channel from 0 to {len(rows) - 1}"
    with np.errstate(over="ignore"):  # of absurd numbers, which are refused below
        distances = _distances(np.array(rows, dtype=np.float64))
    span_m = float(distances.max())
    if span_m > MAX_APERTURE_M:
        return (
            f"positions_m: span {span_m:.4g} m, expected at most {MAX_APERTURE_M:g} m; divide by 1000 if "
            f"in millimeters ({span_m / 10:.3g} cm wide), by 100 if in centimeters ({span_m:.3g} cm wide)"
        )
    if 0 < span_m < MIN_APERTURE_M:
        return (
            f"positions_m: span {1000 * span_m:.3g} mm, expected at least {1000 * MIN_APERTURE_M:g} mm; "
            f"were meters divided by 1000? multiply by 1000 ({100_000 * span_m:.3g} cm wide)"
        )
    pairs = np.argwhere(np.triu(distances < SAME_POINT_M, 1))
    if len(pairs):
        first, second = (int(channel) for channel in pairs[0])
        return f"positions_m: channels {first} and {second} are both at {list(rows[first])}, expected apart"
    return None


def _layout_problem(layouts: Any, microphones: int) -> str | None:
    """What is wrong with ``recorded_as``: each list must name every microphone once, and in text what else there is."""
    expected = f"expected lists with each of 0 to {microphones - 1} once, and text for channels that are no microphone"
    for layout in layouts if isinstance(layouts, (list, tuple)) else [layouts]:
        parts = layout if isinstance(layout, (list, tuple)) else []
        numbers = [part for part in parts if isinstance(part, int) and not isinstance(part, bool)]
        texts = [part for part in parts if isinstance(part, str)]
        if sorted(numbers) != list(range(microphones)) or len(numbers) + len(texts) != len(parts) or not texts:
            return f"recorded_as: has {layout!r}, {expected}"
    return None


def _row_problem(row: Any) -> str | None:
    if not isinstance(row, (list, tuple)) or len(row) != 3:
        return f"is {row!r}, expected [x, y, z] in meters"
    if any(isinstance(value, bool) or not isinstance(value, Real) for value in row):
        return f"is {row!r}, expected three numbers in meters"
    if not all(math.isfinite(value) for value in row):
        return f"is {row!r}, expected finite numbers"
    return None


def _upward(axis: Array) -> tuple[float, float, float]:
    """Of an axis and its opposite the one that points up, or else to +x, or else to +y."""
    rounded = axis.round(6) + 0.0
    sign = next(s for s in np.sign(rounded[[2, 0, 1]]) if s)
    x, y, z = (float(v) for v in rounded * sign + 0.0)
    return x, y, z


def _linear_domain(line: tuple[float, float, float]) -> ResolvableDomain:
    azimuth_deg, elevation_deg = azimuth_elevation_deg(line)
    if elevation_deg > 90 - UPRIGHT_DEG:
        return ResolvableDomain(line, 0, "elevation -90 to 90 degrees alone; all azimuths look alike")
    tilted = f", elevation {elevation_deg:.0f}" if elevation_deg > UPRIGHT_DEG else ""
    words = (
        f"the angle to its line alone, 0 to 180 degrees from azimuth {_whole(azimuth_deg)}{tilted}; a talker "
        "looks like its mirror image behind the line, and like one above or below it"
    )
    return ResolvableDomain(line, 180, words)


def _planar_domain(normal: tuple[float, float, float]) -> ResolvableDomain:
    azimuth_deg, elevation_deg = azimuth_elevation_deg(normal)
    if elevation_deg > 90 - UPRIGHT_DEG:
        words = "azimuth 0 to 360 degrees, and the size of the elevation but not whether up or down"
        return ResolvableDomain(normal, 360, words)
    if elevation_deg > UPRIGHT_DEG:
        words = "azimuth 0 to 360 degrees of talkers level with the array; any other direction looks like its "
        return ResolvableDomain(normal, 360, words + "mirror image in the tilted plane")
    words = (
        f"elevation -90 to 90 degrees, and azimuth over half the circle, from {_whole(azimuth_deg - 90)} to "
        f"{_whole(azimuth_deg + 90)} degrees; a talker looks like its mirror image behind the plane"
    )
    return ResolvableDomain(normal, 180, words)


def _whole(azimuth_deg: Array) -> int:
    return round(float(wrap_deg(azimuth_deg))) % 360


def array_names() -> list[str]:
    """Names of the arrays that msdet ships."""
    return sorted(p.name.removesuffix(".toml") for p in _preset_folder().iterdir())


def load_array(name: str | Path) -> MicrophoneArray:
    """A shipped array by name, or a user's own by the path of a TOML file, if it describes a possible array."""
    name = str(name)
    if name.endswith(".toml"):
        return MicrophoneArray.from_dict(read_toml(Path(name)), str(Path(name)))
    if name not in array_names():
        raise UnknownNameError("array", name, array_names())
    preset = (_preset_folder() / f"{name}.toml").read_text(encoding="utf-8")
    return MicrophoneArray.from_dict(parse_toml(preset, name), name)


def _preset_folder() -> Any:
    return resources.files("msdet") / "arrays" / "presets"
