"""What happens after each validation: keep the best model, stop, write a resumable state, say one line."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from msdet.files import atomic_path
from msdet.models.joint import JointModel
from msdet.training.checkpoint import save_model
from msdet.training.watching import Watch

TRAINER_STATE = "last.ckpt"


class KeepBest(Callback):
    """Writes the checkpoint directory whenever a metric of validation is the best so far."""

    def __init__(self, out: Path, settings: dict[str, Any], metric: str = "dev/loss") -> None:
        self.out = out
        self.settings = settings
        self.watch = Watch(metric)

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
        self.watch = Watch(metric)
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


class TellUnlabelled(Callback):
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
                self.report(f"validation: no scene of the dev set is labelled for the task '{task}'")


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
