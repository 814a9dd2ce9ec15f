"""What a model was trained on, and how far from that a recording is: a warning, and a confidence that falls.

A posterior says how sure a network is, and far from its training it is sure of what is wrong (Hein, Andriushchenko and
Bitterwolf, CVPR 2019). So it is flattened by a temperature (Guo et al., ICML 2017) that grows with the distance.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array
from msdet.inference.activity import Levels
from msdet.methods.base import Separation

RIVALS = 14
"""Directions that a posterior may choose among, each as wide as what a confidence is the probability of."""

QUIET_DB = -60.0  # speech, of full scale: below, the steps of 16 bits are heard
_NOISE_MARGIN_DB = 10.0  # below the least SNR of the training, models still do what they say
_RANGE_DB = 4.5  # that speech of two at an SNR has between its loudest and quietest 5 % beyond it
_STEADY_DB = 3.0  # between the quietest 2 and 10 %: more is speech without pauses, which hides the noise
_SPACING_MARGIN = 0.5  # octaves of the closest microphones' distance
_PER_OCTAVE, _PER_DB = 0.9, 0.07


@dataclass(frozen=True)
class TrainingRange:
    """Of a model: its array, None of one that was trained on many, and the least SNR in dB, None if not known."""

    array: MicrophoneArray | None
    snr_db: float | None

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> TrainingRange | None:
        """That of a ``model.json``; None where it does not say what the model was trained on."""
        training = (description.get("notes") or {}).get("training") or {}
        stages = list((training.get("stages") or {"": training}).values())
        try:
            scenes = [stage["data"]["scenes"] for stage in stages]
            noises = [float(s["snr_db"][0]) for s in scenes]
            noises += [float(s["diffuse_snr_db"][0]) for s in scenes if s.get("diffuse", "none") != "none"]
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            return None  # written by somebody else
        many = any(isinstance(scene.get("array"), str) for scene in scenes)
        return cls(None if many else MicrophoneArray.from_dict(description["array"]), min(noises, default=None))

    def compare(self, array: MicrophoneArray, levels: Levels | None = None) -> tuple[tuple[str, ...], float]:
        """What of a recording is far from the training, in words, and the temperature for its confidence, 1 or more.

        The temperature's logarithm grows linearly with each. The slopes are those of the highest likelihood for 288
        directions that ``circular6_8k`` gave of simulated scenes of development speakers: its own array, three smaller
        ones, and noise from 30 down to 0 dB; their expected calibration error fell from 0.15 to 0.05. A T60 of 0.9 s,
        twice that of the training, left confidences right: it is not looked for.
        """
        far: list[str] = []
        strain = 0.0
        if self.array is not None and not _alike(self.array, array):
            octaves = abs(math.log2(array.closest_distance_m / self.array.closest_distance_m)) - _SPACING_MARGIN
            if octaves > 0:
                strain += _PER_OCTAVE * octaves
                now, was = (f"{100 * a.closest_distance_m:.1f} cm" for a in (array, self.array))
                far.append(f"the closest microphones of '{array.name}' are {now} apart, not {was}")
        if levels is not None:
            level_db = levels.quantile_db(0.95)
            snr_db = level_db - levels.quantile_db(0.05) - _RANGE_DB
            floor = levels.quantile_db(0.10) - levels.quantile_db(0.02) < _STEADY_DB
            if self.snr_db is not None and floor and snr_db < self.snr_db - _NOISE_MARGIN_DB:
                strain += _PER_DB * (self.snr_db - _NOISE_MARGIN_DB - snr_db)
                far.append(f"speech is {round(snr_db)} dB above the noise, not {self.snr_db:.0f} dB or more")
            if level_db < QUIET_DB:
                far.append(f"speech is at {level_db:.0f} dB of full scale")
        return tuple(far), math.exp(strain)


def _alike(first: MicrophoneArray, second: MicrophoneArray) -> bool:
    """Whether two arrays have the same microphones, or one those of the other but for some."""
    near = np.linalg.norm(first.positions[:, None] - second.positions[None], axis=-1) < 2e-3
    return bool(near.any(axis=0).all() or near.any(axis=1).all())


def flattened(confidence: Array, temperature: float) -> Array:
    """Confidences as of a posterior at a temperature that is as likely at each of `RIVALS` other directions.

    >>> flattened(np.array([0.9, 0.5, np.nan]), 2.0).round(2).tolist(), flattened(np.array([0.9]), 1.0).tolist()
    ([0.44, 0.21, nan], [0.9])
    """
    sure = np.clip(confidence, 1e-6, 1.0 - 1e-6) ** (1.0 / temperature)
    rest = RIVALS * (np.clip(1.0 - confidence, 1e-6, 1.0) / RIVALS) ** (1.0 / temperature)
    lower = np.asarray(sure / (sure + rest))
    return np.asarray(confidence if temperature == 1.0 else np.minimum(confidence, lower))


def at_temperature(talkers: Separation, temperature: float) -> Separation:
    """The same, its confidences `flattened`."""
    given = {name: getattr(talkers, name) for name in ("confidence", "track_confidence")}
    lowered: dict[str, Any] = {n: flattened(values, temperature) for n, values in given.items() if values is not None}
    return dataclasses.replace(talkers, **lowered)
