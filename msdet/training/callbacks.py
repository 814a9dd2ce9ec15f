"""Metrics of validation by name: which way is better, and for how long there was no better one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from msdet.errors import MsdetError, UnknownNameError
from msdet.io.files import atomic_path
from msdet.models.checkpoint import save_model
from msdet.models.joint import JointModel

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

    >>> watch = Watch("dev/accuracy_5deg")
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
        """Note the scores of a validation; whether the metric is the best so far. NaN never is.

        Raises:
            UnknownNameError: there is no such metric; the nearest is offered.
        """
        value = float(find_metric(scores, self.metric))
        improved = value > self.best if higher_is_better(self.metric) else value < self.best
        self.best, self.since = (value, 0) if improved else (self.best, self.since + 1)
        return improved

    def state_dict(self) -> dict[str, Any]:
        """Best value and how long ago."""
        return {"best": self.best, "since": self.since}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them."""
        self.best, self.since = float(state["best"]), int(state["since"])


def find_metric(scores: Mapping[str, Any], metric: str) -> Any:
    """The value of a metric of validation.

    Raises:
        UnknownNameError: there is no such metric; the nearest is offered.
    """
    if metric not in scores:
        raise UnknownNameError("metric", metric, [name for name in scores if name.startswith("dev/")])
    return scores[metric]


# --- Steps whose loss or gradient is not finite: said, skipped, and refused when they go on and on.


class NonFiniteGuard:
    """Counts steps that were skipped.

    Args:
        limit: so many in a row end the training.
        name: of an example, by its number in the data.
        report: called with one line for each.
    """

    def __init__(self, limit: int, name: Callable[[int], str], report: Callable[[str], None]) -> None:
        self.limit = limit
        self.name = name
        self.report = report
        self.total = 0
        self.in_a_row = 0
        self._items: list[Tensor] = []

    def seen(self, items: Tensor) -> None:
        """Note the examples of a batch that goes into the next step."""
        self._items.append(items)

    def may_step(self, step: int, finite: Tensor, lost: bool = False) -> bool:
        """Whether a step may be taken; else it is counted and said. All processes agree.

        Args:
            step: its number.
            finite: whether its gradient is ``()``.
            lost: whether its loss was not finite on this process, which went on nonetheless.

        Raises:
            MsdetError: too many in a row.
        """
        items, self._items = self._items, []
        found = [(lost, [int(item) for batch in items for item in batch])]
        if torch.distributed.is_initialized():
            bad = (~finite | lost).float()
            torch.distributed.all_reduce(bad)
            finite = bad == 0
            if not finite:
                found = found * torch.distributed.get_world_size()
                torch.distributed.all_gather_object(found, found[0])
        if finite:
            self.in_a_row = 0 if items else self.in_a_row  # without items all losses were bad, and counted
            return True
        lost = any(row[0] for row in found)
        names = [item for was_lost, row in found if was_lost or not lost for item in row]
        self.skip(step, "loss" if lost else "gradient", names)
        return False

    def skip(self, step: int, what: str, items: Iterable[int]) -> None:
        """Count a step that is left out.

        Args:
            step: its number.
            what: is not finite.
            items: numbers of its examples.

        Raises:
            MsdetError: too many in a row.
        """
        self.total += 1
        self.in_a_row += 1
        names = ", ".join(self.name(int(item)) for item in items)
        line = f"step {step}: the {what} is not finite with {names}"
        if self.in_a_row >= self.limit:
            raise MsdetError(
                f"{line}; {self.in_a_row} steps in a row were not: try a lower optimizer.learning_rate"
            )
        self.report(f"{line}; skipped")

    def state_dict(self) -> dict[str, Any]:
        """Both counts."""
        return {"total": self.total, "in_a_row": self.in_a_row}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them."""
        self.total, self.in_a_row = int(state["total"]), int(state["in_a_row"])


# --- What happens after each validation: keep the best model, stop, write a resumable state, say one line.

TRAINER_STATE = "last.ckpt"


class KeepBest(Callback):
    """Writes the checkpoint directory whenever a metric of validation is the best so far."""

    def __init__(self, out: Path, settings: dict[str, Any], metric: str = "dev/loss") -> None:
        self.out = out
        self.settings = settings
        self.watch = BestMetric(metric)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare and write."""
        scores = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("dev/")}
        if trainer.sanity_checking or not self.watch.update(scores) or not trainer.is_global_zero:
            return
        model = pl_module.model
        assert isinstance(model, JointModel)
        rounded = {k: round(v, 4) for k, v in scores.items()}
        save_model(
            self.out, model, {"step": trainer.global_step, "scores": rounded, "training": self.settings}
        )

    def state_dict(self) -> dict[str, Any]:
        """The best value so far."""
        return self.watch.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best value so far."""
        self.watch.load_state_dict(state_dict)


class StopEarly(Callback):
    """Ends a run whose metric has not improved in so many validations; it is then finished."""

    def __init__(self, metric: str, patience: int) -> None:
        self.watch = BestMetric(metric)
        self.patience = patience

    @property
    def reason(self) -> str | None:
        """Why the run ends now; None while it goes on."""
        if self.watch.since < self.patience:
            return None
        return f"{self.watch.metric} has not improved in {self.watch.since} validations"

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count a validation."""
        if not trainer.sanity_checking:
            self.watch.update(trainer.callback_metrics)
            trainer.should_stop = self.reason is not None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End at once what was killed after it had come to its end."""
        trainer.should_stop = self.reason is not None

    def state_dict(self) -> dict[str, Any]:
        """The best value so far and its age."""
        return self.watch.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them."""
        self.watch.load_state_dict(state_dict)


class SaveState(Callback):
    """Writes the trainer's own state atomically at the end of each epoch, for going on after a kill."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write ``last.ckpt``."""
        path = self.out / TRAINER_STATE
        if not trainer.is_global_zero:
            trainer.save_checkpoint(path)  # writes nothing, but the others wait for it
            return
        with atomic_path(path) as temporary:
            trainer.save_checkpoint(temporary)


class TellUnlabeled(Callback):
    """Says after the first validation which tasks the dev set has no label for: their scores are all NaN."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self.report = report
        self.told = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the scores of each task, once."""
        if trainer.sanity_checking or self.told:
            return
        self.told = True
        for task, names in pl_module.scored.items():  # type: ignore[union-attr, operator]
            values = [float(trainer.callback_metrics[f"dev/{name}"]) for name in names]
            if values and all(math.isnan(value) for value in values):
                self.report(f"validation: no scene of the dev set is labeled for the task '{task}'")


class ReportLine(Callback):
    """Says one line after each validation, and how many steps are done after each step."""

    def __init__(
        self, steps: int, report: Callable[[str], None], progress: Callable[[int, int], None] | None
    ) -> None:
        self.steps = steps
        self.report = report
        self.progress = progress
        self.started = time.monotonic()
        self.first_step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.started, self.first_step = time.monotonic(), trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Count a step."""
        if self.progress:
            self.progress(trainer.global_step, self.steps)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say how far the training is and how good the model."""
        m = {k: float(v) for k, v in trainer.callback_metrics.items()}
        step = trainer.global_step
        minutes = (time.monotonic() - self.started) / 60
        left = minutes * max(self.steps - step, 0) / max(step - self.first_step, 1)
        skipped = f"  {pl_module.skipped_steps} skipped" if pl_module.skipped_steps else ""
        self.report(
            f"step {step:>6}/{self.steps}"
            f"  loss {m.get('train/loss', float('nan')):.3f}  dev {m['dev/loss']:.3f}"
            f"  SI-SDR improvement {m['dev/si_sdr_improvement_db']:.2f} dB"
            f"  DoA within 10° {100 * m['dev/accuracy_10deg']:.0f} %"
            f"  {minutes:.1f} min, {left:.1f} min left{skipped}"
        )
