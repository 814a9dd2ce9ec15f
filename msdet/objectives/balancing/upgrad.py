"""UPGrad: each gradient projected on the directions that no loss rises along, then their mean.

Quinton and Rey, "Jacobian descent for multi-objective optimization", 2024, by TorchJD.
"""

from __future__ import annotations

from msdet.objectives.balancing._torchjd import TorchJdBalancer


class Balancer(TorchJdBalancer):
    """Unconflicting projections on shared parameters."""

    def __init__(self, weights: dict[str, float]) -> None:
        super().__init__(weights, "UPGrad")
