"""Settings of a training run of seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from msdet.data.scene_set import SceneSet
from msdet.models.config import ModelConfig
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.rir.bank import RirBank
from msdet.training.config import DataConfig, OptimizerConfig, TrainConfig, TrainerConfig

TRAINER = TrainerConfig.__dataclass_fields__

SMALL = ModelConfig(encoder_options={"hidden": 8, "group": 8})


@pytest.fixture(scope="session")
def make_config(
    bank: RirBank, speech: Path, dev_set: SceneSet, small_room: SceneDistribution
) -> Callable[..., TrainConfig]:
    """Makes settings: six steps of two mixtures, validated every three, mixed through the bank.

    Options are those of the optimizer and of the trainer, by their names alone.
    """

    def make(model: ModelConfig = SMALL, data: dict[str, Any] | None = None, **options: Any) -> TrainConfig:
        source = {"dev": dev_set.root, "bank": bank.root, "speech": speech, "scenes": small_room, "workers": 0}
        quick = {"steps": 6, "batch": 2, "validate_every": 3, "accelerator": "cpu", "threads": 1}
        settings = quick | options
        ours = {name: settings.pop(name) for name in [*settings] if name in TRAINER}
        return TrainConfig(
            data=DataConfig(**(source | (data or {}))),
            model=model,
            optimizer=OptimizerConfig(**settings),
            trainer=TrainerConfig(**ours),
        )

    return make
