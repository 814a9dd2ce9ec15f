"""SpatialNet has the paper's size, and each of its modules is the one it names."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from msdet.errors import MsdetError
from msdet.models.encoders import build_encoder
from msdet.models.encoders.layers import past_mask
from msdet.models.encoders.spatialnet import SpatialNet, _CrossBand, _FullBand, _NarrowBand


@pytest.mark.parametrize(("size", "millions"), [("small", 1.2), ("large", 6.5)])
def test_number_of_parameters_is_the_papers(size: str, millions: float) -> None:
    """At 8 kHz: 129 frequencies, 6 microphones, 2 talkers, with the output layer."""
    encoder = SpatialNet(2 * 6, 129, size=size)
    output = nn.Linear(encoder.features_out, 2 * 2)
    parameters = sum(p.numel() for module in (encoder, output) for p in module.parameters())
    assert parameters == pytest.approx(millions * 1e6, rel=0.05)


def test_full_band_layer_is_shared_by_all_blocks() -> None:
    one, three = (SpatialNet(4, 40, blocks=blocks, hidden=16, ffn=16, squeeze=2) for blocks in (1, 3))
    assert sum(p.numel() == 2 * 40 * 40 for p in one.parameters()) == 1
    assert sum(p.numel() == 2 * 40 * 40 for p in three.parameters()) == 1


def test_full_band_layer_maps_all_frequencies_of_one_feature() -> None:
    layer = _FullBand(3, 5)
    x = torch.randn(2, 5, 4, 3)
    expected = torch.stack([x[..., s].transpose(1, 2) @ layer.weight[s].T + layer.bias[:, 0, s] for s in range(3)], -1)
    torch.testing.assert_close(layer(x), expected.transpose(1, 2), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("context", [None, 3])
def test_attention_is_multi_head_attention_over_frames(context: int | None) -> None:
    block = _NarrowBand(16, 16, 4, 0.0, causal=context is not None)
    theirs = nn.MultiheadAttention(16, 4, batch_first=True)
    theirs.load_state_dict(
        {
            "in_proj_weight": block.query_key_value.weight,
            "in_proj_bias": block.query_key_value.bias,
            "out_proj.weight": block.mix.weight,
            "out_proj.bias": block.mix.bias,
        }
    )
    x = torch.randn(2, 3, 7, 16)
    mask = past_mask(7, context, x.device) if context else None
    flat = x.flatten(0, 1)
    expected = theirs(flat, flat, flat, attn_mask=None if mask is None else ~mask, need_weights=False)[0]
    attended = block._attend(*block._attention_parts(x), mask)
    torch.testing.assert_close(attended.view_as(x), expected.view_as(x), atol=1e-5, rtol=1e-5)


def test_narrow_band_block_keeps_frequencies_apart_and_cross_band_block_frames() -> None:
    x = torch.randn(1, 9, 6, 16)
    narrow = _NarrowBand(16, 16, 4, 0.0, causal=False)
    at_freq, at_frame = x.clone(), x.clone()
    at_freq[:, 4] += 1.0
    at_frame[:, :, 2] += 1.0
    moved = (narrow(x, None) - narrow(at_freq, None)).abs().amax((0, 2, 3)) > 0
    assert moved.tolist() == [freq == 4 for freq in range(9)]
    cross, full_band = _CrossBand(16, 2), _FullBand(2, 9)
    moved = (cross(x, full_band) - cross(at_frame, full_band)).abs().amax((0, 1, 3)) > 0
    assert moved.tolist() == [frame == 2 for frame in range(6)]


def test_causal_memory_is_bounded() -> None:
    """Convolutions reach 4 + 6 frames back, attention `context` - 1 more."""
    torch.manual_seed(0)
    encoder = SpatialNet(4, 5, blocks=1, hidden=16, ffn=16, squeeze=2, causal=True, context=3).eval()
    x = torch.randn(1, 5, 20, 4)
    changed = x.clone()
    changed[:, :, 0] += 1.0
    moved = (encoder(x) - encoder(changed)).abs().amax((0, 1, 3)) > 1e-6
    assert moved[:12].all() and not moved[13:].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "smal"}, "unknown size 'smal'; did you mean 'small'"),
        ({"hidden": 24, "heads": 5}, "hidden 24 is not a multiple of heads 5"),
        ({"context": 0}, "context 0 is less than 1 frame"),
        ({"hidden": 20}, "cannot be built with hidden=20"),
    ],
)
def test_wrong_sizes_are_refused_in_one_line(options: dict[str, int], message: str) -> None:
    with pytest.raises(MsdetError, match=message):
        build_encoder("spatialnet", options, 4, 9)
