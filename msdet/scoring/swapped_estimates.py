"""Estimates under the name of another scene: found among those that resemble none of their references."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from msdet.conventions import Array
from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError
from msdet.scenes.scene import Scene
from msdet.scoring.permutations import best_permutation
from msdet.scoring.separation_metrics import pairwise_si_sdr
from msdet.scoring.submission import read_estimates

RESEMBLES_DB = -20.0
"""SI-SDR below which an estimate says nothing of a reference; what it is of unrelated speech."""

_FITS_DB = -5.0

_MAX_SCENES = 20  # every one is compared with every other


def find_swaps(scene_set: SceneSet, estimates: Path, rows: list[dict[str, Any]]) -> None:
    """Say in ``doubts`` of rows whose estimates fit nothing which other such scene they fit."""
    by_id = {scene.id: scene for scene in scene_set.scenes}
    doubtful = [row for row in rows if any("resembles" in doubt for doubt in row["doubts"])][:_MAX_SCENES]
    if len(doubtful) < 2:
        return
    references = {row["id"]: _references(scene_set, by_id[row["id"]]) for row in doubtful}
    for row in doubtful:
        given = read_estimates(estimates, by_id[row["id"]])
        for other, signals in references.items():
            if other != row["id"] and signals.shape == given.shape and _fit_db(signals, given) > _FITS_DB:
                row["doubts"].append(f"the estimates fit another scene's references ({other})")


def _references(scene_set: SceneSet, scene: Scene) -> Array:
    try:
        return scene_set.references(scene)
    except MsdetError:
        return np.zeros((0, 0))


def _fit_db(references: Array, estimates: Array) -> float:
    """Mean SI-SDR under the best permutation."""
    matrix = pairwise_si_sdr(references, estimates)
    return float(matrix[range(len(matrix)), best_permutation(matrix)].mean())
