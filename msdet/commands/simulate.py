"""``msdet simulate``."""

from __future__ import annotations

from pathlib import Path

from msdet.commands._progress import progress_bar, workers
from msdet.data.simulate import simulate as simulate_set
from msdet.io.jobs import Shard
from msdet.scenes.distribution import SceneDistribution


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
    share = Shard.parse(shard)
    with workers(jobs, dask) as pool, progress_bar(f"simulate {split}") as progress:
        made = simulate_set(
            out, speech, corpus, split, scenes, count, seed, pool, progress, noise, bank, share
        )
    if made is None:
        print(f"{out}: part {shard} is done; run again without --shard when all are")
    else:
        print(
            f"{out}: {len(made.scenes)} scenes, {made.array.microphones} microphones at {made.sample_rate} Hz"
        )
