"""GradNorm: weights that make the tasks' gradients equally long, longer for tasks that lag behind.

Chen et al., "GradNorm: gradient normalization for adaptive loss balancing in deep multitask networks", ICML
2018, algorithm 1. Norms are over all shared parameters. L_grad (eq. 2) is descended in the logarithms of the
weights and relative to the mean norm, so weights stay positive and one rate fits losses of any scale.
"""

from __future__ import annotations

import torch
from torch import Tensor

from msdet.objectives.balancing import Observed, require_positive
from msdet.objectives.balancing._gradients import SharedGradients


class Balancer(SharedGradients):
    """Σ weight · loss with weights that move towards |weight · ∇loss| = mean · r^alpha.

    r is how much of its first loss a task still has, relative to the mean task. The weights keep their sum.

    Args:
        weights: to start with, by task; a task of weight zero stays out.
        alpha: strength of the pull towards tasks that lag; 0 makes all norms equal.
        rate: step of the logarithms of the weights.
    """

    POSITIVE = True
    present: Tensor
    first: Tensor

    def __init__(self, weights: dict[str, float], alpha: float = 1.5, rate: float = 0.025) -> None:
        super().__init__(weights)
        if not 0.0 <= alpha < float("inf") or not 0.0 < rate < float("inf"):
            raise ValueError("expected alpha of 0 or more and a rate of more than 0")
        self.alpha = alpha
        self.rate = rate
        self.register_buffer("present", torch.tensor(list(weights.values()), dtype=torch.double))
        self.register_buffer("first", torch.full((len(weights),), torch.nan, dtype=torch.double))

    def own_weights(self) -> Tensor:
        """The present weights ``(task,)``."""
        return self.present.clone()

    def task_weights(self) -> Tensor:
        """What each loss is multiplied with, ``(task,)``."""
        return self.present

    def shares(self, gramian: Tensor, live: list[int], losses: Tensor) -> Tensor:
        """The weights of this step, ``(task,)``; those of the next move on."""
        names = [list(self.weights)[i] for i in live]
        require_positive(dict(zip(names, losses, strict=True)), "balance 'gradnorm'")
        labelled = losses.where(losses > 0, torch.nan)  # another process may have labels where this has none
        seen = Observed(dict(zip(names, labelled, strict=True)), names, gramian.device)
        known = self.first[live]
        self.first[live] = first = known.where(known.isfinite(), seen.values)
        now = self.present[live]
        norms = now * gramian.diagonal().sqrt()
        progress = seen.values / first.clamp_min(1e-12)
        lag = (progress / progress.mean().clamp_min(1e-12)) ** self.alpha
        moved = now * torch.exp(-self.rate * (norms - norms.mean() * lag).sign() * norms / norms.mean())
        self.present[live] = moved * (now.sum() / moved.sum())
        return now
