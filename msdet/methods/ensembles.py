"""What methods of several trained models share: reading ``models=A:B``, recordings of any sample rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array, angular_distance_deg, wrap_deg
from msdet.errors import MsdetError
from msdet.inference.separators import model_separator
from msdet.io import audio
from msdet.methods.base import AZIMUTHS, METHODS, VOICES, Separation, Separator
from msdet.models.checkpoint import load_model, read_description
from msdet.models.joint import JointModel
from msdet.scoring.separation_metrics import pairwise_si_sdr


def checkpoints(method: str, models: str) -> list[Path]:
    """Checkpoint directories with a colon between them.

    Raises:
        MsdetError: fewer than two.
    """
    folders = [Path(name) for name in models.split(":") if name]
    if len(folders) < 2:
        raise MsdetError(f"method '{method}' needs several models, found '{models}'; expected models=A:B")
    return folders


def load_models(folders: Sequence[Path], array: MicrophoneArray, talkers: int) -> list[JointModel]:
    """The models, for an array and a number of talkers.

    Raises:
        MsdetError: one that cannot serve the array, is for fewer or other talkers, or for another sample rate
            than the first.
    """
    loaded = [load_model(folder, array) for folder in folders]
    for folder, model in zip(folders, loaded, strict=True):
        slots = model.config.talkers
        if slots != talkers and not (model.config.variable_num_speakers and slots > talkers):
            raise MsdetError(f"{folder}: is for {slots} talkers, the recordings have {talkers}")
        if model.sample_rate != loaded[0].sample_rate:
            raise MsdetError(
                f"{folder}: sample rate is {model.sample_rate}, that of {folders[0]} is "
                f"{loaded[0].sample_rate}"
            )
    return loaded


def at_rate(model: JointModel, sample_rate: int) -> Separator:
    """A model's separator for mixtures of any sample rate; voices come back at that rate."""
    separator = model_separator(model)
    if model.sample_rate == sample_rate:
        return separator

    def separate(mixture: Array) -> Separation:
        found = separator(audio.resample(mixture, sample_rate, model.sample_rate).astype(np.float32))
        assert found.estimates is not None  # every joint model gives them
        voices = audio.resample(found.estimates, model.sample_rate, sample_rate)
        samples = mixture.shape[-1]
        fitted = np.pad(voices, ((0, 0), (0, max(0, samples - voices.shape[-1]))))[:, :samples]
        return replace(found, estimates=fitted.astype(np.float32))

    return separate


# --- Several trained models together: ``ensemble,models=A:B:C`` averages what they give.
# Errors that models make independently partly cancel in the mean (T. G. Dietterich, "Ensemble methods in
# machine learning", MCS 2000). Unlike averaged weights (``msdet average``) this serves any models, whatever
# they are made of and however their slots are ordered, and costs as many inferences as there are models.


DB_PER_DEG = 0.1
"""What a degree between azimuths costs beside the SI-SDR of voices: opposite directions cost 18 dB."""

_UNLIKE_DB = -30.0  # voices that have nothing in common, or are silent

_FAINT = 1e-9  # least weight of an azimuth, so that there is a mean


@METHODS.register("ensemble", finds=(VOICES, AZIMUTHS))
def ensemble(array: MicrophoneArray, sample_rate: int, talkers: int, models: str) -> Separator:
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

    assert first.estimates is not None and other.estimates is not None  # every joint model gives them
    likeness_db = np.nan_to_num(pairwise_si_sdr(first.estimates, other.estimates), nan=_UNLIKE_DB)
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
        "estimates": _mean(each("estimates")),
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


# --- Two models trained with `folded` assignment, the better one for each mixture: ``folded,models=A:B``.
# After arXiv:2609.12629. Azimuths folded about an axis have no seam at 0 degrees, but one where talkers
# mirror each other about the axis. With two axes 90 degrees apart no two talkers in different directions are
# on both seams. Both models hear the mixture, and that one's answer is taken whose axis is farther from its
# seam for the azimuths that were estimated. The budget is doubled, in training and in inference: compare with
# two models otherwise trained (``ensemble``), or with one trained twice as long.


@METHODS.register("folded", finds=(VOICES, AZIMUTHS))
def folded_pair(array: MicrophoneArray, sample_rate: int, talkers: int, models: str) -> Separator:
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
