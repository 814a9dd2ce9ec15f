"""Uncertainty weighting: each task's noise is learned with the model, and noisy tasks weigh less.

Kendall, Gal and Cipolla, "Multi-task learning using uncertainty to weigh losses", CVPR 2018, eqs. 7 and 10,
with s = log σ² as what is learned:

- regression: ½ exp(-s) · loss + ½ s, least at σ² = loss;
- classification: exp(-s) · loss + ½ s, least at σ² = 2 · loss.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from msdet.errors import UnknownNameError
from msdet.objectives.balancing import require_positive, weighted_sum


class Balancer(nn.Module):
    """Σ weight · (factor · exp(-s) · loss + ½ s), over the tasks that are labelled.

    Args:
        weights: of the tasks by name.
        classification: tasks whose factor is 1; it is ½ for the others.
    """

    POSITIVE = True

    def __init__(self, weights: dict[str, float], classification: Sequence[str] = ("doa",)) -> None:
        super().__init__()
        for name in classification:
            if name not in weights:
                raise UnknownNameError("task in balance_options.classification:", name, weights)
        self.weights = weights
        self.factors = {name: 1.0 if name in classification else 0.5 for name in weights}
        self.log_variance = nn.Parameter(torch.zeros(len(weights)))

    def forward(self, losses: dict[str, Tensor]) -> Tensor:
        """The weighted sum with its price."""
        require_positive(losses, "balance 'uncertainty'")
        log_variance = dict(zip(self.weights, self.log_variance, strict=True))
        costs = {
            name: self.factors[name] * (-log_variance[name]).exp() * loss + log_variance[name] / 2
            for name, loss in losses.items()
        }
        return weighted_sum(self.weights, costs)

    def task_weights(self) -> Tensor:
        """What each loss is multiplied with, ``(task,)``."""
        fixed = [self.weights[name] * factor for name, factor in self.factors.items()]
        return torch.tensor(fixed, device=self.log_variance.device) * (-self.log_variance.detach()).exp()
