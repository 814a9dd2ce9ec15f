"""A try before a long run: two steps and a batch of validation, and how long all would take."""

from __future__ import annotations

import dataclasses
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from msdet.training.config import TrainConfig
from msdet.training.loaders import loaders
from msdet.training.single_stage import build
from msdet.training.trainer import fit, make_trainer, restored_determinism
from msdet.training.weight_averaging import averaging

_STEPS = 2  # the first one is slower than all later ones


class Clock(Callback):
    """Seconds of each training and validation batch, loading left out."""

    def __init__(self) -> None:
        self.started = 0.0
        self.train_s: list[float] = []
        self.dev_s: list[float] = []

    def on_train_batch_start(self, *_: Any) -> None:
        """Start."""
        self.started = _now()

    def on_train_batch_end(self, *_: Any) -> None:
        """Stop."""
        self.train_s.append(_now() - self.started)

    def on_validation_batch_start(self, *_: Any) -> None:
        """Start."""
        self.started = _now()

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Stop."""
        self.dev_s.append(_now() - self.started)


def dry_run(config: TrainConfig, report: Callable[[str], None]) -> None:
    """Build everything, train for two steps, validate on one batch; write nothing.

    Raises:
        MsdetError: bad settings or data.
    """
    o, clock = config.optimizer, Clock()
    with restored_determinism():
        built = build(config, report)
        limits: dict[str, Any] = {
            "max_steps": _STEPS,
            "limit_train_batches": _STEPS * o.accumulate,
            "limit_val_batches": 1,
            "num_sanity_val_steps": 0,
        }
        trainer = make_trainer(Path(), config, [clock, *averaging(config)], **limits)
        in_process = dataclasses.replace(config, data=dataclasses.replace(config.data, workers=0))
        batches = loaders(built.data, in_process, processes=trainer.world_size)
        started = _now()
        next(iter(batches[0]))
        load_s = _now() - started
        fit(trainer, built.system, batches)
    for line in built.transferred.lines() if built.transferred else []:
        report(line)
    model = built.system.model
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    report(f"model: {sum(p.numel() for p in model.parameters()):,} parameters, {learning:,} of them learn")
    step_s = o.accumulate * _batch_s(clock.train_s[-1], load_s, config.data.workers)
    report(
        f"step: {step_s:.2f} s; a batch takes {clock.train_s[-1]:.2f} s to learn from and {load_s:.2f} s to "
        f"prepare, with {config.data.workers} workers beside"
    )
    validation_s = len(batches[1]) * clock.dev_s[-1]
    report(f"validation: {validation_s:.1f} s, {len(batches[1])} batches of {clock.dev_s[-1]:.2f} s")
    validations = config.total_steps // config.interval
    total_s = config.total_steps * step_s + validations * validation_s
    report(f"total: {config.total_steps} steps and {validations} validations, about {_duration(total_s)}")
    report(f"memory: {_memory_mb(built.system.device):.0f} MB at most")


def _batch_s(learn_s: float, load_s: float, workers: int) -> float:
    """Seconds a batch takes, prepared beside or before.

    >>> _batch_s(1.0, 3.0, 0), _batch_s(1.0, 3.0, 2)
    (4.0, 1.5)
    """
    return max(learn_s, load_s / workers) if workers else learn_s + load_s


def _duration(seconds: float) -> str:
    """Seconds for people.

    >>> _duration(44.0), _duration(150.0), _duration(9000.0)
    ('44 s', '2.5 min', '2.5 h')
    """
    if seconds < 60.0:
        return f"{seconds:.0f} s"
    return f"{seconds / 60.0:.1f} min" if seconds < 3600.0 else f"{seconds / 3600.0:.1f} h"


def _memory_mb(device: torch.device) -> float:
    """Most memory that was used: of the GPU, or else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == "darwin" else most / 1e3


def _now() -> float:
    """The time, with the GPU's work done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
