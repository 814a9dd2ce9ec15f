"""The hand-written signals of these tests under a short name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def speech(talker_signals: Callable[..., np.ndarray[Any, Any]]) -> Callable[..., np.ndarray[Any, Any]]:
    """Makes signals ``(talker, time)``."""
    return talker_signals
