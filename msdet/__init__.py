"""msdet: joint multichannel speech separation and direction-of-arrival estimation."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from msdet.arrays import MicrophoneArray
    from msdet.inference.blocks import BlockOptions
    from msdet.inference.model import Model

__version__ = "0.1.0"

__all__ = ["__version__", "load"]


def load(
    folder: str | Path,
    array: str | MicrophoneArray | None = None,
    device: str = "cpu",
    options: BlockOptions | None = None,
    allow_code: Sequence[str] = (),
) -> Model:
    """Load a model: ``msdet.load("exp/demo/model")(mixture, sample_rate)`` separates and localizes.

    Args:
        folder: the checkpoint directory.
        array: another array than it was trained on, by name, path or itself, if the model allows that.
        device: of torch, for example ``cuda``.
        options: how long recordings are cut and joined.
        allow_code: modules, or packages of them, that the model may take parts from which are not msdet's.

    Raises:
        CodeNotAllowedError: it has such a part of another module; nothing was imported.
        MsdetError: no checkpoint directory, or a model that cannot serve `array`.
    """
    from msdet.inference.model import load as load_now  # torch takes seconds to import

    return load_now(folder, array, device, options, allow_code)
