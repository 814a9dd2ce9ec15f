"""Settings of a training run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from msdet.models.config import ModelConfig
from msdet.objectives.joint import ObjectiveConfig
from msdet.simulation.distribution import SceneDistribution


@dataclass(frozen=True)
class DataConfig:
    """What a model is trained and validated on.

    Attributes:
        dev: rendered data set for validation.
        bank: RIR bank for mixing on the fly; or give `train`.
        speech: folder of the corpus mixed through the bank.
        corpus: kind of that corpus, a file name in ``msdet/corpora``.
        noise: folder of noise recordings for mixing; without it, diffuse and point noises are babble.
        train: rendered data set to train on instead of mixing on the fly.
        scenes: what is drawn when mixing; rooms and distances are the bank's.
        workers: processes that prepare batches.
    """

    dev: Path
    bank: Path | None = None
    speech: Path | None = None
    corpus: str = "folder"
    noise: Path | None = None
    train: Path | None = None
    scenes: SceneDistribution = field(default_factory=SceneDistribution)
    workers: int = 1


@dataclass(frozen=True)
class OptimiserConfig:
    """How long and how fast to learn.

    Attributes:
        steps: optimiser steps in all, rounded down to whole validation intervals.
        batch: mixtures a step.
        learning_rate: of Adam, after warm-up.
        warm_up: steps of linear warm-up.
        decay_from: share of the steps after which the rate falls linearly.
        final_share: the rate at the end, relative to `learning_rate`.
        gradient_norm: gradients are clipped to this norm.
        validate_every: steps between validations, about; each writes a checkpoint.
        precision: Lightning's: ``32-true`` or ``bf16-mixed``.
        accelerator: ``auto``, ``cpu`` or ``gpu``.
        devices: number of devices, or ``auto``.
        threads: CPU threads of the training process; 0 leaves it to torch.
        seed: of weights, data and order.
    """

    steps: int = 2000
    batch: int = 4
    learning_rate: float = 2e-3
    warm_up: int = 50
    decay_from: float = 0.6
    final_share: float = 0.05
    gradient_norm: float = 5.0
    validate_every: int = 200
    precision: str = "32-true"
    accelerator: str = "auto"
    devices: str = "auto"
    threads: int = 0
    seed: int = 0

    @property
    def interval(self) -> int:
        """Steps between validations, so that the last step ends one."""
        return self.steps // max(1, round(self.steps / self.validate_every))

    @property
    def total_steps(self) -> int:
        """Steps that are taken: whole intervals."""
        return self.steps // self.interval * self.interval


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training run."""

    data: DataConfig
    model: ModelConfig = field(default_factory=ModelConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
