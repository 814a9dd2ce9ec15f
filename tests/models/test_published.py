"""Weights in the layout of the authors' code give what their code gives: drawn from a seed, values held as numbers.

TF-GridNet's is ESPnet's ``tfgridnetv2_separator.py``, without its STFT and output layer; SpatialNet's is
``models/arch/SpatialNet.py`` of Audio-WestlakeU/NBSS, without its output layer.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from msdet.models.encoders.spatialnet import SpatialNet
from msdet.models.encoders.tfgridnet import TFGridNet


def drawn(shape: tuple[int, ...], seed: int) -> Tensor:
    """Numbers that any version of PyTorch draws alike."""
    return torch.from_numpy(0.5 * np.random.default_rng(seed).standard_normal(shape)).float()


def load(encoder: nn.Module, ours: Callable[[str, Tensor], tuple[str, Tensor]], shapes: dict[str, list[int]]) -> None:
    """Weights of the published shapes, drawn by their number in alphabetical order, under our names."""
    theirs = {name: drawn(tuple(shapes[name]), seed) for seed, name in enumerate(sorted(shapes))}
    encoder.load_state_dict(dict(ours(name, weight) for name, weight in theirs.items()), strict=True)


GRID = {"intra": "across_freq", "inter": "across_time", "_norm": ".norm", "_rnn": ".lstm", "_linear": ".leave"}
HEADS = {"Q": "query", "K": "key", "V": "value"}


def grid_name(name: str, weight: Tensor) -> tuple[str, Tensor]:
    """TF-GridNet's: axes are ``(channel, time, frequency)`` there, ``(frequency, time, channel)`` here."""
    if name.startswith("conv.0"):
        return f"enter.{name.replace('.0', '')}", weight.mT if weight.ndim > 1 else weight
    if name.startswith("conv.1"):
        return "norm.scale" if name.endswith("weight") else "norm.offset", weight
    block, layer = name.split(".", 2)[1:]
    if "attn" not in layer:
        return f"blocks.{block}." + re.sub("intra|inter|_norm|_rnn|_linear", lambda m: GRID[m[0]], layer), weight
    head = HEADS.get(layer.split(".")[0][-1], "mix")
    if weight.ndim > 2 and layer.endswith(("gamma", "beta")):
        by_frequency = weight.movedim(-1, 0).reshape(weight.shape[-1], 1, -1, weight.shape[-3])
        return f"blocks.{block}.attention.{head}.norm.{'scale' if 'gamma' in layer else 'offset'}", by_frequency
    if "act" in layer or "proj.1" in layer:
        return f"blocks.{block}.attention.{head}.rectify.slope", weight
    matrix = weight.flatten(1) if weight.ndim > 1 else weight
    return f"blocks.{block}.attention.{head}.linear.{layer.rpartition('.')[2]}", matrix


def grid_shapes(
    inputs: int, width: int, hidden: int, window: int, freqs: int, heads: int, query: int, blocks: int
) -> dict[str, list[int]]:
    shapes = {"conv.0.weight": [width, inputs, 3, 3]}
    shapes |= {name: [width] for name in ("conv.0.bias", "conv.1.weight", "conv.1.bias")}
    for block in range(blocks):
        own: dict[str, list[int]] = {}
        for axis in ("intra", "inter"):
            own |= {f"{axis}_norm.{kind}": [width] for kind in ("weight", "bias")}
            for direction in ("", "_reverse"):
                own[f"{axis}_rnn.weight_ih_l0{direction}"] = [4 * hidden, width * window]
                own[f"{axis}_rnn.weight_hh_l0{direction}"] = [4 * hidden, hidden]
                own |= {f"{axis}_rnn.bias_{kind}_l0{direction}": [4 * hidden] for kind in ("ih", "hh")}
            own |= {f"{axis}_linear.weight": [2 * hidden, width, window], f"{axis}_linear.bias": [width]}
        for part, size in (("Q", query), ("K", query), ("V", width // heads)):
            own |= {f"attn_conv_{part}.weight": [heads * size, width, 1, 1], f"attn_conv_{part}.bias": [heads * size]}
            own |= {f"attn_norm_{part}.{kind}": [1, heads, size, 1, freqs] for kind in ("gamma", "beta")}
            own[f"attn_norm_{part}.act.weight"] = [heads]
        own |= {"attn_concat_proj.0.weight": [width, width, 1, 1], "attn_concat_proj.0.bias": [width]}
        own |= {f"attn_concat_proj.2.{kind}": [1, width, 1, freqs] for kind in ("gamma", "beta")}
        own["attn_concat_proj.1.weight"] = [1]
        shapes |= {f"blocks.{block}.{name}": shape for name, shape in own.items()}
    return shapes


SPATIAL = {
    "fconv1.0": "before.norm", "fconv1.1": "before.conv.conv", "norm_full": "norm", "squeeze.0": "squeeze",
    "unsqueeze.0": "expand", "fconv2.0": "after.norm", "fconv2.1": "after.conv.conv",
    "norm_mhsa": "norm_attention", "mhsa.out_proj": "mix", "tconvffn.0": "norm_ffn", "tconvffn.1": "enter",
    "tconvffn.3": "convs.0.conv", "tconvffn.5": "convs.1.conv", "tconvffn.8": "convs.2.conv", "tconvffn.10": "leave",
}  # fmt: skip


def spatial_name(name: str, weight: Tensor) -> tuple[str, Tensor]:
    """SpatialNet's: convolutions are along one axis there, along one of two here."""
    if name.startswith("encoder"):
        return name.replace("encoder", "enter.conv"), weight[:, :, None] if weight.ndim > 1 else weight
    layer, rest = name.split(".", 2)[1:]
    module, _, kind = rest.rpartition(".")
    if module == "full":
        return f"full_band.{kind}", weight if kind == "weight" else weight.T[:, None]
    band = "cross_band" if re.match("fconv|norm_full|squeeze|unsqueeze", module) else "narrow_band"
    if rest.startswith("mhsa.in_proj"):
        return f"{band}.{layer}.query_key_value.{rest.rpartition('_')[2]}", weight
    if module in ("fconv1.2", "fconv2.2"):
        return f"{band}.{layer}.{'before' if '1.2' in module else 'after'}.rectify.slope", weight
    if module == "tconvffn.6":
        return f"{band}.{layer}.norm_conv.{'scale' if kind == 'weight' else 'offset'}", weight.view(8, -1)
    if weight.ndim == 3:
        along = {1: lambda w: w[..., 0], 3: lambda w: w[:, :, None], 5: lambda w: w[..., None]}
        weight = along[weight.shape[-1]](weight)
    return f"{band}.{layer}.{SPATIAL[module]}.{kind}", weight


def spatial_shapes(inputs: int, width: int, ffn: int, squeeze: int, freqs: int, layers: int) -> dict[str, list[int]]:
    own: dict[str, list[int]] = {}
    for conv in ("fconv1", "fconv2"):
        own |= {f"{conv}.0.weight": [width], f"{conv}.0.bias": [width], f"{conv}.2.weight": [width]}
        own |= {f"{conv}.1.weight": [width, width // 8, 5], f"{conv}.1.bias": [width]}
    for norm, size in (("norm_full", width), ("norm_mhsa", width), ("tconvffn.0", width), ("tconvffn.6", ffn)):
        own |= {f"{norm}.weight": [size], f"{norm}.bias": [size]}
    own |= {"squeeze.0.weight": [squeeze, width, 1], "squeeze.0.bias": [squeeze]}
    own |= {"unsqueeze.0.weight": [width, squeeze, 1], "unsqueeze.0.bias": [width]}
    own |= {"mhsa.in_proj_weight": [3 * width, width], "mhsa.in_proj_bias": [3 * width]}
    own |= {"mhsa.out_proj.weight": [width, width], "mhsa.out_proj.bias": [width]}
    own |= {"tconvffn.1.weight": [ffn, width, 1], "tconvffn.1.bias": [ffn]}
    for conv in (3, 5, 8):
        own |= {f"tconvffn.{conv}.weight": [ffn, ffn // 8, 3], f"tconvffn.{conv}.bias": [ffn]}
    own |= {"tconvffn.10.weight": [width, ffn, 1], "tconvffn.10.bias": [width]}
    shapes = {f"layers.{n}.{name}": shape for n in range(layers) for name, shape in own.items()}
    shapes |= {"encoder.weight": [width, inputs, 5], "encoder.bias": [width]}
    return shapes | {"layers.0.full.weight": [squeeze, freqs, freqs], "layers.0.full.bias": [squeeze, freqs]}


def probe(output: Tensor) -> list[float]:
    """A few numbers of ``(1, freq, frame, feature)``: corners, the middle, and the mean magnitude."""
    x = output[0].detach()
    at = [x[0, 0, 0], x[-1, 0, 1], x[0, -1, 2], x[-1, -1, 3], x[x.shape[0] // 2, x.shape[1] // 2, 0], x.abs().mean()]
    return [float(value) for value in at]


@pytest.mark.parametrize(
    ("stride", "expected"),
    [(1, [3.9187, 2.7897, 1.6678, 1.0456, 3.4079, 2.5534]), (3, [2.5079, 3.6737, 0.8233, -1.316, -0.3525, 1.5814])],
)
def test_tf_grid_net_is_the_published_one(stride: int, expected: list[float]) -> None:
    encoder = TFGridNet(4, 7, blocks=2, width=8, hidden=6, window=4, stride=stride, heads=2, similarity=20).eval()
    load(encoder, grid_name, grid_shapes(4, 8, 6, 4, 7, 2, 3, 2))
    assert probe(encoder(drawn((1, 7, 9, 4), 1000))) == pytest.approx(expected, abs=2e-4)


def test_spatial_net_is_the_published_one() -> None:
    encoder = SpatialNet(4, 9, blocks=2, hidden=16, ffn=16, squeeze=2, heads=4).eval()
    expected = [-2.4239, -5.1284, 0.6375, 6.304, 1.0133, 4.3542]
    load(encoder, spatial_name, spatial_shapes(4, 16, 16, 2, 9, 2))
    assert probe(encoder(drawn((1, 9, 8, 4), 1000))) == pytest.approx(expected, abs=2e-4)


def test_spatial_net_starts_as_the_published_one() -> None:
    """Of ``LinearGroup`` PyTorch takes outputs and inputs to be inputs; attention is `nn.MultiheadAttention`."""
    torch.manual_seed(0)
    encoder = SpatialNet(4, 50, blocks=2, hidden=16, ffn=16, squeeze=4)
    weight = encoder.full_band.weight
    assert 0.99 / 50 < weight.abs().max() <= 1 / 50 and encoder.full_band.bias.abs().max() <= 1 / 50
    attention = encoder.narrow_band[1]
    bound = (6 / (16 + 48)) ** 0.5
    assert 0.95 * bound < attention.query_key_value.weight.abs().max() <= bound
    assert not attention.query_key_value.bias.any() and not attention.mix.bias.any()
