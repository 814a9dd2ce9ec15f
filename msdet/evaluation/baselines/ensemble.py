"""Several trained models together: ``ensemble,models=A:B:C`` averages what they give.

Errors that models make independently partly cancel in the mean (T. G. Dietterich, "Ensemble methods in
machine learning", MCS 2000). Unlike averaged weights (``msdet average``) this serves any models, whatever
they are made of and however their slots are ordered, and costs as many inferences as there are models.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array, angular_distance_deg, wrap_deg
from msdet.evaluation.baselines import AZIMUTHS, VOICES
from msdet.evaluation.baselines._models import at_rate, checkpoints, load_models
from msdet.evaluation.separation import pairwise_si_sdr
from msdet.inference.offline import Separation, Separator

FINDS = (VOICES, AZIMUTHS)

DB_PER_DEG = 0.1
"""What a degree between azimuths costs beside the SI-SDR of voices: opposite directions cost 18 dB."""

_UNLIKE_DB = -30.0  # voices that have nothing in common, or are silent
_FAINT = 1e-9  # least weight of an azimuth, so that there is a mean


def separator(array: MicrophoneArray, sample_rate: int, talkers: int, models: str) -> Separator:
    """Separate by each model, bring the slots of all into the order of the first one's, and average.

    Args:
        array: the microphones.
        sample_rate: hertz; recordings of another rate than the models' are converted, voices back again.
        talkers: number of voices.
        models: checkpoint directories with a colon between them; all of one sample rate.

    Raises:
        MsdetError: a model that is not for such recordings.
    """
    folders = checkpoints("ensemble", models)
    members = [at_rate(model, sample_rate) for model in load_models(folders, array, talkers)]

    def separate(mixture: Array) -> Separation:
        return combined([member(mixture) for member in members])

    return separate


def combined(found: Sequence[Separation]) -> Separation:
    """The mean of several separations of one mixture, talkers in the order of the first one's.

    Voices are averaged. An azimuth is the direction of the sum of unit vectors, each as long as its
    confidence; the length of that sum over the number of models is the confidence, which therefore falls
    where models disagree. Elevations, activity and tracks are averaged where all models give them, in frames
    of the same number. A talker whom some models do not find is the mean of the others.

    Args:
        found: at least one; with voices and azimuths.
    """
    matches = [np.arange(found[0].count), *(_matches(found[0], other) for other in found[1:])]
    rows = [_of_talker(found, [int(match[n]) for match in matches]) for n in range(found[0].count)]
    return Separation(**{name: _stacked([row[name] for row in rows]) for name in rows[0]})


def _matches(first: Separation, other: Separation) -> Array:
    """The voice of the other separation that each of the first one's is, ``(talker,)``; -1 for none."""
    from scipy.optimize import linear_sum_assignment

    assert first.voices is not None and other.voices is not None  # every joint model gives them
    likeness_db = np.nan_to_num(pairwise_si_sdr(first.voices, other.voices), nan=_UNLIKE_DB)
    apart_deg = angular_distance_deg(_azimuths(first)[:, None], _azimuths(other))
    likeness_db = likeness_db.clip(_UNLIKE_DB) - DB_PER_DEG * apart_deg
    mine, theirs = linear_sum_assignment(likeness_db, maximize=True)
    matches = np.full(first.count, -1)
    matches[mine] = theirs
    return matches


def _of_talker(found: Sequence[Separation], places: Sequence[int]) -> dict[str, Array | None]:
    """The mean of one talker, who is at a place in each separation; -1 for not found."""
    present = [(one, place) for one, place in zip(found, places, strict=True) if place >= 0]

    def each(name: str) -> list[Array | None]:
        values = [getattr(one, name) for one, _ in present]
        return [v if v is None else np.asarray(v[k]) for v, (_, k) in zip(values, present, strict=True)]

    confidences = [1.0 if c is None else max(float(c), _FAINT) for c in each("confidence")]
    vectors = _vectors(np.stack([a for a in each("azimuth_deg") if a is not None]))
    towards = (np.array(confidences) * vectors).mean()
    tracks = _stacked(each("track_deg"))
    return {
        "voices": _mean(each("voices")),
        "azimuth_deg": _angle_deg(towards),
        "confidence": np.abs(towards),
        "elevation_deg": _mean(each("elevation_deg")),
        "activity": _mean(each("activity")),
        "track_deg": None if tracks is None else _angle_deg(_vectors(tracks).mean(axis=0)),
    }


def _azimuths(found: Separation) -> Array:
    assert found.azimuth_deg is not None  # every joint model gives them
    return found.azimuth_deg


def _vectors(azimuth_deg: Array) -> Array:
    """Azimuths as unit vectors in the complex plane."""
    vectors: Array = np.exp(1j * np.deg2rad(azimuth_deg))
    return vectors


def _angle_deg(vector: Array) -> Array:
    return wrap_deg(np.rad2deg(np.angle(vector)))


def _stacked(values: Sequence[Array | None]) -> Array | None:
    """Values of all models, ``(model, ...)``; None where one has none or they differ in shape."""
    known = [v for v in values if v is not None]
    alike = len(known) == len(values) and len({v.shape for v in known}) == 1
    return np.stack(known) if alike else None


def _mean(values: Sequence[Array | None]) -> Array | None:
    stacked = _stacked(values)
    return None if stacked is None else stacked.mean(axis=0)
