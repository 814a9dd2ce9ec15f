"""A training run from its settings: data, model, trainer, checkpoints, resuming."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from torch.utils.data import DataLoader, Dataset

from msdet.arrays import MicrophoneArray
from msdet.corpora import load_corpus
from msdet.data.dataset import EpochSampler, MixingDataset, RenderedDataset
from msdet.data.example import Example
from msdet.data.manifest import SceneSet
from msdet.errors import MsdetError
from msdet.files import settings_hash
from msdet.models.config import ModelConfig
from msdet.models.joint import JointModel
from msdet.objectives.joint import Objective
from msdet.simulation.bank import RirBank
from msdet.training.callbacks import TRAINER_STATE, KeepBest, ReportLine, SaveState
from msdet.training.config import DataConfig, TrainConfig
from msdet.training.system import JointSystem
from msdet.work import claim_folder, end_with_parent, finish_folder

FINISHED = "training.json"
"""Written last into the run's folder."""


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """Training and validation examples of one geometry and sample rate."""

    train: Dataset[Example]
    train_size: int | None
    dev: RenderedDataset
    array: MicrophoneArray
    sample_rate: int
    identity: dict[str, str]


def train(
    out: Path,
    config: TrainConfig,
    report: Callable[[str], None] = print,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Train a model into a folder, or go on from the last checkpoint that a killed run left there.

    Args:
        out: the run's folder, which becomes a checkpoint directory (the best model by ``dev/loss``).
        config: everything that decides the run.
        report: called with one line after each validation.
        progress: called with steps done and in all after each step.

    Returns:
        `out`.

    Raises:
        MsdetError: bad settings or data, or a folder that holds a run with other settings.
    """
    check(config)
    objective = Objective(config.objective, config.model)
    data = load_data(config.data, config.model, config.optimiser.seed)
    settings = comparable(config) | {"data_identity": data.identity}
    if config.optimiser.threads:
        torch.set_num_threads(config.optimiser.threads)
    pl.seed_everything(config.optimiser.seed, workers=True, verbose=False)
    system = JointSystem(JointModel(config.model, data.array, data.sample_rate), objective, config.optimiser)
    if not claim_folder(out, settings, FINISHED):
        report(f"{out}: training is already finished")
        return out
    trainer = make_trainer(
        out,
        config,
        [KeepBest(out, settings), SaveState(out), ReportLine(config.optimiser.total_steps, report, progress)],
    )
    last = out / TRAINER_STATE
    if last.is_file():
        report(f"{out}: going on from the last checkpoint")
    with warnings.catch_warnings():
        # Lightning's advice on loaders; `workers` is the user's choice, and two cores want few
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        warnings.filterwarnings("ignore", module="lightning_fabric")
        warnings.filterwarnings("ignore", message=".*isinstance.treespec.*")
        _fit(trainer, system, loaders(data, config, _epochs_done(last)), last if last.is_file() else None)
    if not (out / "model.safetensors").is_file():
        raise MsdetError(f"{out}: no validation had a finite loss; try a lower optimiser.learning_rate")
    finish_folder(out, settings, FINISHED, {"steps": trainer.global_step, "skipped": system.skipped_steps})
    return out


def check(config: TrainConfig) -> None:
    """Refuse settings that cannot work.

    Raises:
        MsdetError: names the field.
    """
    config.data.scenes.check()
    for name in ("steps", "batch", "validate_every", "learning_rate", "gradient_norm"):
        value = getattr(config.optimiser, name)
        if not (math.isfinite(value) and value > 0):
            raise MsdetError(f"optimiser.{name} is {value}, expected more than 0")
    if config.optimiser.accelerator not in ("auto", "cpu", "gpu"):
        raise MsdetError(
            f"optimiser.accelerator is '{config.optimiser.accelerator}', expected auto, cpu or gpu"
        )
    if config.optimiser.devices != "auto" and not config.optimiser.devices.isdigit():
        raise MsdetError(f"optimiser.devices is '{config.optimiser.devices}', expected auto or a number")
    if config.data.workers < 0:
        raise MsdetError(f"data.workers is {config.data.workers}, expected 0 or more")
    if config.data.train is None and (config.data.bank is None or config.data.speech is None):
        raise MsdetError("data: give either train (a rendered set), or bank and speech (mixed on the fly)")
    if config.optimiser.precision not in ("32-true", "bf16-mixed"):
        raise MsdetError(
            f"optimiser.precision is '{config.optimiser.precision}', expected '32-true' or 'bf16-mixed'"
        )


def comparable(config: TrainConfig) -> dict[str, Any]:
    """Settings as JSON, without those that do not change the result."""
    settings: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    for name in ("workers", "bank", "speech", "dev", "train"):
        settings["data"].pop(name)
    settings["data"]["scenes"].pop("array")  # its geometry is the bank's
    for name in ("accelerator", "devices", "threads"):
        settings["optimiser"].pop(name)
    return settings


def load_data(config: DataConfig, model: ModelConfig, seed: int) -> TrainingData:
    """Open everything a run reads, and check that it belongs together.

    Raises:
        MsdetError: data of different arrays, sample rates or talker counts.
    """
    dev_set = SceneSet.open(config.dev)
    dev = RenderedDataset(dev_set, slots=model.talkers)
    identity = {"dev": dev_set.identity}
    train: Dataset[Example]
    if config.train is not None:
        train_set = SceneSet.open(config.train)
        train, size = RenderedDataset(train_set, slots=model.talkers), len(train_set.scenes)
        array, rate, identity["train"] = train_set.array, train_set.sample_rate, train_set.identity
        counts = {len(s.sources) for s in train_set.scenes + dev_set.scenes}
    else:
        assert config.bank is not None and config.speech is not None  # by `check`
        bank = RirBank.open(config.bank)
        corpus = load_corpus(config.corpus, config.speech)
        mixing = MixingDataset(bank, corpus, "train", config.scenes, seed, config.noise, model.talkers)
        train, size = mixing, None
        array, rate, identity["bank"] = bank.array, bank.sample_rate, bank.identity
        identity["speech"] = settings_hash([(u.path, u.seconds, u.split) for u in corpus.utterances])
        identity["noise"] = settings_hash([dataclasses.astuple(r) for r in mixing.material.recordings])
        counts = set(config.scenes.weights) | {len(s.sources) for s in dev_set.scenes}
    if counts != {model.talkers} and not model.vacancy:
        raise MsdetError(
            f"the model has {model.talkers} output slots, the data have {sorted(counts)} talkers; "
            "model.vacancy lets slots stay empty"
        )
    targets = {scene.target for scene in dev_set.scenes}
    if config.train is None and targets != {config.scenes.target}:
        raise MsdetError(
            f"data.scenes.target is '{config.scenes.target}', "
            f"the scenes of {config.dev} have {sorted(targets)}"
        )
    if rate != dev_set.sample_rate:
        raise MsdetError(f"{config.dev}: is at {dev_set.sample_rate} Hz, training data at {rate} Hz")
    if array.positions_m != dev_set.array.positions_m or array.reference != dev_set.array.reference:
        raise MsdetError(f"{config.dev}: array is '{dev_set.array.name}', training data have '{array.name}'")
    return TrainingData(train, size, dev, array, rate, identity)


def loaders(
    data: TrainingData, config: TrainConfig, epochs_done: int = 0
) -> tuple[DataLoader[Example], DataLoader[Example]]:
    """Loaders of training and validation batches; an epoch is the steps between two validations."""
    o = config.optimiser
    workers = config.data.workers
    sampler = EpochSampler(o.batch * o.interval, data.train_size, o.seed)
    sampler.set_epoch(epochs_done)  # Lightning starts workers before it says which epoch it goes on with
    train = DataLoader(
        data.train,
        batch_size=o.batch,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=False,  # workers hold no epoch of their own
        drop_last=True,
        multiprocessing_context="forkserver" if workers else None,
        worker_init_fn=_start_worker if workers else None,
    )
    return train, DataLoader(data.dev, batch_size=o.batch)


def _start_worker(number: int) -> None:
    """Make a loader's worker end with the training process, even if that is killed."""
    end_with_parent()


def make_trainer(out: Path, config: TrainConfig, callbacks: list[Callback]) -> pl.Trainer:
    """Lightning's trainer with msdet's loggers; validation ends each epoch."""
    o = config.optimiser
    _keep_log(out / "logs")
    return pl.Trainer(
        max_steps=o.total_steps,
        accelerator=o.accelerator,
        devices=o.devices if o.devices == "auto" else int(o.devices),
        precision=o.precision,  # type: ignore[arg-type]
        logger=[CSVLogger(out, name="", version="logs"), TensorBoardLogger(out, name="", version="logs")],
        callbacks=callbacks,
        enable_checkpointing=False,
        use_distributed_sampler=False,  # `EpochSampler` gives each process its share
        default_root_dir=out,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=10,
        num_sanity_val_steps=1,
        benchmark=False,
    )


def _fit(
    trainer: pl.Trainer,
    system: JointSystem,
    batches: tuple[DataLoader[Example], DataLoader[Example]],
    state: Path | None,
) -> None:
    """Run the trainer; an interrupt and a worker's error come out as what they were."""
    try:
        trainer.fit(system, batches[0], batches[1], ckpt_path=state, weights_only=True)
    except SystemExit as stop:
        if not trainer.interrupted:
            raise
        signal.signal(signal.SIGINT, signal.default_int_handler)  # Lightning leaves it ignored
        raise KeyboardInterrupt from stop
    except MsdetError as error:  # from a worker, torch makes its whole traceback the message
        line = str(error).strip().splitlines()[-1]
        raise MsdetError(line.removeprefix(f"{MsdetError.__module__}.MsdetError: ")) from error


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


def _keep_log(folder: Path) -> None:
    """Put an earlier ``metrics.csv`` aside as ``metrics-001.csv`` …: Lightning's logger deletes it."""
    log = folder / "metrics.csv"
    if log.is_file():
        log.rename(folder / f"metrics-{len(list(folder.glob('metrics-*.csv'))) + 1:03d}.csv")
