"""A bank of room impulse responses: many rooms, several positions each, for mixing on the fly.

A folder of one safetensors file a room and, written last, ``bank.json`` with a table of all rooms. Room ``i``
depends on the bank's seed and ``i`` alone. Measured rooms make a bank too (`msdet.scenes.rir.measured`).

Where talkers move, a bank has paths for positions: as many responses in a row as a path has places.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from msdet.arrays import MicrophoneArray, load_array
from msdet.conventions import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE
from msdet.errors import MsdetError
from msdet.io.files import atomic_path, read_json
from msdet.io.jobs import ALL, Job, Progress, Shard, Workers, begin_run_dir, finish_run_dir, run_jobs
from msdet.io.records import read_record
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.rir.room_response import RoomResponse, room_response
from msdet.scenes.room_geometry import MAX_DRAWS, RoomGeometry, positions_along, sample_geometry, sample_path
from msdet.scenes.scene import Point, as_point, scene_seed

ROOM_FIELDS = (
    "room_x_m", "room_y_m", "room_z_m", "center_offset_m", "array_height_m", "rotation_deg", "tilt_deg",
    "t60_s", "t60_rule", "image_order", "distance_m", "talker_height_m", "elevation_deg", "array", "sample_rate",
    "position_error_m",
)  # fmt: skip
"""Fields of a distribution that decide the responses; the others are drawn when mixing."""

PLACE_M = 0.1
"""Between two places of a path, at most."""

HEADER = "bank.json"


@dataclass(frozen=True)
class BankRoom:
    """What is known of one room of a bank; `room_m` and `t60_target_s` are None if the room was measured.

    Azimuths, elevations and distances ``(position,)`` are seen from the array.
    """

    azimuths_deg: tuple[float, ...]
    elevations_deg: tuple[float, ...]
    distances_m: tuple[float, ...]
    t60_measured_s: float
    t60_target_s: float | None = None
    room_m: Point | None = None
    renamed: ClassVar[dict[str, str]] = {"t60_asked_s": "t60_target_s"}


@dataclass(frozen=True)
class RirBank:
    """A finished bank on disk, with a table of what is known of each room; every room has as many positions.

    `identity` is a hash of what decides its content, `settings` the fields of a distribution that did; `among` are
    the numbers of the rooms that are drawn from, all if None. Of each talker's path there are `places` in a row among
    the positions; 1 of talkers who stand.
    """

    root: Path
    positions: int
    sample_rate: int
    array: MicrophoneArray
    identity: str
    settings: dict[str, Any]
    table: tuple[BankRoom, ...]
    among: tuple[int, ...] | None = None
    places: int = 1

    @property
    def rooms(self) -> int:
        """Number of rooms."""
        return len(self.table)

    @classmethod
    def open(cls, root: str | Path) -> RirBank:
        """Open a bank; an `MsdetError` if it is none, unfinished or malformed."""
        root = Path(root)
        path = root / HEADER
        if not path.is_file():
            raise MsdetError(f"{root}: not a finished RIR bank, {HEADER} is missing")
        header = read_json(path)
        for key in ("settings", "hash", "rooms"):
            if not isinstance(header, dict) or key not in header:
                raise MsdetError(f"{path}: key '{key}' is missing")
        settings, rows = header["settings"], header["rooms"]
        if not isinstance(settings, dict) or not isinstance(rows, list):
            raise MsdetError(f"{path}: expected settings that are an object, and a list of rooms")
        for key in ("array", "positions", "sample_rate"):
            if key not in settings:
                raise MsdetError(f"{path}, settings: key '{key}' is missing")
        for key, low in (("positions", 1), ("sample_rate", MIN_SAMPLE_RATE), ("places", 1)):
            value = settings.get(key, 1)
            if type(value) is not int or not low <= value <= MAX_SAMPLE_RATE:
                raise MsdetError(f"{path}, settings: {key} is {value!r}, expected a number from {low} up")
        return cls(
            root,
            settings["positions"],
            settings["sample_rate"],
            MicrophoneArray.from_dict(settings["array"], f"{path}, array"),
            str(header["hash"]),
            {"position_error_m": 0.0}
            | ({"t60_rule": "measured"} if "t60_s" in settings else {})
            | {name: settings[name] for name in ROOM_FIELDS if name in settings},
            tuple(_read_room(row, settings["positions"], f"{path}, room {n}") for n, row in enumerate(rows)),
            places=settings.get("places", 1),
        )

    def within(self, t60_s: tuple[float, float]) -> RirBank:
        """The same bank, drawn from in rooms alone whose measured T60 is in an interval; at least one."""
        low, high = t60_s
        among = tuple(n for n, room in enumerate(self.table) if low <= room.t60_measured_s <= high)
        if not among:
            t60s = [room.t60_measured_s for room in self.table]
            ours = f"they have {min(t60s):.2f} to {max(t60s):.2f} s"
            raise MsdetError(f"{self.root}: no room has a T60 of {low} to {high} s, {ours}")
        return dataclasses.replace(self, among=among)

    def draw_positions(
        self, distribution: SceneDistribution, talkers: int, rng: np.random.Generator
    ) -> tuple[int, list[int]]:
        """Draw a room and positions in it: talkers that keep gap and sector, then noise sources.

        Of a path, any of its places; no two are of one.
        """
        d = distribution
        rooms = range(self.rooms) if self.among is None else self.among
        for _ in range(MAX_DRAWS):
            room = rooms[int(rng.integers(len(rooms)))]
            positions = rng.choice(self.positions // self.places, talkers + d.point_noises, replace=False)
            if self.places > 1:
                positions = positions * self.places + rng.integers(self.places, size=len(positions))
            if d.allows(np.array(self.table[room].azimuths_deg)[positions[:talkers]]):
                return room, [int(p) for p in positions]
        raise MsdetError(f"{self.root}: no positions of minimum_gap_deg {d.minimum_gap_deg}, sector_deg {d.sector_deg}")

    def room(self, index: int, positions: Sequence[int]) -> RoomResponse:
        """Read the responses from some positions of a room, in the order given."""
        from safetensors import SafetensorError, safe_open

        path = room_path(self.root, index)
        try:
            with safe_open(path, framework="numpy") as file:
                stored = {name: file.get_slice(name) for name in ("rirs", "direct")}
                read = {name: np.concatenate([s[p : p + 1] for p in positions]) for name, s in stored.items()}
        except (OSError, IndexError, SafetensorError) as error:
            raise MsdetError(f"{path}: not readable as a room of the bank ({error})") from error
        return RoomResponse(read["rirs"], read["direct"], self.table[index].t60_measured_s)

    def check_for(self, distribution: SceneDistribution) -> None:
        """Refuse, by an `MsdetError`, a distribution whose scenes this bank cannot give."""
        d = distribution
        if self.sample_rate != d.sample_rate:
            rates = f"RIR bank is at {self.sample_rate} Hz, the distribution asks for {d.sample_rate} Hz"
            raise MsdetError(f"{self.root}: {rates}")
        if (positions := self.positions // self.places) < d.positions:
            needed = f"{d.most_talkers} talkers and {d.point_noises} noise sources need {d.positions}"
            raise MsdetError(f"{self.root}: RIR bank has {positions} positions a room, {needed}")
        if d.moving and self.places == 1:
            remedy = "one made with scenes.moving has paths"
            raise MsdetError(f"{self.root}: talkers of this RIR bank are fixed, moving is {d.moving}; {remedy}")
        for name in ROOM_FIELDS:  # what is left at its default comes with the bank
            wanted = json.dumps(getattr(d, name))
            if getattr(d, name) == getattr(SceneDistribution, name):
                continue
            if name not in self.settings:
                problem = f"rooms of this RIR bank were measured, {name} cannot be chosen"
                raise MsdetError(f"{self.root}: {problem}; {wanted} is asked for")
            if name != "array" and json.loads(wanted) != self.settings[name]:
                raise MsdetError(f"{self.root}: RIR bank has {name} {self.settings[name]}, {wanted} is asked for")


def _read_room(row: Any, positions: int, place: str) -> BankRoom:
    """A row of the table, if it describes every position of the room."""
    room = read_record(BankRoom, row, place)
    for name in ("azimuths_deg", "elevations_deg", "distances_m"):
        if (found := len(getattr(room, name))) != positions:
            raise MsdetError(f"{place}: {name} has {found} values, expected {positions}, one a position")
    return room


def room_path(root: Path, index: int) -> Path:
    """File of room `index`."""
    return root / f"room-{index:06d}.safetensors"


def make_bank(
    out: str | Path,
    distribution: SceneDistribution,
    rooms: int,
    positions: int,
    seed: int,
    jobs: Workers,
    progress: Progress | None = None,
    share: Shard = ALL,
) -> RirBank | None:
    """Make a bank, or finish one that a killed run left; None after a part of it.

    Rooms and `positions` of talkers in each are drawn from the distribution; use different seeds for training and
    validation. Where the distribution has talkers who move, positions are paths that take the scene's duration. `share`
    is the part of the rooms to make; a run for all of them finishes the bank. An `MsdetError` says that settings are
    impossible, or that the folder has other ones.
    """
    out = Path(out)
    distribution.check()
    if seed < 0:
        raise MsdetError(f"seed is {seed}, expected 0 or more")
    if positions < distribution.positions or rooms < 1:
        expected = f"{distribution.positions} positions, one for each talker and noise source"
        raise MsdetError(f"a bank of {rooms} rooms x {positions} positions: expected at least 1 room and {expected}")
    array = load_array(distribution.array)
    settings: dict[str, Any] = {name: getattr(distribution, name) for name in ROOM_FIELDS}
    places = _places(distribution)
    settings |= {"array": array.to_dict(), "rooms": rooms, "positions": positions * places, "seed": seed}
    if places > 1:
        settings |= {"places": places, "speed_m_s": distribution.speed_m_s, "duration_s": distribution.duration_s}
    if not distribution.position_error_m:
        del settings["position_error_m"]  # as in banks made before there was such a choice
    if distribution.t60_rule == "measured":
        del settings["t60_rule"]  # likewise
    settings = json.loads(json.dumps(settings))
    # the gap between talkers is for those that are mixed, not for all positions in a room
    spread = dataclasses.replace(distribution, minimum_gap_deg=0.0, point_noises=0)
    sample_geometry(spread, positions, np.random.default_rng(seed))  # an impossible one claims no folder
    if not begin_run_dir(out, settings, HEADER, share):
        return RirBank.open(out)
    out = out.resolve()  # a cluster's workers have folders of their own to start from
    todo = [index for index in share.of(range(rooms)) if not room_path(out, index).exists()]
    work = [Job(_make_room, (out, index, spread, array, positions, seed)) for index in todo]
    run_jobs(work, jobs, progress, done=len(share.of(range(rooms))) - len(todo))
    return finish_bank(out, settings) if share == ALL else None


def finish_bank(out: Path, settings: dict[str, Any]) -> RirBank:
    """Write the header of a bank whose rooms are all there, and open it."""
    table = [_read_description(room_path(out, index)) for index in range(settings["rooms"])]
    finish_run_dir(out, settings, HEADER, {"rooms": table})
    return RirBank.open(out)


def write_room(path: Path, response: RoomResponse, room: BankRoom) -> None:
    """Write one room of a bank: its responses, and in the file's metadata what is known of it."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    tensors = {name: np.ascontiguousarray(getattr(response, name)) for name in ("rirs", "direct")}
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={"room": json.dumps(dataclasses.asdict(room))})
        except SafetensorError as error:
            raise OSError(str(error)) from error


def _read_description(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return json.loads(file.metadata()["room"])
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise MsdetError(f"{path}: not readable as a room of the bank ({error}); delete it") from error


def _make_room(out: Path, index: int, d: SceneDistribution, array: MicrophoneArray, positions: int, seed: int) -> None:
    room_seed = scene_seed(seed, f"room-{index}")
    rng = np.random.default_rng(room_seed)
    geometry = _with_paths(d, sample_geometry(d, positions, rng, f"room {index}"), rng)
    errors_m = np.random.default_rng([room_seed, 1]).normal(size=array.positions.shape) * d.position_error_m
    microphones_m = geometry.microphones_m(array.positions + errors_m)
    where = (geometry.room_m, geometry.t60_s, microphones_m, np.array(geometry.positions_m))
    response = room_response(*where, d.sample_rate, image_order=d.image_order, seed=room_seed, rule=d.t60_rule)
    azimuths, elevations, distances = (tuple(column.tolist()) for column in geometry.from_array())
    room = BankRoom(azimuths, elevations, distances, response.t60_measured_s, geometry.t60_s, geometry.room_m)
    write_room(room_path(out, index), response, room)


def _places(d: SceneDistribution) -> int:
    """How many places a path has."""
    return math.ceil(d.speed_m_s[1] * d.duration_s / PLACE_M) + 1 if d.moving else 1


def _with_paths(d: SceneDistribution, geometry: RoomGeometry, rng: np.random.Generator) -> RoomGeometry:
    """The same, a path from each position in its stead, if talkers move."""
    if not d.moving:
        return geometry
    times_s = np.linspace(0.0, d.duration_s, _places(d))
    paths = [positions_along(sample_path(d, start, geometry, rng), times_s) for start in geometry.positions_m]
    return dataclasses.replace(geometry, positions_m=tuple(as_point(place) for path in paths for place in path))
