"""Labels of a scene in its row of scores: what breakdowns go by."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from msdet.conventions import Array
from msdet.simulation.scene import Scene


def labels(scene: Scene) -> dict[str, Any]:
    """What is known of a scene; null where it is not, or makes no sense (the gap of a single talker).

    ``azimuth_deg``, ``distance_m`` and ``gender`` are lists over talkers, azimuths of moving talkers at the
    start of the scene.
    """
    genders = [source.gender for source in scene.sources]
    several = len(scene.sources) > 1
    return {
        "azimuth_deg": scene.azimuths_deg.tolist() if scene.located else [None] * len(scene.sources),
        "azimuth_gap_deg": scene.azimuth_gap_deg if several and scene.located else None,
        "t60_s": scene.t60_s,
        "straddles": straddles_zero(scene.azimuths_deg) if scene.located else None,
        "talkers": len(scene.sources),
        "distance_m": [None if math.isnan(s.distance_m) else s.distance_m for s in scene.sources],
        "noise_snr_db": scene.snr_db if scene.noises else None,
        "overlap_ratio": scene.overlap_ratio if several and scene.timed else None,
        "gender": genders if all(genders) else None,
    }


def straddles_zero(azimuths_deg: Array) -> bool:
    """Whether the shorter arc between the two closest talkers has azimuth 0 strictly inside.

    False for fewer than two talkers, when one of the two is at 0 exactly, and when they are opposite (no arc
    is the shorter one). Of several closest pairs the first in talker order decides.

    Args:
        azimuths_deg: ``(talker,)`` in [0, 360).
    """
    first, second = np.triu_indices(len(azimuths_deg), 1)
    if first.size == 0:
        return False
    difference = np.abs(azimuths_deg[first] - azimuths_deg[second])
    closest = int(np.argmin(np.minimum(difference, 360.0 - difference)))
    at_zero = min(azimuths_deg[first[closest]], azimuths_deg[second[closest]]) == 0.0
    return bool(difference[closest] > 180.0 and not at_zero)
