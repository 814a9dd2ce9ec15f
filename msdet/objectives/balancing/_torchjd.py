"""Balancing by an aggregator of TorchJD, https://torchjd.org (extra ``mtl``)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from msdet.errors import MsdetError
from msdet.objectives.balancing._gradients import SharedGradients


class TorchJdBalancer(SharedGradients):
    """What an aggregator makes of the weighted losses' gradients.

    The aggregator is given the square root of the gradients' Gramian, which has their inner products and
    fewer columns: all of these methods combine gradients with weights that follow from inner products alone.
    A task of weight zero takes no part.

    Args:
        weights: of the tasks by name.
        aggregator: name of a class in ``torchjd.aggregation``.
        options: what it is built with.
    """

    drawn: Tensor

    def __init__(self, weights: dict[str, float], aggregator: str, **options: Any) -> None:
        super().__init__(weights)
        self.method, self.options = aggregator, options
        self.build(1)  # refuses wrong options now
        self.register_buffer("drawn", torch.zeros((), dtype=torch.long))

    def build(self, tasks: int) -> Any:
        """The aggregator, for a number of tasks.

        Raises:
            MsdetError: TorchJD is not installed, or not with what this aggregator needs.
        """
        try:
            from torchjd import aggregation

            return getattr(aggregation, self.method)(**self.options)
        except ImportError as error:
            raise MsdetError(
                f"balancing by {self.method} needs TorchJD: pip install 'msdet[mtl]' ({error})"
            ) from error

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
            found: Tensor = self.weigh(self.build(len(live)), root, live)
        self.drawn += 1
        return found.to(own) * own

    def weigh(self, aggregator: Any, root: Tensor, live: list[int]) -> Tensor:
        """Weights ``(task,)`` that an aggregator gives to the rows of a matrix."""
        weights: Tensor = aggregator.weighting(root)
        return weights
