"""``msdet train``."""

from __future__ import annotations

import logging
from pathlib import Path

from msdet.commands._progress import progress_bar
from msdet.models.config import ModelConfig
from msdet.objectives.joint import ObjectiveConfig
from msdet.training.config import DataConfig, OptimiserConfig, TrainConfig


def train(
    out: Path,
    data: DataConfig,
    model: ModelConfig = ModelConfig(),  # noqa: B008 (frozen dataclasses)
    objective: ObjectiveConfig = ObjectiveConfig(),  # noqa: B008
    optimiser: OptimiserConfig = OptimiserConfig(),  # noqa: B008
) -> None:
    """Train a joint model into a folder; run the same command again to go on after a kill.

    Args:
        out: folder of the run; becomes a checkpoint directory.
        data: what to train and validate on.
        model: the model.
        objective: assignment, losses and their weights.
        optimiser: how long and how fast to learn.
    """
    from msdet.training.run import train as run

    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    with progress_bar("train", lines=False) as progress:
        config = TrainConfig(data, model, objective, optimiser)
        run(out, config, lambda line: print(line, flush=True), progress)
    print(f"{out}: trained; best model by dev/loss in {out}/model.safetensors")
