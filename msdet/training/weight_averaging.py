"""Averages of a model's weights over steps of a run, and over checkpoints.

They often score better than the last weights (P. Izmailov et al., "Averaging weights leads to wider optima and better
generalization", UAI 2018; M. Wortsman et al., "Model soups", ICML 2022), if the checkpoints are of runs that started
from the same weights. Of other models, `msdet.methods.trained` averages the outputs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from msdet.errors import MsdetError
from msdet.models.checkpoint import load_model, read_description, save_model
from msdet.models.joint import JointModel
from msdet.models.packages import weights_hash
from msdet.renamed import leaves, translated
from msdet.training.config import TrainConfig


class WeightAveraging(Callback):
    """Validates, and so saves, an average of the weights; training goes on with the weights themselves.

    Batch statistics are averaged as weights are. Callbacks that want the average in `on_validation_end` stand before
    this one. Not Lightning's callback of this name, which ends the average's turn before validation has its scores, so
    that the best average could not be saved, and validates the first weights while there is no average yet. `ema` is
    the decay a step, 0 for the plain average; until `first_step` there is none, and validation sees the weights.
    """

    def __init__(self, ema: float, first_step: int) -> None:
        self.ema = ema
        self.first_step = first_step
        self.step = 0
        self.average: AveragedModel  # from `setup` on

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Start with the model's weights."""
        multi = get_ema_multi_avg_fn(self.ema) if self.ema else None
        self.average = AveragedModel(cast(nn.Module, pl_module.model), multi_avg_fn=multi, use_buffers=True)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Move to the model's device."""
        self.average.to(pl_module.device)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Count in the weights after each step."""
        if trainer.global_step > max(self.step, self.first_step):
            self._follow(pl_module)
            self.average.update_parameters(cast(nn.Module, pl_module.model))
            self.step = trainer.global_step

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the average in place of the weights."""
        self._swap(pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the weights back."""
        self._swap(pl_module)

    def state_dict(self) -> dict[str, Any]:
        """The average and the last step counted in."""
        return {"average": self.average.state_dict(), "step": self.step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore both."""
        self.average.load_state_dict(state_dict["average"])
        self.step = int(state_dict["step"])

    def _follow(self, pl_module: pl.LightningModule) -> None:
        """Place the average at the array that the model is at."""
        model = pl_module.model
        if isinstance(model, JointModel):
            cast(JointModel, self.average.module).place(model.array)

    def _swap(self, pl_module: pl.LightningModule) -> None:
        """Exchange values of weights and average, if any, not storage: cuDNN wants that of a layer in one piece."""
        if self.average.n_averaged == 0:
            return
        self._follow(pl_module)
        models = (cast(nn.Module, pl_module.model), self.average.module)
        for mine, other in zip(*([*m.parameters(), *m.buffers()] for m in models), strict=True):
            before = mine.data.clone()
            mine.data.copy_(other.data)
            other.data.copy_(before)


def averaging(config: TrainConfig) -> list[Callback]:
    """The callback that the settings ask for, if any."""
    if config.optimizer.ema:
        return [WeightAveraging(config.optimizer.ema, 0)]
    if config.optimizer.swa_from is not None:
        return [WeightAveraging(0.0, round(config.optimizer.swa_from * config.total_steps))]
    return []


def average_checkpoints(folders: Sequence[Path], out: Path, weights: Sequence[float] | None = None) -> Path:
    """Write the average of checkpoints, at least two of one configuration, as a new checkpoint directory `out`.

    Its notes name the sources, with step, weight and hash, and what their training settings have in common. `weights`
    of the checkpoints are on any scale; all alike if not given.
    """
    if len(folders) < 2:
        raise MsdetError(f"models: {len(folders)} given, expected at least two checkpoint directories")
    weights = list(weights or [1.0] * len(folders))
    if len(weights) != len(folders):
        raise MsdetError(f"weights: {len(weights)} given for {len(folders)} models, expected one for each")
    if not all(math.isfinite(w) and w >= 0.0 for w in weights) or sum(weights) == 0.0:
        raise MsdetError(f"weights are {weights}, expected 0 or more, not all of them 0")
    shares = [w / sum(weights) for w in weights]
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MsdetError(f"{out}: exists; choose another folder")
    descriptions = [read_description(folder) for folder in folders]
    first, *others = zip(folders, map(_decisive, descriptions), strict=True)
    for other in others:
        _check_same(*first, *other)
    models = [load_model(folder) for folder in folders]
    models[0].load_state_dict(weighted_mean([model.state_dict() for model in models], shares))
    save_model(out, models[0], _notes(folders, descriptions, shares))
    return out


def weighted_mean(states: Sequence[Mapping[str, Tensor]], shares: Sequence[float]) -> dict[str, Tensor]:
    """The mean of state dictionaries, by shares, summed in double precision; integers and booleans are the first's.

    >>> states = [{"w": torch.tensor([1.0, 2.0]), "n": torch.tensor(7)}, {"w": torch.tensor([3.0, 6.0])}]
    >>> {name: value.tolist() for name, value in weighted_mean(states, [0.75, 0.25]).items()}
    {'w': [1.5, 3.0], 'n': 7}
    """
    mean = {}
    for name, first in states[0].items():
        if not (first.is_floating_point() or first.is_complex()):
            mean[name] = first.clone()
            continue
        wide = torch.complex128 if first.is_complex() else torch.float64
        terms = [share * state[name].to(wide) for share, state in zip(shares, states, strict=True)]
        mean[name] = torch.stack(terms).sum(0).to(first.dtype)
    return mean


def common(first: Any, second: Any) -> Any:
    """What two settings agree in, group by group; None where they do not.

    >>> common({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 9}, "d": 3})
    {'a': {'b': 1}, 'd': 3}
    """
    if isinstance(first, dict) and isinstance(second, dict):
        both = {key: common(first[key], second[key]) for key in first if key in second}
        return {key: value for key, value in both.items() if value is not None or first[key] is None}
    return first if first == second else None


def _check_same(first: Path, one: dict[str, Any], second: Path, other: dict[str, Any]) -> None:
    """Refuse a model of another configuration than the first, by the field and both values."""
    known = one.keys() & other.keys()
    before, now = ({".".join(path): value for path, value in leaves(d) if path[0] in known} for d in (one, other))
    for field in {**before, **now}:
        if before.get(field) != now.get(field):
            differs = f"{field} is {now.get(field)}, that of {first} is {before.get(field)}"
            raise MsdetError(f"{second}: {differs}; only models of one configuration can be averaged")


def _decisive(description: dict[str, Any]) -> dict[str, Any]:
    """What models that are averaged must agree in, of the objective's settings as far as notes tell."""
    decisive = {key: description[key] for key in ("model", "sample_rate")}
    decisive["array"] = {key: description["array"].get(key) for key in ("positions_m", "reference")}
    objective = ((description.get("notes") or {}).get("training") or {}).get("objective")
    if objective and isinstance(objective, dict):  # who is in which slot
        decisive["objective"] = {key: objective.get(key) for key in ("assignment", "assignment_options")}
    return decisive


def _notes(folders: Sequence[Path], descriptions: Sequence[dict[str, Any]], shares: Sequence[float]) -> dict[str, Any]:
    all_notes = [description.get("notes") or {} for description in descriptions]
    sources = [
        {"model": str(folder), "weight": share, "hash": weights_hash(folder)[:16], "step": notes.get("step")}
        for folder, notes, share in zip(folders, all_notes, shares, strict=True)
    ]
    training = reduce(common, (translated(notes.get("training")) for notes in all_notes))
    return {"averaged": sources} | ({"training": training} if training else {})
