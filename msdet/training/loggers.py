"""Where metrics go besides the terminal: CSV and TensorBoard always, others by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from pytorch_lightning.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from msdet.errors import MsdetError


def _mlflow(out: Path, logs: Path) -> Logger:
    """MLflow; into the run's folder unless ``MLFLOW_TRACKING_URI`` names a server."""
    import os

    address = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(logs / 'mlflow.db').absolute()}"
    return MLFlowLogger(experiment_name="msdet", run_name=out.name, tracking_uri=address)


def _wandb(out: Path, logs: Path) -> Logger:
    """Weights & Biases; ``WANDB_MODE=offline`` keeps everything in the run's folder."""
    return WandbLogger(project="msdet", name=out.name, save_dir=logs)


LOGGERS: dict[str, Callable[[Path, Path], Logger]] = {"mlflow": _mlflow, "wandb": _wandb}
"""Loggers by name, each made from the run's folder and the folder of its logs."""


def require_package(name: str) -> None:
    """Refuse a logger whose package is not installed.

    Raises:
        MsdetError: says how to install it.
    """
    if find_spec(name) is None:
        raise MsdetError(f"trainer.loggers: {name} needs its package: pip install msdet[{name}]")


def make_loggers(out: Path, names: Sequence[str]) -> list[Logger]:
    """CSV, TensorBoard, and those named.

    Raises:
        MsdetError: the package of one is not installed.
    """
    logs = out / "logs"
    made: list[Logger] = [
        CSVLogger(out, name="", version="logs"),
        TensorBoardLogger(out, name="", version="logs"),
    ]
    for name in names:
        logs.mkdir(parents=True, exist_ok=True)
        try:
            made.append(LOGGERS[name](out, logs))
        except ImportError as error:
            raise MsdetError(
                f"trainer.loggers: {name} needs its package: pip install msdet[{name}]"
            ) from error
    return made


def keep_log(folder: Path) -> None:
    """Put an earlier ``metrics.csv`` aside as ``metrics-001.csv`` …: Lightning's logger deletes it."""
    log = folder / "metrics.csv"
    if log.is_file():
        log.rename(folder / f"metrics-{len(list(folder.glob('metrics-*.csv'))) + 1:03d}.csv")
