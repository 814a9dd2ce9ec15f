"""``msdet bank``."""

from __future__ import annotations

from pathlib import Path

from msdet.commands._progress import progress_bar, usable_cores
from msdet.simulation.bank import make_bank
from msdet.simulation.sampling import SceneDistribution


def bank(
    out: Path,
    scenes: SceneDistribution = SceneDistribution(),  # noqa: B008 (a frozen dataclass)
    rooms: int = 400,
    positions: int = 6,
    seed: int = 1,
    jobs: int = 0,
) -> None:
    """Make a bank of room impulse responses for mixing on the fly.

    Args:
        out: folder of the bank; run the same command again to finish it after a kill.
        scenes: what rooms, arrays and positions are drawn from.
        rooms: number of rooms.
        positions: talker positions in each room.
        seed: use one that no data set uses, so that no room is shared.
        jobs: worker processes; 0 for one a core.
    """
    with progress_bar("bank") as progress:
        made = make_bank(out, scenes, rooms, positions, seed, jobs or usable_cores(), progress)
    print(f"{out}: {made.rooms} rooms x {made.positions} positions at {made.sample_rate} Hz")
