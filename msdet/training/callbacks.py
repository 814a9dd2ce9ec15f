"""What a run does beside its steps: watch metrics, skip bad steps, save, stop early, and report."""

from __future__ import annotations

import math
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping
from torch import Tensor

from msdet.errors import MsdetError, UnknownNameError
from msdet.io.files import atomic_path
from msdet.models.checkpoint import save_model
from msdet.models.joint import JointModel

Report = Callable[[str], None]
"""Called with one line for each thing of note."""

StepProgress = Callable[[int, int, str], None]
"""Called after each step with the steps done, those in all, and seconds a step and memory in words."""

TRAINER_STATE = "last.ckpt"

ASK_EVERY = 10
"""Several processes ask each other, and wait for each other, only after so many steps whether to write their state."""

EXIT_TOLD = 128 + signal.SIGTERM
"""Exit code of a training that was told to end, as a shell has it."""

HIGHER_IS_BETTER = ("accuracy", "improvement", "precision", "recall", "f1", "si_sdr", "correlation", "_area")
"""Parts of names of metrics that grow as a model gets better; losses and errors fall."""


def higher_is_better(metric: str) -> bool:
    """Whether a metric grows as a model gets better.

    >>> higher_is_better("dev/si_sdr_improvement_db"), higher_is_better("dev/doa_mae_deg")
    (True, False)
    """
    return any(part in metric for part in HIGHER_IS_BETTER)


class BestMetric:
    """The best value of a metric so far, and how many validations ago that was.

    >>> watch = BestMetric("dev/accuracy_5deg")
    >>> [watch.update({"dev/accuracy_5deg": value}) for value in (0.2, 0.3, 0.3, float("nan"))]
    [True, True, False, False]
    >>> watch.best, watch.since
    (0.3, 2)
    """

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self.best = -math.inf if higher_is_better(metric) else math.inf
        self.since = 0

    def update(self, scores: Mapping[str, Any]) -> bool:
        """Note the scores of a validation; whether the metric is the best so far. NaN never is."""
        value = float(find_metric(scores, self.metric))
        improved = value > self.best if higher_is_better(self.metric) else value < self.best
        self.best, self.since = (value, 0) if improved else (self.best, self.since + 1)
        return improved

    def state_dict(self) -> dict[str, Any]:
        """Best value and how long ago."""
        return {"best": self.best, "since": self.since}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them."""
        self.best, self.since = float(state_dict["best"]), int(state_dict["since"])


def find_metric(scores: Mapping[str, Any], metric: str) -> Any:
    """The value of a metric of validation; of one that does not exist, an error that offers the nearest."""
    if metric not in scores:
        raise UnknownNameError("metric", metric, [name for name in scores if name.startswith("dev/")])
    return scores[metric]


class NonFiniteGuard:
    """Skips steps whose loss or gradient is not finite; `limit` of them in a row end the training.

    `name` names an example by its number in the data; `report` is called with one line for each skipped step.
    """

    def __init__(self, limit: int, name: Callable[[int], str], report: Report) -> None:
        self.limit = limit
        self.name = name
        self.report = report
        self.total = 0
        self.in_a_row = 0
        self._items: list[Tensor] = []

    def add_examples(self, items: Tensor) -> None:
        """Note the examples of a batch that goes into the next step."""
        self._items.append(items)

    def may_step(self, step: int, finite: Tensor, lost: bool = False) -> bool:
        """Whether a step may be taken; else it is counted and said (`skip`). All processes agree.

        `finite` ``()`` says whether its gradient is, `lost` that on this process its loss was not, which went on.
        """
        batches, self._items = self._items, []
        several = torch.distributed.is_initialized()
        if several:
            bad = (~finite | lost).float()
            torch.distributed.all_reduce(bad)
            finite = bad == 0
        if finite:
            self.in_a_row = 0 if batches else self.in_a_row  # without any all losses were bad, and counted
            return True
        rows = [(lost, [item for batch in batches for item in batch.tolist()])]
        if several:
            rows = rows * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(rows, rows[0])
        lost = any(was_lost for was_lost, _ in rows)
        items_of_step = [item for was_lost, row in rows if was_lost or not lost for item in row]
        self.skip(step, "loss" if lost else "gradient", items_of_step)
        return False

    def skip(self, step: int, what: str, items: list[int]) -> None:
        """Count a step of which `what` is not finite with the examples `items`; an error if too many are in a row."""
        self.total += 1
        self.in_a_row += 1
        line = f"step {step}: the {what} is not finite with {', '.join(map(self.name, items))}"
        if self.in_a_row >= self.limit:
            raise MsdetError(f"{line}; {self.in_a_row} steps in a row were not: try a lower optimizer.learning_rate")
        self.report(f"{line}; skipped")

    def state_dict(self) -> dict[str, Any]:
        """Both counts."""
        return {"total": self.total, "in_a_row": self.in_a_row}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them."""
        self.total, self.in_a_row = int(state["total"]), int(state["in_a_row"])


class SaveBest(BestMetric, Callback):
    """Writes the model, as a checkpoint directory, whenever a metric of validation is the best so far."""

    def __init__(self, out: Path, settings: dict[str, Any], metric: str = "dev/loss") -> None:
        super().__init__(metric)
        self.out = out
        self.settings = settings

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare and write."""
        scores = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("dev/")}
        if trainer.sanity_checking or not self.update(scores) or not trainer.is_global_zero:
            return
        rounded = {k: round(v, 4) for k, v in scores.items()}
        notes = {"step": trainer.global_step, "scores": rounded, "training": self.settings}
        save_model(self.out, cast(JointModel, pl_module.model), notes)


class KeepSteps(Callback):
    """Writes the model, as checkpoint directories ``steps/N``, at the first validation after each of some steps.

    Of a run with one learning rate they are what shorter runs would have given: a learning curve to score.
    """

    def __init__(self, out: Path, settings: dict[str, Any], steps: Sequence[int], interval: int) -> None:
        self.out, self.settings, self.steps, self.interval = out, settings, steps, interval

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write what this validation is the first after."""
        now = trainer.global_step
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        for step in self.steps:
            if now - self.interval < step <= now:
                folder = self.out / "steps" / f"{step:06d}"
                folder.mkdir(parents=True, exist_ok=True)
                notes = {"step": now, "training": self.settings}
                save_model(folder, cast(JointModel, pl_module.model), notes)


class StopEarly(EarlyStopping):
    """Lightning's, but that a run which was killed after it had come to its end stays ended."""

    def __init__(self, metric: str, patience: int) -> None:
        mode = "max" if higher_is_better(metric) else "min"
        super().__init__(metric, patience=patience, mode=mode, check_finite=False, check_on_train_epoch_end=False)

    @property
    def reason(self) -> str | None:
        """Why the run ends now; None while it goes on."""
        if self.wait_count < self.patience:
            return None
        return f"{self.monitor} has not improved in {self.wait_count} validations"

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End at once what was killed after it had come to its end."""
        trainer.should_stop = self.reason is not None


class SaveState(Callback):
    """Writes the trainer's own state, for going on: at the end of each epoch, every so many minutes, when told to end.

    SIGTERM and SIGUSR1 (of Slurm, before a job's time is over) end the training after the step that is running, with
    its state. All processes that train together decide as one.

    Lightning writes a state to the system's folder for temporary files and then moves it, which copies if the run is on
    another file system: a kill would leave half a state. Here it is first whole beside the old one.
    """

    def __init__(self, out: Path, minutes: float, report: Report) -> None:
        self.path = out / TRAINER_STATE
        self.every_s = 60.0 * minutes
        self.report = report
        self.saved = time.monotonic()
        self.told = 0  # the number of the signal
        self.before: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen to signals, in place of Lightning, whose state of a job's end nobody would read."""
        self.saved = time.monotonic()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGUSR1):
                self.before[number] = signal.signal(number, self._note)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Listen no more."""
        while self.before:
            signal.signal(*self.before.popitem())

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Write the state after a step if it is time, or if this was the last one."""
        batches = trainer.fit_loop.epoch_loop.batch_progress
        if batches.is_last_batch or batches.current.ready % trainer.accumulate_grad_batches:
            return  # the epoch's end writes it; or the step is not complete
        if trainer.world_size > 1 and trainer.global_step % ASK_EVERY:
            return
        due = bool(self.told) or time.monotonic() - self.saved > self.every_s
        if not trainer.strategy.reduce_boolean_decision(due, all=False):
            return
        self._save(trainer)
        if trainer.strategy.reduce_boolean_decision(bool(self.told), all=False):
            self._end(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the state."""
        self._save(trainer)
        if trainer.strategy.reduce_boolean_decision(bool(self.told), all=False) and not trainer.fit_loop.done:
            self._end(trainer)

    def _note(self, number: int, frame: Any) -> None:
        self.told = number

    def _save(self, trainer: pl.Trainer) -> None:
        self.saved = time.monotonic()
        if not trainer.is_global_zero:
            trainer.save_checkpoint(self.path)  # writes nothing, but the others wait for it
            return
        with atomic_path(self.path) as temporary:
            trainer.save_checkpoint(temporary)

    def _end(self, trainer: pl.Trainer) -> None:
        if trainer.is_global_zero:
            self.report(f"told to end after step {trainer.global_step}; run the same command again to go on")
        raise SystemExit(EXIT_TOLD)


class ReportLines(Callback):
    """Reports a line after each validation, the progress after each step, and tasks without a label in the dev set."""

    def __init__(self, steps: int, report: Report, progress: StepProgress | None = None) -> None:
        self.steps = steps
        self.report = report
        self.progress = progress
        self.started = time.monotonic()
        self.first_step = 0
        self.checked_labels = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.started, self.first_step = time.monotonic(), trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Count a step."""
        if self.progress:
            note = f"{self._step_s(trainer):.2f} s a step, {max_memory_mb(pl_module.device):.0f} MB"
            self.progress(trainer.global_step, self.steps, note)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look for tasks without a label, whose scores are NaN, once."""
        if trainer.sanity_checking or self.checked_labels:
            return
        self.checked_labels = True
        for task, names in pl_module.scored.items():  # type: ignore[union-attr, operator]
            values = [float(trainer.callback_metrics[f"dev/{name}"]) for name in names]
            if values and all(math.isnan(value) for value in values):
                self.report(f"validation: no scene of the dev set is labeled for the task '{task}'")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say how far the training is and how good the model."""
        m = {k: float(v) for k, v in trainer.callback_metrics.items()}
        step, step_s = trainer.global_step, self._step_s(trainer)
        bad = cast(NonFiniteGuard, pl_module.bad)
        skipped = f"  {bad.total} skipped" if bad.total else ""
        self.report(
            f"step {step:>6}/{self.steps}  loss {m.get('train/loss', math.nan):.3f}  dev {m['dev/loss']:.3f}"
            f"  SI-SDR improvement {m['dev/si_sdr_improvement_db']:.2f} dB"
            f"  DoA within 10° {100 * m['dev/accuracy_10deg']:.0f} %"
            f"  {step_s:.2f} s a step, {max_memory_mb(pl_module.device):.0f} MB"
            f"  {(time.monotonic() - self.started) / 60:.1f} min, "
            f"{step_s * max(self.steps - step, 0) / 60:.1f} min left{skipped}"
        )

    def _step_s(self, trainer: pl.Trainer) -> float:
        """Seconds a step since the start, validations included."""
        return (time.monotonic() - self.started) / max(trainer.global_step - self.first_step, 1)


def max_memory_mb(device: torch.device) -> float:
    """Most memory that was used: of the GPU, or else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3
