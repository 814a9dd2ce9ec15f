"""Settings of a training run: data, model, objective, optimizer, trainer, stages."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from msdet.components import check_parsed
from msdet.errors import MsdetError, did_you_mean
from msdet.models.config import ModelConfig
from msdet.renamed import renaming
from msdet.scenes.distribution import Interval, SceneDistribution

T = TypeVar("T")


@dataclass(frozen=True)
class ObjectiveConfig:
    """Settings of the objective.

    Attributes:
        assignment: which reference a slot answers for: ``azimuth``, ``distance``, ``azimuth_or_distance``,
            ``folded``, ``pit``, ``pit_joint``, ``doa_anchored``, or your own ``module:function``.
        assignment_options: what the rule takes besides labels and costs.
        separation_loss: ``l1_real_imaginary_magnitude``, ``l1_real_imaginary``, ``l1_resynthesized``,
            ``l1_waveform``, ``snr``, ``si_sdr``, or your own ``module:function``.
        separation_options: what the loss takes besides estimate and reference.
        consistency: weight of the separation loss between the sums of all estimates and all references.
        doa_loss: ``cross_entropy``, ``smoothed``, ``soft``, ``earth_mover``, or your own ``module:function``.
        doa_options: what the loss takes besides logits and azimuth.
        doa_weight: λ of (1 - λ) · separation + λ · DoA.
        task_weights: weights of the model's auxiliary tasks, added to that; 0.1 for one that is not named.
        balance: how the weighted losses are joined: ``fixed``, ``dynamic_weight_average``, ``uncertainty``,
            ``gradnorm``, a method of TorchJD such as ``pcgrad``, or your own ``module:Class``.
        balance_options: what the balancing takes.
        normalize: how losses come to a common scale before they are weighted: ``none``, ``running_mean``, ``log``.
        regularization: penalties on the model's parameters, by glob pattern of their names, each with ``l1``
            (sum of magnitudes) and/or ``l2`` (sum of squares), for example ``{"doa_head.*": {"l2": 1e-4}}``.
        log_cosine_every: steps between measurements of how well the tasks' gradients agree, each of which
            costs about as much as a step; 0 for never.
    """

    assignment: str = "azimuth"
    assignment_options: dict[str, Any] = field(default_factory=dict)
    separation_loss: str = "l1_real_imaginary_magnitude"
    separation_options: dict[str, Any] = field(default_factory=dict)
    consistency: float = 0.0
    doa_loss: str = "cross_entropy"
    doa_options: dict[str, Any] = field(default_factory=dict)
    doa_weight: float = 0.25
    task_weights: dict[str, float] = field(default_factory=dict)
    balance: str = "fixed"
    balance_options: dict[str, Any] = field(default_factory=dict)
    normalize: str = "none"
    regularization: dict[str, dict[str, float]] = field(default_factory=dict)
    log_cosine_every: int = 100


@dataclass(frozen=True)
class DataConfig:
    """What a model is trained and validated on.

    Attributes:
        dev: rendered data set for validation.
        bank: RIR bank for mixing on the fly, or a folder of banks, each of another array; or give `train`.
        speech: folder of the corpus mixed through the bank.
        corpus: kind of that corpus, a file name in ``msdet/corpora``.
        noise: folder of noise recordings for mixing; without it, diffuse and point noises are babble.
        train: rendered data set to train on instead of mixing on the fly.
        extra_train: more rendered sets to train on, together with `train`; they may lack references or directions.
        scenes: what is drawn when mixing; rooms and distances are the bank's.
        t60_s: train only in rooms of the bank, or on scenes of `train`, whose T60 is in this interval.
        batch_seconds: seconds of audio a batch; as many examples as fit, instead of `optimizer.batch`. Rendered scenes
            may then differ in length: those of about one length go together, padded with zeros.
        reference_fraction: share of the training examples whose references are used, to learn what labels are worth.
        doa_fraction: share of the training examples whose directions are used.
        batch_references: share of each batch that has references, exactly; whatever comes if not given.
        batch_directions: share of each batch whose directions are known, exactly.
        set_weights: share of each batch from `train` and each of `extra_train`, in any unit.
        workers: processes that prepare batches.
        mix_on_device: convolve and mix on the training device, not in these processes; on GPUs, for talkers who stand,
            if not given.
    """

    dev: Path
    bank: Path | None = None
    speech: Path | None = None
    corpus: str = "folder"
    noise: Path | None = None
    train: Path | None = None
    extra_train: list[Path] = field(default_factory=list)
    scenes: SceneDistribution = field(default_factory=SceneDistribution)
    t60_s: Interval | None = None
    batch_seconds: float | None = None
    reference_fraction: float = 1.0
    doa_fraction: float = 1.0
    batch_references: float | None = None
    batch_directions: float | None = None
    set_weights: list[float] = field(default_factory=list)
    workers: int = 1
    mix_on_device: bool | None = None


@dataclass(frozen=True)
class OptimizerConfig:
    """What a step is, and how many are taken.

    Attributes:
        steps: optimizer steps in all, rounded down to whole validation intervals.
        batch: mixtures a batch on each device.
        accumulate: batches a step.
        name: ``adam``, ``adamw``, or another of `msdet.training.optimization`.
        options: what it takes besides, such as ``{"betas": [0.9, 0.98]}``.
        learning_rate: the largest, after warm-up.
        weight_decay: of the model's weights; null for the optimizer's own.
        gradient_clip_norm: gradients are clipped to this norm.
        warm_up: steps of linear warm-up.
        schedule: of the learning rate after warm-up: ``linear``, ``cosine`` or ``exponential`` fall,
            ``constant``, ``step``, ``cyclic`` or ``plateau``.
        schedule_options: what the schedule takes (`msdet.training.optimization`).
        decay_from: share of the steps after which the rate falls: linear, cosine, exponential.
        final_lr_ratio: the rate at the end, relative to `learning_rate`: linear, cosine, exponential.
        ema: validate and save an exponential moving average of the weights, with this decay a step; 0 for none.
        swa_from: validate and save the plain average of the weights after this share of the steps.
    """

    steps: int = 2000
    batch: int = 4
    accumulate: int = 1
    name: str = "adam"
    options: dict[str, Any] = field(default_factory=dict)
    learning_rate: float = 2e-3
    weight_decay: float | None = None
    gradient_clip_norm: float = 5.0
    warm_up: int = 50
    schedule: str = "linear"
    schedule_options: dict[str, Any] = field(default_factory=dict)
    decay_from: float = 0.6
    final_lr_ratio: float = 0.05
    ema: float = 0.0
    swa_from: float | None = None


@dataclass(frozen=True)
class TrainerConfig:
    """When a run validates and stops, and what it runs on.

    Attributes:
        validate_every: steps between validations, about; each writes a checkpoint.
        save_every_minutes: the state is written so often besides, from which a run goes on as if it had not ended.
        keep_steps: the weights are kept in ``steps`` at the first validation after each of these as well.
        monitor: the model is saved that is the best by this metric of validation.
        stop_metric: stop early once this metric has not improved in `stop_patience` validations.
        stop_patience: see `stop_metric`.
        max_nonfinite_steps: stop once so many steps in a row had a loss or gradient that is not finite.
        deterministic: only algorithms that give the same bits each time, on a GPU as well.
        precision: Lightning's: ``32-true`` or ``bf16-mixed``.
        compile: backend of torch.compile for the model, as a rule ``inductor``, which needs a C++ compiler;
            none if not given. Recurrent layers are left as they are, so it pays for the others.
        accelerator: ``auto``, ``cpu`` or ``gpu``.
        devices: number of devices a machine, or ``auto``; each takes batches of its own, gradients are averaged (DDP).
        nodes: number of machines; start the command on each, by ``srun`` or ``torchrun``.
        threads: CPU threads of the training process; 0 leaves it to torch.
        loggers: besides CSV and TensorBoard: ``mlflow``, ``wandb``.
        seed: of weights, data and order.
    """

    validate_every: int = 200
    save_every_minutes: float = 10.0
    keep_steps: list[int] = field(default_factory=list)
    monitor: str = "dev/loss"
    stop_metric: str | None = None
    stop_patience: int = 10
    max_nonfinite_steps: int = 20
    deterministic: bool = False
    precision: str = "32-true"
    compile: str | None = None
    accelerator: str = "auto"
    devices: str = "auto"
    nodes: int = 1
    threads: int = 0
    loggers: list[str] = field(default_factory=list)
    seed: int = 0


@dataclass(frozen=True)
class StageConfig:
    """One stage of a training: what differs from the rest of the settings.

    Attributes:
        name: of its folder (`msdet.io.files.plain_name`).
        objective: settings of the objective, such as ``{"doa_weight": 0.0}``.
        data: settings of the data, such as ``{"scenes": {"minimum_gap_deg": 30}}``: a curriculum.
        optimizer: settings of the optimizer, such as ``{"steps": 5000, "learning_rate": 0.001}``.
        trainer: settings of the trainer, such as ``{"validate_every": 500}``.
        freeze: parameters that do not learn, by patterns of names such as ``sharing.*``.
        train: the only parameters that learn, by patterns of names; all if empty.
        init: where weights come from: ``previous`` stage, ``none``, or a checkpoint directory.
            The first stage has no previous one: the run's `init`, if any.
    """

    name: str
    objective: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)
    freeze: list[str] = field(default_factory=list)
    train: list[str] = field(default_factory=list)
    init: str = "previous"


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training run, as `msdet.commands.train.train` describes it.

    `train` are the options ``--train_only``. No stages is one stage with the settings above them.
    """

    data: DataConfig
    model: ModelConfig = field(default_factory=ModelConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    init: Path | None = None
    freeze: list[str] = field(default_factory=list)
    train: list[str] = field(default_factory=list)
    stages: list[StageConfig] = field(default_factory=list)

    @property
    def interval(self) -> int:
        """Steps between validations, so that the last step ends one."""
        steps = self.optimizer.steps
        return steps // max(1, round(steps / self.trainer.validate_every))

    @property
    def total_steps(self) -> int:
        """Steps that are taken: whole intervals."""
        return self.validations * self.interval

    @property
    def validations(self) -> int:
        """Validations, one at the end of each interval."""
        return self.optimizer.steps // self.interval


def parse_stage(row: Mapping[str, Any], number: int) -> StageConfig:
    """A stage from the settings of a file (`overridden`)."""
    where = f"stages, {number}"
    if "name" not in row:
        raise MsdetError(f"{where}: key 'name' is missing")
    return overridden(StageConfig(""), row, where)


def overridden(config: T, changes: Mapping[str, Any], where: str) -> T:
    """A dataclass with some fields changed, groups within it field by field, values of the right type.

    >>> overridden(OptimizerConfig(), {"steps": 7}, "optimizer").steps
    7
    """
    from jsonargparse import ArgumentParser

    if not changes:
        return config
    merged = _merged(config, changes, where)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(type(config), as_group=False)
    try:
        parsed = parser.parse_object(merged)
        check_parsed(parser._actions, parsed)
        return type(config)(**parser.instantiate(parsed).as_dict())
    except (argparse.ArgumentError, MsdetError) as error:
        raise MsdetError(f"{where}: {' '.join(str(error).split())}") from error


def _merged(config: Any, changes: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Fields of a dataclass, those that change in their new form."""
    fields = [field.name for field in dataclasses.fields(config)]
    merged = dataclasses.asdict(config)
    for key, value in changes.items():
        if key not in fields:
            option = f"{where.split(': ')[-1]}.{key}"
            raise MsdetError(renaming(option) or f"{where}: unknown key '{key}'{did_you_mean(str(key), fields)}")
        old = getattr(config, key)
        nested = dataclasses.is_dataclass(old) and isinstance(value, Mapping)
        merged[key] = _merged(old, value, f"{where}.{key}") if nested else value
    return merged
