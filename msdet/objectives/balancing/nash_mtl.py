"""Nash-MTL: the tasks bargain for the direction; each gains in proportion to what it can lose.

Navon et al., "Multi-task learning as a bargaining game", ICML 2022, algorithm 1, by TorchJD. The scale of a
loss does not matter, so neither do the tasks' weights, unless one is zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from msdet.objectives.balancing._torchjd import TorchJdBalancer


class Balancer(TorchJdBalancer):
    """The Nash bargaining solution on shared parameters; each step starts at the last one's.

    Args:
        weights: of the tasks by name.
        largest_norm: the direction is clipped to this norm; 0 leaves it.
        iterations: of the solver at most; each solves a small convex problem on the CPU.
    """

    solution: Tensor

    def __init__(self, weights: dict[str, float], largest_norm: float = 1.0, iterations: int = 20) -> None:
        super().__init__(weights, "NashMTL", max_norm=0.0, optim_niter=iterations)
        if not 0.0 <= largest_norm < float("inf"):
            raise ValueError("largest_norm: expected 0 or more")
        self.largest_norm = largest_norm
        self.register_buffer("solution", torch.ones(len(weights), dtype=torch.double))

    def build(self, tasks: int) -> Any:
        """The aggregator, for a number of tasks."""
        self.options["n_tasks"] = tasks
        return super().build(tasks)

    def shares(self, gramian: Tensor, live: list[int], losses: Tensor) -> Tensor:
        """Weights ``(task,)`` on shared parameters, those of the tasks included."""
        weights = super().shares(gramian, live, losses)
        norm = (weights @ gramian @ weights).clamp_min(0.0).sqrt()
        if len(live) > 1 and self.largest_norm and norm > self.largest_norm:
            weights = weights * (self.largest_norm / norm)
        return weights

    def weigh(self, aggregator: Any, root: Tensor, live: list[int]) -> Tensor:
        """Weights ``(task,)`` of the bargain."""
        import warnings

        aggregator.weighting.prvs_alpha = self.solution[live].cpu().numpy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of cvxpy, that the problem is not compiled once for all
            weights = super().weigh(aggregator, root, live)
        self.solution[live] = torch.from_numpy(np.asarray(aggregator.weighting.prvs_alpha)).to(self.solution)
        return weights
