"""IMTL-G: the combination whose projections on all gradients' directions are equal.

Liu et al., "Towards impartial multi-task learning", ICLR 2021, generalised in Quinton and Rey, "Jacobian
descent for multi-objective optimization", 2024, by TorchJD. The scale of a loss does not matter, so neither
do the tasks' weights, unless one is zero.
"""

from __future__ import annotations

from msdet.objectives.balancing._torchjd import TorchJdBalancer


class Balancer(TorchJdBalancer):
    """Impartial gradients on shared parameters."""

    def __init__(self, weights: dict[str, float]) -> None:
        super().__init__(weights, "IMTLG")
