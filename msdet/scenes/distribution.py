"""What scenes are drawn from, as typed settings; presets are in ``msdet/configs/scenes``.

The defaults are the rules of SMS-WSJ (Drude et al., arXiv:1910.13934): a circular array of six
microphones, randomly rotated, near the middle of a room of about 8 x 6 x 3 m; two talkers at 1 to 2 m,
uniform over the area, at the array's height; T60 of 0.2 to 0.5 s; sensor noise at 20 to 30 dB.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np

from msdet.conventions import Array
from msdet.errors import MsdetError
from msdet.scenes.rir.reverberation import longest_t60_s, shortest_t60_s
from msdet.scenes.scene import T60Rule, Target

Interval = tuple[float, float]
"""Lower and upper end of a uniform distribution."""

MAX_TALKERS = 8

LIMITS: dict[str, tuple[float, float]] = {
    "sample_rate": (4000, 192_000),
    "duration_s": (0.1, 3600),
    "room_x_m": (0.5, 100),
    "room_y_m": (0.5, 100),
    "room_z_m": (0.5, 100),
    "distance_m": (0.05, 100),
    "array_height_m": (0.01, 100),
    "talker_height_m": (0.01, 100),
    "elevation_deg": (-80, 80),
    "image_order": (0, 20),
    "minimum_gap_deg": (0, 180),
    "overlap": (0, 1),
    "moving": (0, 1),
    "speed_m_s": (0.01, 10),
    "level_db": (-60, 60),
    "snr_db": (-60, 120),
    "diffuse_snr_db": (-60, 120),
    "point_snr_db": (-60, 120),
    "point_noises": (0, 16),
    "gain_error_db": (0, 20),
    "phase_error_deg": (0, 180),
    "position_error_m": (0, 1),
}
"""Possible values of fields, in their units."""


@dataclass(frozen=True)
class SceneDistribution:
    """What scenes are drawn from; intervals are uniform.

    Attributes:
        sample_rate: of everything rendered, hertz.
        duration_s: length of a mixture.
        talkers: number of talkers, or numbers with their weights, as in ``{2: 0.7, 3: 0.3}``.
        array: name of a shipped array, or path of a TOML file.
        room_x_m: length of the room.
        room_y_m: width of the room.
        room_z_m: height of the room.
        center_offset_m: of the array's center from the room's, on each axis.
        array_height_m: of the array's center above the floor, instead of the room's middle.
        rotation_deg: yaw of the array.
        tilt_deg: pitch and roll of the array.
        t60_s: target reverberation time; 0 is anechoic.
        t60_rule: what that means: measured on the responses, or sabine, the walls that Sabine's formula gives, as in
            SMS-WSJ and most simulators, where of long T60s a fifth more is measured.
        image_order: reflections beyond this order by ray tracing, for long T60s; null for image sources
            alone. Traced tails are not coherent between microphones, however close, and may differ in level.
        distance_m: talker to array center over the floor plan, uniform over the area.
        talker_height_m: above the floor; null for the array's height.
        elevation_deg: of the talkers above the horizon of the array's center, instead of `talker_height_m`.
        minimum_gap_deg: smallest azimuth difference between two talkers.
        sector_deg: width of the sector of the floor plan, anywhere around the array, with all talkers.
        overlap: fraction of the scene in which two or more have their turn; null gives all talkers the
            whole scene. A turn is one utterance at most, so short ones overlap less (`Scene.overlap_ratio`).
        moving: chance that a talker moves.
        speed_m_s: of a talker that moves.
        level_db: level of each talker.
        snr_db: all talkers' images against sensor noise.
        diffuse: field of a diffuse noise, from recordings or else babble of other talkers.
        diffuse_snr_db: all talkers' images against it.
        point_noises: number of noise sources in the room.
        point_snr_db: all talkers' images against each.
        gain_error_db: standard deviation of each microphone's gain.
        phase_error_deg: standard deviation of each microphone's phase.
        position_error_m: standard deviation of each microphone's position, on each axis.
        target: what a reference holds.
    """

    sample_rate: int = 8000
    duration_s: float = 4.0
    talkers: int | dict[int, float] = 2
    array: str = "circular6_10cm"
    room_x_m: Interval = (7.8, 8.2)
    room_y_m: Interval = (5.8, 6.2)
    room_z_m: Interval = (2.8, 3.2)
    center_offset_m: Interval = (-0.2, 0.2)
    array_height_m: Interval | None = None
    rotation_deg: Interval = (0.0, 360.0)
    tilt_deg: Interval = (0.0, 0.0)
    t60_s: Interval = (0.2, 0.5)
    t60_rule: T60Rule = "measured"
    image_order: int | None = None
    distance_m: Interval = (1.0, 2.0)
    talker_height_m: Interval | None = None
    elevation_deg: Interval | None = None
    minimum_gap_deg: float = 0.0
    sector_deg: float = 360.0
    overlap: Interval | None = None
    moving: float = 0.0
    speed_m_s: Interval = (0.3, 1.0)
    level_db: Interval = (-2.5, 2.5)
    snr_db: Interval = (20.0, 30.0)
    diffuse: Literal["none", "spherical", "cylindrical"] = "none"
    diffuse_snr_db: Interval = (5.0, 20.0)
    point_noises: int = 0
    point_snr_db: Interval = (5.0, 20.0)
    gain_error_db: float = 0.0
    phase_error_deg: float = 0.0
    position_error_m: float = 0.0
    target: Target = "direct"

    def to_dict(self) -> dict[str, Any]:
        """As plain values, from which a set's hash is made: without choices that earlier versions had not, if usual."""
        return {k: v for k, v in asdict(self).items() if k != "t60_rule" or v != "measured"}

    @property
    def weights(self) -> dict[int, float]:
        """Weight of each number of talkers, ascending."""
        weights = self.talkers if isinstance(self.talkers, dict) else {self.talkers: 1.0}
        return {count: weights[count] for count in sorted(weights)}

    @property
    def most_talkers(self) -> int:
        """The largest number of talkers."""
        return max(self.weights)

    @property
    def positions(self) -> int:
        """Most places in a room that sound comes from: talkers and noise sources."""
        return self.most_talkers + self.point_noises

    def allows(self, azimuths_deg: Array) -> bool:
        """Whether talkers at azimuths ``(talker,)`` keep the gap and the sector."""
        if len(azimuths_deg) < 2:
            return True
        around = np.sort(azimuths_deg)
        gaps = np.diff(around, append=around[0] + 360.0)
        return bool(gaps.min() >= self.minimum_gap_deg and 360.0 - gaps.max() <= self.sector_deg)

    def check(self) -> None:
        """Refuse, by an `MsdetError` with field and limits, a distribution to draw no scenes from."""
        self._check_values()
        self._check_talkers()
        self._check_t60()

    def _check_values(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            numbers = value if isinstance(value, tuple) else (value,)
            if any(isinstance(n, float) and not math.isfinite(n) for n in numbers):
                raise MsdetError(f"{field.name} is {value}, expected finite numbers")
            if isinstance(value, tuple) and not value[0] <= value[1]:
                raise MsdetError(f"{field.name} is {list(value)}, expected [low, high] with low <= high")
        for name, (low, high) in LIMITS.items():
            value = getattr(self, name)
            if value is not None and not all(low <= v <= high for v in np.atleast_1d(value)):
                shown = list(value) if isinstance(value, tuple) else value
                raise MsdetError(f"{name} is {shown}, expected {low:g} to {high:g}")

    def _check_talkers(self) -> None:
        weights = self.weights
        if not weights or min(weights) < 1 or max(weights) > MAX_TALKERS:
            raise MsdetError(f"talkers is {self.talkers}, expected 1 to {MAX_TALKERS}")
        if min(weights.values()) < 0 or not math.isfinite(sum(weights.values())) or not any(weights.values()):
            raise MsdetError(f"talkers is {self.talkers}, expected weights of 0 or more, one at least above 0")
        gaps = self.most_talkers - (self.sector_deg < 360.0)  # around the circle the last gap counts too
        if not 0.0 < self.sector_deg <= 360.0 or self.minimum_gap_deg * gaps > self.sector_deg:
            wanted = f"minimum_gap_deg is {self.minimum_gap_deg}: {self.most_talkers} talkers"
            raise MsdetError(f"{wanted} do not fit into a sector_deg of {self.sector_deg}")
        if self.talker_height_m is not None and self.elevation_deg is not None:
            raise MsdetError("talker_height_m and elevation_deg are both set, expected one of them")
        restrictions = {
            "sector_deg": self.sector_deg < 360.0,
            "elevation_deg": self.elevation_deg is not None,
            "image_order": self.image_order is not None,  # traced tails along a path do not belong together
        }
        for name, restricted in restrictions.items():
            if self.moving and restricted:
                shown = getattr(self, name)
                raise MsdetError(f"moving is {self.moving} and {name} {shown}: not possible together")

    def _check_t60(self) -> None:
        smallest = (self.room_x_m[0], self.room_y_m[0], self.room_z_m[0])
        low, high = self.t60_s
        if self.image_order is None and high > (latest := longest_t60_s(smallest)):
            raise MsdetError(
                f"t60_s is {list(self.t60_s)}: in a room of {smallest} m up to {latest:.2f} s can be "
                "rendered with image sources; set image_order to trace rays beyond"
            )
        shortest = shortest_t60_s(smallest)
        if low < 0 or low == 0 < high or 0 < high < shortest:
            raise MsdetError(
                f"t60_s is {list(self.t60_s)}: in a room of {smallest} m it is at least "
                f"{math.ceil(shortest * 1000) / 1000:.3f} s, or [0, 0] for anechoic"
            )
