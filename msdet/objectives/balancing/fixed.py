"""Fixed weights: the weighted sum of the losses."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Balancer(nn.Module):
    """Σ weight · loss."""

    def __init__(self, weights: dict[str, float]) -> None:
        super().__init__()
        self.weights = weights

    def forward(self, losses: dict[str, Tensor]) -> Tensor:
        """The weighted sum."""
        return torch.stack([self.weights[name] * loss for name, loss in losses.items()]).sum()
