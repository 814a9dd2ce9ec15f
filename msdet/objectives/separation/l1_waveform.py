"""Mean absolute error of waveforms.

Defined for a silent reference: the mean magnitude of what should not be there.
"""

from __future__ import annotations

from torch import Tensor

from msdet.objectives.separation import Signals


def loss(estimate: Signals, reference: Signals) -> Tensor:
    """Loss of each signal, over its samples."""
    return (estimate.waveform - reference.waveform).abs().mean(-1)
