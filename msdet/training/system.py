"""The Lightning module: one step of the joint objective, validation, and what is logged."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from msdet.conventions import angular_distance_deg
from msdet.data.dataset import Example
from msdet.models.joint import JointModel
from msdet.objectives.assignment import Labels
from msdet.objectives.doa import decode_azimuth
from msdet.objectives.joint import Objective, ObjectiveTerms
from msdet.objectives.separation import si_sdr_db
from msdet.training.config import OptimiserConfig


class JointSystem(pl.LightningModule):
    """Trains a joint model.

    Logs ``train/loss``, ``train/separation``, ``train/doa`` and, in validation, the same with ``dev/`` and
    ``dev/si_sdr_improvement_db``, ``dev/doa_mae_deg``, ``dev/accuracy_5deg``, ``dev/accuracy_10deg``.
    Steps whose loss or gradient is not finite change nothing and are counted in ``train/skipped_steps``.
    """

    def __init__(self, model: JointModel, objective: Objective, optimiser: OptimiserConfig) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.settings = optimiser
        self.skipped_steps = 0

    def terms(self, batch: Example) -> tuple[ObjectiveTerms, Tensor, Tensor]:
        """Objective, waveforms ``(batch, slot, time)`` and DoA logits of a batch."""
        output = self.model(batch["mixture"])
        references = self.model.stft(batch["references"] / output.level)
        labels = Labels(batch["azimuth_deg"], batch["distance_m"])
        terms = self.objective(output.spectra, references, output.doa_logits, labels)
        return terms, output.waveforms, output.doa_logits

    def training_step(self, batch: Example, batch_idx: int) -> Tensor | None:
        """Loss of a batch; None, which skips the step, if it is not finite."""
        terms = self.terms(batch)[0]
        if not torch.isfinite(terms.total):
            self.skipped_steps += 1
            return None
        values = {"loss": terms.total, "separation": terms.separation, "doa": terms.doa}
        self.log_dict(
            {f"train/{k}": v.detach() for k, v in values.items()}, on_step=False, on_epoch=True,
            batch_size=len(batch["mixture"]),
        )  # fmt: skip
        return terms.total

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

    def validation_step(self, batch: Example, batch_idx: int) -> None:
        """Score a batch: SI-SDR under its best permutation, which then serves the DoA as well."""
        terms, waveforms, logits = self.terms(batch)
        references = batch["references"]
        pairs = si_sdr_db(waveforms[:, :, None], references[:, None])
        permutation = best_permutation(pairs)
        rows = torch.arange(pairs.shape[1])
        si_sdr = pairs[torch.arange(len(pairs))[:, None], rows, permutation]
        mixture = batch["mixture"][:, self.model.array.reference, None]
        wanted = references.gather(1, permutation[..., None].expand_as(references))
        improvement = si_sdr - si_sdr_db(mixture.expand_as(wanted), wanted)
        azimuth, _ = decode_azimuth(logits)
        truth = batch["azimuth_deg"].gather(1, permutation)
        error = torch.from_numpy(angular_distance_deg(azimuth.cpu().numpy(), truth.cpu().numpy()))
        scores = {
            "loss": terms.total,
            "separation": terms.separation,
            "doa": terms.doa,
            "si_sdr_improvement_db": improvement.mean(),
            "doa_mae_deg": error.mean(),
            "accuracy_5deg": (error <= 5.0).double().mean(),
            "accuracy_10deg": (error <= 10.0).double().mean(),
        }
        self.log_dict(
            {f"dev/{k}": v.float() for k, v in scores.items()}, on_epoch=True, batch_size=len(references)
        )

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


def best_permutation(pairs: Tensor) -> Tensor:
    """The reference of each slot ``(batch, slot)`` with the largest sum of ``(batch, slot, talker)``."""
    talkers = pairs.shape[-1]
    if math.factorial(talkers) > 720:
        raise ValueError(f"{talkers} talkers: too many permutations to try")
    permutations = torch.tensor(list(itertools.permutations(range(talkers))), device=pairs.device)
    totals = pairs[:, torch.arange(talkers, device=pairs.device), permutations].sum(-1)
    return permutations[totals.argmax(-1)]
