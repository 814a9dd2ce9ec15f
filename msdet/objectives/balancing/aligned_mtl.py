"""Aligned-MTL: gradients are made orthogonal and equally long, with as little change as possible.

Senushkin et al., "Independent component alignment for multi-task learning", CVPR 2023, algorithm 1, by
TorchJD; their mean is the direction.
"""

from __future__ import annotations

from typing import Literal

from msdet.objectives.balancing._torchjd import TorchJdBalancer


class Balancer(TorchJdBalancer):
    """Aligned components on shared parameters.

    Args:
        weights: of the tasks by name; each scales its gradient first.
        length: that components are brought to: the smallest singular value, the ``median``, or ``rmse``.
    """

    def __init__(self, weights: dict[str, float], length: Literal["min", "median", "rmse"] = "min") -> None:
        if length not in ("min", "median", "rmse"):
            raise ValueError("length: expected min, median or rmse")
        super().__init__(weights, "AlignedMTL", scale_mode=length)
