"""One run in one folder: data, model, trainer, checkpoints, resuming."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch.utils.data import default_collate

from msdet.errors import MsdetError
from msdet.io.files import write_json
from msdet.io.jobs import begin_run_dir, finish_run_dir
from msdet.models.joint import JointModel
from msdet.training.callbacks import (
    TRAINER_STATE,
    KeepBest,
    NonFiniteGuard,
    ReportLine,
    SaveState,
    StopEarly,
    TellUnlabeled,
    find_metric,
)
from msdet.training.checks import comparable
from msdet.training.config import TrainConfig, TrainerConfig
from msdet.training.loaders import TrainingData, check_labels, load_data, loaders
from msdet.training.loggers import keep_log, make_loggers
from msdet.training.module import JointModule
from msdet.training.objective import Objective
from msdet.training.trainer import fit, make_trainer, restored_determinism
from msdet.training.transfer import Transfer, freeze, transfer, weights_hash
from msdet.training.weight_averaging import averaging

FINISHED = "training.json"
"""Written last into a run's folder."""

ProgressCallback = Callable[[str], None]

EpochProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Built:
    """Everything a run is made of, before anything is written.

    Attributes:
        data: to learn from.
        system: what learns.
        transferred: where weights came from, if from a checkpoint.
    """

    data: TrainingData
    system: JointModule
    transferred: Transfer | None


def train_one(
    out: Path, config: TrainConfig, report: ProgressCallback, progress: EpochProgress | None
) -> Path:
    """Train a model into a folder, or go on from the last checkpoint that a killed run left there.

    Args:
        out: the run's folder.
        config: everything that decides the run; its stages are not looked at.
        report: called with one line after each validation and for each thing of note.
        progress: called with steps done and in all after each step.

    Returns:
        `out`.

    Raises:
        MsdetError: bad settings or data, or a folder that holds a run with other settings.
    """
    with restored_determinism():
        built = build(config, report)
        settings = comparable(config) | {"data_identity": built.data.identity}
        if config.init:
            settings["init"] = weights_hash(config.init)
        t = config.trainer
        stop = StopEarly(t.stop_metric, t.stop_patience) if t.stop_metric else None
        callbacks: list[Callback] = [
            KeepBest(out, settings, t.monitor),
            *([stop] if stop else []),
            TellUnlabeled(report),
            *averaging(config),
            SaveState(out),
            ReportLine(config.total_steps, report, progress),
        ]
        trainer = make_trainer(out, config, callbacks)
        last = out / TRAINER_STATE
        batches = loaders(built.data, config, _epochs_done(last), trainer.world_size)
        if not _claimed(out, settings, trainer, report):
            return out
        trainer.loggers = make_loggers(out, t.loggers)
        if trainer.is_global_zero:
            _tell_start(out, built, last.is_file(), report)
        fit(trainer, built.system, batches, last if last.is_file() else None)
    if not trainer.is_global_zero:
        return out
    if not (out / "model.safetensors").is_file():
        raise MsdetError(
            f"{out}: no validation had a finite {t.monitor}; try a lower optimizer.learning_rate"
        )
    content = {"steps": trainer.global_step, "skipped": built.system.skipped_steps}
    finish_run_dir(out, settings, FINISHED, content | ({"stopped": stop.reason} if stop else {}))
    if stop and stop.reason:
        report(f"stopped at step {trainer.global_step}: {stop.reason}")
    return out


def build(config: TrainConfig, report: ProgressCallback, data: TrainingData | None = None) -> Built:
    """Open the data, draw the weights, take others from a checkpoint, freeze.

    Args:
        config: everything that decides the run.
        report: called with one line for each thing of note.
        data: of the same settings, if they are open.

    Raises:
        MsdetError: bad settings or data.
    """
    objective = Objective(config.objective, config.model)
    data = data or load_data(config.data, config.model, config.trainer.seed)
    check_labels(data, config.objective, config.model)
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    pl.seed_everything(config.trainer.seed, workers=True, verbose=False)
    model = JointModel(config.model, data.array, data.sample_rate)
    transferred = transfer(model, config.init) if config.init else None
    freeze(model, config.freeze, config.train)
    bad = NonFiniteGuard(config.trainer.max_nonfinite_steps, data.name, report)
    system = JointModule(model, objective, config.optimizer, config.total_steps, bad)
    if config.trainer.compile:
        model.compile(backend=config.trainer.compile)  # in place: names of weights stay
    system.configure_optimizers()  # an unknown option is named before anything is written
    _check_metrics(system, data, config.trainer)
    return Built(data, system, transferred)


def rehearse(config: TrainConfig, data: TrainingData) -> None:
    """Build a run on data that are open, and let it go again, to find what cannot work.

    Raises:
        MsdetError: bad settings or data.
    """
    threads = torch.get_num_threads()
    try:
        with restored_determinism():
            built = build(config, lambda line: None, data)
            trainer = make_trainer(Path(), config, [])
            loaders(built.data, config, processes=trainer.world_size)
    finally:
        torch.set_num_threads(threads)


def _check_metrics(system: JointModule, data: TrainingData, t: TrainerConfig) -> None:
    """Score one example, to name a metric that does not exist before anything is written."""
    watched = [
        metric for metric in (t.monitor, t.stop_metric, system.plateau and system.plateau.metric) if metric
    ]
    if set(watched) == {"dev/loss"}:
        return
    with torch.no_grad():
        system.eval()
        system.validation_step(default_collate([data.dev[0]]), 0)
        system.train()
    for metric in watched:
        find_metric({f"dev/{name}": None for name in ("loss", *system.means.sums)}, metric)
    system.means.clear()


def _claimed(out: Path, settings: dict[str, Any], trainer: pl.Trainer, report: ProgressCallback) -> bool:
    """Whether there is something to train in the folder; the first process claims it."""
    todo = not (out / FINISHED).is_file()
    if trainer.is_global_zero:
        todo = begin_run_dir(out, settings, FINISHED)
    if not todo:
        report(f"{out}: training is already finished")
    return todo


def _tell_start(out: Path, built: Built, going_on: bool, report: ProgressCallback) -> None:
    """Say where the weights come from, and keep the log of an earlier run."""
    keep_log(out / "logs")
    if going_on:
        report(f"{out}: going on from the last checkpoint")
    elif built.transferred:
        write_json(out / "init.json", built.transferred.to_dict())
        for line in built.transferred.lines():
            report(line)


def _epochs_done(state: Path) -> int:
    """Epochs completed in a trainer's state; 0 without one.

    Raises:
        MsdetError: the state cannot be read.
    """
    if not state.is_file():
        return 0
    try:
        loops = torch.load(state, map_location="cpu", weights_only=True)["loops"]
        return int(loops["fit_loop"]["epoch_progress"]["current"]["completed"])
    except (OSError, RuntimeError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise MsdetError(f"{state}: not readable as a trainer's state; delete it to start again") from error
