"""A training run from its settings: of one stage, or of several one after the other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from msdet.errors import MsdetError
from msdet.training.checks import check
from msdet.training.config import TrainConfig
from msdet.training.dry_run import dry_run
from msdet.training.single_stage import train_one
from msdet.training.stages import planned, train_stages
from msdet.training.trainer import is_first_process


def train(
    out: Path,
    config: TrainConfig,
    report: Callable[[str], None] = print,
    progress: Callable[[int, int], None] | None = None,
    stage: int | None = None,
    stop_stage: int | None = None,
) -> Path:
    """Train a model into a folder, or go on from the last checkpoint that a killed run left there.

    Args:
        out: the run's folder, which becomes a checkpoint directory (the best model by ``trainer.monitor``, of
            the last stage).
        config: everything that decides the run.
        report: called with one line after each validation.
        progress: called with steps done and in all after each step, of a stage.
        stage: train from this stage on (from 1), again if it was trained before.
        stop_stage: the last stage to train.

    Returns:
        `out`.

    Raises:
        MsdetError: bad settings or data, or a folder that holds a run with other settings.
    """
    check(config)

    def say(line: str) -> None:
        if is_first_process():
            report(line)

    def count(done: int, total: int) -> None:
        if progress and is_first_process():
            progress(done, total)

    if config.stages:
        return train_stages(out, config, say, count, stage, stop_stage)
    if stage is not None or stop_stage is not None:
        raise MsdetError("stage and stop_stage choose among stages, the settings name none")
    return train_one(out, config, say, count)


def dry_run_all(config: TrainConfig, report: Callable[[str], None] = print) -> None:
    """Take two steps and validate on one batch, of each stage; say how long all would take. Writes nothing.

    Raises:
        MsdetError: bad settings or data.
    """
    check(config)
    for folder, stage in planned(config) if config.stages else [("", config)]:
        if folder:
            report(f"stage {folder}:")
        dry_run(stage, report)
