"""Averages of a model's weights over steps, which often score better than the last weights."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from msdet.training.config import OptimiserConfig


class Averaging(Callback):
    """Validates, and so keeps, an average of the weights; training goes on with the weights themselves.

    Exponential moving average from the first step on, or the plain average of a run's tail (stochastic
    weight averaging, Izmailov et al. 2018). Batch statistics are averaged as weights are. Callbacks that
    want the average in `on_validation_end` stand before this one.

    Args:
        ema: decay a step; 0 for the plain average.
        first_step: steps before it are not averaged; validation sees the weights themselves until then.
    """

    def __init__(self, ema: float, first_step: int) -> None:
        self.ema = ema
        self.first_step = first_step
        self.step = 0
        self.average: AveragedModel | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Start with the model's weights."""
        multi = get_ema_multi_avg_fn(self.ema) if self.ema else None
        self.average = AveragedModel(_model(pl_module), multi_avg_fn=multi, use_buffers=True)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Move to the model's device."""
        self._averaged.to(pl_module.device)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Count in the weights after each step."""
        if trainer.global_step > max(self.step, self.first_step):
            self._averaged.update_parameters(_model(pl_module))
            self.step = trainer.global_step

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the average in place of the weights."""
        self._swap(pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the weights back."""
        self._swap(pl_module)

    def state_dict(self) -> dict[str, Any]:
        """The average and the last step counted in."""
        return {"average": self._averaged.state_dict(), "step": self.step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore both."""
        self._averaged.load_state_dict(state_dict["average"])
        self.step = int(state_dict["step"])

    @property
    def _averaged(self) -> AveragedModel:
        assert self.average is not None  # by `setup`
        return self.average

    def _swap(self, pl_module: pl.LightningModule) -> None:
        """Exchange weights and average; before there is one, nothing.

        Values move, not storage: cuDNN wants the weights of a recurrent layer in one piece.
        """
        if self._averaged.n_averaged == 0:
            return
        current, average = _model(pl_module), self._averaged.module
        for mine, other in zip(_tensors(current), _tensors(average), strict=True):
            kept = mine.data.clone()
            mine.data.copy_(other.data)
            other.data.copy_(kept)


def averaging(settings: OptimiserConfig) -> list[Callback]:
    """The callback that the settings ask for, if any."""
    if settings.ema:
        return [Averaging(settings.ema, 0)]
    if settings.swa_from is not None:
        return [Averaging(0.0, round(settings.swa_from * settings.total_steps))]
    return []


def _model(pl_module: pl.LightningModule) -> nn.Module:
    model = pl_module.model
    assert isinstance(model, nn.Module)
    return model


def _tensors(module: nn.Module) -> list[Any]:
    return [*module.parameters(), *module.buffers()]
