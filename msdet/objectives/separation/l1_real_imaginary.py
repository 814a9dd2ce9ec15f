"""Mean absolute error of real and imaginary parts (Wang et al., complex spectral mapping, 2021).

Defined for a silent reference: the mean magnitude of what should not be there.
"""

from __future__ import annotations

from torch import Tensor

from msdet.objectives.separation import Signals


def loss(estimate: Signals, reference: Signals) -> Tensor:
    """Loss of each signal, over its frequencies and frames."""
    difference = estimate.spectrum - reference.spectrum
    return (difference.real.abs() + difference.imag.abs()).mean(dim=(-2, -1))
