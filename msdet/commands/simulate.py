"""``msdet simulate``."""

from __future__ import annotations

from pathlib import Path

from msdet.commands._progress import progress_bar, usable_cores
from msdet.data.writing import simulate as simulate_set
from msdet.simulation.sampling import SceneDistribution


def simulate(
    out: Path,
    speech: Path,
    scenes: SceneDistribution = SceneDistribution(),  # noqa: B008 (a frozen dataclass)
    corpus: str = "folder",
    split: str = "test",
    count: int = 200,
    seed: int = 0,
    jobs: int = 0,
) -> None:
    """Make a data set of multichannel mixtures with references and directions.

    Args:
        out: folder of the data set; run the same command again to finish it after a kill.
        speech: folder of the speech corpus.
        scenes: what scenes are drawn from.
        corpus: kind of the corpus, a file name in msdet/corpora.
        split: train, dev or test; splits share no talkers and no rooms.
        count: number of scenes.
        seed: the same seed gives the same data.
        jobs: worker processes; 0 for one a core.
    """
    with progress_bar(f"simulate {split}") as progress:
        made = simulate_set(out, speech, corpus, split, scenes, count, seed, jobs or usable_cores(), progress)
    print(f"{out}: {len(made.scenes)} scenes, {made.array.microphones} microphones at {made.sample_rate} Hz")
