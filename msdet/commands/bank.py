"""``msdet bank``."""

from __future__ import annotations

from pathlib import Path

from msdet.commands._progress import progress_bar
from msdet.commands._workers import workers
from msdet.simulation.bank import make_bank
from msdet.simulation.distribution import SceneDistribution
from msdet.work import Share


def bank(
    out: Path,
    scenes: SceneDistribution = SceneDistribution(),  # noqa: B008 (a frozen dataclass)
    rooms: int = 400,
    positions: int = 6,
    seed: int = 1,
    jobs: int = 0,
    dask: str = "",
    shard: str = "1/1",
) -> None:
    """Make a bank of room impulse responses for mixing on the fly.

    Args:
        out: folder of the bank; run the same command again to finish it after a kill.
        scenes: what rooms, arrays and positions are drawn from: a YAML file or a shipped one's name.
        rooms: number of rooms.
        positions: talker positions in each room.
        seed: use one that no data set uses, so that no room is shared.
        jobs: worker processes; 0 for one a core.
        dask: address of a Dask scheduler, whose workers simulate instead; all must see the same folder.
        shard: make only part k of n, as in 3/8; when all parts are done, run again without it to finish.
    """
    with workers(jobs, dask) as pool, progress_bar("bank") as progress:
        made = make_bank(out, scenes, rooms, positions, seed, pool, progress, Share.parse(shard))
    if made is None:
        print(f"{out}: part {shard} is done; run again without --shard when all are")
    else:
        print(f"{out}: {made.rooms} rooms x {made.positions} positions at {made.sample_rate} Hz")
