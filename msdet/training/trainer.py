"""Lightning's trainer and loggers as msdet uses them: one machine or many, one process or many.

With several devices each process takes its share of every batch and gradients are averaged (DDP), so a run learns the
same from the same batches however many share them, up to rounding, as long as all examples are labeled for all tasks.
Lightning starts the processes of one machine by itself; ``torchrun`` and Slurm may instead: ``torchrun --nproc-per-node
4 --no-python msdet train RUN ... --trainer.devices 4``, or in a Slurm job of 2 nodes and 4 tasks each ``srun msdet
train RUN ... --trainer.devices 4 --trainer.nodes 2``. The first process alone writes.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from pytorch_lightning.strategies.launchers import subprocess_script
from pytorch_lightning.utilities import rank_zero_only
from torch.utils.data import DataLoader

from msdet.data.example import Example
from msdet.errors import MsdetError
from msdet.training.callbacks import EXIT_TOLD
from msdet.training.config import TrainConfig
from msdet.training.module import JointModule

STARTERS = {"SLURM_NTASKS", "TORCHELASTIC_RUN_ID", "NODE_RANK"}
"""Variables of the environment, one of which what starts processes on several machines sets."""

LOST = "another process of this training ended: all end; run the same command again to go on"
"""What is said where processes cannot go on together."""


def make_trainer(out: Path, config: TrainConfig, callbacks: Sequence[Callback], **limits: Any) -> pl.Trainer:
    """Lightning's trainer, with its limits such as ``limit_train_batches``; validation ends each epoch."""
    t = config.trainer
    if t.nodes > 1 and not STARTERS & os.environ.keys():
        alone = "this command was started alone: start it on each machine, by srun or torchrun"
        raise MsdetError(f"trainer.nodes is {t.nodes}, but {alone}")
    try:
        return pl.Trainer(
            **{"max_steps": config.total_steps, "num_sanity_val_steps": 1} | limits,
            accelerator=t.accelerator,
            devices=t.devices if t.devices == "auto" else int(t.devices),
            num_nodes=t.nodes,
            precision=t.precision,  # type: ignore[arg-type]
            deterministic=t.deterministic or None,
            accumulate_grad_batches=config.optimizer.accumulate,
            logger=[],  # what would write; `make_loggers`
            callbacks=list(callbacks),
            enable_checkpointing=False,
            use_distributed_sampler=False,  # the loaders' samplers give each process its share
            default_root_dir=out.absolute(),
            enable_progress_bar=False,
            enable_model_summary=False,
            plugins=[SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else None,
            log_every_n_steps=10,
            benchmark=False,
        )
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        asked, line = f"{t.accelerator}, devices {t.devices}, precision {t.precision}", " ".join(str(error).split())
        raise MsdetError(f"trainer.accelerator {asked}: {line}") from error


def fit(
    trainer: pl.Trainer,
    system: JointModule,
    batches: tuple[DataLoader[Example], DataLoader[Example]],
    state: Path | None = None,
) -> None:
    """Run the trainer; an interrupt, a worker's error and the end of another process come out as what they were."""
    _watch_processes(trainer)
    try:
        with quiet(), _without_observer():
            trainer.fit(system, batches[0], batches[1], ckpt_path=state, weights_only=True)
    except SystemExit as stop:
        if stop.code == EXIT_TOLD or not trainer.interrupted:
            raise
        signal.signal(signal.SIGINT, signal.default_int_handler)  # Lightning leaves it ignored
        raise KeyboardInterrupt from stop
    except MsdetError as error:  # from a worker, torch makes its whole traceback the message
        line = re.split(rf"{MsdetError.__module__}\.\w+: ", str(error))[-1]
        raise MsdetError(line.removesuffix(r"\n")) from error
    except RuntimeError as error:
        if any(reason in str(error) for reason in ("closed by peer", "reset by peer", "Broken pipe")):
            if not is_first_process():
                raise SystemExit(2) from error  # the first one says why
            raise MsdetError(LOST) from error
        if "deterministic implementation" not in str(error):
            raise
        line = " ".join(str(error).split())[:160]
        raise MsdetError(f"trainer.deterministic is true: {line}") from error


def _watch_processes(trainer: pl.Trainer) -> None:
    """End this process when one that it trains with on this machine ends too early, in place of Lightning's observer.

    Of those that Lightning starts: `torchrun` and Slurm look after theirs.
    """
    launcher: Any = trainer.strategy.launcher
    if not hasattr(launcher, "procs"):
        return
    parent = None if trainer.is_global_zero else os.getppid()

    def watch() -> None:
        while not any(process.poll() for process in launcher.procs) and parent in (None, os.getppid()):
            time.sleep(0.5)
        time.sleep(2.0)  # this process may have noticed, and be saying so
        if parent is None:
            print(f"error: {LOST}", file=sys.stderr, flush=True)
        for process in launcher.procs:
            process.kill()
        os._exit(2)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _without_observer() -> Iterator[None]:
    """Leave out Lightning's observer of the processes that it starts: it kills all of them without a word."""
    name = "_launch_process_observer"
    observer = getattr(subprocess_script, name, None)
    setattr(subprocess_script, name, lambda processes: None)
    try:
        yield
    finally:
        setattr(subprocess_script, name, observer)


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out Lightning's advice on loaders; `workers` is the user's choice, and two cores want few."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        warnings.filterwarnings("ignore", module="lightning_fabric")
        warnings.filterwarnings("ignore", message=".*isinstance.treespec.*")
        yield


@contextmanager
def restored_determinism() -> Iterator[None]:
    """Put torch's deterministic mode back: a trainer sets it for the whole process."""
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.deterministic = before[1]


def is_first_process() -> bool:
    """Whether this process, of all that train together, is the one that writes and speaks."""
    return int(getattr(rank_zero_only, "rank", None) or 0) == 0


def _mlflow(out: Path, logs: Path) -> Logger:
    """MLflow; into the run's folder unless ``MLFLOW_TRACKING_URI`` names a server."""
    address = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(logs / 'mlflow.db').absolute()}"
    return MLFlowLogger(experiment_name="msdet", run_name=out.name, tracking_uri=address)


def _wandb(out: Path, logs: Path) -> Logger:
    """Weights & Biases; ``WANDB_MODE=offline`` keeps everything in the run's folder."""
    return WandbLogger(project="msdet", name=out.name, save_dir=logs)


LOGGERS: dict[str, Callable[[Path, Path], Logger]] = {"mlflow": _mlflow, "wandb": _wandb}
"""Loggers by name, each made from the run's folder and the folder of its logs."""


def make_loggers(out: Path, names: Sequence[str]) -> list[Logger]:
    """CSV, TensorBoard, and those named."""
    out = out.absolute()  # Lightning would take a folder called ~name for somebody's home
    logs = out / "logs"
    made: list[Logger] = [CSVLogger(out, name="", version="logs"), TensorBoardLogger(out, name="", version="logs")]
    for name in names:
        logs.mkdir(parents=True, exist_ok=True)
        made.append(LOGGERS[name](out, logs))
    return made


def keep_log(folder: Path) -> None:
    """Rename an earlier ``metrics.csv`` to ``metrics-001.csv`` …: Lightning's logger deletes it."""
    log = folder / "metrics.csv"
    if log.is_file():
        log.rename(folder / f"metrics-{len(list(folder.glob('metrics-*.csv'))) + 1:03d}.csv")
