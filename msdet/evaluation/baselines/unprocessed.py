"""The mixture at the reference microphone, for every talker: what all others are measured against."""

from __future__ import annotations

import numpy as np

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array
from msdet.evaluation.baselines import check_talkers
from msdet.inference.offline import Separation, Separator

FINDS = ()


def separator(array: MicrophoneArray, sample_rate: int, talkers: int) -> Separator:
    """Leave a mixture as it is.

    Raises:
        MsdetError: less than one talker, or more than 8.
    """
    check_talkers("unprocessed", talkers, 8)

    def separate(mixture: Array) -> Separation:
        return Separation(np.repeat(mixture[array.reference][None], talkers, axis=0))

    return separate
