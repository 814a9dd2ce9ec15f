"""Mask-based MVDR with masks of the references: about the best that one fixed beam a talker can do."""

from __future__ import annotations

from msdet.arrays import MicrophoneArray
from msdet.evaluation.baselines import ORACLE, Oracle, mask_mvdr
from msdet.evaluation.baselines.mask_mvdr import WINDOW_S
from msdet.inference.offline import Separator

FINDS = ()


def separator(
    array: MicrophoneArray, sample_rate: int, talkers: int, window_s: float = WINDOW_S
) -> Separator | Oracle:
    """As `mask_mvdr.separator` with oracle masks."""
    return mask_mvdr.separator(array, sample_rate, talkers, ORACLE, window_s)
