"""Checkpoint directories: ``model.safetensors`` beside ``model.json``; nothing is ever unpickled.

What loads one also loads a package or a shipped model (`msdet.models.packages`).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from msdet import __version__
from msdet.arrays import MicrophoneArray
from msdet.components import described_by
from msdet.errors import MsdetError, did_you_mean
from msdet.io.files import atomic_path
from msdet.models.config import ModelConfig
from msdet.models.joint import JointModel
from msdet.models.packages import MODEL_FILE, WEIGHTS_FILE, ModelFiles, find_model
from msdet.renamed import translated

SCHEMA_VERSION = 1

FACTS = "msdet"
"""Key of the metadata of the weights; one alone, because safetensors writes several in any order."""


def to_device(model: JointModel, device: str | torch.device) -> JointModel:
    """Move a model to a device, for example ``cuda``; returns the model itself. An error if there is no such device."""
    try:
        return model.to(device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise MsdetError(f"device is '{device}', which cannot be used ({reason})") from error


def save_model(folder: Path, model: JointModel, notes: dict[str, Any]) -> None:
    """Write a model into a checkpoint directory, with `notes` for a reader: anything that JSON can express."""
    description = {
        "schema": SCHEMA_VERSION,
        "msdet": __version__,
        "torch": torch.__version__,
        "sample_rate": model.sample_rate,
        "array": model.array.to_dict(),
        "model": dataclasses.asdict(model.config),
        "notes": notes,
    }
    tensors = {name: t.cpu().contiguous() for name, t in model.state_dict().items()}
    # both are complete before either takes its place
    with atomic_path(folder / "model.json") as text, atomic_path(folder / "model.safetensors") as weights:
        text.write_text(json.dumps(description, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        try:
            save_file(tensors, weights, {FACTS: json.dumps(_facts(model))})
        except SafetensorError as error:  # a full disk
            raise OSError(str(error)) from error


def load_model(folder: Path | str, array: MicrophoneArray | None = None) -> JointModel:
    """Build the model of a checkpoint directory, in evaluation mode.

    A part that is not msdet's is refused (`CodeNotAllowedError`) unless `msdet.components.allowing` lists its module.

    Args:
        folder: the checkpoint directory, package (directory or ``.tar``) or name of a shipped model.
        array: another array than it was trained on, if no part of the model is bound to that one.
    """
    files = find_model(folder)
    description, origin = _described(files), files.shown(MODEL_FILE)
    settings = description["model"]
    known = [f.name for f in dataclasses.fields(ModelConfig)]
    for key in settings:
        if key not in known:
            raise MsdetError(f"{origin}, model: unknown key '{key}'{did_you_mean(key, known)}")
    own_array = MicrophoneArray.from_dict(description["array"], f"{origin}, array")
    tensors, metadata = read_tensors(files)
    with _no_larger_than(tensors, f"{origin}: describes a model that is larger than its weights"):
        model = _build(ModelConfig(**settings), own_array, description["sample_rate"], origin)
    _check_weights(files.shown(WEIGHTS_FILE), tensors, metadata, model)
    if array is not None and (array.positions_m, array.reference) != (own_array.positions_m, own_array.reference):
        try:
            model.check_array(array)
        except MsdetError as error:
            raise MsdetError(f"{folder}: {error}") from error
        model = _build(model.config, array, model.sample_rate, origin)
    model.load_state_dict(tensors)
    return model.eval()


def _build(config: ModelConfig, array: MicrophoneArray, sample_rate: int, origin: str) -> JointModel:
    """The model of a description, which anybody may have written."""
    try:
        with described_by(origin):
            return JointModel(config, array, sample_rate)
    except (TypeError, ValueError, RuntimeError, MemoryError, ArithmeticError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise MsdetError(f"{origin}: describes no model that can be built ({reason})") from error


@contextmanager
def _no_larger_than(tensors: dict[str, Tensor], reason: str) -> Iterator[None]:
    """Inside the block, a model of a million more parameters than there are weights for is not built to its end."""
    # a million to spare: where a description is a little off, the message then names what differs
    left = 1_000_000 + sum(tensor.numel() for tensor in tensors.values())

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal left
        left -= 0 if parameter is None else parameter.numel()
        if left < 0:
            raise MsdetError(reason)

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def _facts(model: JointModel) -> dict[str, str]:
    """What the weights were made for, written beside them: they may be put beside another description."""
    return {
        "sample_rate": str(model.sample_rate),
        "talkers": str(model.config.talkers),
        "doa_classes": str(model.config.doa_classes),
        "array": model.array.name,
        "microphones": str(model.array.microphones),
    }


def read_tensors(files: ModelFiles) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a model, and the metadata written beside them."""
    content = files.read(WEIGHTS_FILE)
    try:
        tensors: dict[str, Tensor] = load_tensors(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except (SafetensorError, ValueError) as error:
        raise MsdetError(f"{files.shown(WEIGHTS_FILE)}: not readable as safetensors ({error})") from error
    return tensors, header.get("__metadata__") or {}


def _check_weights(weights: str, tensors: dict[str, Tensor], metadata: dict[str, str], model: JointModel) -> None:
    """Refuse weights that do not fit `model`."""
    try:
        written = dict(json.loads(metadata.get(FACTS, "{}")))
    except (ValueError, TypeError):  # another program's
        written = {}
    for name, described in _facts(model).items():
        if written.get(name, described) != described:
            said = f"model.json beside it says {described}"
            raise MsdetError(f"{weights}: is of a model with {name} {written[name]}, {said}")
    expected = model.state_dict()
    for name in sorted(expected.keys() | tensors.keys()):
        found_shape = tuple(tensors[name].shape) if name in tensors else "missing"
        expected_shape = tuple(expected[name].shape) if name in expected else "absent"
        if found_shape != expected_shape:
            raise MsdetError(f"{weights}: {name} is {found_shape}, the configuration expects {expected_shape}")
        if not tensors[name].isfinite().all():
            raise MsdetError(f"{weights}: has values that are not finite, in {name}")


def read_description(folder: Path | str) -> dict[str, Any]:
    """The ``model.json`` of a checkpoint directory, a package or a shipped model, settings under today's names."""
    return _described(find_model(folder))


def _described(files: ModelFiles) -> dict[str, Any]:
    description, origin = files.read_json(MODEL_FILE), files.shown(MODEL_FILE)
    if not isinstance(description, dict) or description.get("schema") != SCHEMA_VERSION:
        raise MsdetError(f"{origin}: not a description of an msdet model")
    for key, kind in (("sample_rate", int), ("array", dict), ("model", dict)):
        if key not in description:
            raise MsdetError(f"{origin}: key '{key}' is missing")
        if not isinstance(description[key], kind):
            raise MsdetError(f"{origin}: {key} is {description[key]!r}, expected {kind.__name__}")
    if not isinstance(description.get("notes", {}), dict):
        raise MsdetError(f"{origin}: notes is {description['notes']!r}, expected dict")
    settings = description["model"]
    current: dict[str, Any] = translated({"model": settings})["model"] if settings else {}
    for part, options in (("front_end", "front_end"), ("doa_head", "doa"), ("separation_head", "separation")):
        if ":" in str(settings.get(part, "")):  # not msdet's: options stay as they are
            current[f"{options}_options"] = settings.get(f"{options}_options", {})
    return description | {"model": current}
