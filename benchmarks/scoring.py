"""How fast are scenes scored? A loop over asteroid's `get_metrics` against `score_set`, and do they agree?

Both read the same files of two talkers and compute SI-SDR, SDR and STOI of the estimates, with the mixture's
own scores and without. The loop runs in one process, whose linear algebra may use all cores; `score_set` in
one process a core, their start included. For SDR, asteroid always finds a permutation of its own, by SIR;
for SI-SDR it removes the mean. Estimates are references with some of the other talker, and noise.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from _common import report, run, write_corpus

from msdet.commands._progress import progress_bar, usable_cores
from msdet.data.scene_set import SceneSet
from msdet.data.simulate import simulate
from msdet.errors import MsdetError
from msdet.io import audio
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.scene import Scene
from msdet.scoring.metrics import SEPARATION_METRICS
from msdet.scoring.score import score_set, score_unprocessed
from msdet.scoring.submission import read_estimates

T = TypeVar("T")
Row = dict[str, Any]
METRICS = ("si_sdr", "sdr", "stoi")
TALKERS, DURATION_S, SPLIT = 2, 4.0, "train"
QUICK_SCENES = 6
WAYS, ROUNDS = ("asteroid loop", "score_set"), 4
LEAK_DB, NOISE_DB = -12.0, -25.0


def scoring(quick: bool = False, scenes: int = 200, data: Path | None = None, estimates: Path | None = None) -> None:
    """Count scenes per second of both ways, on all cores, and compare their values.

    Args:
        quick: at most 6 scenes.
        scenes: how many to make; of a given set, the first so many.
        data: rendered set of two talkers to use instead of made-up ones.
        estimates: folder of estimates for it, in any order.
    """
    if (data is None) != (estimates is None):
        raise MsdetError("give both --data and --estimates, or neither")
    scenes = min(scenes, QUICK_SCENES) if quick else scenes
    with tempfile.TemporaryDirectory() as folder, progress_bar("scoring") as progress:
        root = Path(folder)
        if data is None or estimates is None:
            scene_set, estimates = make_set(root, scenes), root / "estimates"
            write_estimates(scene_set, estimates)
        else:
            scene_set = SceneSet.open(data)
            scene_set = dataclasses.replace(scene_set, scenes=scene_set.scenes[:scenes])
        scored, theirs, seconds = measure(scene_set, estimates, root, 1 if quick else ROUNDS, progress)
    rows = []
    for mixture in ("with", "without"):
        loop_s = seconds["asteroid loop", mixture]
        for way in WAYS:
            took = seconds[way, mixture]
            rows.append({"way": way, "mixture": mixture, "scenes_per_s": len(scored) / took, "ratio": loop_s / took})
    ratios = {f"ratio_{row['mixture']}_mixture": row["ratio"] for row in rows if row["way"] == "score_set"}
    found = differences(scored, theirs)
    report(rows, ratio=min(ratios.values()), **found, **ratios, scenes=len(scored), cores=usable_cores())


def measure(
    scene_set: SceneSet, estimates: Path, root: Path, rounds: int, progress: Callable[[int, int], None]
) -> tuple[list[Row], dict[str, dict[str, Any]], dict[tuple[str, str], float]]:
    """Scores of both ways, asteroid's by scene, and seconds by way and by whether the mixture is scored.

    The loop does a part of the scenes a round and `score_set` all of them, so that what else the machine does
    weighs on both; of `score_set` the mean over rounds counts.
    """
    ours = partial(score_set, scene_set, estimates, root / "scores.jsonl", usable_cores(), None, METRICS)
    mixtures = score_unprocessed(scene_set, root / "mixtures.jsonl", usable_cores(), None, METRICS)
    scored = ours()
    pairs = list(zip(scored, scene_set.scenes, strict=True))
    theirs: dict[str, dict[str, Any]] = {}
    seconds = dict.fromkeys(((way, m) for way in WAYS for m in ("with", "without")), 0.0)
    asteroid_scores(scene_set, estimates, *pairs[0], True)  # imports
    progress(0, rounds)
    for number in range(rounds):
        for mixture, before in (("with", ()), ("without", mixtures)):
            seconds["score_set", mixture] += timed(partial(ours, before))[1] / rounds
            for row, scene in pairs[number::rounds]:
                score = partial(asteroid_scores, scene_set, estimates, row, scene, mixture == "with")
                found, took = timed(score)
                seconds["asteroid loop", mixture] += took
                theirs.setdefault(scene.id, found)
        progress(number + 1, rounds)
    return scored, theirs, seconds


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What a function returns, and the seconds it took."""
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def make_set(root: Path, scenes: int) -> SceneSet:
    """Mixtures by the rules of SMS-WSJ, of made-up talkers."""
    distribution = SceneDistribution(duration_s=DURATION_S, talkers=TALKERS)
    write_corpus(root / "speech", 12, 4, DURATION_S + 1, distribution.sample_rate)
    jobs = usable_cores() if scenes > QUICK_SCENES else 1  # a few are made before a worker has started
    made = simulate(root / "set", root / "speech", "folder", SPLIT, distribution, scenes, 0, jobs)
    assert made is not None
    return made


def write_estimates(scene_set: SceneSet, estimates: Path) -> None:
    """References with some of the other talker and white noise, in the references' order."""
    rng = np.random.default_rng(0)
    leak, noise = (10 ** (level_db / 20) for level_db in (LEAK_DB, NOISE_DB))
    for scene in scene_set.scenes:
        references = scene_set.references(scene)
        added = noise * references.std() * rng.standard_normal(references.shape)
        for n, estimate in enumerate(references + leak * references[::-1] + added, start=1):
            audio.write(estimates / scene.id / f"talker{n}.wav", estimate, scene.sample_rate, "FLOAT")


def asteroid_scores(scene_set: SceneSet, estimates: Path, row: Row, scene: Scene, with_mixture: bool) -> dict[str, Any]:
    """One scene by `get_metrics`; without the mixture's scores, by what it calls for the estimates."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the packages' own
        from asteroid.metrics import get_metrics
        from pb_bss_eval import OutputMetrics

        mixture = scene_set.mixture(scene)[[scene_set.array.reference]]
        references = scene_set.references(scene)
        found = read_estimates(estimates, scene)[row["permutation"]]
        if with_mixture:
            scores: dict[str, Any] = get_metrics(
                mixture, references, found, scene.sample_rate, list(METRICS), average=False
            )
            return scores
        metrics = OutputMetrics(
            found, references, sample_rate=scene.sample_rate, enable_si_sdr=True, compute_permutation=False
        )
        return {name: metrics[name] for name in METRICS}


def differences(rows: list[Row], theirs: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Largest differences of estimates' and mixtures' scores, by metric."""
    found = {}
    for name in METRICS:
        metric = SEPARATION_METRICS[name]
        gaps = []
        for row in rows:
            scores = theirs[row["id"]]
            mine = np.array(row[metric.field])
            before = mine - np.array(row[metric.improvement_field])
            gaps += [np.abs(mine - np.ravel(scores[name])), np.abs(before - np.ravel(scores[f"input_{name}"]))]
        unit = f"_{metric.unit.lower()}" if metric.unit else ""
        found[f"max_{name}_difference{unit}"] = float(np.max(gaps))
    return found


if __name__ == "__main__":
    sys.exit(run(scoring))
