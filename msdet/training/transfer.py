"""Weights from another checkpoint: what fits by name and shape is taken, what does not is said."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from msdet.errors import MsdetError
from msdet.training.checkpoint import read_description, read_tensors
from msdet.training.packages import WEIGHTS_FILE, find_model

_SHOWN = 10  # tensors named in the report


@dataclass(frozen=True)
class Transfer:
    """What was taken from a checkpoint.

    Attributes:
        origin: the checkpoint directory.
        loaded: tensors of the model that came from there.
        absent: tensors of the model that the checkpoint does not have.
        other_shape: tensors of the model with another shape there: name to both shapes.
        unused: tensors of the checkpoint that the model does not have.
    """

    origin: str
    loaded: list[str]
    absent: list[str]
    other_shape: dict[str, str]
    unused: list[str]

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

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


def transfer(model: nn.Module, folder: Path) -> Transfer:
    """Take every tensor from a checkpoint directory that a model has too, by name and shape.

    Raises:
        MsdetError: not a checkpoint directory, or one that has nothing for this model.
    """
    read_description(folder)
    files = find_model(folder)
    there, _ = read_tensors(files)
    here = model.state_dict()
    fits = {name: t for name, t in there.items() if name in here and here[name].shape == t.shape}
    if not fits:
        raise MsdetError(f"{files.shown(WEIGHTS_FILE)}: no tensor has a name and shape of this model")
    model.load_state_dict(fits, strict=False)
    return Transfer(
        str(folder),
        loaded=sorted(fits),
        absent=sorted(here.keys() - there.keys()),
        other_shape={
            name: f"{tuple(there[name].shape)} there, {tuple(here[name].shape)} here"
            for name in sorted((here.keys() & there.keys()) - fits.keys())
        },
        unused=sorted(there.keys() - here.keys()),
    )


def weights_hash(folder: Path) -> str:
    """A short hash of a checkpoint's weights, wherever it lies.

    Raises:
        MsdetError: it has none.
    """
    return hashlib.sha256(find_model(folder).read(WEIGHTS_FILE)).hexdigest()[:16]
