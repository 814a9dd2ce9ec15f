"""Parts of a model that do not learn, by the names of their parameters."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from msdet.errors import MsdetError, did_you_mean


def freeze(model: nn.Module, frozen: Sequence[str], trained: Sequence[str]) -> None:
    """Choose the parameters of a model that learn.

    Args:
        model: the model.
        frozen: patterns of names that do not learn, such as ``sharing.*``.
        trained: patterns of names of which one must fit; all learn without.

    Raises:
        MsdetError: a pattern that fits no parameter, or nothing left that learns.
    """
    names = [name for name, _ in model.named_parameters()]
    for setting, patterns in (("freeze", frozen), ("train", trained)):
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                choices = dict.fromkeys(f"{name.partition('.')[0]}.*" for name in names)
                raise MsdetError(
                    f"{setting}: no parameter is named '{pattern}'{did_you_mean(pattern, choices)}"
                )
    for name, parameter in model.named_parameters():
        learns = not trained or any(fnmatchcase(name, p) for p in trained)
        parameter.requires_grad_(learns and not any(fnmatchcase(name, p) for p in frozen))
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise MsdetError("freeze: every parameter of the model is frozen, nothing learns")


def frozen_modules(model: nn.Module) -> list[nn.Module]:
    """Modules all of whose parameters are frozen, which belong in evaluation mode while others learn.

    So dropout is off in them, and batch statistics neither move nor depend on the batch. Recurrent layers
    stay as they are: cuDNN passes gradients through them in training mode alone.
    """
    found = []
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            found += [m for m in module.modules() if not isinstance(m, nn.RNNBase)]
    return list(dict.fromkeys(found))
