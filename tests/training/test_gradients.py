"""Balanced gradients in training, with automatic optimization: every balancing, every way of sharing."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from msdet.data.dataset import RenderedDataset
from msdet.data.example import Example
from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError
from msdet.losses.gradients import SharedGradients
from msdet.losses.weighting import BALANCERS
from msdet.models.config import ModelConfig
from msdet.models.joint import JointModel
from msdet.training.callbacks import TRAINER_STATE
from msdet.training.config import ObjectiveConfig, OptimizerConfig, TrainConfig
from msdet.training.module import JointModule, task_cosines
from msdet.training.objective import Objective
from msdet.training.run import train

SMALL = ModelConfig(encoder_options={"hidden": 8, "group": 8})
NAMES = BALANCERS.names()


class Plain(SharedGradients):
    """Gives shared parameters the tasks' own weights: the weighted sum, by another way."""

    def shares(self, gramian: Tensor, live: list[int], losses: Tensor) -> Tensor:
        return self.own_weights().to(gramian)[live]


def make_system(dev_set: SceneSet, model: ModelConfig = SMALL, **objective: Any) -> JointModule:
    torch.manual_seed(0)
    settings = OptimizerConfig(steps=20, warm_up=1, learning_rate=3e-3)
    return JointModule(JointModel(model, dev_set.array, 8000), Objective(ObjectiveConfig(**objective), model), settings)


@pytest.fixture(scope="module")
def batch(dev_set: SceneSet) -> Example:
    """Half a second of two scenes."""
    loaded: Example = next(iter(DataLoader(RenderedDataset(dev_set), batch_size=2)))
    for name in ("mixture", "references"):
        loaded[name] = loaded[name][..., 4000:8000]  # type: ignore[literal-required]
    return loaded


def fit(system: JointModule, batches: Sequence[Example], folder: Path, **options: Any) -> pl.Trainer:
    trainer = pl.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False, default_root_dir=folder,
        enable_progress_bar=False, enable_model_summary=False, **options,
    )  # fmt: skip
    trainer.fit(system, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    return trainer


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_every_balancing_trains(name: str, dev_set: SceneSet, batch: Example, tmp_path: Path) -> None:
    """A few steps over three epochs lower both losses; or one, where the shortest gradient leads."""
    model = dataclasses.replace(SMALL, tasks={"t60": {}})
    system = make_system(dev_set, model, balance=name, log_cosine_every=4)
    with torch.no_grad():
        before = system.terms(batch)[0].losses
    trainer = fit(system, [batch] * 3, tmp_path)
    assert trainer.global_step == 9
    assert system.bad.total == 0
    assert all(p.isfinite().all() for p in system.parameters())
    with torch.no_grad():
        after = system.terms(batch)[0].losses
    fell = [float(after[task]) < float(before[task]) for task in ("separation", "doa")]
    assert all(fell) if name not in ("mgda", "aligned_mtl") else any(fell)
    logged = trainer.callback_metrics
    for pair in ("separation_doa", "separation_t60", "doa_t60"):
        assert -1.0 <= float(logged[f"train/cosine_{pair}"]) <= 1.0
    if name in ("uncertainty", "dynamic_weight_average", "gradnorm"):
        assert float(logged["train/weight_separation"]) != pytest.approx(system.objective.weights["separation"])


SHARED = [
    SMALL,
    dataclasses.replace(SMALL, separation_head="reference_mask", doa_head="pooled"),
    dataclasses.replace(SMALL, sharing="none"),  # the beams are steered by the DoA: its encoder is shared
    dataclasses.replace(SMALL, tasks={"t60": {}}, variable_num_speakers=True),
]


@pytest.mark.parametrize("model", SHARED)
def test_task_gradients_with_fixed_weights_are_one_backward_pass(
    model: ModelConfig, dev_set: SceneSet, batch: Example
) -> None:
    options: dict[str, Any] = {"regularization": {"doa_head.*": {"l2": 1e-2}}}
    systems = [make_system(dev_set, model, **options) for _ in range(2)]
    systems[1].objective.balancer = Plain(systems[1].objective.weights)
    for system in systems:
        system.log_dict = lambda *_, **__: None  # type: ignore[method-assign]
        for _ in range(2):  # two batches accumulate
            loss = system.training_step(batch, 0)
            assert loss is not None
            system.backward(loss / 2)
    for (name, first), second in zip(systems[0].model.named_parameters(), systems[1].model.parameters(), strict=True):
        assert (first.grad is None) == (second.grad is None), name
        if first.grad is not None:
            torch.testing.assert_close(first.grad, second.grad, atol=1e-6, rtol=1e-4, msg=name)


def test_nothing_shared_is_refused_by_name(dev_set: SceneSet, batch: Example) -> None:
    model = dataclasses.replace(SMALL, sharing="none", separation_head="reference_mask")
    system = make_system(dev_set, model, balance="pcgrad")
    system.log_dict = lambda *_, **__: None  # type: ignore[method-assign]
    loss = system.training_step(batch, 0)
    assert loss is not None
    with pytest.raises(MsdetError, match=r"model.sharing shares nothing .* use 'fixed'"):
        system.backward(loss)


@pytest.mark.parametrize("balance", ["pcgrad", "gradnorm"])
def test_a_plain_loop_balances_or_is_refused(balance: str, dev_set: SceneSet, batch: Example) -> None:
    """`terms.backward` sets the gradients that training does; a backward pass of the total sets none."""
    system = make_system(dev_set, balance=balance, regularization={"doa_head.*": {"l2": 0.1}})
    with pytest.raises(MsdetError, match=rf"balance '{balance}' sets gradients .* terms.backward\(model\)"):
        system.terms(batch)[0].total.backward()
    assert all(p.grad is None for p in system.parameters())
    total = system.terms(batch)[0].backward(system.model)
    trained = make_system(dev_set, balance=balance, regularization={"doa_head.*": {"l2": 0.1}})
    trained.log_dict = lambda *_, **__: None  # type: ignore[method-assign]
    loss = trained.training_step(batch, 0)
    assert loss is not None
    trained.backward(loss)
    torch.testing.assert_close(total, loss.detach())
    pairs = zip(system.model.named_parameters(), trained.model.parameters(), strict=True)
    for (name, parameter), other in pairs:
        assert parameter.grad is not None, name
        torch.testing.assert_close(parameter.grad, other.grad, msg=name)


def test_a_total_without_the_penalties_is_refused(dev_set: SceneSet, batch: Example) -> None:
    for settings, model in (
        ({"regularization": {"doa_head.*": {"l2": 0.1}}}, SMALL),
        ({}, dataclasses.replace(SMALL, sharing="soft")),
    ):
        system = make_system(dev_set, model, **settings)
        terms = system.terms(batch)[0]
        with pytest.raises(MsdetError, match="has no penalties on the model's parameters"):
            terms.total.backward()
        extra = sum(system.objective.penalties(system.model).values())
        torch.testing.assert_close(terms.backward(system.model), terms.balanced.detach() + extra)


def test_frozen_parts_get_no_gradient(dev_set: SceneSet, batch: Example) -> None:
    system = make_system(dev_set, balance="upgrad")
    system.model.doa_head.requires_grad_(False)
    terms = system.terms(batch)[0]
    terms.backward(system.model)
    assert all(p.grad is None for p in system.model.doa_head.parameters())
    assert all(p.grad is not None for p in system.model.sharing.parameters())


def test_cosines_by_hand() -> None:
    """Over what both reach: x for the first two, where gradients are (1, 0) and (-1, 1); y is a's own."""
    x, y, z = torch.zeros(2, requires_grad=True), torch.ones(2, requires_grad=True), torch.ones(())
    z.requires_grad_()
    losses = {"a": x[0] + y.sum(), "b": x[1] - x[0] + z, "c": z * 2, "d": 0.0 * x.sum(), "e": torch.tensor(0.0)}
    found = task_cosines(losses, [x, y, z])  # type: ignore[list-item]
    assert {pair: value.item() for pair, value in found.items()} == pytest.approx({"a_b": -(0.5**0.5), "b_c": 1.0})


def test_cosines_are_logged_now_and_then(dev_set: SceneSet, batch: Example) -> None:
    system = make_system(dev_set, log_cosine_every=3)
    terms = system.terms(batch)[0]
    assert list(system.agreement(terms)) == ["cosine_separation_doa"]
    assert not make_system(dev_set, log_cosine_every=0).agreement(terms)


@pytest.mark.filterwarnings("ignore")
def test_cosines_and_weights_are_in_the_metrics(make_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    config = dataclasses.replace(make_config(), objective=ObjectiveConfig(balance="gradnorm", log_cosine_every=2))
    train(tmp_path / "run", config, lambda line: None)
    with (tmp_path / "run" / "logs" / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["train/loss"]]
    assert len(rows) == 2
    for row in rows:
        assert -1.0 <= float(row["train/cosine_separation_doa"]) <= 1.0
        assert 0.0 < float(row["train/weight_doa"]) < 1.0


class Killed(BaseException):
    pass


@pytest.mark.parametrize("name", ["dynamic_weight_average", "uncertainty"])
def test_killed_run_with_state_in_the_balancing_ends_with_the_same_weights(
    name: str, make_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    config = dataclasses.replace(
        make_config(steps=3, validate_every=1), objective=ObjectiveConfig(balance=name, normalize="running_mean")
    )

    def kill(line: str) -> None:
        if line.startswith(f"step {2:>6}"):
            raise Killed

    with pytest.raises(Killed):
        train(tmp_path / "killed", config, kill)
    for folder in ("killed", "whole"):
        train(tmp_path / folder, config, lambda line: None)
    killed, whole = (
        torch.load(tmp_path / folder / TRAINER_STATE, weights_only=True)["state_dict"] for folder in ("killed", "whole")
    )
    assert killed.keys() == whole.keys()
    assert any(key.startswith("objective.") for key in whole)
    for key in whole:
        assert torch.equal(killed[key], whole[key]) or whole[key].isnan().any(), key
