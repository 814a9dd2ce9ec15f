"""Learning rates and optimizers by name: numbers by hand, and wrong names refused with the nearest."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from msdet.errors import MsdetError
from msdet.training.callbacks import BestMetric
from msdet.training.config import OptimizerConfig
from msdet.training.optimization import (
    OPTIMIZERS,
    SCHEDULES,
    build_optimizer,
    build_schedule,
    plateau_options,
    relative_rate,
)


def rates(steps: list[int], plateaus: int = 0, **settings: Any) -> list[float]:
    """Relative rates of a run of 100 steps."""
    quick = {"steps": 100, "warm_up": 0, "decay_from": 0.5, "final_lr_ratio": 0.25}
    o = OptimizerConfig(**(quick | settings))
    return [relative_rate(build_schedule(o), o, 100, step, plateaus) for step in steps]


@pytest.mark.parametrize(
    ("schedule", "options", "steps", "expected"),
    [
        ("constant", {}, [0, 50, 99], [1.0, 1.0, 1.0]),
        ("linear", {}, [0, 50, 75, 100, 150], [1.0, 1.0, 0.625, 0.25, 0.25]),
        ("cosine", {}, [50, 75, 100], [1.0, 0.625, 0.25]),
        ("exponential", {}, [50, 75, 100], [1.0, 0.5, 0.25]),
        ("step", {}, [0, 24, 25, 50, 75], [1.0, 1.0, 0.5, 0.25, 0.125]),
        ("step", {"every": 0.5, "factor": 0.1}, [49, 50, 99], [1.0, 0.1, 0.1]),
        ("cyclic", {"cycles": 2, "lowest": 0.2}, [0, 25, 50, 75], [0.2, 1.0, 0.2, 1.0]),
        ("cyclic", {"cycles": 1, "lowest": 0.0}, [25, 50, 75], [0.5, 1.0, 0.5]),
    ],
)
def test_rates_are_as_computed_by_hand(
    schedule: str, options: dict[str, Any], steps: list[int], expected: list[float]
) -> None:
    assert rates(steps, schedule=schedule, schedule_options=options) == pytest.approx(expected)


def test_linear_is_the_formula_bit_for_bit() -> None:
    def formula(step: int) -> float:
        through = max(0.0, (step - 60.0) / 40.0)
        return min(1.0, (step + 1) / 50) * (1.0 - min(through, 1.0) * (1.0 - 0.05))

    steps = list(range(130))
    assert rates(steps, warm_up=50, decay_from=0.6, final_lr_ratio=0.05) == [formula(step) for step in steps]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warm_up_multiplies_every_schedule(schedule: str) -> None:
    warm, cold = (rates(list(range(12)), schedule=schedule, warm_up=w) for w in (10, 0))
    assert warm == pytest.approx([rate * min((n + 1) / 10, 1.0) for n, rate in enumerate(cold)])


def test_plateau_falls_each_time_the_metric_stood_still() -> None:
    options = {"factor": 0.5, "lowest": 0.2, "patience": 2, "metric": "dev/doa"}
    found = [rates([40], n, schedule="plateau", schedule_options=options)[0] for n in range(4)]
    assert found == pytest.approx([1.0, 0.5, 0.25, 0.2])
    o = OptimizerConfig(schedule="plateau", schedule_options=options)
    assert plateau_options(o) == ("dev/doa", 2)
    assert plateau_options(OptimizerConfig()) is None


@pytest.mark.parametrize(
    ("schedule", "options", "message"),
    [
        ("cosin", {}, "unknown schedule 'cosin'; did you mean 'cosine'"),
        ("step", {"evry": 0.1}, "schedule 'step' has no option 'evry'; did you mean 'every'"),
        ("linear", {"factor": 0.1}, "schedule 'linear' has no option 'factor'"),
        ("step", {"every": 0.0}, "schedule 'step' gives no learning rate with every=0.0"),
        ("step", {"every": -0.1}, "schedule 'step' gives no learning rate with every=-0.1"),
        ("step", {"factor": "half"}, "schedule 'step': option 'factor' is 'half', expected a number"),
        ("plateau", {"patience": "x"}, "option 'patience' is 'x', expected a whole number"),
        ("plateau", {"patience": 0}, "gives no learning rate with patience=0"),
        ("plateau", {"metric": 3}, "option 'metric' is 3, expected text"),
        ("cyclic", {"lowest": math.nan}, "gives no learning rate with lowest=nan"),
    ],
)
def test_wrong_schedule_is_refused(schedule: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(MsdetError, match=message):
        build_schedule(OptimizerConfig(schedule=schedule, schedule_options=options))


class Balance(nn.Module):
    """An objective that learns a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_takes_a_step(name: str) -> None:
    model = nn.Linear(2, 1)
    before = model.weight.detach().clone()
    optimizer = build_optimizer(OptimizerConfig(name=name, learning_rate=0.1), model, nn.Module())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert torch.isfinite(model.weight).all()
    assert not torch.equal(model.weight, before)


def test_weights_decay_and_those_of_the_objective_do_not() -> None:
    settings = OptimizerConfig(name="adamw", weight_decay=0.1, options={"betas": [0.8, 0.9]})
    optimizer = build_optimizer(settings, nn.Linear(2, 1), Balance())
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.1, 0.0]
    assert [g["betas"] for g in optimizer.param_groups] == [(0.8, 0.9)] * 2
    assert [len(g["params"]) for g in optimizer.param_groups] == [2, 1]
    torchs_own = build_optimizer(OptimizerConfig(name="adamw"), nn.Linear(2, 1), nn.Module())
    assert torchs_own.param_groups[0]["weight_decay"] == 0.01


def test_frozen_parameters_are_not_the_optimizers() -> None:
    model = nn.Linear(2, 1)
    model.bias.requires_grad_(False)
    (group,) = build_optimizer(OptimizerConfig(), model, nn.Module()).param_groups
    assert group["params"] == [model.weight]
    model.weight.requires_grad_(False)
    with pytest.raises(MsdetError, match="nothing learns"):
        build_optimizer(OptimizerConfig(), model, nn.Module())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "adamv"}, "unknown optimizer 'adamv'; did you mean 'adam"),
        ({"options": {"beta": [0.9, 0.99]}}, "optimizer 'adam' has no option 'beta'; did you mean 'betas'"),
        ({"options": {"lr": 0.1}}, "set lr by optimizer.learning_rate"),
        ({"options": {"betas": [0.9, 1.5]}}, r"optimizer 'adam' cannot be built with betas=\(0.9, 1.5\)"),
    ],
)
def test_wrong_optimizer_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(MsdetError, match=message):
        build_optimizer(OptimizerConfig(**settings), nn.Linear(2, 1), nn.Module())


def test_metric_that_does_not_exist_is_named_with_the_nearest() -> None:
    watch = BestMetric("dev/los")
    with pytest.raises(MsdetError, match="unknown metric 'dev/los'; did you mean 'dev/loss'"):
        watch.update({"dev/loss": 1.0, "train/loss": 2.0})
