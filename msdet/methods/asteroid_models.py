"""Separation models of asteroid (Pariente et al., Interspeech 2020), FasNetTAC among them; voices alone.

asteroid has no weights for arrays: bring a checkpoint of your own training, because an untrained model gives
noise. It is read without unpickling (asteroid itself cannot, under torch 2.6 and later).
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array
from msdet.errors import MsdetError, UnknownNameError
from msdet.methods.base import METHODS, Separation, Separator


@METHODS.register("asteroid")
def asteroid_model(
    array: MicrophoneArray, sample_rate: int, talkers: int, checkpoint: str, model: str = ""
) -> Separator:
    """Separate by a trained model.

    A multichannel model gets all microphones, the reference first; another one the reference alone. `checkpoint` is
    what ``torch.save(model.serialize(), path)`` wrote, as asteroid's recipes do, or a state dictionary of a model of
    default sizes; then `model` is its class in ``asteroid.models``. Refuses a checkpoint for another rate or number of
    talkers.
    """
    content = _content(Path(checkpoint))
    if "state_dict" not in content:
        if not model:
            raise MsdetError(f"{checkpoint}: is a state dictionary, name its class: model=FasNetTAC")
        sizes = {"n_src": talkers, "sample_rate": sample_rate}
        content = {"model_name": model, "model_args": sizes, "state_dict": content}
    network = _network(content, checkpoint)
    for what, found, expected in (
        ("sample rate", network.sample_rate, sample_rate),
        ("number of talkers", content["model_args"].get("n_src", talkers), talkers),
    ):
        if found != expected:
            raise MsdetError(f"{checkpoint}: {what} is {found}, the recordings have {expected}")
    others = [m for m in range(array.microphones) if m != array.reference]
    channels = [array.reference] + (others if network.in_channels is None else [])

    def separate(mixture: Array) -> Separation:
        with torch.inference_mode():
            voices = network(torch.from_numpy(mixture[channels])[None])[0]
        return Separation(voices.numpy())

    return separate


def _content(path: Path) -> dict[str, Any]:
    """A checkpoint's dictionary; nothing but tensors and plain values is read."""
    try:
        with torch.serialization.safe_globals([torch.torch_version.TorchVersion]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise MsdetError(f"{path}: cannot be read ({error.strerror})") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise MsdetError(f"{path}: not a checkpoint of tensors and plain values") from error
    if not isinstance(content, dict):
        raise MsdetError(f"{path}: holds a {type(content).__name__}, expected asteroid's dictionary")
    return content


def _network(content: dict[str, Any], origin: str) -> Any:
    """The model of a checkpoint, in evaluation mode."""
    from asteroid import models
    from asteroid.models.base_models import BaseModel

    known = {name: getattr(models, name) for name in models.__all__}
    known = {name: k for name, k in known.items() if isinstance(k, type) and issubclass(k, BaseModel)}
    name, sizes = content.get("model_name"), content.get("model_args")
    if not isinstance(name, str) or not isinstance(sizes, dict):
        raise MsdetError(f"{origin}: model_name or model_args is missing")
    if name not in known:
        raise UnknownNameError("asteroid model", name, known)
    try:
        network = known[name](**sizes)
        network.load_state_dict(content["state_dict"])
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        first = str(error).strip().splitlines()[-1].strip()
        raise MsdetError(f"{origin}: does not fit {name} ({first})") from error
    return network.eval()
