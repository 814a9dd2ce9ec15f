"""`l1_real_imaginary` plus the mean absolute error of magnitudes, which counters their shrinking.

After Wang, Wichern and Le Roux, "On the compensation between magnitude and phase in speech separation", IEEE
SPL 28, 2021. Defined for a silent reference.
"""

from __future__ import annotations

import torch
from torch import Tensor

from msdet.objectives.separation import Signals
from msdet.objectives.separation.l1_real_imaginary import loss as l1_real_imaginary


def loss(estimate: Signals, reference: Signals) -> Tensor:
    """Loss of each signal, over its frequencies and frames."""
    difference = (magnitude(estimate.spectrum) - magnitude(reference.spectrum)).abs()
    return l1_real_imaginary(estimate, reference) + difference.mean(dim=(-2, -1))


def magnitude(spectrum: Tensor) -> Tensor:
    """Magnitude with a gradient at zero, which `abs` of a complex tensor has not.

    The floor is far below any speech at unit level.
    """
    return torch.sqrt(spectrum.real.square() + spectrum.imag.square() + 1e-12)
