"""Settings of a training run: what cannot work, and what decides the result."""

from __future__ import annotations

import dataclasses
import json
import math
from importlib.util import find_spec
from operator import attrgetter
from typing import Any

from torch.compiler import list_backends

from msdet.errors import MsdetError, UnknownNameError, did_you_mean
from msdet.io.files import plain_name
from msdet.io.jobs import MAX_WORKERS
from msdet.training.config import DataConfig, TrainConfig, TrainerConfig
from msdet.training.optimization import OPTIMIZERS, build_schedule
from msdet.training.trainer import LOGGERS

_POSITIVE = (
    "data.batch_seconds", "optimizer.steps", "optimizer.batch", "optimizer.accumulate", "optimizer.learning_rate",
    "optimizer.gradient_clip_norm", "trainer.validate_every", "trainer.save_every_minutes", "trainer.stop_patience",
    "trainer.max_nonfinite_steps", "trainer.nodes",
)  # fmt: skip

_RANGES = {  # both ends included
    "model.talkers": (1, math.inf),
    "data.workers": (0, MAX_WORKERS),
    "data.reference_fraction": (0, 1),
    "data.doa_fraction": (0, 1),
    "data.batch_references": (0, 1),
    "data.batch_directions": (0, 1),
    "optimizer.warm_up": (0, math.inf),
    "optimizer.decay_from": (0.0, 1.0),
    "optimizer.weight_decay": (0, math.inf),
    "trainer.threads": (0, MAX_WORKERS),
    "trainer.seed": (0, 2**32 - 1),
}

_CHOICES = {
    "optimizer.name": tuple(OPTIMIZERS),
    "trainer.accelerator": ("auto", "cpu", "gpu"),
    "trainer.precision": ("32-true", "bf16-mixed"),
}

_WITHOUT_EFFECT = {
    "data": ("workers", "mix_on_device", "bank", "speech", "dev", "train", "extra_train"),  # content has its own hash
    "trainer": (
        "accelerator",
        "devices",
        "nodes",
        "threads",
        "loggers",
        "max_nonfinite_steps",
        "save_every_minutes",
        "keep_steps",
    ),
}


def check(config: TrainConfig) -> None:
    """Refuse settings that cannot work, by the name of the field."""
    for name in _POSITIVE:
        value = attrgetter(name)(config)
        if value is not None and not 0 < value < math.inf:
            raise MsdetError(f"{name} is {value}, expected more than 0")
    for name, (low, high) in _RANGES.items():
        value = attrgetter(name)(config)
        if value is not None and not (low <= value <= high and math.isfinite(value)):
            raise MsdetError(f"{name} is {value}, expected {low} {f'to {high}' if high < math.inf else 'or more'}")
    for name, choices in _CHOICES.items():
        if (value := attrgetter(name)(config)) not in choices:
            raise MsdetError(f"{name} is '{value}'{did_you_mean(value, choices)}")
    config.data.scenes.check()
    _check_data(config.data)
    _check_trainer(config.trainer)
    o = config.optimizer
    if not 0.0 <= o.ema < 1.0:
        raise MsdetError(f"optimizer.ema is {o.ema}, expected 0 to 1, 1 left out")
    if o.swa_from is not None and (o.ema or not 0.0 <= o.swa_from < 1.0):
        raise MsdetError(f"optimizer.swa_from is {o.swa_from} and ema {o.ema}, expected 0 to 1, 1 left out, and no ema")
    build_schedule(o)
    names = [stage.name for stage in config.stages]
    for number, name in enumerate(names, start=1):
        plain_name(name, "name", f"stages, {number}")
        if names.count(name) > 1:
            raise MsdetError(f"stages, {number}: name '{name}' stands twice")


def _check_data(data: DataConfig) -> None:
    if data.train is None and (data.bank is None or data.speech is None):
        raise MsdetError("data: give either train (a rendered set), or bank and speech (mixed on the fly)")
    if data.t60_s is not None and not data.t60_s[0] <= data.t60_s[1]:
        raise MsdetError(f"data.t60_s is {list(data.t60_s)}, expected [low, high] with low <= high")
    if data.extra_train and data.train is None:
        raise MsdetError("data.extra_train goes with data.train: sets are not joined with mixing on the fly")
    if data.set_weights and len(data.set_weights) != 1 + len(data.extra_train):
        expected = f"expected {1 + len(data.extra_train)}: one for data.train and each of data.extra_train"
        raise MsdetError(f"data.set_weights has {len(data.set_weights)} numbers, {expected}")
    if data.mix_on_device and data.train is not None:
        raise MsdetError("data.mix_on_device goes with data.bank: scenes of data.train are mixed already")
    if data.mix_on_device and data.scenes.moving:
        raise MsdetError(f"data.scenes.moving is {data.scenes.moving}: data.mix_on_device takes talkers who stand")
    if data.set_weights and data.train is None:
        raise MsdetError("data.set_weights goes with data.train: what is mixed on the fly is no set")
    by_label = data.batch_references is not None or data.batch_directions is not None
    if sum([by_label, bool(data.set_weights), data.batch_seconds is not None]) > 1:
        one_of = "by label (batch_references, batch_directions), by set (set_weights) or by length (batch_seconds)"
        raise MsdetError(f"data: batches are made {one_of}, one of them")


def _check_trainer(t: TrainerConfig) -> None:
    if t.compile is not None and t.compile not in (known := list_backends(exclude_tags=())):
        raise UnknownNameError("backend of torch.compile:", t.compile, known)
    for name in t.loggers:
        if name not in LOGGERS:
            raise UnknownNameError("logger", name, LOGGERS)
        if find_spec(name) is None:
            raise MsdetError(f"trainer.loggers: {name} needs its package: pip install msdet[{name}]")
    if t.keep_steps and min(t.keep_steps) < 1:
        raise MsdetError(f"trainer.keep_steps is {t.keep_steps}, expected steps from 1 up")
    if t.devices != "auto" and not (t.devices.isdigit() and int(t.devices)):
        raise MsdetError(f"trainer.devices is '{t.devices}', expected auto or a number")


def comparable(config: TrainConfig) -> dict[str, Any]:
    """Settings as JSON, without those that do not change the result."""
    settings: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    for group, names in _WITHOUT_EFFECT.items():
        for name in names:
            settings[group].pop(name)
    settings["data"]["scenes"].pop("array")  # its geometry is the bank's
    settings.pop("init")  # its weights are
    settings.pop("stages")
    return settings


def on_one_device(config: TrainConfig, what: str) -> TrainConfig:
    """The settings, for one process on one device; an error, which ends in `what`, if they ask for several."""
    t = config.trainer
    if t.devices not in ("auto", "1") or t.nodes != 1:
        raise MsdetError(f"trainer.devices is {t.devices}, nodes {t.nodes}: {what}")
    return dataclasses.replace(config, trainer=dataclasses.replace(t, devices="1"))
