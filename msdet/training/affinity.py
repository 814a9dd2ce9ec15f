"""How much tasks help each other: affinities measured in one joint training, and the grouping they suggest.

C. Fifty et al., "Efficiently identifying task groupings for multi-task learning", NeurIPS 2021, eq. 1. The
affinity of task i onto task j at a step is ``1 - L_j(after) / L_j(before)``: before is the present model; after it, the
same with the shared parameters (of ``sharing`` and the front end) moved by one gradient step of task i alone, on the
same batch. Above zero a step for i lowers the loss of j. It is averaged over steps of a training of all tasks together.

What is measured holds for the data, the model, the steps and the rate that it was measured with. In single
precision what is below about 1e-6 is rounding; a larger `AffinityConfig.step_size` lifts it out of that.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn

from msdet.conventions import Array
from msdet.data.example import Example
from msdet.errors import MsdetError, UnknownNameError
from msdet.io.files import atomic_path, read_json
from msdet.io.jobs import begin_run_dir, finish_run_dir
from msdet.losses.gradients import task_gradients
from msdet.losses.separation import is_signed
from msdet.models.heads import TASKS
from msdet.tasks import MAIN
from msdet.training.checks import check, comparable, on_one_device
from msdet.training.config import TrainConfig
from msdet.training.module import JointModule
from msdet.training.single_run import prepare
from msdet.training.trainer import fit, restored_determinism
from msdet.training.transfer import init_setting

FINISHED = "affinity.json"

MAX_TASKS = 10
"""Tasks whose partitions can all be tried: 115 975 of them."""


@dataclass(frozen=True)
class AffinityConfig:
    """What is measured, and how, as `msdet.commands.affinity.affinity` describes it."""

    tasks: list[str]
    every: int = 5
    step_size: float | None = None
    groups: int = 2


class Grouping(NamedTuple):
    """A partition of tasks, what each gets from its group, by name, and the mean of that."""

    groups: list[list[str]]
    onto: dict[str, float]
    mean: float


@dataclass(frozen=True)
class Affinities:
    """What was measured, ``(task, task)``: of the one whose step is taken (row) onto the other (column)."""

    tasks: list[str]
    mean: Array
    standard_error: Array  # of the mean over the measurements; NaN where there are fewer than two
    measured: Array  # number of measurements
    grouping: Grouping  # that these suggest


def measure_affinities(
    out: Path, config: TrainConfig, settings: AffinityConfig, progress: Callable[[int, int], None] | None = None
) -> Affinities:
    """Train all tasks together for a while and measure affinities on the way, or read what was measured.

    Writes ``affinity.json`` and ``affinity.csv`` to the folder `out`. The model is not kept. The data of `config` must
    be labeled for every task. `progress` is called with steps done and in all.
    """
    config = on_one_device(with_tasks(config, settings.tasks), "affinities are measured on one device")
    check(config)
    _check(config, settings)
    best_grouping(settings.tasks, np.zeros((len(settings.tasks),) * 2), settings.groups)  # refuses its number
    with restored_determinism():
        lookahead = Lookahead(settings, config.optimizer.learning_rate, progress)
        limits: dict[str, Any] = {"limit_val_batches": 0, "num_sanity_val_steps": 0}
        run = prepare(config, lambda line: None, callbacks=[lookahead], **limits)
        front_end = any(p.requires_grad for p in run.module.model.front_end.parameters())
        if config.model.sharing == "none" and "separation" in settings.tasks and not front_end:
            raise MsdetError("model.sharing is 'none': separation shares nothing with other tasks")
        decisive: dict[str, Any] = {
            "affinity": {k: v for k, v in dataclasses.asdict(settings).items() if k != "groups"},
            "training": comparable(config),
            "data": run.data.identity,
            **init_setting(config.init),
        }
        if begin_run_dir(out, decisive, FINISHED):
            fit(run.trainer, run.module, run.batches)
            result = _averaged(settings, np.stack(lookahead.measured))
        else:
            content = read_json(out / FINISHED)
            mean, error = np.array(content["affinity"]), np.array(content["standard_error"], dtype=np.float64)
            grouping = best_grouping(settings.tasks, mean, settings.groups)  # as the settings say now
            result = Affinities(settings.tasks, mean, error, np.array(content["measured"]), grouping)
    _write(out, decisive, result)
    return result


def with_tasks(config: TrainConfig, tasks: Sequence[str]) -> TrainConfig:
    """The settings of a training with auxiliary tasks switched on, as they are or with their defaults."""
    known = [*MAIN, *TASKS.names()]
    for name in tasks:
        if ":" not in name and name not in known:
            raise UnknownNameError("task", name, known)
    added: dict[str, dict[str, Any]] = {name: {} for name in tasks if name not in MAIN}
    model = dataclasses.replace(config.model, tasks=added | config.model.tasks)
    return dataclasses.replace(config, model=model)


class Lookahead(Callback):
    """Measures affinities before every so many steps of a training, which they do not change."""

    def __init__(self, settings: AffinityConfig, rate: float, progress: Callable[[int, int], None] | None) -> None:
        self.settings = settings
        self.rate = rate if settings.step_size is None else settings.step_size
        self.progress = progress or (lambda done, total: None)
        self.measured: list[Array] = []
        self._step = -1

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Example, *_: Any) -> None:
        """Measure with the batch that comes."""
        step = trainer.global_step
        if step % self.settings.every == 0 and step != self._step:  # once, of batches that are accumulated
            self._step = step
            self.measured.append(affinities(pl_module, batch, self.settings.tasks, self.rate))

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Count a step."""
        self.progress(trainer.global_step, int(trainer.max_steps))


def affinities(system: JointModule, batch: Example, tasks: Sequence[str], rate: float) -> Array:
    """Affinities ``(task, task)`` of one (row) onto another (column) on a batch at a rate; NaN without a label."""
    shared = shared_parameters(system.model)
    matrix = np.full((len(tasks), len(tasks)), np.nan)
    with unchanged([*shared, *system.buffers()]):
        with torch.enable_grad(), _same_noise(system.device):
            before = system.terms(batch)[0].losses
        rows = task_gradients([before[name] for name in tasks], shared)
        start = _values(before, tasks)
        for i, row in enumerate(rows):
            reached = [(p, g) for p, g in zip(shared, row, strict=True) if g is not None]
            if not start[i] > 0:
                continue  # nothing is labeled
            with torch.no_grad(), _same_noise(system.device), unchanged([p for p, _ in reached]):
                _step(reached, rate, system.settings.gradient_clip_norm)
                after = _values(system.terms(batch)[0].losses, tasks)
            matrix[i] = np.where(start > 0, 1.0 - after / np.where(start > 0, start, 1.0), np.nan)
    return np.where(np.isfinite(matrix), matrix, np.nan)


def shared_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Parameters of the sharing scheme and the front end that learn; an error if there are none."""
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    shared = [p for name, p in learning.items() if name.startswith(("sharing.", "front_end."))]
    if not shared:
        raise MsdetError("no parameter of model.sharing and the front end learns: tasks have nothing to share")
    return shared


@contextmanager
def unchanged(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Restore parameters or buffers, such as running means, when the block ends."""
    before = [tensor.detach().clone() for tensor in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in zip(tensors, before, strict=True):
                tensor.copy_(value)


@contextmanager
def _same_noise(device: torch.device) -> Iterator[None]:
    """Dropout draws the same in every such block, and nothing of it is seen outside."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        yield


def _step(reached: Sequence[tuple[nn.Parameter, Tensor]], rate: float, max_norm: float) -> None:
    """Move parameters by one step of gradient descent, with clipped gradients."""
    norm = torch.stack([g.norm() for _, g in reached]).norm() if reached else torch.ones(())
    step = rate * (max_norm / norm.clamp_min(1e-30)).clamp_max(1.0)
    for parameter, gradient in reached:
        parameter.sub_(step * gradient)


def _values(losses: dict[str, Tensor], tasks: Sequence[str]) -> Array:
    return torch.stack([losses[name].detach().double() for name in tasks]).cpu().numpy()


def _check(config: TrainConfig, settings: AffinityConfig) -> None:
    """Refuse settings that cannot work, by the option's name."""
    tasks, loss = settings.tasks, config.objective.separation_loss
    if len(set(tasks)) < 2 or len(set(tasks)) < len(tasks):
        raise MsdetError(f"tasks are {', '.join(tasks) or 'none'}, expected at least two, each once")
    if not 1 <= settings.every <= config.total_steps:
        raise MsdetError(f"every is {settings.every}, expected 1 to {config.total_steps}, the steps of optimizer.steps")
    if settings.step_size is not None and not 0.0 < settings.step_size < np.inf:
        raise MsdetError(f"step_size is {settings.step_size}, expected more than 0")
    if "separation" in tasks and is_signed(loss):
        raise MsdetError(f"affinities need losses above zero; those of separation_loss '{loss}' can be below")


def _averaged(settings: AffinityConfig, measured: Array) -> Affinities:
    """Means over measurements ``(measurement, task, task)``; an error for a task that was never labeled."""
    known = np.isfinite(measured)
    count = known.sum(axis=0)
    for name, times in zip(settings.tasks, count.diagonal(), strict=True):
        if times == 0:
            raise MsdetError(f"task '{name}': no batch of the training data had a label for it")
    values = np.where(known, measured, 0.0)
    mean = values.sum(axis=0) / np.maximum(count, 1)
    squares = (np.where(known, measured - mean, 0.0) ** 2).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.where(count > 1, np.sqrt(squares / (count - 1) / count), np.nan)
    return Affinities(settings.tasks, mean, error, count, best_grouping(settings.tasks, mean, settings.groups))


def _write(out: Path, settings: dict[str, Any], result: Affinities) -> None:
    """Write the table, then the file that says that all is done; null there is what is not known."""
    with atomic_path(out / "affinity.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["step of", *(f"onto {name}" for name in result.tasks)])
        writer.writerows([name, *row] for name, row in zip(result.tasks, result.mean.tolist(), strict=True))
    content = {
        "tasks": result.tasks,
        "affinity": result.mean.tolist(),
        "standard_error": [[None if np.isnan(x) else x for x in row] for row in result.standard_error.tolist()],
        "measured": result.measured.tolist(),
        "grouping": result.grouping._asdict(),
    }
    finish_run_dir(out, settings, FINISHED, content)


def best_grouping(tasks: Sequence[str], affinity: npt.ArrayLike, most: int) -> Grouping:
    """The partition into at most `most` groups with the largest mean affinity onto each task.

    What a task gets from its group is the mean of the affinities ``(task, task)`` onto it (column) from the group's
    other tasks (rows); a task alone gets nothing, and loses nothing. All partitions are tried; of equally good ones
    the one with fewer groups is taken.

    >>> best_grouping(["a", "b", "c"], [[0, 2, -1], [2, 0, -1], [-1, -1, 0]], 2).groups
    [['a', 'b'], ['c']]
    """
    if len(tasks) > MAX_TASKS:
        raise MsdetError(f"{len(tasks)} tasks, expected at most {MAX_TASKS} to try all groupings of")
    if most < 1:
        raise MsdetError(f"groups is {most}, expected at least 1")
    matrix = np.array(affinity, dtype=np.float64)
    candidates = sorted(partitions(len(tasks), most), key=len)
    gains = np.array([_onto(matrix, groups).mean() for groups in candidates])
    best = candidates[int(np.argmax(gains > gains.max() - 1e-12))]
    onto = _onto(matrix, best)
    return Grouping(
        [[tasks[k] for k in group] for group in best], dict(zip(tasks, onto.tolist(), strict=True)), float(onto.mean())
    )


def partitions(count: int, most: int) -> Iterator[list[list[int]]]:
    """All partitions of numbers from 0 on into at most so many groups.

    >>> sorted(partitions(3, 2))
    [[[0], [1, 2]], [[0, 1], [2]], [[0, 1, 2]], [[0, 2], [1]]]
    """
    if count == 0:
        yield []
        return
    for groups in partitions(count - 1, most):
        for k in range(len(groups)):
            yield [[*group, count - 1] if n == k else group for n, group in enumerate(groups)]
        if len(groups) < most:
            yield [*groups, [count - 1]]


def _onto(affinity: Array, groups: Sequence[Sequence[int]]) -> Array:
    """What each task gets from its group, ``(task,)``."""
    onto = np.zeros(len(affinity))
    for group in groups:
        for task in group if len(group) > 1 else ():
            onto[task] = affinity[[other for other in group if other != task], task].mean()
    return onto
