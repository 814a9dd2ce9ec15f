"""``msdet train`` and ``msdet average``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msdet.commands._progress import progress_bar, quiet_lightning
from msdet.models.config import ModelConfig
from msdet.training.config import DataConfig, ObjectiveConfig, OptimizerConfig, TrainConfig, TrainerConfig, parse_stage


def train(
    out: Path,
    data: DataConfig,
    model: ModelConfig = ModelConfig(),  # noqa: B008 (frozen dataclasses)
    objective: ObjectiveConfig = ObjectiveConfig(),  # noqa: B008
    optimizer: OptimizerConfig = OptimizerConfig(),  # noqa: B008
    trainer: TrainerConfig = TrainerConfig(),  # noqa: B008
    init: Path | None = None,
    freeze: list[str] = [],  # noqa: B006 (never changed)
    train_only: list[str] = [],  # noqa: B006
    stages: list[dict[str, Any]] = [],  # noqa: B006
    stage: int | None = None,
    stop_stage: int | None = None,
    dry_run: bool = False,
) -> None:
    """Train a joint model into a folder; run the same command again to go on after a kill.

    Args:
        out: folder of the run; becomes a checkpoint directory.
        data: what to train and validate on.
        model: the model.
        objective: assignment, losses and their weights.
        optimizer: how long and how fast to learn.
        trainer: when to validate and stop, and what to run on.
        init: checkpoint directory to start from: what fits by name and shape.
        freeze: parameters that do not learn, by patterns of names such as ``sharing.*``.
        train_only: the only parameters that learn, by patterns of names.
        stages: one after the other, each with a name and what differs: objective, data, optimizer, trainer, freeze,
            train, init (``previous``, ``none`` or a checkpoint directory); see ``--config msdet_stages``.
        stage: train from this stage on (from 1), again if it was trained before.
        stop_stage: the last stage to train.
        dry_run: take two steps, say how long all would take, and write nothing.
    """
    from msdet.training.run import dry_run as try_out
    from msdet.training.run import train as run
    from msdet.training.trainer import is_first_process

    quiet_lightning()
    listed = [parse_stage(row, number) for number, row in enumerate(stages, start=1)]
    config = TrainConfig(data, model, objective, optimizer, trainer, init, freeze, train_only, listed)
    if dry_run:
        try_out(config)
        return
    with progress_bar("train", every_s=60.0) as progress:
        run(out, config, lambda line: print(line, flush=True), progress, stage, stop_stage)
    if is_first_process() and (out / "model.safetensors").is_file():
        print(f"{out}: trained; best model by {trainer.monitor} in {out}/model.safetensors")


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
