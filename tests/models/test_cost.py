"""Multiply-accumulates counted against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from msdet.arrays import load_array
from msdet.models.config import ModelConfig
from msdet.models.cost import count_cost
from msdet.models.joint import JointModel

STEPS, WIDTH, HIDDEN = 7, 10, 20


class Last(nn.Module):
    """A recurrent layer's output without its state."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layer(x)[0]
        return found


class Attention(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(x, x, x)


class ComplexProduct(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        z = torch.complex(x, x)
        return z @ z.mT


RECURRENT = STEPS * HIDDEN * (WIDTH + HIDDEN)


@pytest.mark.parametrize(
    ("module", "macs"),
    [
        (nn.Linear(WIDTH, 3), STEPS * WIDTH * 3),
        (Last(nn.GRU(WIDTH, HIDDEN, bidirectional=True)), 2 * 3 * RECURRENT),
        (Last(nn.LSTM(WIDTH, HIDDEN)), 4 * RECURRENT),
        (nn.Conv1d(STEPS, 2, 3), 8 * STEPS * 2 * 3),
        (ComplexProduct(), 4 * STEPS * STEPS * WIDTH),
    ],
    ids=["linear", "gru", "lstm", "conv", "complex"],
)
def test_products_are_counted(module: nn.Module, macs: int) -> None:
    cost = count_cost(module, torch.randn(1, STEPS, WIDTH), seconds=0.5)
    assert cost.macs_per_s == pytest.approx(2 * macs)
    assert cost.parameters == sum(p.numel() for p in module.parameters())


def test_attention_is_counted() -> None:
    cost = count_cost(Attention(), torch.randn(1, 2, STEPS, WIDTH), seconds=1.0)
    assert cost.macs_per_s == 2 * 2 * STEPS * STEPS * WIDTH


def test_cost_of_a_model_is_per_second_and_leaves_the_model_alone() -> None:
    model = JointModel(ModelConfig(encoder_options={"hidden": 8}), load_array("circular4_5cm"), 8000)
    model.train()
    short, long = (count_cost(model, torch.zeros(1, 4, 8000 * n), n).macs_per_s for n in (1, 4))
    assert long <= short <= 1.5 * long, "beams are steered once a recording"
    assert model.training
    bigger = JointModel(ModelConfig(encoder_options={"hidden": 16}), load_array("circular4_5cm"), 8000)
    assert count_cost(bigger, torch.zeros(1, 4, 8000), 1.0).macs_per_s > short
