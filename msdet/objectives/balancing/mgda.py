"""MGDA: the shortest convex combination of the gradients, which no loss rises along.

Désidéri, 2012; Sener and Koltun, "Multi-task learning as multi-objective optimization", NeurIPS 2018,
algorithm 2 (Frank-Wolfe), by TorchJD. The task with the smallest gradient has the largest say.
"""

from __future__ import annotations

from msdet.objectives.balancing._torchjd import TorchJdBalancer


class Balancer(TorchJdBalancer):
    """The min-norm point of the gradients' convex hull, on shared parameters.

    Args:
        weights: of the tasks by name; each scales its gradient first.
        epsilon: step of Frank-Wolfe below which it ends.
        iterations: of Frank-Wolfe at most.
    """

    def __init__(self, weights: dict[str, float], epsilon: float = 1e-3, iterations: int = 100) -> None:
        super().__init__(weights, "MGDA", epsilon=epsilon, max_iters=iterations)
