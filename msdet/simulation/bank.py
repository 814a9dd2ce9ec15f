"""A bank of room impulse responses: many rooms, several talker positions each, for mixing on the fly.

A bank is a folder of one safetensors file a room and, written last, ``bank.json``. Room ``i`` depends only
on the bank's seed and ``i``, so any number of workers writes the same bytes, and a killed run goes on.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msdet.arrays import MicrophoneArray, load_array
from msdet.conventions import Array
from msdet.errors import MsdetError
from msdet.files import atomic_path, read_json
from msdet.simulation.acoustics import RoomResponse, room_response
from msdet.simulation.sampling import SceneDistribution, sample_geometry
from msdet.simulation.scene import scene_seed
from msdet.work import Job, claim_folder, finish_folder, run_jobs

ROOM_FIELDS = (
    "room_x_m", "room_y_m", "room_z_m", "centre_offset_m", "t60_s", "distance_m", "array", "sample_rate"
)  # fmt: skip
"""Fields of a distribution that decide the responses; the others are drawn when mixing."""


@dataclass(frozen=True)
class BankRoom:
    """One room of a bank: responses of ``position`` sources, and where they are."""

    response: RoomResponse
    azimuths_deg: Array
    distances_m: Array

    def select(self, positions: Array) -> BankRoom:
        """The same room with some of its positions, in the order given."""
        r = self.response
        return BankRoom(
            RoomResponse(r.rirs[positions], r.direct[positions], r.t60_measured_s),
            self.azimuths_deg[positions],
            self.distances_m[positions],
        )


@dataclass(frozen=True)
class RirBank:
    """A finished bank on disk."""

    root: Path
    rooms: int
    positions: int
    sample_rate: int
    array: MicrophoneArray
    identity: str
    settings: dict[str, Any]

    @classmethod
    def open(cls, root: Path) -> RirBank:
        """Open a finished bank.

        Raises:
            MsdetError: not a bank, or an unfinished one.
        """
        if not (root / "bank.json").is_file():
            raise MsdetError(f"{root}: not a finished RIR bank, bank.json is missing")
        header = read_json(root / "bank.json")
        try:
            settings = header["settings"]
            return cls(
                root,
                int(settings["rooms"]),
                int(settings["positions"]),
                int(settings["sample_rate"]),
                MicrophoneArray.from_dict(settings["array"], f"{root}/bank.json, array"),
                str(header["hash"]),
                {name: settings[name] for name in ROOM_FIELDS},
            )
        except (KeyError, TypeError, ValueError) as error:
            raise MsdetError(f"{root}/bank.json: malformed ({error})") from error

    def room(self, index: int) -> BankRoom:
        """Read one room.

        Raises:
            MsdetError: its file is missing or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        path = room_path(self.root, index)
        try:
            tensors = load_file(path)
            response = RoomResponse(tensors["rirs"], tensors["direct"], float(tensors["t60_measured_s"][0]))
            return BankRoom(response, tensors["azimuths_deg"], tensors["distances_m"])
        except (OSError, KeyError, SafetensorError) as error:
            raise MsdetError(f"{path}: not readable as a room of the bank ({error})") from error


def room_path(root: Path, index: int) -> Path:
    """File of room `index`."""
    return root / f"room-{index:06d}.safetensors"


def make_bank(
    out: Path,
    distribution: SceneDistribution,
    rooms: int,
    positions: int,
    seed: int,
    jobs: int,
    progress: Callable[[int, int], None] | None = None,
) -> RirBank:
    """Make a bank, or finish one that a killed run left.

    Args:
        out: its folder.
        distribution: what rooms and positions are drawn from.
        rooms: number of rooms.
        positions: talker positions in each room.
        seed: of the whole bank; use different ones for training and validation.
        jobs: worker processes.
        progress: called with rooms done and in all.

    Raises:
        MsdetError: impossible settings, a folder with other settings, or one that cannot be written.
    """
    distribution.check()
    if positions < distribution.talkers or rooms < 1:
        raise MsdetError(
            f"a bank of {rooms} rooms x {positions} positions: expected at least 1 room and "
            f"{distribution.talkers} positions, one for each talker"
        )
    array = load_array(distribution.array)
    settings: dict[str, Any] = {name: getattr(distribution, name) for name in ROOM_FIELDS}
    settings |= {"array": array.to_dict(), "rooms": rooms, "positions": positions, "seed": seed}
    settings = json.loads(json.dumps(settings))
    # the gap between talkers is asked of those that are mixed, not of all positions in a room
    spread = dataclasses.replace(distribution, minimum_gap_deg=0.0)
    sample_geometry(spread, positions, np.random.default_rng(seed))  # an impossible one claims no folder
    if not claim_folder(out, settings, "bank.json"):
        return RirBank.open(out)
    todo = [
        Job(_make_room, (out, index, spread, array, positions, seed))
        for index in range(rooms)
        if not room_path(out, index).exists()
    ]
    run_jobs(todo, jobs, progress, done=rooms - len(todo))
    finish_folder(out, settings, "bank.json", {})
    return RirBank.open(out)


def _make_room(
    out: Path, index: int, d: SceneDistribution, array: MicrophoneArray, positions: int, seed: int
) -> None:
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    rng = np.random.default_rng(scene_seed(seed, f"room-{index}"))
    geometry = sample_geometry(d, positions, rng)
    response = room_response(
        geometry.room_m,
        geometry.t60_s,
        geometry.microphones_m(array.positions),
        np.array(geometry.positions_m),
        d.sample_rate,
    )
    tensors = {
        "rirs": response.rirs,
        "direct": response.direct,
        "azimuths_deg": geometry.azimuths_deg,
        "distances_m": geometry.distances_m,
        "t60_measured_s": np.array([response.t60_measured_s]),
    }
    with atomic_path(room_path(out, index)) as temporary:
        try:
            save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, temporary)
        except SafetensorError as error:
            raise OSError(str(error)) from error
