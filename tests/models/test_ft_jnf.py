"""FT-JNF is one LSTM across frequency and one across time, of the paper's sizes."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from msdet.models.encoders import build_encoder
from msdet.models.encoders.ft_jnf import FTJNF


def test_sizes_are_the_papers() -> None:
    encoder = FTJNF(6)
    assert (encoder.across_freq.hidden_size, encoder.across_time.hidden_size) == (256, 128)
    assert encoder.features_out == 256
    assert FTJNF(6, causal=True).features_out == 128


def test_each_frame_then_each_frequency_is_a_sequence() -> None:
    torch.manual_seed(0)
    encoder = cast(FTJNF, build_encoder("ft_jnf", {"hidden_freq": 4, "hidden_time": 3}, 2)).eval()
    x = torch.randn(1, 5, 6, 2)
    wide = torch.stack([encoder.across_freq(x[0, :, frame])[0] for frame in range(6)], 1)
    narrow = torch.stack([encoder.across_time(wide[freq])[0] for freq in range(5)])
    torch.testing.assert_close(encoder(x)[0], narrow, atol=1e-6, rtol=1e-5)
    assert isinstance(encoder.across_freq, nn.LSTM) and encoder.across_freq.bidirectional
