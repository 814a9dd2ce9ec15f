"""NumPy's global generator, which pyroomacoustics draws from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def fixed_global_seed(seed: int) -> Iterator[None]:
    """Seed the generator, and restore it after."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)
