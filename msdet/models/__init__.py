"""Joint models: a front end, an encoder that is shared, a separation head and a DoA head.

``from msdet.models import JointModel, ModelConfig``; settings alone import no network.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from msdet.models.checkpoint import load_model, save_model
    from msdet.models.config import ModelConfig
    from msdet.models.joint import JointModel, JointOutput

__all__ = ["JointModel", "JointOutput", "ModelConfig", "load_model", "save_model"]

_MODULES = {"load_model": "checkpoint", "save_model": "checkpoint", "ModelConfig": "config"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES.get(name, 'joint')}"), name)
