"""TF-GridNet has the published sizes; its windows cover every bin, and look back where they must."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import nn

from msdet.errors import MsdetError
from msdet.models.encoders import build_encoder
from msdet.models.encoders.tfgridnet import TFGridNet, _Recurrence

WINDOWS = [(1, 1), (4, 1), (4, 2), (4, 4), (5, 3)]


@pytest.mark.parametrize(("size", "millions"), [("small", 8.2), ("large", 14.4)])
def test_number_of_parameters_is_the_published_one(size: str, millions: float) -> None:
    """One microphone, 2 talkers, with the output layer, a 3 x 3 transposed convolution."""
    encoder = TFGridNet(2, 129, size=size)
    output = nn.ConvTranspose2d(encoder.features_out, 2 * 2, 3, padding=1)
    parameters = sum(p.numel() for module in (encoder, output) for p in module.parameters())
    assert parameters == pytest.approx(millions * 1e6, rel=0.05)


def tiny(window: int, stride: int, causal: bool) -> nn.Module:
    torch.manual_seed(0)
    options = {"blocks": 1, "width": 4, "hidden": 5, "heads": 2, "similarity": 8, "context": 2}
    options |= {"window": window, "stride": stride, "causal": causal}
    return cast(nn.Module, build_encoder("tfgridnet", options, 3, 7)).eval()


@pytest.mark.parametrize(("window", "stride"), WINDOWS)
@pytest.mark.parametrize("causal", [False, True])
def test_any_window_takes_any_number_of_frames(window: int, stride: int, causal: bool) -> None:
    encoder = tiny(window, stride, causal)
    for frames in (1, 2, 3, 4, 9):
        assert encoder(torch.randn(1, 7, frames, 3)).shape == (1, 7, frames, 4)


@pytest.mark.parametrize(("window", "stride"), WINDOWS)
def test_causal_windows_do_not_look_ahead(window: int, stride: int) -> None:
    encoder = tiny(window, stride, causal=True)
    x = torch.randn(1, 7, 12, 3)
    for first in range(1, 12):
        changed = x.clone()
        changed[:, :, first:] += 1.0
        moved = (encoder(x) - encoder(changed)).abs().amax((0, 1, 3)) > 1e-6
        assert not moved[:first].any() and moved[first]


@pytest.mark.parametrize(("window", "stride"), WINDOWS)
def test_every_bin_lies_in_as_many_windows(window: int, stride: int) -> None:
    layer = _Recurrence(1, 2, 3, window, stride, forwards=False)
    for length in (1, 3, 7, 8):
        before, after = layer.padding(length)
        padded = torch.zeros(before + length + after)
        starts = range(0, len(padded) - window + 1, stride)
        assert starts[-1] + window == len(padded)
        for start in starts:
            padded[start : start + window] += 1
        covered = padded[before : before + length]
        assert covered.min() >= window // stride and covered.max() <= -(-window // stride)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "larg"}, "unknown size 'larg'; did you mean 'large'"),
        ({"width": 10, "heads": 4}, "width 10 is not a multiple of heads 4"),
        ({"context": 0}, "context 0 is less than 1 frame"),
        ({"window": 2, "stride": 3}, "stride 3 is not between 1 and window 2"),
    ],
)
def test_wrong_sizes_are_refused_in_one_line(options: dict[str, int], message: str) -> None:
    with pytest.raises(MsdetError, match=message):
        build_encoder("tfgridnet", options, 4, 9)
