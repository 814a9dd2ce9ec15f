"""``msdet average``."""

from __future__ import annotations

from pathlib import Path


def average(models: list[Path], out: Path, weights: list[float] = []) -> None:  # noqa: B006 (never changed)
    """Average the weights of checkpoints of one configuration into a new one.

    For checkpoints of one run, or of runs that started from the same weights; the outputs of any models are
    averaged by --method ensemble,models=A:B of msdet separate and evaluate.

    Args:
        models: checkpoint directories; may come first, unnamed.
        out: folder for the average, a checkpoint directory as well.
        weights: of each, on any scale; all alike if not given.
    """
    from msdet.training.weight_averaging import average_checkpoints

    average_checkpoints(models, out, weights)
    print(f"{out}: average of {len(models)} models")
