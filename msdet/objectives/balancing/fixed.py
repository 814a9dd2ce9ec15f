"""Fixed weights: the weighted sum of the losses."""

from __future__ import annotations

from torch import Tensor, nn

from msdet.objectives.balancing import weighted_sum


class Balancer(nn.Module):
    """Σ weight · loss."""

    def __init__(self, weights: dict[str, float]) -> None:
        super().__init__()
        self.weights = weights

    def forward(self, losses: dict[str, Tensor]) -> Tensor:
        """The weighted sum."""
        return weighted_sum(self.weights, losses)
