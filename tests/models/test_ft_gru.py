"""The fast default comes in sizes, and every grouping of bins reaches across frequency."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch

from msdet.errors import MsdetError
from msdet.models.encoders import build_encoder
from msdet.models.encoders.ft_gru import FTGRU, SIZES


def tiny(**options: Any) -> FTGRU:
    torch.manual_seed(0)
    return cast(FTGRU, build_encoder("ft_gru", {"hidden": 6, **options}, 3)).eval()


@pytest.mark.parametrize(
    ("size", "parameters"), [("tiny", 59e3), ("small", 209e3), ("medium", 1.37e6), ("large", 7.42e6)]
)
def test_number_of_parameters_is_as_documented(size: str, parameters: float) -> None:
    encoder = FTGRU(45, size=size)
    assert sum(p.numel() for p in encoder.parameters()) == pytest.approx(parameters, rel=0.01)
    assert encoder.features_out == SIZES[size]["hidden"]


def test_default_is_small_and_a_number_given_goes_before_the_size() -> None:
    shapes = [[p.shape for p in encoder.parameters()] for encoder in (FTGRU(5), FTGRU(5, size="small"))]
    assert shapes[0] == shapes[1]
    assert (FTGRU(5).features_out, FTGRU(5).depth, FTGRU(5).group) == (64, 1, 4)
    mixed = FTGRU(5, size="tiny", blocks=3)
    assert (mixed.features_out, mixed.depth, mixed.group) == (32, 3, 4)


@pytest.mark.parametrize("group", [1, 2, 3, 16])
def test_every_bin_reaches_every_other_for_any_grouping(group: int) -> None:
    encoder = tiny(group=group)
    x = torch.randn(1, 9, 3, 3)
    changed = x.clone()
    changed[:, 8] += 1.0
    assert encoder(x).shape == (1, 9, 3, 6)
    assert (encoder(x) - encoder(changed)).abs()[:, 0].max() > 0


def test_a_block_is_a_gru_across_frequency_then_one_across_time() -> None:
    encoder = tiny(group=2)
    block: Any = encoder.blocks[0]
    state = torch.randn(1, 5, 4, 12)
    normal = block.norm_freq(state[0])
    wide = state[0] + torch.stack([block.across_freq(normal[:, frame])[0] for frame in range(4)], 1)
    normal = block.norm_time(wide)
    narrow = wide + torch.stack([block.across_time(normal[group])[0] for group in range(5)])
    torch.testing.assert_close(encoder.block(0, state)[0], narrow, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "tinny"}, "unknown size 'tinny'; did you mean 'tiny'"),
        ({"group": 0}, "group 0 is less than 1"),
        ({"blocks": 0}, "blocks 0 is less than 1"),
    ],
)
def test_wrong_sizes_are_refused_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(MsdetError, match=message):
        tiny(**options)
