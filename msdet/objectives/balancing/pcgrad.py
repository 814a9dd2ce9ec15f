"""PCGrad: a gradient loses its component along every other one that it conflicts with.

Yu et al., "Gradient surgery for multi-task learning", NeurIPS 2020, algorithm 1, by TorchJD. What is left is
summed; without conflict it is the weighted sum.
"""

from __future__ import annotations

from msdet.objectives.balancing._torchjd import TorchJdBalancer


class Balancer(TorchJdBalancer):
    """Gradient surgery on shared parameters."""

    def __init__(self, weights: dict[str, float]) -> None:
        super().__init__(weights, "PCGrad")
