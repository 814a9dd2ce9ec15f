"""Gain, phase and place errors of microphones: known answers, and no change where the deviation is zero."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from msdet.errors import MsdetError
from msdet.scenes.mismatch import Mismatch, apply_gain_phase, draw_mismatch

RATE = 8000


def mismatch_of(gain_db: tuple[float, ...], phase_deg: tuple[float, ...]) -> Mismatch:
    return Mismatch(gain_db, phase_deg, ((0.0, 0.0, 0.0),) * len(gain_db))


def tone(frequency_hz: float, phase_deg: float = 0.0, samples: int = 4 * RATE) -> npt.NDArray[Any]:
    time_s = np.arange(samples) / RATE
    wave: npt.NDArray[Any] = np.cos(2 * np.pi * frequency_hz * time_s + np.deg2rad(phase_deg))
    return wave


@pytest.mark.parametrize("frequency_hz", [110.0, 1000.0, 3700.0])
@pytest.mark.parametrize("phase_deg", [10.0, -45.0, 90.0, 180.0])
def test_a_positive_phase_advances_a_tone_of_any_frequency(frequency_hz: float, phase_deg: float) -> None:
    signals = np.stack([tone(frequency_hz), tone(frequency_hz)])
    changed = apply_gain_phase(signals, mismatch_of((6.0, 0.0), (phase_deg, 0.0)))
    middle = slice(RATE, 3 * RATE)
    expected = 10 ** (6 / 20) * tone(frequency_hz, phase_deg)
    np.testing.assert_allclose(changed[0, middle], expected[middle], atol=2e-3)
    np.testing.assert_array_equal(changed[1], signals[1])


def test_gain_alone_scales_exactly() -> None:
    signals = np.random.default_rng(0).standard_normal((2, 3, 500))
    changed = apply_gain_phase(signals, mismatch_of((20.0, 0.0, -20.0), (0.0, 0.0, 0.0)))
    np.testing.assert_allclose(changed, signals * np.array([10.0, 1.0, 0.1])[:, None], rtol=1e-12)


def test_it_is_linear_and_keeps_shape_type_and_input() -> None:
    rng = np.random.default_rng(1)
    mismatch = draw_mismatch(4, 1.0, 10.0, 0.0, rng)
    images = rng.standard_normal((2, 3, 4, 700)).astype(np.float32)
    before = images.copy()
    changed = apply_gain_phase(images, mismatch)
    assert changed.shape == images.shape
    assert changed.dtype == np.float32
    np.testing.assert_array_equal(images, before)
    np.testing.assert_allclose(changed.sum(0), apply_gain_phase(images.sum(0), mismatch), atol=1e-5)


def test_nothing_wraps_round_from_the_end_to_the_start() -> None:
    """A click near the end rings before it like 1 / t: little at the start, but much if it wrapped round."""
    signal = np.zeros((1, 2000))
    signal[0, 1990] = 1.0
    ringing = apply_gain_phase(signal, mismatch_of((0.0,), (90.0,)))[0]
    assert abs(ringing[1989]) > 0.5
    assert np.abs(ringing[:100]).max() < 2 / (np.pi * 1890)


def test_zero_deviation_is_exactly_the_identity() -> None:
    mismatch = draw_mismatch(5, 0.0, 0.0, 0.0, np.random.default_rng(2))
    assert mismatch == Mismatch((0.0,) * 5, (0.0,) * 5, ((0.0, 0.0, 0.0),) * 5)
    assert "-" not in json.dumps(dataclasses.asdict(mismatch))
    signals = np.random.default_rng(3).standard_normal((5, 999)).astype(np.float32)
    np.testing.assert_array_equal(apply_gain_phase(signals, mismatch), signals)


def test_draws_have_the_deviations_asked_for() -> None:
    mismatch = draw_mismatch(20_000, 0.5, 5.0, 0.002, np.random.default_rng(4))
    for values, deviation in ((mismatch.gain_db, 0.5), (mismatch.phase_deg, 5.0), (mismatch.offset_m, 0.002)):
        drawn = np.array(values)
        np.testing.assert_allclose(drawn.std(axis=0), deviation, rtol=0.03)
        np.testing.assert_allclose(drawn.mean(axis=0), 0.0, atol=0.04 * deviation)
    offset = np.array(mismatch.offset_m)
    assert np.abs(np.corrcoef([mismatch.gain_db, mismatch.phase_deg, *offset.T]) - np.eye(5)).max() < 0.04


def test_one_deviation_changes_no_other_draw() -> None:
    all_three = draw_mismatch(6, 1.0, 10.0, 0.002, np.random.default_rng(5))
    place_only = draw_mismatch(6, 0.0, 0.0, 0.002, np.random.default_rng(5))
    assert place_only.offset_m == all_three.offset_m
    assert all_three == draw_mismatch(6, 1.0, 10.0, 0.002, np.random.default_rng(5))
    assert all_three != draw_mismatch(6, 1.0, 10.0, 0.002, np.random.default_rng(6))


@pytest.mark.parametrize(
    ("deviations", "message"),
    [
        ((-1.0, 0.0, 0.0), "gain_std_db is -1.0, expected a finite number from 0 up"),
        ((0.0, float("nan"), 0.0), "phase_std_deg is nan, expected"),
        ((0.0, 0.0, float("inf")), "position_std_m is inf, expected"),
    ],
)
def test_impossible_deviations_are_named(deviations: tuple[float, float, float], message: str) -> None:
    with pytest.raises(MsdetError, match=message):
        draw_mismatch(2, *deviations, np.random.default_rng(0))


def test_other_numbers_of_microphones_are_an_error() -> None:
    with pytest.raises(MsdetError, match="describes 2 microphones, the signals have 3"):
        apply_gain_phase(np.zeros((3, 100)), mismatch_of((0.0, 0.0), (0.0, 0.0)))
    with pytest.raises(MsdetError, match="gain_db, phase_deg and offset_m have 2, 1 and 2 values"):
        Mismatch((0.0, 0.0), (0.0,), ((0.0, 0.0, 0.0),) * 2)
