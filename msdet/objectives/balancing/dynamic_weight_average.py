"""Dynamic weight averaging: a task whose loss falls slower than the others' weighs more.

Liu, Johns and Davison, "End-to-end multi-task learning with attention", CVPR 2019, eq. 7. An epoch is the
steps between two validations.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from msdet.objectives.balancing import Observed, require_positive, weighted_sum


class Balancer(nn.Module):
    """Σ weight · λ · loss with λ = tasks · softmax(r / temperature).

    r is a task's mean loss of the last epoch over that of the epoch before; 1 until there are two.

    Args:
        weights: of the tasks by name.
        temperature: of the softmax; a large one makes λ equal.
    """

    POSITIVE = True
    epoch: Tensor
    sums: Tensor
    means: Tensor

    def __init__(self, weights: dict[str, float], temperature: float = 2.0) -> None:
        super().__init__()
        if not 0.0 < temperature < float("inf"):
            raise ValueError("temperature: expected more than 0")
        self.weights = weights
        self.temperature = temperature
        tasks = len(weights)
        self.register_buffer("epoch", torch.tensor(-1))
        self.register_buffer("sums", torch.zeros(2, tasks, dtype=torch.double))  # of losses, and their number
        self.register_buffer("means", torch.full((2, tasks), torch.nan, dtype=torch.double))  # older first

    def forward(self, losses: dict[str, Tensor]) -> Tensor:
        """The weighted sum."""
        if self.training and torch.is_grad_enabled():
            require_positive(losses, "balance 'dynamic_weight_average'")
            seen = Observed(losses, list(self.weights), self.sums.device)
            self.sums += torch.stack([seen.values, seen.known.double()])
        return weighted_sum(dict(zip(self.weights, self.task_weights().tolist(), strict=True)), losses)

    def start_epoch(self, epoch: int) -> None:
        """Close the last epoch."""
        if epoch == int(self.epoch):  # a resumed run starts it again
            return
        self.epoch.fill_(epoch)
        total, count = self.sums
        if count.any():
            self.means.copy_(torch.stack([self.means[1], (total / count).where(count > 0, self.means[1])]))
        self.sums.zero_()

    def task_weights(self) -> Tensor:
        """What each loss is multiplied with, ``(task,)``."""
        ratio = self.means[1] / self.means[0]
        rates = ratio.where(ratio.isfinite(), torch.ones_like(ratio))
        own = torch.tensor(list(self.weights.values()), dtype=torch.double, device=rates.device)
        return own * len(rates) * (rates / self.temperature).softmax(0)
