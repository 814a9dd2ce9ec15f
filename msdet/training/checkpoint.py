"""Checkpoint directories: ``model.safetensors`` beside ``model.json``; nothing is ever unpickled."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from msdet import __version__
from msdet.arrays import MicrophoneArray
from msdet.errors import MsdetError, did_you_mean
from msdet.files import atomic_path, read_json
from msdet.models.config import ModelConfig
from msdet.models.joint import JointModel

SCHEMA_VERSION = 1


def save_model(folder: Path, model: JointModel, notes: dict[str, Any]) -> None:
    """Write a model's weights and everything needed to build it again.

    Args:
        folder: the checkpoint directory.
        model: the model.
        notes: anything JSON can express that a reader should know (training settings, data, scores).
    """
    description = {
        "schema": SCHEMA_VERSION,
        "msdet": __version__,
        "torch": torch.__version__,
        "sample_rate": model.sample_rate,
        "array": model.array.to_dict(),
        "model": dataclasses.asdict(model.config),
        "notes": notes,
    }
    tensors = {name: t.contiguous() for name, t in model.state_dict().items()}
    # both are complete before either takes its place
    with atomic_path(folder / "model.json") as text, atomic_path(folder / "model.safetensors") as weights:
        text.write_text(json.dumps(description, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        try:
            save_file(tensors, weights)
        except SafetensorError as error:  # a full disk
            raise OSError(str(error)) from error


def load_model(folder: Path) -> JointModel:
    """Build the model of a checkpoint directory, in evaluation mode.

    Raises:
        MsdetError: not a checkpoint directory, or weights that do not fit its configuration.
    """
    description = read_description(folder)
    origin = folder / "model.json"
    settings = description["model"]
    known = [f.name for f in dataclasses.fields(ModelConfig)]
    for key in settings:
        if key not in known:
            raise MsdetError(f"{origin}, model: unknown key '{key}'{did_you_mean(key, known)}")
    array = MicrophoneArray.from_dict(description["array"], f"{origin}, array")
    model = JointModel(ModelConfig(**settings), array, int(description["sample_rate"]))
    weights = folder / "model.safetensors"
    try:
        tensors = load_file(weights)
    except FileNotFoundError as error:
        raise MsdetError(f"{weights}: no such file") from error
    except (OSError, SafetensorError) as error:
        raise MsdetError(f"{weights}: not readable as safetensors ({error})") from error
    expected = model.state_dict()
    for name in sorted(expected.keys() | tensors.keys()):
        found_shape = tuple(tensors[name].shape) if name in tensors else "missing"
        expected_shape = tuple(expected[name].shape) if name in expected else "absent"
        if found_shape != expected_shape:
            raise MsdetError(
                f"{weights}: {name} is {found_shape}, the configuration expects {expected_shape}"
            )
    model.load_state_dict(tensors)
    return model.eval()


def read_description(folder: Path) -> dict[str, Any]:
    """The content of a checkpoint directory's ``model.json``.

    Raises:
        MsdetError: no such file, or one of another schema.
    """
    if not folder.is_dir():
        raise MsdetError(f"{folder}: no such checkpoint directory")
    description = read_json(folder / "model.json")
    if not isinstance(description, dict) or description.get("schema") != SCHEMA_VERSION:
        raise MsdetError(f"{folder}/model.json: not a description of an msdet model")
    for key, kind in (("sample_rate", int), ("array", dict), ("model", dict)):
        if key not in description:
            raise MsdetError(f"{folder}/model.json: key '{key}' is missing")
        if not isinstance(description[key], kind):
            raise MsdetError(f"{folder}/model.json: {key} is {description[key]!r}, expected {kind.__name__}")
    return description
