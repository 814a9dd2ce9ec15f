"""Balancing: how the losses of tasks become one, or their gradients one direction; one file each.

A module defines ``Balancer``, a `torch.nn.Module` built as ``Balancer(weights, **options)`` from the tasks'
weights by name. Its parameters, if any, learn with the model's.
"""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from msdet.components import build, find_component


class BalancerLike(Protocol):
    """What every balancer offers."""

    def __call__(self, losses: dict[str, Tensor]) -> Tensor:
        """One scalar from the tasks' losses, all scalars."""
        ...


def build_balancer(name: str, options: dict[str, Any], weights: dict[str, float]) -> BalancerLike:
    """A balancer by name or import path ``module:Class``.

    Args:
        name: of a file in this package, or an import path.
        options: what its constructor takes besides the weights.
        weights: of the tasks by name, which sum to whatever the user gave.

    Raises:
        MsdetError: an unknown name or option; the nearest is offered.
    """
    factory = find_component(__name__, name, "Balancer", "balancing")
    balancer: BalancerLike = build(factory, options, f"balancing '{name}'", weights=weights)
    return balancer
