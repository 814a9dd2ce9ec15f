"""One run in one folder: what it is made of, training it, and a try before it."""

from __future__ import annotations

import dataclasses
import pickle
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch.utils.data import DataLoader, default_collate

from msdet.data.example import Example
from msdet.errors import MsdetError
from msdet.io.files import held, write_json
from msdet.io.jobs import begin_run_dir, finish_run_dir
from msdet.models.joint import JointModel
from msdet.training.callbacks import (
    TRAINER_STATE,
    KeepSteps,
    NonFiniteGuard,
    Report,
    ReportLines,
    SaveBest,
    SaveState,
    StepProgress,
    StopEarly,
    find_metric,
    max_memory_mb,
)
from msdet.training.checks import comparable
from msdet.training.config import TrainConfig, TrainerConfig
from msdet.training.loaders import NOTHING_DONE, Done, TrainingData, check_labels, load_data, loaders
from msdet.training.module import JointModule
from msdet.training.objective import Objective
from msdet.training.trainer import fit, keep_log, make_loggers, make_trainer, restored_determinism
from msdet.training.transfer import Transfer, freeze, init_setting, transfer
from msdet.training.weight_averaging import averaging

FINISHED = "training.json"
"""Written last into a run's folder."""


@dataclass(frozen=True)
class PreparedRun:
    """Everything a run is made of, before anything is written."""

    data: TrainingData
    module: JointModule
    trainer: pl.Trainer
    batches: tuple[DataLoader[Example], DataLoader[Example]]  # loaders of training and validation
    transferred: Transfer | None  # where weights came from, if from a checkpoint


def prepare(
    config: TrainConfig,
    report: Report,
    data: TrainingData | None = None,
    callbacks: Sequence[Callback] = (),
    out: Path | None = None,
    **limits: Any,
) -> PreparedRun:
    """Open the data, draw the weights, take others from a checkpoint, freeze; make trainer and loaders.

    The trainer may set torch's deterministic mode: call this inside `restored_determinism`. Stages are not looked at.
    `data` are of the same settings, if they are open; `out` is the run's folder, whose state says how far it is, none
    for a run that writes nothing; `limits` are of Lightning's trainer, such as ``max_steps``.
    """
    objective = Objective(config.objective, config.model)
    data = data or load_data(config.data, config.model, config.trainer.seed)
    check_labels(data, config.objective, config.model)
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    pl.seed_everything(config.trainer.seed, workers=True, verbose=False)
    model = JointModel(config.model, data.array, data.sample_rate)
    for array in data.arrays:
        model.check_array(array)
    transferred = transfer(model, config.init) if config.init else None
    freeze(model, config.freeze, config.train)
    guard = NonFiniteGuard(config.trainer.max_nonfinite_steps, data.name, report)
    module = JointModule(model, objective, config.optimizer, config.total_steps, guard, data.arrays)
    if config.trainer.compile:
        model.compile(backend=config.trainer.compile)  # in place: names of weights stay
    module.configure_optimizers()  # an unknown option is named before anything is written
    _check_metrics(module, data, config.trainer)
    trainer = make_trainer(out or Path(), config, callbacks, **limits)
    done = _read_state(out / TRAINER_STATE).done if out else NOTHING_DONE
    batches = loaders(data, config, done, trainer.world_size)
    return PreparedRun(data, module, trainer, batches, transferred)


def _check_metrics(module: JointModule, data: TrainingData, settings: TrainerConfig) -> None:
    """Score one example, to name a metric that does not exist before anything is written."""
    plateau = module.plateau and module.plateau.metric
    watched = {m for m in (settings.monitor, settings.stop_metric, plateau) if m}
    if watched == {"dev/loss"}:
        return
    with torch.no_grad():
        module.eval()
        module.validation_step(default_collate([data.dev[0]]), 0)
        module.train()
    for metric in watched:
        find_metric({f"dev/{name}": None for name in ("loss", *module.means.sums)}, metric)


class _State(NamedTuple):
    """What a trainer's state says: how far it is, and the shapes of its weights."""

    done: Done = NOTHING_DONE
    shapes: Mapping[str, torch.Size] = MappingProxyType({})


def _read_state(state: Path) -> _State:
    """How far a run is; nothing is done without a state."""
    if not state.is_file():
        return _State()
    unreadable = (OSError, EOFError, RuntimeError, LookupError, TypeError, ValueError, AttributeError)
    try:
        content = torch.load(state, map_location="cpu", weights_only=True)
        loops = content["loops"]["fit_loop"]
        counts = [loops[name]["current"]["completed"] for name in ("epoch_progress", "epoch_loop.batch_progress")]
        for part in ("optimizer_states", "lr_schedulers", "callbacks"):
            content[part]
        return _State(Done(*map(int, counts)), {name: value.shape for name, value in content["state_dict"].items()})
    except (*unreadable, pickle.UnpicklingError) as error:
        raise _start_again(state, "not readable as a trainer's state") from error


def _start_again(state: Path, reason: str) -> MsdetError:
    advice = f"delete it to start again, from the best weights so far with --init {state.parent}"
    return MsdetError(f"{state}: {reason}; {advice}")


def train_single(out: Path, config: TrainConfig, report: Report, progress: StepProgress | None) -> Path:
    """`msdet.training.run.train` of one run, whose stages are not looked at."""
    t, state = config.trainer, out / TRAINER_STATE
    with restored_determinism(), ExitStack() as lock:
        data = load_data(config.data, config.model, t.seed)
        settings = comparable(config) | {"data_identity": data.identity} | init_setting(config.init)
        stop = StopEarly(t.stop_metric, t.stop_patience) if t.stop_metric else None
        learned = settings | {"data": settings["data"] | {"scenes": settings["data"]["scenes"] | data.rooms}}
        keep = KeepSteps(out, learned, t.keep_steps, config.interval)
        callbacks = [SaveBest(out, learned, t.monitor), keep, *([stop] if stop else []), *averaging(config)]
        callbacks.append(SaveState(out, t.save_every_minutes, report))
        callbacks.append(ReportLines(config.total_steps, report, progress))
        run = prepare(config, report, data, callbacks, out)
        if (processes := run.trainer.world_size) > 1:
            settings["processes"] = processes  # each has its own batch: a step learns from so many times more
        todo = begin_run_dir(out, settings, FINISHED) if run.trainer.is_global_zero else not (out / FINISHED).is_file()
        if not todo:
            report(f"{out}: training is already finished")
            return out
        if run.trainer.is_global_zero:
            lock.enter_context(held(out))
        shapes = _read_state(state).shapes
        if shapes and shapes != {name: value.shape for name, value in run.module.state_dict().items()}:
            raise _start_again(state, "not the state of a training of this model")
        run.trainer.loggers = make_loggers(out, t.loggers)
        if run.trainer.is_global_zero:
            _report_start(out, run, state.is_file(), report)
        fit(run.trainer, run.module, run.batches, state if state.is_file() else None)
    if not run.trainer.is_global_zero:
        return out
    if not (out / "model.safetensors").is_file():
        raise MsdetError(f"{out}: no validation had a finite {t.monitor}; try a lower optimizer.learning_rate")
    content: dict[str, Any] = {"steps": run.trainer.global_step, "skipped": run.module.bad.total}
    finish_run_dir(out, settings, FINISHED, content | ({"stopped": stop.reason} if stop else {}))
    if stop and stop.reason:
        report(f"stopped at step {run.trainer.global_step}: {stop.reason}")
    return out


def _report_start(out: Path, run: PreparedRun, going_on: bool, report: Report) -> None:
    """Say what several devices do, where the weights come from, and keep the log of an earlier run."""
    keep_log(out / "logs")
    if (devices := run.trainer.world_size) > 1:
        batch = run.batches[0].batch_size or 0
        report(
            f"{devices} devices: {batch} mixtures a batch on each, {batch * devices} together"
            if batch
            else f"{devices} devices, each with batches of its own"
        )
    if going_on:
        report(f"{out}: going on from the last checkpoint")
    elif run.transferred:
        write_json(out / "init.json", dataclasses.asdict(run.transferred))
        for line in run.transferred.lines():
            report(line)


class _Clock(Callback):
    """Seconds of the last training and validation batch, loading left out."""

    def __init__(self) -> None:
        self.started = self.train_s = self.dev_s = 0.0

    def on_train_batch_start(self, *_: Any) -> None:
        self.started = _now()

    def on_train_batch_end(self, *_: Any) -> None:
        self.train_s = _now() - self.started

    def on_validation_batch_start(self, *_: Any) -> None:
        self.started = _now()

    def on_validation_batch_end(self, *_: Any) -> None:
        self.dev_s = _now() - self.started


def dry_run_single(config: TrainConfig, report: Report) -> None:
    """Prepare a run, train for two steps, validate on one batch; write nothing; say how long all would take."""
    accumulate, workers, clock = config.optimizer.accumulate, config.data.workers, _Clock()
    in_process = dataclasses.replace(config, data=dataclasses.replace(config.data, workers=0))
    steps = 2  # the first one is slower than all later ones
    with restored_determinism():
        run = prepare(
            in_process, report, callbacks=[clock, *averaging(config)],
            max_steps=steps, limit_train_batches=steps * accumulate, limit_val_batches=1, num_sanity_val_steps=0,
        )  # fmt: skip
        started = _now()
        next(iter(run.batches[0]))
        load_s = _now() - started
        fit(run.trainer, run.module, run.batches)
    for line in run.transferred.lines() if run.transferred else []:
        report(line)
    sizes = [(p.numel(), p.requires_grad) for p in run.module.model.parameters()]
    learning = sum(size for size, learns in sizes if learns)
    report(f"model: {sum(size for size, _ in sizes):,} parameters, {learning:,} of them learn")
    step_s = accumulate * (max(clock.train_s, load_s / workers) if workers else clock.train_s + load_s)
    report(
        f"step: {step_s:.3f} s; a batch takes {clock.train_s:.3f} s to learn from and {load_s:.3f} s to "
        f"prepare, with {workers} workers beside"
    )
    dev_batches = len(run.batches[1])
    report(f"validation: {dev_batches * clock.dev_s:.1f} s, {dev_batches} batches of {clock.dev_s:.2f} s")
    total_s = config.total_steps * step_s + config.validations * dev_batches * clock.dev_s
    report(f"total: {config.total_steps} steps and {config.validations} validations, about {_duration(total_s)}")
    report(f"memory: {max_memory_mb(run.module.device):.0f} MB at most")


def _duration(seconds: float) -> str:
    """Seconds for people.

    >>> _duration(44.0), _duration(150.0), _duration(9000.0)
    ('44 s', '2.5 min', '2.5 h')
    """
    if seconds < 60.0:
        return f"{seconds:.0f} s"
    return f"{seconds / 60.0:.1f} min" if seconds < 3600.0 else f"{seconds / 3600.0:.1f} h"


def _now() -> float:
    """The time, with the GPU's work done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
