"""What methods of several trained models share: reading ``models=A:B``, recordings of any sample rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from msdet import audio
from msdet.arrays import MicrophoneArray
from msdet.conventions import Array
from msdet.errors import MsdetError
from msdet.inference.offline import Separation, Separator, model_separator
from msdet.models.joint import JointModel
from msdet.training.checkpoint import load_model


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
        if slots != talkers and not (model.config.vacancy and slots > talkers):
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
        assert found.voices is not None  # every joint model gives them
        voices = audio.resample(found.voices, model.sample_rate, sample_rate)
        samples = mixture.shape[-1]
        fitted = np.pad(voices, ((0, 0), (0, max(0, samples - voices.shape[-1]))))[:, :samples]
        return replace(found, voices=fitted.astype(np.float32))

    return separate
