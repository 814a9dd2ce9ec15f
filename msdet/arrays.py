"""Microphone arrays: presets shipped as TOML files, and users' own files of the same form.

A file holds ``name``, ``source`` (where the coordinates come from), ``positions_m`` (one ``[x, y, z]``
per channel, in channel order) and, if it is not channel 0, ``reference``.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from msdet.conventions import SPEED_OF_SOUND, Array
from msdet.errors import MsdetError, UnknownNameError, did_you_mean

_KEYS = ("name", "source", "description", "positions_m", "reference")


@dataclass(frozen=True)
class MicrophoneArray:
    """Geometry of an array, in its own frame.

    Attributes:
        name: its name.
        positions_m: ``[x, y, z]`` of each microphone in metres, in channel order.
        reference: index of the reference microphone.
        source: where the coordinates come from.
    """

    name: str
    positions_m: tuple[tuple[float, float, float], ...]
    reference: int = 0
    source: str = ""

    def __post_init__(self) -> None:
        for problem in _problems(self.positions, self.reference):
            raise MsdetError(f"array '{self.name}': {problem}")

    @property
    def positions(self) -> Array:
        """Coordinates ``(mic, 3)`` in metres."""
        return np.asarray(self.positions_m, dtype=np.float64).reshape(len(self.positions_m), 3)

    @property
    def microphones(self) -> int:
        """Number of microphones."""
        return len(self.positions_m)

    @property
    def aperture_m(self) -> float:
        """Largest distance between two microphones."""
        p = self.positions
        return float(np.linalg.norm(p[:, None] - p[None], axis=-1).max())

    @property
    def is_linear(self) -> bool:
        """Whether all microphones lie on one line, so that only the angle to that line can be told."""
        p = self.positions - self.positions[0]
        return bool(np.linalg.matrix_rank(p, tol=1e-4) < 2)

    @property
    def aliasing_frequency_hz(self) -> float:
        """Frequency above which the closest pair of microphones is ambiguous: c / (2 d)."""
        p = self.positions
        distance = np.linalg.norm(p[:, None] - p[None], axis=-1)
        return float(SPEED_OF_SOUND / (2 * distance[np.triu_indices(len(p), 1)].min()))

    def to_dict(self) -> dict[str, Any]:
        """JSON form, read back by `from_dict`."""
        return {
            "name": self.name,
            "positions_m": [list(p) for p in self.positions_m],
            "reference": self.reference,
            "source": self.source,
        }

    @classmethod
    def from_dict(cls, value: dict[str, Any], origin: str = "array") -> MicrophoneArray:
        """Build from a TOML or JSON table.

        Raises:
            MsdetError: a missing or unknown key, or impossible coordinates; `origin` says where.
        """
        if not isinstance(value, dict):
            raise MsdetError(f"{origin}: is {value!r}, expected a table with name and positions_m")
        for key in value:
            if key not in _KEYS:
                raise MsdetError(f"{origin}: unknown key '{key}'{did_you_mean(key, _KEYS)}")
        for key in ("name", "positions_m"):
            if key not in value:
                raise MsdetError(f"{origin}: key '{key}' is missing")
        try:
            positions = np.asarray(value["positions_m"], dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise MsdetError(f"{origin}: positions_m must be a list of [x, y, z] in metres") from error
        if positions.ndim != 2 or positions.shape[1] != 3:
            raise MsdetError(f"{origin}: positions_m has shape {positions.shape}, expected (microphones, 3)")
        reference = value.get("reference", 0)
        if not isinstance(reference, int):
            raise MsdetError(f"{origin}: reference is {reference!r}, expected a channel index")
        points = tuple((float(x), float(y), float(z)) for x, y, z in positions)
        return cls(str(value["name"]), points, reference, str(value.get("source", "")))


def _problems(positions: Array, reference: int) -> list[str]:
    """What is wrong with coordinates, in words."""
    if len(positions) < 2:
        return [f"has {len(positions)} microphone(s), expected at least 2"]
    if not np.isfinite(positions).all():
        return ["has a coordinate that is not a finite number"]
    if not 0 <= reference < len(positions):
        return [f"reference is {reference}, expected 0 to {len(positions) - 1}"]
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    pairs = np.argwhere(np.triu(distance < 1e-4, 1))
    if len(pairs):
        return [f"microphones {pairs[0][0]} and {pairs[0][1]} are at the same point"]
    if distance.max() > 5.0:
        return [f"is {distance.max():.0f} m wide; are the coordinates in millimetres, not metres?"]
    return []


def array_names() -> list[str]:
    """Names of the arrays that msdet ships."""
    return sorted(p.name.removesuffix(".toml") for p in _preset_folder().iterdir())


def load_array(name: str) -> MicrophoneArray:
    """A shipped array by name, or a user's own by the path of a TOML file.

    Raises:
        UnknownNameError: neither a shipped name nor a file; offers the nearest name.
        MsdetError: the file cannot be read or describes no possible array.
    """
    if name.endswith(".toml"):
        path = Path(name)
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise MsdetError(f"{path}: cannot be read ({error.strerror})") from error
        return _parse(text, str(path))
    if name not in array_names():
        raise UnknownNameError("array", name, array_names())
    return _parse((_preset_folder() / f"{name}.toml").read_text(encoding="utf-8"), name)


def _parse(text: str, origin: str) -> MicrophoneArray:
    try:
        return MicrophoneArray.from_dict(tomllib.loads(text), origin)
    except tomllib.TOMLDecodeError as error:
        raise MsdetError(f"{origin}: not valid TOML ({error})") from error


def _preset_folder() -> Any:
    return resources.files("msdet") / "arrays"
