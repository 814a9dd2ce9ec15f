"""Losses of tasks brought to a common scale before they are balanced."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from msdet.errors import UnknownNameError
from msdet.losses.weighting import Observed, require_positive

NORMALIZATIONS = ("none", "running_mean", "log")


class LossNormalization(nn.Module):
    """Brings losses to a common scale.

    - ``none``: as they are;
    - ``running_mean``: divided by a running mean of their magnitude, this step's included, so each is near 1;
    - ``log``: their logarithm, whose gradient is the loss's own relative to its size; needs losses above
      zero.

    Args:
        name: one of these.
        tasks: their names.
        memory: share of the running mean that a step keeps; the first step's loss starts it.

    Raises:
        UnknownNameError: another name; the nearest is offered.
    """

    mean: Tensor

    def __init__(self, name: str, tasks: Sequence[str], memory: float = 0.99) -> None:
        super().__init__()
        if name not in NORMALIZATIONS:
            raise UnknownNameError("objective.normalize", name, NORMALIZATIONS)
        self.name = name
        self.tasks = list(tasks)
        self.memory = memory
        self.register_buffer("mean", torch.full((len(self.tasks),), torch.nan, dtype=torch.double))

    def forward(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """The losses of labeled tasks, rescaled."""
        if self.name == "log":
            require_positive(losses, "normalize 'log'")
            return {name: loss.clamp_min(1e-8).log() for name, loss in losses.items()}
        if self.name == "running_mean":
            self._update(losses)
            scales = self.mean.abs().nan_to_num(1.0).clamp_min(1e-8)
            return {name: loss / scales[self.tasks.index(name)].to(loss) for name, loss in losses.items()}
        return losses

    @torch.no_grad()
    def _update(self, losses: dict[str, Tensor]) -> None:
        """Take a step of training into the mean; what is not finite is left out."""
        if not self.training:
            return
        seen = Observed({name: loss.abs() for name, loss in losses.items()}, self.tasks, self.mean.device)
        moved = self.memory * self.mean + (1 - self.memory) * seen.values
        moved = moved.where(self.mean.isfinite(), seen.values)
        self.mean.copy_(moved.where(seen.known, self.mean))
