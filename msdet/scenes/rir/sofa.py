"""Measured responses in SOFA files (AES69): any convention that holds impulse responses.

Receivers are placed relative to the listener, emitters relative to the source: x is the view of each, z its
up, y to its left, azimuths counter-clockwise, as in `msdet.conventions`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msdet.arrays import SAME_POINT_M, MicrophoneArray
from msdet.conventions import Array, direction_vector
from msdet.errors import MsdetError
from msdet.scenes.rir.collection import Measurement, check_format, measurement_at
from msdet.scenes.scene import as_point

SAME_PLACE_M = 0.01  # microphones of a file and of an array may differ by as much
STILL_M = 1e-3  # receivers that move less than that from measurement to measurement stand still
_LAYOUTS = ("MRN", "MRNE", "MREN")  # dimensions of the responses: measurement, receiver, emitter, sample
_METERS, _DEGREES = {"metre", "metres", "meter", "meters", "m"}, {"degree", "degrees", "deg"}
_UNITS = {"cartesian": [_METERS] * 3, "spherical": [_DEGREES, _DEGREES, _METERS]}


@dataclass(frozen=True)
class SofaGeometry:
    """What a file says but for its responses, positions in the listener's frame.

    `sample_rate` is the lowest of all measurements, in hertz; `receivers_m` is ``(mic, 3)``, `sources_m`
    ``(measurement, emitter, 3)``, with one emitter if all sound at once.
    """

    path: Path
    room: str
    sample_rate: float
    receivers_m: Array
    sources_m: Array


def read_sofa_files(
    files: Sequence[Path], root: Path, array: MicrophoneArray | None, sample_rate: int
) -> tuple[MicrophoneArray, list[Measurement]]:
    """The array and the measurements of at least one SOFA file, without their responses.

    Names are relative to `root`. Without an array, it is that of the first file, its middle as the origin.
    """
    geometries = [read_geometry(path) for path in files]
    array = array or _array_of(geometries[0])
    measurements = []
    for geometry in geometries:
        check_format(str(geometry.path), len(geometry.receivers_m), geometry.sample_rate, array, sample_rate)
        sources_m = geometry.sources_m - _origin_m(geometry, array)
        name = geometry.path.relative_to(root).as_posix()
        for m, e in np.ndindex(sources_m.shape[:2]):
            label = f"{name}, measurement {m}" + (f", emitter {e}" if sources_m.shape[1] > 1 else "")
            measurements.append(
                measurement_at(sources_m[m, e], geometry.path, label, geometry.room, geometry.sample_rate, (m, e))
            )
    return array, measurements


def read_geometry(path: Path) -> SofaGeometry:
    """Where the receivers and the sources of a file are; the receivers must not move."""
    with _opened(path) as file:
        kind = str(file.GLOBAL_DataType)
        if not kind.startswith("FIR"):
            raise MsdetError(f"{path}: DataType is {kind}, expected impulse responses (FIR, FIR-E)")
        sizes = dict(zip(file.Data_IR.dimensions, file.Data_IR.shape, strict=True))
        if "".join(sizes) not in _LAYOUTS:
            raise MsdetError(f"{path}: Data.IR has dimensions {''.join(sizes)}, expected {' or '.join(_LAYOUTS)}")
        sizes |= {"C": 3, "E": file.get_dimension("E")}
        together = "E" not in file.Data_IR.dimensions
        sample_rate = float(np.min(_values(path, file, "Data_SamplingRate", "M", sizes)))
        listener_m, listener = _frame(path, file, "Listener", sizes)
        source_m, source = _frame(path, file, "Source", sizes)
        receivers_m = _points(path, file, "ReceiverPosition", "MRC", sizes)
        emitters_m = _points(path, file, "EmitterPosition", "MEC", sizes)
        room = str(getattr(file, "GLOBAL_RoomShortName", "")).strip()
    moved_m = float(np.linalg.norm(receivers_m - receivers_m[0], axis=-1).max())
    if moved_m > STILL_M:
        moves = f"ReceiverPosition changes by {moved_m:.3f} m between measurements"
        raise MsdetError(f"{path}: {moves}, expected one array")
    if together:
        emitters_m = emitters_m.mean(axis=1, keepdims=True)
    sources_m = source_m[:, None] + emitters_m @ source.swapaxes(1, 2)
    seen_m = (sources_m - listener_m[:, None]) @ listener
    return SofaGeometry(path, room or path.stem, sample_rate, receivers_m[0], seen_m)


def read_responses(measurement: Measurement) -> tuple[Array, int]:
    """Responses ``(mic, tap)`` of one measurement, with the delays noted beside them, and the sample rate."""
    assert measurement.place is not None
    m, e = measurement.place
    path = measurement.path
    with _opened(path) as file:
        chosen = tuple({"M": m, "E": e}.get(name, slice(None)) for name in file.Data_IR.dimensions)
        responses = _complete(path, "Data.IR", file.Data_IR[chosen])
        sizes = {name: file.get_dimension(name) for name in "MRE"}
        rate = _values(path, file, "Data_SamplingRate", "M", sizes)[m]
        delays = _values(path, file, "Data_Delay", "MRE", sizes)[m, :, e]
    return _delayed(responses, delays - delays.min()), round(float(rate))


def _array_of(geometry: SofaGeometry) -> MicrophoneArray:
    """The receivers of a file as an array around its middle."""
    points = (geometry.receivers_m - geometry.receivers_m.mean(axis=0)).round(6) + 0.0
    try:
        source = f"ReceiverPosition of {geometry.path.name}"
        return MicrophoneArray(geometry.path.stem, tuple(map(as_point, points)), source=source)
    except MsdetError as error:
        problem = f"ReceiverPosition makes no array ({error})"
        raise MsdetError(f"{geometry.path}: {problem}; if it is wrong, give --array") from error


def _origin_m(geometry: SofaGeometry, array: MicrophoneArray) -> Array:
    """Where the array's origin is in the listener's frame ``(3,)``.

    Receivers all in one place say nothing about the array, and are taken for its middle.
    """
    origin: Array = geometry.receivers_m.mean(axis=0) - array.centroid_m
    off_m = np.linalg.norm(geometry.receivers_m - origin - array.positions, axis=-1)
    if np.ptp(geometry.receivers_m, axis=0).max() < SAME_POINT_M or off_m.max() <= SAME_PLACE_M:
        return origin
    worst = int(np.argmax(off_m))
    actual, expected = (
        ", ".join(f"{value + 0.0:.3f}" for value in point)
        for point in ((geometry.receivers_m - origin)[worst].round(3), array.positions[worst])
    )
    raise MsdetError(
        f"{geometry.path}: ReceiverPosition of channel {worst} is [{actual}] m, {100 * off_m[worst]:.1f} cm "
        f"from where array '{array.name}' has it, at [{expected}] m"
    )


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        from sofar import SofaStream
    except ImportError as error:
        raise MsdetError(f"{path}: SOFA files need sofar: pip install msdet[sofa]") from error
    try:
        with SofaStream(str(path)) as file:
            yield file
    except (OSError, RuntimeError, AttributeError, ValueError, IndexError, KeyError) as error:
        raise MsdetError(f"{path}: not readable as SOFA ({' '.join(str(error).split())})") from error


def _frame(path: Path, file: Any, owner: str, sizes: Mapping[str, int]) -> tuple[Array, Array]:
    """Where the listener or the source is ``(measurement, 3)``, and its axes as columns ``(…, 3, 3)``.

    View and up, where a file has none, are along x and z; type and units of up are those of view.
    """
    position = _points(path, file, f"{owner}Position", "MC", sizes)
    view, up = (
        _points(path, file, f"{owner}{name}", "MC", sizes, f"{owner}View")
        if hasattr(file, f"{owner}{name}") and hasattr(file, f"{owner}View")
        else np.broadcast_to(default, position.shape)
        for name, default in (("View", [1.0, 0.0, 0.0]), ("Up", [0.0, 0.0, 1.0]))
    )
    left = np.cross(up, view)
    if (np.linalg.norm(left, axis=-1) < 1e-6).any():
        raise MsdetError(f"{path}: {owner}View and {owner}Up are parallel or zero, expected two directions")
    axes = np.stack([view, left, np.cross(view, left)], axis=-1)
    return position, axes / np.linalg.norm(axes, axis=-2, keepdims=True)


def _points(path: Path, file: Any, name: str, dimensions: str, sizes: Mapping[str, int], described: str = "") -> Array:
    """Points or directions in meters along x, y and z, with the given dimensions, C for coordinates last.

    The variable `described`, by default the same one, says type and units.
    """
    described = described or name
    for key in ("Type", "Units"):
        if not hasattr(file, f"{described}_{key}"):
            raise MsdetError(f"{path}: {described} has no attribute {key}")
    kind = str(getattr(file, f"{described}_Type")).strip().lower()
    if kind not in _UNITS:
        raise MsdetError(f"{path}: {name} is of type '{kind}', expected cartesian or spherical")
    units = str(getattr(file, f"{described}_Units"))
    words = [word.strip().lower() for word in units.split(",")]
    words = words * 3 if len(words) == 1 else words
    if len(words) != 3 or any(word not in known for word, known in zip(words, _UNITS[kind], strict=True)):
        expected = "meter" if kind == "cartesian" else "degree, degree, meter"
        raise MsdetError(f"{path}: {name} is in '{units}', expected '{expected}'")
    values = _values(path, file, name, dimensions, sizes)
    if kind == "spherical":
        values = values[..., 2:] * direction_vector(values[..., 0], values[..., 1])
    return values


def _values(path: Path, file: Any, name: str, dimensions: str, sizes: Mapping[str, int]) -> Array:
    """A variable with the given dimensions, repeated along those that it does not have."""
    variable = getattr(file, name)
    values = _complete(path, name, variable[:])
    named = [(letter, size) for letter, size in zip(variable.dimensions, values.shape, strict=True) if letter != "I"]
    letters = [letter for letter, _ in named]
    if not set(letters) <= set(dimensions):
        raise MsdetError(f"{path}: {name} has dimensions {', '.join(variable.dimensions)}, expected {dimensions}")
    values = values.reshape([size for _, size in named])
    ordered = values.transpose([letters.index(letter) for letter in dimensions if letter in letters])
    shape = [sizes[letter] if letter in letters else 1 for letter in dimensions]
    return np.broadcast_to(ordered.reshape(shape), [sizes[letter] for letter in dimensions])


def _complete(path: Path, name: str, stored: Any) -> Array:
    values: Array = np.ma.filled(np.ma.asarray(stored, dtype=np.float64), np.nan)
    if not np.isfinite(values).all():
        raise MsdetError(f"{path}: {name} holds values that are missing or not finite")
    return values


def _delayed(responses: Array, delays: Array) -> Array:
    """Responses ``(mic, tap)`` later by samples and fractions of them ``(mic,)``, all 0 or more."""
    if not delays.any():
        return responses
    taps = responses.shape[-1] + int(np.ceil(delays.max()))
    turned = np.exp(-2j * np.pi * np.fft.rfftfreq(2 * taps) * delays[:, None])
    return np.asarray(np.fft.irfft(np.fft.rfft(responses, 2 * taps) * turned, 2 * taps)[:, :taps])
