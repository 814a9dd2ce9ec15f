"""Bands that are narrow at low and wide at high frequency."""

from __future__ import annotations

import pytest
import torch

from msdet.errors import MsdetError
from msdet.models.encoders import build_encoder


@pytest.mark.parametrize(
    ("freqs", "expected"),
    [(257, [(0, 64, 2), (64, 128, 4), (128, 257, 8)]), (100, [(0, 64, 2), (64, 100, 4)]), (17, [(0, 17, 2)])],
)
def test_bands_widen_with_frequency(freqs: int, expected: list[tuple[int, int, int]]) -> None:
    encoder = build_encoder("band_gru", {"hidden": 4}, 3, freqs)
    assert encoder.zones == expected  # type: ignore[attr-defined]
    features = torch.randn(2, freqs, 5, 3)
    bands = sum(-(-(stop - start) // bins) for start, stop, bins in expected)
    assert encoder.start(features).shape == (2, bands, 5, 8)  # type: ignore[attr-defined]
    assert encoder(features).shape == (2, freqs, 5, 4)


def test_outputs_may_be_fewer_than_units() -> None:
    encoder = build_encoder("band_gru", {"hidden": 8, "outputs": 3}, 3, 33)
    assert encoder.features_out == encoder(torch.randn(1, 33, 4, 3)).shape[-1] == 3


@pytest.mark.parametrize(
    "options", [{"limits": [8, 4], "widths": [1, 2, 4]}, {"limits": [8]}, {"widths": [0, 1, 2]}, {"hidden": 0}]
)
def test_impossible_bands_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(MsdetError, match="expected"):
        build_encoder("band_gru", options, 3, 257)
