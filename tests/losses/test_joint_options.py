"""Normalized losses, regularized parameters, and what the objective passes on to a balancer, by hand."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from msdet.errors import MsdetError
from msdet.losses.weighting import LossNormalization, penalty
from msdet.tasks.labels import LabeledLoss
from msdet.training.config import ObjectiveConfig
from msdet.training.objective import Objective


def scaled(normalization: LossNormalization, **losses: float) -> dict[str, float]:
    found = normalization({name: torch.tensor(value) for name, value in losses.items()})
    return {name: float(value) for name, value in found.items()}


def test_running_mean_by_hand() -> None:
    normalization = LossNormalization("running_mean", ["a", "b"], decay=0.9)
    assert scaled(normalization, a=4.0, b=-0.5) == pytest.approx({"a": 1.0, "b": -1.0})
    assert scaled(normalization, a=2.0) == pytest.approx({"a": 2.0 / 3.8}), "0.9 · 4 + 0.1 · 2"
    assert scaled(normalization, a=math.nan, b=1.5)["b"] == pytest.approx(1.5 / 0.6)
    assert scaled(normalization, a=3.8) == pytest.approx({"a": 1.0}), "what was not finite left no trace"
    normalization.eval()
    assert scaled(normalization, a=38.0, b=0.6) == pytest.approx({"a": 10.0, "b": 1.0})
    assert scaled(normalization, a=38.0) == pytest.approx({"a": 10.0}), "validation moves nothing"


def test_task_that_was_never_labeled_is_left_as_it_is() -> None:
    normalization = LossNormalization("running_mean", ["a", "b"]).eval()
    assert scaled(normalization, b=7.0) == {"b": 7.0}


def test_running_mean_is_no_part_of_the_gradient() -> None:
    loss = torch.tensor(4.0, requires_grad=True)
    LossNormalization("running_mean", ["a"])({"a": loss})["a"].backward()
    assert loss.grad is not None and loss.grad.item() == pytest.approx(0.25)


def test_log_makes_gradients_relative() -> None:
    loss = torch.tensor(4.0, requires_grad=True)
    found = LossNormalization("log", ["a"])({"a": loss})["a"]
    found.backward()
    assert found.item() == pytest.approx(math.log(4.0))
    assert loss.grad is not None and loss.grad.item() == pytest.approx(0.25)
    with pytest.raises(MsdetError, match="normalize 'log' needs losses of 0 or more: that of a is -1"):
        LossNormalization("log", ["a"])({"a": torch.tensor(-1.0)})


def test_running_mean_survives_saving() -> None:
    first, second = (LossNormalization("running_mean", ["a"], decay=0.5) for _ in range(2))
    scaled(first, a=4.0)
    second.load_state_dict(first.state_dict())
    assert scaled(first, a=8.0) == scaled(second, a=8.0) == pytest.approx({"a": 8.0 / 6.0})


class Small(nn.Module):
    """``encoder.weight`` of 1 -2, ``head.weight`` of 3, ``head.bias`` of -0.5."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = nn.Linear(2, 1, bias=False), nn.Linear(1, 1)
        self.encoder.weight.data = torch.tensor([[1.0, -2.0]])
        self.head.weight.data, self.head.bias.data = torch.tensor([[3.0]]), torch.tensor([-0.5])


def test_regularization_by_hand() -> None:
    model = Small()
    cost = penalty({"head.*": {"l1": 0.1, "l2": 0.01}, "*.weight": {"l2": 2.0}}, model)
    assert cost is not None
    assert cost.item() == pytest.approx(0.1 * 3.5 + 0.01 * 9.25 + 2.0 * (1 + 4 + 9))
    cost.backward()  # type: ignore[no-untyped-call]
    assert model.encoder.weight.grad is not None and model.head.bias.grad is not None
    assert model.encoder.weight.grad.tolist() == [[4.0, -8.0]]
    assert model.head.bias.grad.tolist() == pytest.approx([-0.1 + 0.02 * -0.5])


@pytest.mark.parametrize("patterns", [{}, {"head.*": {}}, {"head.*": {"l1": 0.0}}])
def test_nothing_to_regularize_is_no_penalty(patterns: dict[str, dict[str, float]]) -> None:
    assert penalty(patterns, Small()) is None


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        ({"haed.bias*": {"l1": 1.0}}, r"'haed.bias\*' matches no parameter; did you mean 'head.bias'\?"),
        ({"head.*": {"l3": 1.0}}, r"'head.\*' has no norm 'l3'; expected one of: l1, l2"),
        ({"head.*": {"l1": -1.0}}, r"l1 of 'head.\*' is -1.0, expected 0 or more"),
        ({"head.*": {"l2": math.nan}}, r"l2 of 'head.\*' is nan"),
    ],
)
def test_wrong_regularization_is_refused(patterns: dict[str, Any], message: str) -> None:
    with pytest.raises(MsdetError, match=message):
        penalty(patterns, Small())


class Seen(nn.Module):
    """A balancer that notes what it is given, and whose total is 100."""

    def __init__(self, weights: dict[str, float]) -> None:
        super().__init__()
        self.given: dict[str, Tensor] = {}

    def forward(self, losses: dict[str, Tensor]) -> Tensor:
        self.given = losses
        return torch.tensor(100.0)


class Stub(NamedTuple):
    """A task whose loss is its prediction, and labeled where that is not NaN."""

    name: str

    def loss(self, prediction: Tensor, truth: Any) -> LabeledLoss:
        return LabeledLoss(prediction.nan_to_num(0.0), ~prediction.isnan())


class Nowhere:
    def in_slots(self, assignment: Any) -> None:
        return None


def objective(monkeypatch: pytest.MonkeyPatch, **options: Any) -> Objective:
    found = Objective(ObjectiveConfig(**options))
    found.tasks = {"separation": Stub("separation"), "doa": Stub("doa")}  # type: ignore[dict-item]
    monkeypatch.setattr(found, "assign", lambda *_: torch.zeros(1))
    return found


def test_balancer_is_given_scaled_losses_of_labeled_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = objective(monkeypatch, normalize="log")
    judge.balancer = Seen({})
    predictions = {
        "separation": torch.tensor([2.0, torch.nan, 4.0]).requires_grad_(),
        "doa": torch.tensor([torch.nan] * 3).requires_grad_(),
    }
    terms = judge(predictions, Nowhere())
    assert {name: loss.item() for name, loss in judge.balancer.given.items()} == pytest.approx(
        {"separation": math.log(3.0)}
    )
    assert terms.total.item() == 100.0
    assert {k: v.item() for k, v in terms.losses.items()} == pytest.approx({"separation": 3.0, "doa": 0.0})
    assert {k: v.item() for k, v in terms.scaled.items()} == pytest.approx({"separation": math.log(3.0), "doa": 0.0})
    terms.total.backward()
    assert predictions["doa"].grad is not None, "every head is reached in every step"
    assert not predictions["doa"].grad.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalize": "runing_mean"}, "unknown objective.normalize 'runing_mean'; did you mean 'running_mean'"),
        ({"log_cosine_every": -1}, "log_cosine_every is -1, expected 0 or more"),
        ({"separation_loss": "si_sdr", "normalize": "log"}, "normalize 'log' needs losses above zero.*si_sdr"),
        ({"separation_loss": "snr", "balance": "gradnorm"}, "balance 'gradnorm' needs losses above zero.*snr"),
        ({"balance": "uncertainty", "normalize": "log"}, "'uncertainty' needs losses above zero; normalize 'log'"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(MsdetError, match=message) as caught:
        Objective(ObjectiveConfig(**options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("part", "name", "options", "message"),
    [
        ("assignment", "folded", {"axis_deg": "north"}, "'axis_deg' is 'north', expected a number"),
        ("assignment", "azimuth_or_distance", {"threshold_deg": "x"}, "'threshold_deg' is 'x'"),
        ("assignment", "azimuth_or_distance", {"threshold_deg": -5}, "threshold_deg is -5, expected 0 to 360"),
        ("separation_loss", "snr", {"scale": "x"}, "'scale' is 'x', expected a number"),
        ("separation_loss", "snr", {"scale": -1}, "scale is -1, expected more than 0"),
        ("separation_loss", "si_sdr", {"scale": 0}, "scale is 0, expected more than 0"),
        ("separation_loss", "l1_resynthesized", {"windows": 256}, "fails with windows=256"),
        ("separation_loss", "l1_resynthesized", {"windows": ["a"]}, r"fails with windows=\['a'\]"),
        ("separation_loss", "l1_resynthesized", {"windows": [3]}, "windows: 3 samples, expected an even"),
        ("doa_loss", "soft", {"width_deg": "a"}, "'width_deg' is 'a', expected a number"),
        ("doa_loss", "soft", {"width_deg": -1}, "width_deg is -1, expected more than 0"),
        ("doa_loss", "soft", {"shape": "gausian"}, "shape 'gausian'; did you mean 'gaussian'"),
        ("doa_loss", "smoothed", {"smoothing": 1}, "smoothing is 1, expected 0 or more and below 1"),
        ("doa_loss", "earth_mover", {"width_deg": -1}, "width_deg is -1, expected more than 0"),
        ("doa_loss", "earth_mover", {"squared": "no"}, "'squared' is 'no', expected true or false"),
    ],
)
def test_option_that_fails_is_refused_when_the_objective_is_built(
    part: str, name: str, options: dict[str, Any], message: str
) -> None:
    key = f"{part.removesuffix('_loss')}_options"
    with pytest.raises(MsdetError, match=message) as caught:
        Objective(ObjectiveConfig(**{part: name, key: options}))
    kind = {"assignment": "assignment", "separation_loss": "separation loss", "doa_loss": "DoA loss"}[part]
    assert str(caught.value).startswith(f"{kind} '{name}'") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        ObjectiveConfig("folded", {"axis_deg": 90}, "snr", {"scale": 1, "largest_snr_db": 20}),
        ObjectiveConfig(separation_loss="l1_resynthesized", separation_options={"windows": [128, 2048]}),
        ObjectiveConfig(doa_loss="soft", doa_options={"width_deg": 3, "shape": "gaussian"}),
    ],
)
def test_whole_numbers_and_other_windows_are_fine(config: ObjectiveConfig) -> None:
    assert set(Objective(config).weights) == {"separation", "doa"}
