"""Where a run starts: weights taken from another checkpoint, and parameters that do not learn."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from msdet.errors import MsdetError, did_you_mean
from msdet.models.checkpoint import read_description, read_tensors
from msdet.models.packages import WEIGHTS_FILE, find_model, weights_hash


def freeze(model: nn.Module, frozen: Sequence[str], trained: Sequence[str]) -> None:
    """Choose the parameters of a model that learn: `trained`, or all, but for those `frozen`; patterns of names."""
    parameters = dict(model.named_parameters())
    for setting, patterns in (("freeze", frozen), ("train", trained)):
        for pattern in patterns:
            if not fnmatch.filter(parameters, pattern):
                choices = dict.fromkeys(f"{name.partition('.')[0]}.*" for name in parameters)
                raise MsdetError(f"{setting}: no parameter is named '{pattern}'{did_you_mean(pattern, choices)}")
    for name, parameter in parameters.items():
        learns = any(fnmatch.fnmatchcase(name, p) for p in trained or ["*"])
        parameter.requires_grad_(learns and not any(fnmatch.fnmatchcase(name, p) for p in frozen))
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise MsdetError("freeze: every parameter of the model is frozen, nothing learns")


def frozen_modules(model: nn.Module) -> list[nn.Module]:
    """Modules all of whose parameters are frozen, which belong in evaluation mode while others learn.

    So dropout is off in them, and batch statistics neither move nor depend on the batch. Recurrent layers
    stay as they are: cuDNN passes gradients through them in training mode alone.
    """
    frozen = []
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            frozen += [m for m in module.modules() if not isinstance(m, nn.RNNBase)]
    return list(dict.fromkeys(frozen))


_SHOWN = 10  # tensors named in the report


@dataclass(frozen=True)
class Transfer:
    """What was taken from the checkpoint directory `origin`."""

    origin: str
    loaded: list[str]  # tensors of the model that came from there
    absent: list[str]  # tensors of the model that are not there
    other_shape: dict[str, str]  # tensors of the model that have another shape there: name to both shapes
    unused: list[str]  # tensors there that the model does not have

    def lines(self) -> list[str]:
        """The report, a line for each thing of note."""
        missed = [
            *(f"{name}: not in the checkpoint" for name in self.absent),
            *(f"{name}: {shapes}" for name, shapes in self.other_shape.items()),
        ]
        total = len(self.loaded) + len(missed)
        lines = [f"init: {len(self.loaded)} of {total} tensors from {self.origin}"]
        lines += [f"init: as drawn: {line}" for line in missed[:_SHOWN]]
        if len(missed) > _SHOWN:
            lines.append(f"init: as drawn: {len(missed) - _SHOWN} more, all in init.json")
        if self.unused:
            more = " ..." if len(self.unused) > _SHOWN else ""
            lines.append(f"init: not wanted here: {', '.join(self.unused[:_SHOWN])}{more}")
        return lines


def transfer(model: nn.Module, folder: Path) -> Transfer:
    """Take every tensor from a checkpoint directory that a model has too, by name and shape; an error if none."""
    read_description(folder)
    files = find_model(folder)
    theirs, ours = read_tensors(files)[0], model.state_dict()
    fits = {name: t for name, t in theirs.items() if name in ours and ours[name].shape == t.shape}
    if not fits:
        raise MsdetError(f"{files.shown(WEIGHTS_FILE)}: no tensor has a name and shape of this model")
    model.load_state_dict(fits, strict=False)
    others = sorted((ours.keys() & theirs.keys()) - fits.keys())
    shapes = {name: f"{tuple(theirs[name].shape)} there, {tuple(ours[name].shape)} here" for name in others}
    absent, unused = sorted(ours.keys() - theirs.keys()), sorted(theirs.keys() - ours.keys())
    return Transfer(str(folder), sorted(fits), absent, shapes, unused)


def init_setting(folder: Path | None) -> dict[str, str]:
    """The setting ``init`` as what decides a result: a short hash of the weights, wherever they lie, if any."""
    return {"init": weights_hash(folder)[:16]} if folder else {}
