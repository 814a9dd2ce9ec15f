"""``msdet simulate`` and ``msdet bank``."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from msdet.commands._progress import progress_bar, workers
from msdet.errors import MsdetError
from msdet.io.jobs import Shard
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.scene import T60_RULES

ROOMS, POSITIONS, SEED = 400, 6, 1  # of a simulated bank, unless others are asked for


def simulate(
    out: Path,
    speech: Path,
    scenes: SceneDistribution = SceneDistribution(),  # noqa: B008 (a frozen dataclass)
    corpus: str = "folder",
    split: str = "test",
    count: int = 200,
    seed: int = 0,
    noise: Path | None = None,
    bank: Path | None = None,
    jobs: int = 0,
    dask: str = "",
    shard: str = "1/1",
) -> None:
    """Make a data set of multichannel mixtures with references and directions.

    Args:
        out: folder of the data set; run the same command again to finish it after a kill.
        speech: folder of the speech corpus.
        scenes: what scenes are drawn from: a YAML file or a shipped one's name.
        corpus: kind of the corpus, a file name in msdet/corpora.
        split: train, dev or test; splits share no talkers and no rooms.
        count: number of scenes.
        seed: the same seed gives the same data.
        noise: folder of noise recordings for diffuse and point noise; without it, other talkers babble.
        bank: RIR bank to take rooms from, such as a measured one, instead of a new room for every scene.
        jobs: worker processes; 0 for one a core.
        dask: address of a Dask scheduler, whose workers render instead; all must see the same folders.
        shard: render only part k of n, as in 3/8; when all parts are done, run again without it to finish.
    """
    from msdet.data.simulate import simulate as simulate_set

    share = Shard.parse(shard)
    with workers(jobs, dask) as pool, progress_bar(f"simulate {split}") as progress:
        made = simulate_set(out, speech, corpus, split, scenes, count, seed, pool, progress, noise, bank, share)
    if made is None:
        print(f"{out}: part {shard} is done; run again without --shard when all are")
    else:
        print(f"{out}: {len(made.scenes)} scenes, {made.array.microphones} microphones at {made.sample_rate} Hz")
        if bank is None and scenes.t60_s[1]:
            print(f"  {T60_RULES[scenes.t60_rule]}")


def bank(
    out: Path,
    scenes: SceneDistribution = SceneDistribution(),  # noqa: B008 (a frozen dataclass)
    rooms: int = ROOMS,
    positions: int = 0,
    seed: int = SEED,
    measured: Path | None = None,
    sample_rate: int = 0,
    array: str | None = None,
    channels: str | None = None,
    jobs: int = 0,
    dask: str = "",
    shard: str = "1/1",
) -> None:
    """Make a bank of room impulse responses for mixing on the fly, simulated or measured.

    Args:
        out: folder of the bank; run the same command again to finish it after a kill.
        scenes: what rooms, arrays and positions are drawn from: a YAML file or a shipped one's name; not of
            measured rooms.
        rooms: number of rooms.
        positions: talker positions in each room; 0 for 6, or for as many as the smallest measured room has.
        seed: use one that no data set uses, so that no room is shared.
        measured: take responses from here instead: a folder with positions.tsv and multichannel audio, a SOFA
            file, or a folder of SOFA files.
        sample_rate: of a bank of measured rooms; 0 for that of the responses.
        array: name or TOML file of the array of the measured responses; SOFA files know their own.
        channels: those of measured audio files that are the array's microphones, for example 1-4 or 0,2,5.
        jobs: worker processes; 0 for one a core.
        dask: address of a Dask scheduler, whose workers simulate instead; all must see the same folder.
        shard: make only part k of n, as in 3/8; when all parts are done, run again without it to finish.
    """
    from msdet.arrays.recorded import parse_channels
    from msdet.scenes.rir.bank import make_bank
    from msdet.scenes.rir.measured import make_measured_bank

    share = Shard.parse(shard)
    for name, given in (("array", array), ("channels", channels), ("sample_rate", sample_rate or None)):
        if measured is None and given is not None:
            choose = f"--scenes.{'array' if name == 'channels' else name}"
            raise MsdetError(f"--{name} {given} is for --measured rooms; of simulated ones, choose {choose}")
    if measured is not None:
        _refuse_contradictions(scenes, rooms, seed)
    with workers(jobs, dask) as pool, progress_bar("bank") as progress:
        if measured is None:
            made = make_bank(out, scenes, rooms, positions or POSITIONS, seed, pool, progress, share)
        else:
            numbers = None if channels is None else parse_channels(channels)
            options = (sample_rate, positions, pool, progress, share, numbers)
            made = make_measured_bank(out, measured, array, *options)
    if made is None:
        print(f"{out}: part {shard} is done; run again without --shard when all are")
    else:
        print(f"{out}: {made.rooms} rooms x {made.positions} positions at {made.sample_rate} Hz")
        if measured is None and scenes.t60_s[1]:
            print(f"  {T60_RULES[scenes.t60_rule]}")


def _refuse_contradictions(scenes: SceneDistribution, rooms: int, seed: int) -> None:
    """Refuse options that measured rooms leave nothing to choose of."""
    from msdet.scenes.rir.bank import ROOM_FIELDS

    drawn, default = dataclasses.asdict(scenes), dataclasses.asdict(SceneDistribution())
    options = [("rooms", rooms, ROOMS), ("seed", seed, SEED)]
    options += [(f"scenes.{n}", drawn[n], default[n]) for n in ROOM_FIELDS]
    for name, value, unasked in options:
        if value != unasked:
            own = {"scenes.array": "--array", "scenes.sample_rate": "--sample_rate"}.get(name)
            instead = f"; choose it by {own}" if own else ""
            raise MsdetError(f"--{name} {value} is for simulated rooms; those of --measured are as they are{instead}")
