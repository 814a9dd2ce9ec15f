"""Permutation invariant training (Kolbæk et al., 2017) by asteroid's `PITLossWrapper`.

Needs the loss of all pairs, N² of them. No seam in space, but slots carry no meaning.
"""

from __future__ import annotations

from torch import Tensor

from msdet.objectives.assignment import Costs, Labels


def assign(labels: Labels, costs: Costs) -> Tensor:
    """Index of the reference of each slot, ``(batch, slot)``, with the smallest total separation loss."""
    return cheapest(costs.separation())


def cheapest(pairwise: Tensor) -> Tensor:
    """The assignment ``(batch, slot)`` with the smallest sum of costs ``(batch, slot, talker)``."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of asteroid and its own dependencies
        from asteroid.losses import PITLossWrapper

        # asteroid gives the estimate of each target
        best: Tensor = PITLossWrapper.find_best_perm(pairwise.detach())[1]
    return best.argsort(dim=-1)
