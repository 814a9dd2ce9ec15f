"""Shared layers of the encoders do what PyTorch's own do, in another order of axes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from msdet.errors import UnknownNameError
from msdet.models.encoders.layers import AxesNorm, Conv, LayerNorm, PRelu, preset, run_block, run_rnn, run_rnn_along


def bins(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def test_axes_norm_is_group_norm() -> None:
    x = bins(2, 6, 5, 12)  # batch, freq, frame, feature
    ours = AxesNorm((2, 4), 3, 4)(x.unflatten(-1, (3, 4))).flatten(-2)
    theirs = nn.GroupNorm(3, 12)(x.permute(0, 1, 3, 2).flatten(0, 1)).unflatten(0, (2, 6)).transpose(2, 3)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("norm", [LayerNorm(8), AxesNorm((3,), 8)])
def test_norms_keep_float32_inside_bfloat16(norm: nn.Module) -> None:
    x = (100.0 + bins(1, 3, 4, 8)).bfloat16()  # a mean that bfloat16 sums would lose
    exact = nn.functional.layer_norm(x.float(), (8,))
    assert norm(x).dtype == torch.bfloat16
    torch.testing.assert_close(norm(x).float(), exact, atol=0.02, rtol=0.01)


@pytest.mark.parametrize("kernel", [(1, 5), (5, 1), (3, 3)])
def test_conv_is_a_convolution_over_frequency_and_time(kernel: tuple[int, int]) -> None:
    conv = Conv(6, 4, kernel, groups=2)
    x = bins(2, 7, 9, 6)
    sides = (kernel[0] // 2, kernel[1] // 2)
    weight, bias = conv.conv.weight, conv.conv.bias
    theirs = nn.functional.conv2d(x.permute(0, 3, 1, 2).contiguous(), weight, bias, padding=sides, groups=2)
    torch.testing.assert_close(conv(x), theirs.permute(0, 2, 3, 1), atol=1e-5, rtol=1e-5)


def test_causal_conv_is_the_same_one_shifted_into_the_past() -> None:
    conv = Conv(3, 3, (1, 5))
    causal = Conv(3, 3, (1, 5), causal=True)
    causal.load_state_dict(conv.state_dict())
    x = bins(1, 4, 10, 3)
    torch.testing.assert_close(causal(x)[:, :, 4:], conv(x)[:, :, 2:-2], atol=1e-6, rtol=1e-5)


def test_prelu_has_one_slope_an_entry() -> None:
    rectify = PRelu(3, axis=3)
    with torch.no_grad():
        rectify.slope.copy_(torch.tensor([0.0, 0.5, 2.0]))
    torch.testing.assert_close(rectify(-torch.ones(1, 2, 2, 3))[0, 1, 1], torch.tensor([0.0, -0.5, -2.0]))


@pytest.mark.parametrize("axis", [1, 2])
def test_recurrence_runs_along_one_axis_only(axis: int) -> None:
    lstm = nn.LSTM(3, 4, bidirectional=True)
    x = bins(2, 5, 6, 3)
    one_by_one = torch.stack([torch.stack([lstm(line)[0] for line in item.unbind(2 - axis)], 2 - axis) for item in x])
    torch.testing.assert_close(run_rnn_along(lstm, x, axis)[0], one_by_one, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_recurrence_is_in_float32_under_autocast(kind: type[nn.RNNBase]) -> None:
    layer = kind(3, 4)
    reached: list[torch.dtype] = []
    layer.register_forward_pre_hook(lambda _, given: reached.append(given[0].dtype))
    x = bins(5, 2, 3)
    exact = run_rnn(layer, x)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough, state = run_rnn(layer, x.bfloat16())
    assert reached == [torch.float32, torch.float32]
    assert rough.dtype == torch.bfloat16
    assert all(part.dtype == torch.float32 for part in (state if isinstance(state, tuple) else (state,)))
    torch.testing.assert_close(rough.float(), exact, atol=0.02, rtol=0.02)


def test_checkpoint_is_left_out_where_nothing_is_learned() -> None:
    block = nn.Linear(3, 3)
    with torch.no_grad():
        y = run_block(block, bins(2, 3), checkpoint=True)
    assert torch.equal(y, block(bins(2, 3)))
    assert not y.requires_grad


def test_unknown_size_offers_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown size 'smal'; did you mean 'small'"):
        preset({"small": {}, "large": {}}, "smal")


@pytest.mark.parametrize("number", [0, -2])
def test_number_below_one_is_no_size(number: int) -> None:
    with pytest.raises(ValueError, match=f"blocks {number} is less than 1"):
        preset({"small": {"blocks": 4}}, "small", blocks=number)
