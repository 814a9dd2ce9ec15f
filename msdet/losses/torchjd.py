"""Balancing by the aggregators of TorchJD, https://torchjd.org (extra ``mtl``), on shared parameters.

Each task's weight scales its gradient first; a task of weight zero takes no part.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from msdet.errors import MsdetError
from msdet.losses.gradients import SharedGradients
from msdet.losses.weighting import BALANCERS


class TorchJdBalancer(SharedGradients):
    """What an aggregator, a class of ``torchjd.aggregation``, makes of the weighted losses' gradients.

    It is given the square root of the gradients' Gramian, which has their inner products and fewer columns:
    all of these methods combine gradients with weights that follow from inner products alone.
    """

    drawn: Tensor

    def __init__(self, weights: dict[str, float], aggregator: str, **options: Any) -> None:
        super().__init__(weights)
        self.method, self.options = aggregator, options
        self.build(1)  # refuses wrong options now
        self.register_buffer("drawn", torch.zeros((), dtype=torch.long))

    def build(self, tasks: int) -> Any:
        """The aggregator, for a number of tasks."""
        try:
            from torchjd import aggregation

            return getattr(aggregation, self.method)(**self.options)
        except ImportError as error:
            raise MsdetError(f"balancing by {self.method} needs TorchJD: pip install 'msdet[mtl]' ({error})") from error

    def shares(self, gramian: Tensor, live: list[int], losses: Tensor) -> Tensor:
        """Weights ``(task,)`` on shared parameters, those of the tasks included."""
        own = self.own_weights().to(gramian)[live]
        if len(live) == 1:  # nothing to balance
            return own
        weighted = (gramian * own[:, None] * own).cpu()
        values, vectors = torch.linalg.eigh(weighted / weighted.trace())  # the solvers have absolute floors
        root = vectors * values.clamp_min(0.0).sqrt()
        with torch.random.fork_rng(devices=[]):  # some draw an order: the same in a resumed run
            torch.default_generator.manual_seed(int(self.drawn))
            weights = self.weigh(self.build(len(live)), root, live)
        self.drawn += 1
        return weights.to(own) * own

    def weigh(self, aggregator: Any, root: Tensor, live: list[int]) -> Tensor:
        """Weights ``(task,)`` that an aggregator gives to the rows of a matrix."""
        return cast(Tensor, aggregator.weighting(root))


@BALANCERS.register("pcgrad")
class PCGrad(TorchJdBalancer):
    """A gradient loses its component along every other one that it conflicts with; what is left is summed.

    Yu et al., "Gradient surgery for multi-task learning", NeurIPS 2020, algorithm 1.
    """

    def __init__(self, weights: dict[str, float]) -> None:
        super().__init__(weights, "PCGrad")


@BALANCERS.register("cagrad")
class CAGrad(TorchJdBalancer):
    """Near the mean gradient, the direction along which the loss that falls least falls most.

    Liu et al., "Conflict-averse gradient descent for multi-task learning", NeurIPS 2021, algorithm 1. The radius is c
    of the paper, relative to the mean gradient's norm: 0 is the mean; below 1 the mean loss converges.
    """

    def __init__(self, weights: dict[str, float], radius: float = 0.4) -> None:
        super().__init__(weights, "CAGrad", c=radius)


@BALANCERS.register("mgda")
class MGDA(TorchJdBalancer):
    """The shortest convex combination of the gradients; the task with the smallest has the largest say.

    Désidéri, 2012; Sener and Koltun, NeurIPS 2018, algorithm 2 (Frank-Wolfe, which ends below a step of `epsilon`).
    """

    def __init__(self, weights: dict[str, float], epsilon: float = 1e-3, iterations: int = 100) -> None:
        super().__init__(weights, "MGDA", epsilon=epsilon, max_iters=iterations)


@BALANCERS.register("upgrad")
class UPGrad(TorchJdBalancer):
    """Each gradient, projected on what no loss rises along, averaged (Quinton and Rey, "Jacobian descent", 2024)."""

    def __init__(self, weights: dict[str, float]) -> None:
        super().__init__(weights, "UPGrad")


@BALANCERS.register("imtl_g")
class IMTLG(TorchJdBalancer):
    """The combination whose projections on all gradients' directions are equal.

    Liu et al., "Towards impartial multi-task learning", ICLR 2021. Neither scales of losses nor weights matter.
    """

    def __init__(self, weights: dict[str, float]) -> None:
        super().__init__(weights, "IMTLG")


@BALANCERS.register("aligned_mtl")
class AlignedMTL(TorchJdBalancer):
    """The mean of gradients made orthogonal and equally long, with as little change as possible.

    Senushkin et al., "Independent component alignment for multi-task learning", CVPR 2023, algorithm 1. The length
    that components are brought to is the smallest singular value, the ``median``, or ``rmse``.
    """

    def __init__(self, weights: dict[str, float], length: Literal["min", "median", "rmse"] = "min") -> None:
        if length not in ("min", "median", "rmse"):
            raise ValueError("length: expected min, median or rmse")
        super().__init__(weights, "AlignedMTL", scale_mode=length)


@BALANCERS.register("nash_mtl")
class NashMTL(TorchJdBalancer):
    """The tasks bargain for the direction; each gains in proportion to what it can lose.

    Navon et al., "Multi-task learning as a bargaining game", ICML 2022, algorithm 1. Each step starts at the last one's
    solution. Neither scales of losses nor weights matter. The direction is clipped to `largest_norm`, 0 leaves it; each
    of the `iterations` at most solves a small convex problem on the CPU.
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
        aggregator.weighting.prvs_alpha = self.solution[live].cpu().numpy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of cvxpy, that the problem is not compiled once for all
            weights = super().weigh(aggregator, root, live)
        self.solution[live] = torch.from_numpy(np.asarray(aggregator.weighting.prvs_alpha)).to(self.solution)
        return weights
