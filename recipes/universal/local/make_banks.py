"""Make an RIR bank for each array of a folder, in rooms of each kind in turn."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from msdet.cli import run_command
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.rir.bank import make_bank


def make_banks(
    arrays: Path, kinds: Path, out: Path, rooms: int = 10, positions: int = 6, seed: int = 0, jobs: int = 1
) -> None:
    """Make banks, or go on where a killed run ended.

    Args:
        arrays: folder of TOML files.
        kinds: folder of scene distributions, each for some of the arrays in turn.
        out: folder of the banks, each called as its array's file.
        rooms: of each bank.
        positions: in each room; of talkers who walk as many paths as talk at once at most.
        seed: of everything.
        jobs: rooms made at a time.
    """
    files = sorted(kinds.glob("*.yaml"))
    for n, array in enumerate(sorted(arrays.glob("*.toml"))):
        settings = yaml.safe_load(files[n % len(files)].read_text(encoding="utf-8"))
        intervals = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
        distribution = SceneDistribution(array=str(array), talkers=min(4, positions), **intervals)
        paths = distribution.most_talkers if distribution.moving else positions
        make_bank(out / array.stem, distribution, rooms, paths, seed + n, jobs)
        print(f"{out / array.stem}: {rooms} rooms, {files[n % len(files)].stem}", flush=True)


if __name__ == "__main__":
    sys.exit(run_command(make_banks, None, "make_banks.py"))
