"""The Lightning module: one step of the joint objective, validation, and what is logged."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from msdet.arrays import MicrophoneArray
from msdet.conventions import wrap_signed_deg
from msdet.data.device_mixing import mix_batch
from msdet.data.example import Example, is_complete
from msdet.dsp.spatial import decode_azimuth
from msdet.losses.assignment import cheapest_permutation
from msdet.losses.gradients import Balanced, average_over_processes, balanced_backward, inner_products, task_gradients
from msdet.losses.separation import si_sdr_db
from msdet.losses.weighting import GradientBalancer
from msdet.models.joint import JointModel, JointOutput
from msdet.tasks.labels import BatchLabels, batch_labels
from msdet.training.callbacks import BestMetric, NonFiniteGuard
from msdet.training.config import OptimizerConfig, TrainerConfig
from msdet.training.objective import Objective, ObjectiveTerms
from msdet.training.optimization import build_optimizer, build_schedule, plateau_options, relative_rate
from msdet.training.transfer import frozen_modules


class JointModule(pl.LightningModule):
    """Trains a joint model.

    Logs ``train/loss`` and each task's, such as ``train/separation``; in validation the same with ``dev/``, and each
    task's scores, such as ``dev/si_sdr_improvement_db`` and ``dev/accuracy_5deg``. ``dev/loss`` is the sum with the
    weights of the settings, however the losses are balanced in training. Besides, ``train/weight_separation`` of a
    balancing that moves its weights, and ``train/cosine_separation_doa``: how well the tasks' gradients agree. Steps
    whose loss or gradient is not finite change nothing and are counted in ``train/skipped_steps``.

    Parts of the model that are frozen stay in evaluation mode. `total_steps` are those of the optimizer if not given;
    `bad` counts steps that are not finite, and says nothing if not given. `arrays` are those of training by number,
    where there are several: the model is placed at each batch's, and in validation at its own.
    """

    def __init__(
        self,
        model: JointModel,
        objective: Objective,
        optimizer: OptimizerConfig,
        total_steps: int | None = None,
        bad: NonFiniteGuard | None = None,
        arrays: Sequence[MicrophoneArray] = (),
    ) -> None:
        super().__init__()
        self.model = model
        self.arrays, self.own_array = arrays, model.array
        self.objective = objective
        self.settings = optimizer
        self.total_steps = total_steps or optimizer.steps
        self.bad = bad or NonFiniteGuard(TrainerConfig.max_nonfinite_steps, str, lambda line: None)
        self.lost = False
        self.seed = 0
        self.means = MetricMeans()
        objective.penalties(model)  # refuses patterns that match nothing now
        self.balanced: Balanced | None = None
        self.scored: dict[str, tuple[str, ...]] = {}
        self.frozen = frozen_modules(model)
        self.schedule = build_schedule(optimizer)
        metric, self.patience = plateau_options(optimizer) or (None, 0)
        self.plateau = BestMetric(metric) if metric else None
        self.plateaus = 0
        self.train()

    def train(self, mode: bool = True) -> JointModule:
        """Training or evaluation mode; frozen parts stay in evaluation mode."""
        super().train(mode)
        for module in self.frozen:
            module.training = False
        return self

    def terms(self, batch: Example) -> tuple[ObjectiveTerms, JointOutput, BatchLabels]:
        """Objective, what the model gave, and the labels in the talkers' own order."""
        batch = mix_batch(batch)
        if self.arrays:
            self.model.place(self.arrays[int(batch["array"][0])] if self.training else self.own_array)
        skip = self.training and self.objective.may_skip_separation(batch)
        output: JointOutput = self.model(batch["mixture"], separate=not skip)
        truth = batch_labels(batch, self.model.stft, self.model.array.reference, output.level, self.model.sample_rate)
        terms: ObjectiveTerms = self.objective(output.predictions, truth)
        return terms, output, truth

    def on_before_batch_transfer(self, batch: Example, dataloader_idx: int) -> Example:
        """Note what a device would have to be waited for."""
        batch["complete"] = is_complete(batch)
        return batch

    def on_fit_start(self) -> None:
        """Note the run's seed."""
        self.seed = torch.initial_seed()

    def on_train_batch_start(self, batch: Example, batch_idx: int) -> None:
        """Dropout follows from seed and batch alone: a run that is resumed goes on as it would have."""
        done = self.current_epoch * self.trainer.num_training_batches + batch_idx
        torch.manual_seed((self.seed + 1) * 1_000_003 + done * self.trainer.world_size + self.global_rank)

    def training_step(self, batch: Example, batch_idx: int) -> Tensor | None:
        """Loss of a batch; None, which skips the step, if it is not finite."""
        terms, _, _ = self.terms(batch)
        extra = self.objective.penalties(self.model)
        total = sum(extra.values(), terms.balanced)
        if not terms.finite and not torch.distributed.is_initialized():
            self.bad.skip(self.global_step, "loss", batch["item"].tolist())
            return None
        self.lost |= not terms.finite  # other processes wait for this one's gradient
        self.bad.add_examples(batch["item"])
        self.balanced = Balanced(total, terms.scaled, list(extra.values()))
        log = partial(self.log_dict, on_step=False, on_epoch=True, sync_dist=True)
        values = {"loss": total, **extra, **self.agreement(terms)}
        log({f"train/{k}": v.detach() for k, v in values.items()}, batch_size=len(batch["mixture"]))
        for name, loss in terms.losses.items():
            count = terms.labeled[name]
            if count or torch.distributed.is_initialized():  # all processes log the same names
                log({f"train/{name}": loss.detach()}, batch_size=max(count, 1))
        return total

    def agreement(self, terms: ObjectiveTerms) -> dict[str, Tensor]:
        """Weights that a balancer gives the tasks and, every so many steps, cosines of their gradients."""
        values = {f"weight_{name}": weight for name, weight in self.objective.balance_weights().items()}
        interval = self.objective.log_cosine_every
        if interval and self.global_step % interval == 0:
            cosines = task_cosines(terms.losses, list(self.model.parameters()))
            values |= {f"cosine_{pair}": value for pair, value in cosines.items()}
        return values

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Gradients of the loss, or those that a balancer makes of the tasks' gradients."""
        balancer, step, self.balanced = self.objective.balancer, self.balanced, None
        if isinstance(balancer, GradientBalancer) and step is not None:
            balanced_backward(balancer, step, loss, list(self.model.parameters()))
        else:
            super().backward(loss, *args, **kwargs)

    def on_train_epoch_start(self) -> None:
        """Tell a balancer whose weights change with the epochs."""
        self.objective.start_epoch(self.current_epoch)

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the norm of all the model's gradients together; drop all if one is not finite."""
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.gradient_clip_norm)
        balance = [p.grad.isfinite().all() for p in self.objective.parameters() if p.grad is not None]
        finite = torch.stack([norm.isfinite(), *balance]).all()
        lost, self.lost = self.lost, False
        if not self.bad.may_step(self.global_step, finite, lost):
            for parameter in self.parameters():
                parameter.grad = None  # the optimizer leaves such parameters alone

    def on_train_epoch_end(self) -> None:
        """Log what is counted over the whole run."""
        self.log("train/skipped_steps", float(self.bad.total))

    def on_validation_epoch_start(self) -> None:
        """Start to count."""
        self.means = MetricMeans()

    def validation_step(self, batch: Example, batch_idx: int) -> None:
        """Score a batch under one permutation for all tasks: the best by SI-SDR."""
        terms, output, truth = self.terms(batch)
        for name, loss in terms.losses.items():
            self.means.add_mean(name, loss, terms.labeled[name])
        in_slots = truth.in_slots(cheapest_permutation(-pairwise_scores(output, truth)))
        for name, task in self.objective.tasks.items():
            scores = task.scores(output.predictions[name], in_slots)
            self.scored[name] = tuple(scores)
            for score, values in scores.items():
                self.means.add(score, values)

    def on_validation_epoch_end(self) -> None:
        """Log the means of all batches; count a plateau."""
        means = self.means.compute(self.device)
        labeled = [name for name in self.objective.weights if self.means.counts.get(name)]
        loss = torch.stack([self.objective.weights[name] * means[name] for name in labeled] or [torch.zeros(())])
        scores = {f"dev/{name}": value for name, value in ({"loss": loss.sum()} | means).items()}
        self.log_dict(scores)
        if self.plateau is None or self.trainer.sanity_checking:
            return
        if not self.plateau.update(scores) and self.plateau.since >= self.patience:
            self.plateau.since = 0
            self.plateaus += 1

    def configure_optimizers(self) -> Any:
        """The optimizer and the schedule that the settings name."""
        optimizer = build_optimizer(self.settings, self.model, self.objective)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def rate(self, step: int) -> float:
        """Learning rate at a step, relative to the largest."""
        return relative_rate(self.schedule, self.settings, self.total_steps, step, self.plateaus)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what was counted, and count this batch, and at its end this epoch, as completed.

        The state is written just before Lightning does so; going on would run the end once more and skip an epoch.
        """
        checkpoint["bad_steps"] = self.bad.state_dict()
        checkpoint["plateaus"] = self.plateaus
        checkpoint["plateau"] = self.plateau.state_dict() if self.plateau else {}
        loops = checkpoint["loops"]["fit_loop"]
        batches = loops["epoch_loop.batch_progress"]
        if not batches["is_last_batch"]:
            for progress in (batches["current"], batches["total"]):
                progress["completed"] = progress["processed"]
            return
        for progress in loops["epoch_progress"].values():
            progress["completed"] = progress["processed"]
        batches["is_last_batch"] = False
        batches["current"] = dict.fromkeys(batches["current"], 0)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore what was counted."""
        self.bad.load_state_dict(checkpoint["bad_steps"])
        self.plateaus = int(checkpoint["plateaus"])
        if self.plateau:
            self.plateau.load_state_dict(checkpoint["plateau"])


class MetricMeans:
    """Means of named values over the batches of a validation."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, float] = {}

    def add(self, name: str, values: Tensor) -> None:
        """Count values of any shape; NaN is left out."""
        self._add(name, torch.stack([values.nansum(), (~values.isnan()).sum()]))

    def add_mean(self, name: str, mean: Tensor, count: int) -> None:
        """Count the mean of so many values; NaN is not left out, and without any value nothing is counted."""
        total = mean * count if count else torch.zeros_like(mean)
        self._add(name, torch.stack([total, torch.full_like(mean, count)]))

    def _add(self, name: str, sums: Tensor) -> None:
        self.sums[name] = self.sums.get(name, 0.0) + sums.double()

    def compute(self, device: torch.device) -> dict[str, Tensor]:
        """The means, over all processes that validate together; NaN where nothing was counted."""
        if not self.sums:
            return {}
        table = torch.stack(list(self.sums.values())).to(device)
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(table)
        means = (table[:, 0] / table[:, 1]).float()
        self.counts = dict(zip(self.sums, table[:, 1].tolist(), strict=True))
        return dict(zip(self.sums, means, strict=True))


def pairwise_scores(output: JointOutput, truth: BatchLabels) -> Tensor:
    """How well each estimate fits each talker, ``(batch, slot, talker)``; 0 for talkers who are not there.

    In dB of SI-SDR, or in degrees of negative azimuth error where a scene has no references.
    """
    references = truth.references.waveform
    estimates = output.predictions["separation"].passes[-1].waveform
    pairs = si_sdr_db(estimates[:, :, None], references[:, None])
    error = decode_azimuth(output.doa_logits)[0][:, :, None] - truth.azimuth_deg[:, None]
    error = wrap_signed_deg(error).abs().nan_to_num(0.0)
    pairs = torch.where(truth.referenced[:, None, None], pairs, -error.to(pairs.dtype))
    return torch.where(truth.active[:, None], pairs, 0.0)


def task_cosines(losses: dict[str, Tensor], parameters: Sequence[nn.Parameter]) -> dict[str, Tensor]:
    """Cosine between the gradients of each pair of tasks, by name, such as ``separation_doa``; below 0 they conflict.

    Over the parameters that both reach: the encoder, and whatever else one task's loss reaches through another's head.
    A pair without any is left out. The graph is kept; costs one backward pass a task.
    """
    learning = [p for p in parameters if p.requires_grad]
    rows = task_gradients(list(losses.values()), learning)
    average_over_processes(rows, range(len(learning)))
    found = {}
    for (i, first), (j, second) in itertools.combinations(enumerate(losses), 2):
        both = [k for k in range(len(learning)) if rows[i][k] is not None and rows[j][k] is not None]
        gramian = inner_products([rows[i], rows[j]], both)
        lengths = gramian.diagonal().prod().sqrt()
        if lengths > 0:
            found[f"{first}_{second}"] = (gramian[0, 1] / lengths).float()
    return found
