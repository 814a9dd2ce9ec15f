"""Baselines without any training, one file each.

A module defines ``separator(array, sample_rate, talkers) -> Separator``.
"""

from __future__ import annotations

from msdet.arrays import MicrophoneArray
from msdet.components import find_component
from msdet.inference.offline import Separator


def baseline_separator(name: str, array: MicrophoneArray, sample_rate: int, talkers: int) -> Separator:
    """A baseline by name or import path ``module:function``.

    Raises:
        UnknownNameError: no such baseline; the nearest name is offered.
    """
    separator: Separator = find_component(__name__, name, "separator", "method")(array, sample_rate, talkers)
    return separator
