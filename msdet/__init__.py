"""msdet: joint multichannel speech separation and direction-of-arrival estimation.

Names of the public API are imported when they are first used: ``import msdet`` itself is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from msdet.arrays import MicrophoneArray as MicrophoneArray
    from msdet.arrays import load_array as load_array
    from msdet.data.scene_set import SceneSet as SceneSet
    from msdet.data.simulate import simulate as simulate
    from msdet.inference.model import Model as Model
    from msdet.inference.model import load as load
    from msdet.inference.streaming import Streamer as Streamer
    from msdet.methods.base import Separation as Separation
    from msdet.scenes.distribution import SceneDistribution as SceneDistribution
    from msdet.scoring.score import score as score

__version__ = "0.1.0"

_MODULES = {
    "MicrophoneArray": "arrays",
    "Model": "inference.model",
    "SceneDistribution": "scenes.distribution",
    "SceneSet": "data.scene_set",
    "Separation": "methods.base",
    "Streamer": "inference.streaming",
    "load": "inference.model",
    "load_array": "arrays",
    "score": "scoring.score",
    "simulate": "data.simulate",
}

__all__ = [  # those of `_MODULES`
    "MicrophoneArray", "Model", "SceneDistribution", "SceneSet", "Separation", "Streamer", "__version__",
    "load", "load_array", "score", "simulate",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'msdet' has no attribute '{name}'")
    return getattr(importlib.import_module(f"msdet.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
