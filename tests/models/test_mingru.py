"""The minimal GRU: equal to PyTorch's GRU without weights from its state, in each of its ways to run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from msdet.models.encoders import mingru
from msdet.models.encoders.layers import run_rnn_along
from msdet.models.encoders.mingru import MinGRU


def all_steps_together(x: Tensor, reverse: bool) -> Iterator[slice]:
    """What `_parts` gives on a GPU."""
    return iter([slice(0, len(x))])


@pytest.fixture(params=["a few at a time", "together"])
def steps(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "together":
        monkeypatch.setattr(mingru, "_parts", all_steps_together)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_equals_gru(steps: None, bidirectional: bool) -> None:
    torch.manual_seed(0)
    layer = MinGRU(5, 3, bidirectional).double()
    gru = layer.as_gru().double()
    x = torch.randn(7, 4, 5, dtype=torch.double)
    start = torch.randn(1 + bidirectional, 4, 3, dtype=torch.double)
    inputs = [(x.clone().requires_grad_(), start.clone().requires_grad_()) for _ in range(2)]
    results = [model(*given) for model, given in zip((layer, gru), inputs, strict=True)]
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)
    for output, end in results:
        (output.square().sum() + end.sum()).backward()
    for ours, theirs in zip(*inputs, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    learned = torch.stack([getattr(gru, f"weight_ih_l0{e}").grad[3:] for e in ("", "_reverse")[: len(layer.weight)]])
    torch.testing.assert_close(layer.weight.grad, learned)


def test_gradients(steps: None) -> None:
    torch.manual_seed(0)
    layer = MinGRU(4, 2, True).double()
    x = torch.randn(5, 2, 3, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *weights: layer(x)[0], (x, layer.weight, layer.bias))


@pytest.mark.parametrize("axis", [1, 2])
def test_views_give_what_copies_give(axis: int) -> None:
    torch.manual_seed(0)
    layer, x = MinGRU(4, 2, True), torch.randn(2, 5, 7, 4)
    along = run_rnn_along(layer, x, axis)[0]
    assert along.shape == (2, 5, 7, 4) and along.is_contiguous()
    torch.testing.assert_close(along, run_rnn_along(layer.as_gru(), x, axis)[0])


def test_goes_on_from_its_state() -> None:
    torch.manual_seed(0)
    layer, x = MinGRU(4, 2), torch.randn(9, 3, 4)
    whole, end = layer(x)
    first, state = layer(x[:4])
    second, last = layer(x[4:], state)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    torch.testing.assert_close(last, end)
