"""Two models trained with `folded` assignment, the better one for each mixture: ``folded,models=A:B``.

After arXiv:2609.12629. Azimuths folded about an axis have no seam at 0 degrees, but one where talkers mirror
each other about the axis. With two axes 90 degrees apart no two talkers in different directions are on both
seams. Both models hear the mixture, and that one's answer is taken whose axis is farther from its seam for
the azimuths that were estimated. The budget is doubled, in training and in inference: compare with two models
otherwise trained (``ensemble``), or with one trained twice as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array, angular_distance_deg
from msdet.errors import MsdetError
from msdet.evaluation.baselines import AZIMUTHS, VOICES
from msdet.evaluation.baselines._models import at_rate, checkpoints, load_models
from msdet.inference.offline import Separation, Separator
from msdet.training.checkpoint import read_description

FINDS = (VOICES, AZIMUTHS)


def separator(array: MicrophoneArray, sample_rate: int, talkers: int, models: str) -> Separator:
    """Separate by both models, and take what the one farther from its seam found.

    Args:
        array: the microphones.
        sample_rate: hertz; recordings of another rate than the models' are converted, voices back again.
        talkers: number of voices.
        models: two checkpoint directories with a colon between them, trained with ``objective.assignment``
            folded and ``axis_deg`` 0 and 90, or other axes 90 degrees apart.

    Raises:
        MsdetError: models that were trained otherwise, or are not for such recordings.
    """
    folders = checkpoints("folded", models)
    if len(folders) != 2:
        raise MsdetError(f"method 'folded' takes two models, found {len(folders)}: '{models}'")
    axes_deg = [axis_of(folder) for folder in folders]
    if angular_distance_deg(2 * axes_deg[0], 2 * axes_deg[1]) != 180.0:
        raise MsdetError(
            f"{folders[1]}: axis_deg is {axes_deg[1]:g}, that of {folders[0]} is {axes_deg[0]:g}; "
            "expected axes 90 degrees apart"
        )
    pair = [at_rate(model, sample_rate) for model in load_models(folders, array, talkers)]

    def separate(mixture: Array) -> Separation:
        found = [one(mixture) for one in pair]
        return found[farther([one.azimuth_deg for one in found if one.azimuth_deg is not None], axes_deg)]

    return separate


def axis_of(folder: Path) -> float:
    """The axis, in degrees, that a model's slots were ordered by, from the notes of its checkpoint.

    Raises:
        MsdetError: it was not trained with folded assignment, or that was not written down.
    """
    training = (read_description(folder).get("notes") or {}).get("training") or {}
    objective = training.get("objective") or {}
    if objective.get("assignment") != "folded":
        known = (
            f"assignment '{objective['assignment']}'" if "assignment" in objective else "unknown assignment"
        )
        raise MsdetError(f"{folder}: was trained with {known}, method 'folded' needs folded")
    return float(objective.get("assignment_options", {}).get("axis_deg", 0.0))


def farther(estimates_deg: Sequence[Array], axes_deg: Sequence[float]) -> int:
    """Which axis is farther from its seam: about which the talkers' angles to it differ most.

    The nearest two talkers decide. Each model has its own estimate of the azimuths, and that of a model on
    its seam is the worse one; so each axis is judged by the mean over all estimates. The first one is taken
    where there is nothing to choose by.

    Args:
        estimates_deg: azimuths ``(talker,)`` by each model.
        axes_deg: of the models.

    >>> farther([np.array([30.0, 330.0])], [0.0, 90.0]), farther([np.array([60.0, 120.0])], [0.0, 90.0])
    (1, 0)
    """
    margins_deg = [np.mean([margin_deg(found, axis) for found in estimates_deg]) for axis in axes_deg]
    return int(np.argmax(margins_deg))


def margin_deg(azimuth_deg: Array, axis_deg: float) -> float:
    """How far talkers are from the seam of an axis: the least difference of two angles to it.

    180 for one talker alone, who has no seam.

    >>> margin_deg(np.array([10.0, 340.0, 200.0]), 0.0)
    10.0
    """
    angles_deg = np.sort(angular_distance_deg(azimuth_deg, axis_deg))
    return float(np.diff(angles_deg).min()) if len(angles_deg) > 1 else 180.0
