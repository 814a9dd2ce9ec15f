"""What tests of several commands need."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from msdet.arrays import load_array
from msdet.models.checkpoint import save_model
from msdet.models.config import ModelConfig
from msdet.models.joint import JointModel

CAUSAL = {"causal": True}


@pytest.fixture(scope="session")
def write_causal_model() -> Callable[..., Path]:
    """Writes a small causal model for four microphones at 8 kHz, or one with other parts."""

    def write(folder: Path, **changes: Any) -> Path:
        settings: dict[str, Any] = {
            "window_s": 0.032,
            "front_end": "real_imaginary",
            "front_end_options": CAUSAL,
            "encoder_options": {"hidden": 8, "group": 16, "causal": True},
            "doa_head": "pooled",
            "doa_options": CAUSAL,
            "separation_head": "reference_mask",
        }
        torch.manual_seed(0)
        config = ModelConfig(**{**settings, **changes})
        save_model(folder, JointModel(config, load_array("circular4_5cm"), 8000), {})
        return folder

    return write


@pytest.fixture(scope="session")
def causal_model(tmp_path_factory: pytest.TempPathFactory, write_causal_model: Callable[..., Path]) -> Path:
    """The small causal model."""
    return write_causal_model(tmp_path_factory.mktemp("causal"))
