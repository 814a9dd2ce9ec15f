"""Conv-TasNet and DPRNN are asteroid's networks, folded over frequency, and cost nothing until built."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from msdet.errors import MsdetError
from msdet.models.encoders import ENCODERS, asteroid_maskers, build_encoder
from msdet.models.encoders.asteroid_maskers import GlobalNorm

TINY = {name: ENCODERS.fact(name, "tiny") for name in ("conv_tasnet", "dprnn")}


def build(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    encoder: Any = build_encoder(name, {**TINY[name], **options}, 3, 5)
    return encoder.eval()


def test_asteroid_is_imported_only_when_an_encoder_is_built() -> None:
    code = "import sys, msdet.models.encoders.asteroid_maskers as d; "
    code += "assert 'asteroid' not in sys.modules; d.ConvTasNet(2, 3); assert 'asteroid' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("name", "network"), [("conv_tasnet", "TDConvNet"), ("dprnn", "DPRNN")])
def test_frequencies_are_folded_into_the_channels_of_asteroids_network(name: str, network: str) -> None:
    encoder = build(name)
    assert type(encoder.masker).__name__ == network
    assert type(encoder.masker).__module__.startswith("asteroid.")
    x = torch.randn(1, 5, 7, 3)
    folded = torch.cat([encoder.project(x)[:, freq].transpose(1, 2) for freq in range(5)], 1)
    masks = encoder.masker(folded)
    assert masks.shape == (1, 1, 5 * 4, 7)
    freq, frame = 3, 2
    there = torch.relu(masks[0, 0, 4 * freq : 4 * freq + 4, frame] + encoder.bypass(x[0, freq, frame]))
    torch.testing.assert_close(encoder(x)[0, freq, frame], there, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("shape", [(3, 6, 50), (2, 6, 4, 9)])
def test_the_global_norm_is_asteroids(shape: tuple[int, ...]) -> None:
    from asteroid.masknn.norms import gLN

    torch.manual_seed(0)
    ours, theirs = GlobalNorm(6), gLN(6)
    theirs.load_state_dict({"gamma": torch.randn(6), "beta": torch.randn(6)})
    ours.load_state_dict(theirs.state_dict())
    x = 3 * torch.randn(shape) + 1
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["conv_tasnet", "dprnn"])
def test_every_frequency_hears_every_other(name: str) -> None:
    encoder = build(name)
    x = torch.randn(1, 5, 7, 3)
    changed = x.clone()
    changed[:, 4] += 1.0
    gap = encoder(x) - encoder(changed)
    assert (gap.abs().amax((0, 2, 3)) > 0).all()


def test_the_one_dead_path_of_asteroid_is_frozen() -> None:
    frozen = [name for name, p in build("conv_tasnet").named_parameters() if not p.requires_grad]
    assert frozen == ["masker.TCN.1.res_conv.weight", "masker.TCN.1.res_conv.bias"]
    assert all(p.requires_grad for p in build("conv_tasnet", skip=0).parameters())


def test_sizes_are_the_papers() -> None:
    encoder = asteroid_maskers.ConvTasNet(3, 5)
    masker: Any = encoder.masker
    assert (masker.bn_chan, masker.hid_chan, masker.skip_chan) == (128, 512, 128)
    assert (masker.conv_kernel_size, masker.n_blocks, masker.n_repeats) == (3, 8, 3)
    assert sum(isinstance(m, nn.LSTM) for m in asteroid_maskers.DualPathRNN(3, 5).modules()) == 2 * 6


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [("conv_tasnet", {"kernel": 4}, "kernel 4 is even"), ("dprnn", {"chunk": 1}, "chunk 1 is less than 2 frames")],
)
def test_wrong_sizes_are_refused_in_one_line(name: str, options: dict[str, int], message: str) -> None:
    with pytest.raises(MsdetError, match=message):
        build_encoder(name, options, 3, 5)
