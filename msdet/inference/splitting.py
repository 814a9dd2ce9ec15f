"""One talker in two slots, put together again.

A model with a fixed number of slots, given a block in which one person speaks, often splits that voice: two
slots point in the same direction and rise and fall together, each with a part of it. Two people cannot do
that; so such voices are summed into the stronger one, and the other slot holds nobody.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from msdet.conventions import Array, angular_distance_deg
from msdet.inference.offline import Separation

SAME_DIRECTION_DEG = 12.0
"""Closer directions may be one."""

TOGETHER = 0.85
"""Correlation of the envelopes of two parts of a voice, at least: measured, parts have above 0.95, two people
below 0.7."""

_ENVELOPE_S = 0.02


def unsplit(found: Separation, sample_rate: int) -> Separation:
    """What was found in a block, with split voices joined: one has it all, the other is zero and of nobody.

    A part that is nobody's any more has an azimuth of NaN.

    Args:
        found: in a block; as it is without voices or azimuths.
        sample_rate: hertz.
    """
    if found.voices is None or found.azimuth_deg is None or found.count < 2:
        return found
    envelopes = _envelopes(found.voices, round(_ENVELOPE_S * sample_rate))
    voices, azimuth_deg = found.voices, found.azimuth_deg.copy()
    activity = found.activity
    for a, b in itertools.combinations(range(found.count), 2):
        apart_deg = float(angular_distance_deg(azimuth_deg[a], azimuth_deg[b]))
        if not apart_deg < SAME_DIRECTION_DEG or _correlation(envelopes[a], envelopes[b]) < TOGETHER:
            continue
        strong, weak = (a, b) if envelopes[a].sum() >= envelopes[b].sum() else (b, a)
        voices = voices.copy()
        voices[strong] += voices[weak]
        voices[weak] = 0.0
        azimuth_deg[weak] = np.nan
        if activity is not None:
            activity = activity.copy()
            activity[strong] = np.maximum(activity[strong], activity[weak])
            activity[weak] = 0.0
    return dataclasses.replace(found, voices=voices, azimuth_deg=azimuth_deg, activity=activity)


def _envelopes(voices: Array, step: int) -> Array:
    """Amplitude ``(talker, step)``."""
    whole = voices[:, : voices.shape[1] // step * step].reshape(len(voices), -1, step)
    envelopes: Array = np.sqrt(np.square(whole, dtype=np.float64).mean(axis=-1))
    return envelopes


def _correlation(a: Array, b: Array) -> float:
    centred = a - a.mean(), b - b.mean()
    norm = float(np.linalg.norm(centred[0]) * np.linalg.norm(centred[1]))
    return float(centred[0] @ centred[1]) / norm if norm > 0 else 0.0
