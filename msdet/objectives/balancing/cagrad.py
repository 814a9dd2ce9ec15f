"""CAGrad: near the mean gradient, the direction along which the loss that falls least falls most.

Liu et al., "Conflict-averse gradient descent for multi-task learning", NeurIPS 2021, algorithm 1, by TorchJD.
"""

from __future__ import annotations

from msdet.objectives.balancing._torchjd import TorchJdBalancer


class Balancer(TorchJdBalancer):
    """Conflict-averse direction on shared parameters.

    Args:
        weights: of the tasks by name; each scales its gradient first.
        radius: c of the paper: how far from the mean gradient, relative to its norm. 0 is the mean; below 1
            the mean loss converges.
    """

    def __init__(self, weights: dict[str, float], radius: float = 0.4) -> None:
        super().__init__(weights, "CAGrad", c=radius)
