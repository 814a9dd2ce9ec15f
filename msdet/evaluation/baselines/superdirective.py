"""Superdirective beams (Bitzer and Simmer, in Microphone Arrays, Springer, 2001): the least diffuse noise."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from msdet.evaluation.baselines._beams import distortionless_separator


def diffuse_noise(coherence: Tensor, covariance: Tensor) -> Tensor:
    """The coherence of diffuse noise ``(freq, mic, mic)``."""
    return coherence


separator = partial(distortionless_separator, diffuse_noise)
