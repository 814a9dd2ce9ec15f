"""The Lightning module: one step of the joint objective, validation, and what is logged."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from msdet.data.example import Example
from msdet.models.joint import JointModel, JointOutput
from msdet.objectives.doa import decode_azimuth
from msdet.objectives.joint import Objective, ObjectiveTerms
from msdet.objectives.separation.si_sdr import si_sdr_db
from msdet.tasks.truth import Truth, truth_of
from msdet.training.config import OptimiserConfig


class JointSystem(pl.LightningModule):
    """Trains a joint model.

    Logs ``train/loss`` and each task's, such as ``train/separation``; in validation the same with ``dev/``,
    and each task's scores, such as ``dev/si_sdr_improvement_db`` and ``dev/accuracy_5deg``. ``dev/loss`` is
    the sum with the weights of the settings, however the losses are balanced in training.
    Steps whose loss or gradient is not finite change nothing and are counted in ``train/skipped_steps``.
    """

    def __init__(self, model: JointModel, objective: Objective, optimiser: OptimiserConfig) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.settings = optimiser
        self.skipped_steps = 0
        self.means = Means()

    def terms(self, batch: Example) -> tuple[ObjectiveTerms, JointOutput, Truth]:
        """Objective, what the model gave, and the labels in the talkers' own order."""
        output: JointOutput = self.model(batch["mixture"])
        truth = truth_of(batch, self.model.stft, self.model.array.reference, output.level)
        terms: ObjectiveTerms = self.objective(output.predictions, truth)
        return terms, output, truth

    def training_step(self, batch: Example, batch_idx: int) -> Tensor | None:
        """Loss of a batch; None, which skips the step, if it is not finite."""
        terms, _, _ = self.terms(batch)
        penalty = self.model.penalty()
        total = terms.total if penalty is None else terms.total + penalty
        if not torch.isfinite(total):
            self.skipped_steps += 1
            return None
        values = {"loss": total, **terms.losses} | ({} if penalty is None else {"penalty": penalty})
        self.log_dict(
            {f"train/{k}": v.detach() for k, v in values.items()}, on_step=False, on_epoch=True,
            batch_size=len(batch["mixture"]),
        )  # fmt: skip
        return total

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the norm of all gradients together; drop them if it is not finite."""
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.gradient_norm)
        if not torch.isfinite(norm):
            self.skipped_steps += 1
            for parameter in self.model.parameters():
                parameter.grad = None  # the optimiser leaves such parameters alone

    def on_train_epoch_end(self) -> None:
        """Log what is counted over the whole run."""
        self.log("train/skipped_steps", float(self.skipped_steps))

    def on_validation_epoch_start(self) -> None:
        """Start to count."""
        self.means.clear()

    def validation_step(self, batch: Example, batch_idx: int) -> None:
        """Score a batch under one permutation for all tasks: the best by SI-SDR."""
        terms, output, truth = self.terms(batch)
        weights = self.objective.weights
        total = torch.stack([weights[name] * loss for name, loss in terms.losses.items()]).sum()
        scenes = len(batch["mixture"])
        for name, loss in {"loss": total, **terms.losses}.items():
            self.means.add(name, loss.expand(scenes))
        wanted = truth.in_slots(best_permutation(closeness(output, truth)))
        for name, task in self.objective.tasks.items():
            for score, values in task.scores(output.predictions[name], wanted).items():
                self.means.add(score, values)

    def on_validation_epoch_end(self) -> None:
        """Log the means of all batches."""
        self.log_dict({f"dev/{name}": value for name, value in self.means.compute(self.device).items()})

    def configure_optimizers(self) -> Any:
        """Adam, with a rate that warms up, stays, and falls linearly."""
        optimiser = torch.optim.Adam(self.model.parameters(), lr=self.settings.learning_rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, self.rate)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def rate(self, step: int) -> float:
        """Learning rate at a step, relative to the largest."""
        s = self.settings
        warm = min(1.0, (step + 1) / max(s.warm_up, 1))
        start = s.decay_from * s.total_steps
        through = max(0.0, (step - start) / max(s.total_steps - start, 1.0))
        return warm * (1.0 - min(through, 1.0) * (1.0 - s.final_share))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the count of skipped steps, and count this epoch as completed.

        The state is written at the end of an epoch, just before Lightning counts it; going on would run the
        end once more and skip an epoch of data.
        """
        checkpoint["skipped_steps"] = self.skipped_steps
        loops = checkpoint["loops"]["fit_loop"]
        for progress in loops["epoch_progress"].values():
            progress["completed"] = progress["processed"]
        batches = loops["epoch_loop.batch_progress"]
        batches["is_last_batch"] = False
        batches["current"] = dict.fromkeys(batches["current"], 0)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the count of skipped steps."""
        self.skipped_steps = int(checkpoint["skipped_steps"])


class Means:
    """Means of named values over the batches of a validation; NaN is left out."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}

    def clear(self) -> None:
        """Forget everything."""
        self.sums = {}

    def add(self, name: str, values: Tensor) -> None:
        """Count values of any shape."""
        known = ~values.isnan()
        found = torch.stack([torch.where(known, values, 0.0).sum(), known.sum()]).double()
        self.sums[name] = self.sums[name] + found if name in self.sums else found

    def compute(self, device: torch.device) -> dict[str, Tensor]:
        """The means, over all processes that validate together; NaN where nothing was counted."""
        if not self.sums:
            return {}
        table = torch.stack(list(self.sums.values())).to(device)
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(table)
        means = (table[:, 0] / table[:, 1]).float()
        return dict(zip(self.sums, means, strict=True))


def closeness(output: JointOutput, truth: Truth) -> Tensor:
    """How well each estimate fits each talker, ``(batch, slot, talker)``; nobody fits all equally.

    In dB of SI-SDR, or in degrees of negative azimuth error where a scene has no references.
    """
    references = truth.references.waveform
    estimates = output.predictions["separation"].passes[-1].waveform
    pairs = si_sdr_db(estimates[:, :, None], references[:, None])
    error = decode_azimuth(output.doa_logits)[0][:, :, None] - truth.azimuth_deg[:, None]
    error = ((error + 180.0).remainder(360.0) - 180.0).abs().nan_to_num(0.0)
    pairs = torch.where(truth.referenced[:, None, None], pairs, -error.to(pairs.dtype))
    return torch.where(truth.active[:, None], pairs, 0.0)


def best_permutation(pairs: Tensor) -> Tensor:
    """The reference of each slot ``(batch, slot)`` with the largest sum of ``(batch, slot, talker)``."""
    talkers = pairs.shape[-1]
    if math.factorial(talkers) > 720:
        raise ValueError(f"{talkers} talkers: too many permutations to try")
    permutations = torch.tensor(list(itertools.permutations(range(talkers))), device=pairs.device)
    totals = pairs[:, torch.arange(talkers, device=pairs.device), permutations].sum(-1)
    return permutations[totals.argmax(-1)]
