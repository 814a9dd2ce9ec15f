"""Trained joint models as separators, alone and together.

``ensemble,models=A:B:C`` averages what models give: errors that they make independently partly cancel in the
mean (T. G. Dietterich, "Ensemble methods in machine learning", MCS 2000). Unlike averaged weights (``msdet
average``) this serves any models, whatever they are made of and however their slots are ordered, and costs as
many inferences as there are models. ``folded,models=A:B`` takes one of two models for each mixture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array, angular_distance_deg, wrap_deg
from msdet.dsp.spatial import decode_azimuth
from msdet.errors import MsdetError
from msdet.io import audio
from msdet.methods.base import AZIMUTHS, METHODS, VOICES, Separation, Separator
from msdet.methods.moment_tracks import activity, are_apart, moment_tracks, someone_walks
from msdet.models.checkpoint import load_model, read_description
from msdet.models.joint import JointModel, JointOutput
from msdet.scoring.separation_metrics import pairwise_si_sdr
from msdet.tasks.pooled import decode_elevation
from msdet.tasks.tracking import decode_track

DB_PER_DEG = 0.1  # what a degree between azimuths costs beside the SI-SDR of voices: opposite directions cost 18 dB
_UNLIKE_DB = -30.0  # voices that have nothing in common, or are silent
_FAINT = 1e-9  # least weight of an azimuth, so that there is a mean


def model_separator(model: JointModel) -> Separator:
    """A separator that runs a joint model on its own device; empty slots are left out.

    Of the auxiliary tasks, ``activity``, ``elevation`` and ``tracking`` are used where a model has them. Where a model
    maps moments (`msdet.models.heads.map_peaks`), they say who speaks when; if somebody walks, voices and
    directions follow.
    """
    head: Any = model.doa_head

    @torch.inference_mode()
    def separate(mixture: Array) -> Separation:
        device = next(model.parameters()).device
        batch = torch.from_numpy(mixture)[None].to(device)
        output = model(batch)
        filled = output.occupancy[0] > 0.5
        filled[output.occupancy[0].argmax()] = True  # never none
        there = filled.cpu().numpy()
        values = {name: value[0].cpu().double().numpy()[there] for name, value in _values(output).items()}
        if hasattr(head, "moments") and hasattr(model.separation_head, "along"):
            logits = head.moments(output.features)[0].float().cpu().numpy()
            if (walking := _walking(model, batch, logits, values["azimuth_deg"])) is not None:
                return walking
            if are_apart(values["azimuth_deg"]):
                values["activity"] = activity(logits, values["azimuth_deg"][:, None])
        return Separation(output.waveforms[0].float().cpu().numpy()[there], **values)

    return separate


def _walking(model: JointModel, mixture: torch.Tensor, logits: Array, standing_deg: Array) -> Separation | None:
    """The separation of a mixture ``(1, mic, time)`` in which somebody walks; None if all stand where they were found.

    By logits ``(class, moment)`` that somebody is heard. So many talkers are found as the model was told, or as there
    are.
    """
    head: Any = model.doa_head
    moment_s = mixture.shape[-1] / model.sample_rate / logits.shape[1]
    tracks = moment_tracks(logits, moment_s, head.told or model.config.talkers)
    fewest = head.told or (1 if model.config.variable_num_speakers else model.config.talkers)
    if len(tracks.azimuth_deg) < fewest or not someone_walks(logits, tracks, standing_deg):
        return None
    tracks = tracks.ordered
    speaks = activity(logits, tracks.azimuth_deg)
    track_deg = torch.from_numpy(tracks.azimuth_deg).float().to(mixture.device)
    voices, elevation_deg = model.separate_along(mixture, track_deg)
    return Separation(
        voices.float().cpu().numpy(),
        tracks.overall_deg,
        tracks.confidence(speaks),
        elevation_deg.mean(-1).cpu().double().numpy(),
        speaks,
        track_deg=tracks.azimuth_deg,
    )


def _values(output: JointOutput) -> dict[str, torch.Tensor]:
    """What a model says of talkers but their voices, by the names of `Separation`."""
    azimuth, confidence = decode_azimuth(output.doa_logits)
    values = {"azimuth_deg": azimuth, "confidence": confidence}
    if output.elevation_deg is not None:
        values["elevation_deg"] = output.elevation_deg
    if "activity" in output.predictions:
        values["activity"] = output.predictions["activity"].float().sigmoid()
    if "elevation" in output.predictions:
        values["elevation_deg"] = decode_elevation(output.predictions["elevation"])[0]
    if "tracking" in output.predictions:
        values["track_deg"] = decode_track(output.predictions["tracking"], values.get("activity"))[0]
    return values


@METHODS.register("ensemble", finds=(VOICES, AZIMUTHS))
def ensemble(array: MicrophoneArray, sample_rate: int, talkers: int, models: str) -> Separator:
    """Separate by each model, bring the slots of all into the order of the first one's, and average.

    `models` are checkpoint directories with a colon between them, all of one sample rate; recordings of another rate
    are converted, voices back again.
    """
    members = _separators(_folders("ensemble", models), array, sample_rate, talkers)

    def separate(mixture: Array) -> Separation:
        return combined([member(mixture) for member in members])

    return separate


@METHODS.register("folded", finds=(VOICES, AZIMUTHS))
def folded_pair(array: MicrophoneArray, sample_rate: int, talkers: int, models: str) -> Separator:
    """Two models trained with `folded` assignment, the better one for each mixture (arXiv:2609.12629).

    Azimuths folded about an axis have no ordering discontinuity at 0 degrees, but one where talkers mirror
    each other about the axis. With two axes 90 degrees apart no two talkers in different directions are at
    both. Both models hear the mixture, and that one's answer is taken whose axis is farther from its
    discontinuity for the estimated azimuths. The budget is doubled, in training and in inference: compare
    with two models otherwise trained (``ensemble``), or with one trained twice as long.

    `models` are two checkpoint directories with a colon between them, trained with ``objective.assignment`` folded and
    ``axis_deg`` 0 and 90, or other axes 90 degrees apart; else as for ``ensemble``.
    """
    folders = _folders("folded", models)
    if len(folders) != 2:
        raise MsdetError(f"method 'folded' takes two models, found {len(folders)}: '{models}'")
    axes_deg = [axis_of(folder) for folder in folders]
    if angular_distance_deg(2 * axes_deg[0], 2 * axes_deg[1]) != 180.0:
        raise MsdetError(
            f"{folders[1]}: axis_deg is {axes_deg[1]:g}, that of {folders[0]} is {axes_deg[0]:g}; "
            "expected axes 90 degrees apart"
        )
    pair = _separators(folders, array, sample_rate, talkers)

    def separate(mixture: Array) -> Separation:
        results = [model(mixture) for model in pair]
        return results[farther([_azimuths(result) for result in results], axes_deg)]

    return separate


def combined(results: Sequence[Separation]) -> Separation:
    """The mean of several separations of one mixture, talkers in the order of the first one's.

    Voices are averaged. An azimuth is the direction of the sum of unit vectors, each as long as its
    confidence; the length of that sum over the number of models is the confidence, which therefore falls
    where models disagree. Elevations, activity and tracks are averaged where all models give them, in frames
    of the same number. A talker whom some models do not find is the mean of the others.
    """
    matches = [np.arange(results[0].count), *(_matches(results[0], other) for other in results[1:])]
    means = [_mean_of_talker(results, [int(match[n]) for match in matches]) for n in range(results[0].count)]
    fields: dict[str, Any] = {name: _stacked([mean[name] for mean in means]) for name in means[0]}
    return Separation(**fields)


def _matches(first: Separation, other: Separation) -> Array:
    """The voice of the other separation that each of the first one's is, ``(talker,)``; -1 for none."""
    from scipy.optimize import linear_sum_assignment

    assert first.estimates is not None and other.estimates is not None  # every joint model gives them
    likeness_db = np.nan_to_num(pairwise_si_sdr(first.estimates, other.estimates), nan=_UNLIKE_DB)
    apart_deg = angular_distance_deg(_azimuths(first)[:, None], _azimuths(other))
    rows, columns = linear_sum_assignment(likeness_db.clip(_UNLIKE_DB) - DB_PER_DEG * apart_deg, maximize=True)
    matches = np.full(first.count, -1)
    matches[rows] = columns
    return matches


def _mean_of_talker(results: Sequence[Separation], places: Sequence[int]) -> dict[str, Array | None]:
    """The mean of one talker, who is at a place in each separation; -1 for not found."""

    def each(name: str) -> list[Array | None]:
        present = [(getattr(one, name), k) for one, k in zip(results, places, strict=True) if k >= 0]
        return [value if value is None else np.asarray(value[k]) for value, k in present]

    def mean(name: str) -> Array | None:
        values = _stacked(each(name))
        return None if values is None else values.mean(axis=0)

    confidences = [1.0 if c is None else max(float(c), _FAINT) for c in each("confidence")]
    vectors = _vectors(np.stack([a for a in each("azimuth_deg") if a is not None]))
    towards = (np.array(confidences) * vectors).mean()
    tracks = _stacked(each("track_deg"))
    return {
        "azimuth_deg": _angle_deg(towards),
        "confidence": np.abs(towards),
        "track_deg": None if tracks is None else _angle_deg(_vectors(tracks).mean(axis=0)),
        **{name: mean(name) for name in ("estimates", "elevation_deg", "activity")},
    }


def _azimuths(result: Separation) -> Array:
    assert result.azimuth_deg is not None  # every joint model gives them
    return result.azimuth_deg


def _vectors(azimuth_deg: Array) -> Array:
    """Azimuths as unit vectors in the complex plane."""
    return np.exp(1j * np.deg2rad(azimuth_deg))


def _angle_deg(vector: Array) -> Array:
    return wrap_deg(np.rad2deg(np.angle(vector)))


def _stacked(values: Sequence[Array | None]) -> Array | None:
    """Values of all models, ``(model, ...)``; None where one has none or they differ in shape."""
    known = [v for v in values if v is not None]
    alike = len(known) == len(values) and len({v.shape for v in known}) == 1
    return np.stack(known) if alike else None


def axis_of(folder: Path) -> float:
    """The axis, in degrees, that a model's slots were ordered by, from the notes of its checkpoint."""
    training = (read_description(folder).get("notes") or {}).get("training") or {}
    objective = training.get("objective") or {}
    if (rule := objective.get("assignment")) != "folded":
        known = f"assignment '{rule}'" if "assignment" in objective else "unknown assignment"
        raise MsdetError(f"{folder}: was trained with {known}, method 'folded' needs folded")
    return float(objective.get("assignment_options", {}).get("axis_deg", 0.0))


def farther(estimates_deg: Sequence[Array], axes_deg: Sequence[float]) -> int:
    """Which axis is farther from its discontinuity: about which the talkers' angles to it differ most.

    The nearest two talkers decide. Each model has its own estimate of the azimuths ``(talker,)``, and that of a model
    at its discontinuity is the worse one; so each axis is judged by the mean over all estimates. The first one is
    taken where there is nothing to choose by.

    >>> farther([np.array([30.0, 330.0])], [0.0, 90.0]), farther([np.array([60.0, 120.0])], [0.0, 90.0])
    (1, 0)
    """
    margins_deg = [np.mean([margin_deg(azimuths, axis) for azimuths in estimates_deg]) for axis in axes_deg]
    return int(np.argmax(margins_deg))


def margin_deg(azimuth_deg: Array, axis_deg: float) -> float:
    """How far talkers are from the discontinuity of an axis: the least difference of two angles to it.

    180 for one talker alone, who has none.

    >>> margin_deg(np.array([10.0, 340.0, 200.0]), 0.0)
    10.0
    """
    angles_deg = np.sort(angular_distance_deg(azimuth_deg, axis_deg))
    return float(np.diff(angles_deg).min()) if len(angles_deg) > 1 else 180.0


def _folders(method: str, models: str) -> list[Path]:
    """Checkpoint directories with a colon between them."""
    folders = [Path(name) for name in models.split(":") if name]
    if len(folders) < 2:
        raise MsdetError(f"method '{method}' needs several models, found '{models}'; expected models=A:B")
    return folders


def _separators(folders: Sequence[Path], array: MicrophoneArray, sample_rate: int, talkers: int) -> list[Separator]:
    """Separators of models of one sample rate for an array, a number of talkers and mixtures of any sample rate."""
    loaded = [load_model(folder, array) for folder in folders]
    for folder, model in zip(folders, loaded, strict=True):
        slots = model.config.talkers
        if slots != talkers and not (model.config.variable_num_speakers and slots > talkers):
            raise MsdetError(f"{folder}: is for {slots} talkers, the recordings have {talkers}")
        if (rate := model.sample_rate) != (first := loaded[0].sample_rate):
            raise MsdetError(f"{folder}: sample rate is {rate}, that of {folders[0]} is {first}")
    return [_at_rate(model, sample_rate) for model in loaded]


def _at_rate(model: JointModel, sample_rate: int) -> Separator:
    """A model's separator for mixtures of a sample rate; voices come back at that rate."""
    separator = model_separator(model)
    if model.sample_rate == sample_rate:
        return separator

    def separate(mixture: Array) -> Separation:
        result = separator(audio.resample(mixture, sample_rate, model.sample_rate).astype(np.float32))
        assert result.estimates is not None  # every joint model gives them
        voices = audio.resample(result.estimates, model.sample_rate, sample_rate)
        samples = mixture.shape[-1]
        fitted = np.pad(voices, ((0, 0), (0, max(0, samples - voices.shape[-1]))))[:, :samples]
        return replace(result, estimates=fitted.astype(np.float32))

    return separate
