"""The dense U-Net fits any number of frequencies, with either middle."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch

from msdet.errors import MsdetError
from msdet.models.encoders import build_encoder
from msdet.models.encoders.dense_unet import TINY, DenseUNet, _Conv, _Double, _FrequencyMap


def tiny(freqs: int, **options: Any) -> DenseUNet:
    torch.manual_seed(0)
    return cast(DenseUNet, build_encoder("dense_unet", {**TINY, **options}, 3, freqs)).eval()


@pytest.mark.parametrize("freqs", range(1, 20))
def test_any_number_of_frequencies_is_halved_to_one(freqs: int) -> None:
    encoder = tiny(freqs)
    assert len(encoder.halving) == freqs.bit_length() - 1
    assert encoder(torch.randn(1, freqs, 3, 3)).shape == (1, freqs, 3, encoder.features_out)


@pytest.mark.parametrize("causal", [False, True])
def test_scales_halve_and_double_frequency_and_keep_time(causal: bool) -> None:
    for freqs in (2, 3, 8, 9):
        x = torch.randn(1, 2, freqs, 5)
        assert _Conv(2, 3, causal, halve=True)(x).shape == (1, 3, freqs // 2, 5)
        assert _Double(2, 3, causal)(x).shape == (1, 3, 2 * freqs + 1, 5)


def test_dense_blocks_at_the_wide_scales_and_a_frequency_map_in_each() -> None:
    encoder = DenseUNet(3, 257)
    maps = [module for module in encoder.modules() if isinstance(module, _FrequencyMap)]
    assert [m.map.in_features for m in maps] == 2 * [257, 128, 64, 32, 16, 8]
    assert encoder.features_out == 32


@pytest.mark.parametrize("causal", [False, True])
def test_tcn_in_the_middle_keeps_the_contract(causal: bool) -> None:
    encoder = tiny(9, middle="tcn", causal=causal)
    x = torch.randn(2, 9, 8, 3)
    changed = x.clone()
    changed[:, :, 5:] += 1.0
    difference = (encoder(x) - encoder(changed)).abs().amax((0, 1, 3))
    assert (difference[5:] > 0).all()
    assert bool((difference[:5] <= 1e-6).all()) == causal
    encoder(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in encoder.parameters())
    torch.testing.assert_close(encoder(x)[1:], encoder(x[1:]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("stacks", [1, 2])
def test_causal_tcn_reaches_254_frames_back_with_every_stack(stacks: int) -> None:
    middle = tiny(9, middle="tcn", middle_layers=stacks, causal=True).middle
    x = torch.randn(1, 8, 600, requires_grad=True)
    middle(x)[..., -1].sum().backward()
    assert x.grad is not None
    reached = x.grad.abs().amax((0, 1)).nonzero().flatten()
    assert 599 - reached.min() == stacks * 2 * 127


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"middle": "lstn"}, "unknown middle 'lstn'; did you mean 'lstm'"),
        ({"middle_width": 7}, "middle_width 7 is odd"),
    ],
)
def test_wrong_middle_is_refused_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(MsdetError, match=message):
        build_encoder("dense_unet", options, 4, 9)
