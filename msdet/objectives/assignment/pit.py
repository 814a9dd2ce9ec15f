"""Permutation invariant training (Kolbæk et al., 2017) by asteroid's `PITLossWrapper`.

Needs the loss of all pairs, N² of them. No seam in space, but slots carry no meaning.
"""

from __future__ import annotations

from torch import Tensor

from msdet.objectives.assignment import Labels, Pairwise


def assign(labels: Labels, pairwise: Pairwise) -> Tensor:
    """Index of the reference of each slot, ``(batch, slot)``, with the smallest total loss."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of asteroid and its own dependencies
        from asteroid.losses import PITLossWrapper

        # asteroid gives the estimate of each target
        best: Tensor = PITLossWrapper.find_best_perm(pairwise().detach())[1]
    return best.argsort(dim=-1)
