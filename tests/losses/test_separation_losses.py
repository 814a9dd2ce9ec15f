"""Losses of separation against values worked out by hand, and in silence."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from msdet.dsp.stft import Signals, Stft
from msdet.errors import MsdetError
from msdet.losses.separation import SEPARATION_LOSSES, is_signed, separation_loss

NAMES = SEPARATION_LOSSES.names()
WINDOW = 32
SAMPLES = 160


def signals(waveform: Tensor) -> Signals:
    """Consistent signals ``(batch, slot)`` of a waveform ``(batch, slot, time)``."""
    stft = Stft(WINDOW)
    return Signals(stft(waveform), partial(stft.inverse, samples=waveform.shape[-1]), waveform)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, SAMPLES, generator=torch.Generator().manual_seed(seed))


def tone() -> Tensor:
    """Unit-power sine ``(time,)`` of whole periods."""
    return math.sqrt(2) * torch.sin(2 * math.pi * 10 * torch.arange(SAMPLES) / SAMPLES)


def quadrature() -> Tensor:
    return math.sqrt(2) * torch.cos(2 * math.pi * 10 * torch.arange(SAMPLES) / SAMPLES)


def one(waveform: Tensor) -> Signals:
    return signals(waveform[None, None])


def test_l1_waveform_by_hand() -> None:
    reference = torch.zeros(SAMPLES)
    reference[:2] = torch.tensor([1.0, -2.0])
    estimate = torch.zeros(SAMPLES)
    estimate[1:3] = torch.tensor([1.0, 0.5])
    found = separation_loss("l1_waveform")(one(estimate), one(reference))
    assert float(found) == pytest.approx((1 + 3 + 0.5) / SAMPLES)


@pytest.mark.parametrize("error", [1.0, 0.1, 0.0])
@pytest.mark.parametrize("gain", [1.0, 0.03])
def test_snr_by_hand(error: float, gain: float) -> None:
    """10 log10(error + threshold), whatever the reference's level, so a perfect one reaches 30 dB."""
    found = separation_loss("snr")(one(gain * (tone() + math.sqrt(error) * quadrature())), one(gain * tone()))
    assert float(found) == pytest.approx(0.1 * 10 * math.log10(error + 1e-3), abs=1e-4)


@pytest.mark.parametrize("name", ["snr", "si_sdr"])
@pytest.mark.parametrize("level", [1.0, 0.1, 0.0])
def test_silent_reference_asks_for_silence_relative_to_the_mixture(name: str, level: float) -> None:
    found = separation_loss(name)(one(level * tone()), one(torch.zeros(SAMPLES)))
    assert float(found) == pytest.approx(0.1 * 10 * math.log10(level**2 + 1e-3), abs=1e-4)


def test_snr_threshold_and_scale_are_options() -> None:
    loss = separation_loss("snr", {"largest_snr_db": 20.0, "scale": 1.0})
    assert float(loss(one(tone()), one(tone()))) == pytest.approx(-20.0, abs=1e-4)


@pytest.mark.parametrize("gain", [1.0, -0.5])
def test_si_sdr_loss_by_hand(gain: float) -> None:
    estimate = gain * (tone() + 0.1 * quadrature())
    assert float(separation_loss("si_sdr")(one(estimate), one(tone()))) == pytest.approx(-2.0, abs=1e-3)


def test_l1_resynthesized_of_a_consistent_estimate_is_the_spectral_loss() -> None:
    estimate, reference = signals(noise(2, 3)), signals(noise(2, 3, seed=1))
    torch.testing.assert_close(
        separation_loss("l1_resynthesized")(estimate, reference),
        separation_loss("l1_real_imaginary_magnitude")(estimate, reference),
    )


def test_l1_resynthesized_hears_only_what_is_left_of_an_inconsistent_estimate() -> None:
    """An imaginary part at 0 Hz is in no signal: resynthesis drops it."""
    reference = signals(noise(1, 1))
    spectrum = reference.spectrum.clone()
    spectrum[..., 0, :] += 5j
    estimate = Signals(spectrum, reference.to_waveform)
    assert float(separation_loss("l1_real_imaginary_magnitude")(estimate, reference)) > 0.1
    assert float(separation_loss("l1_resynthesized")(estimate, reference)) < 1e-4


def test_l1_resynthesized_at_several_resolutions_is_their_mean_on_one_scale() -> None:
    long = noise(1, 1).repeat(1, 1, 20)  # long enough that edges matter little
    estimate, reference = signals(long), signals(0.0 * long)
    found = {w: float(separation_loss("l1_resynthesized", {"windows": w})(estimate, reference))
             for w in ((16,), (32,), (64,), (16, 64))}  # fmt: skip
    assert found[16, 64] == pytest.approx((found[16,] + found[64,]) / 2)
    assert found[16,] == pytest.approx(found[32,], rel=0.15)
    assert found[64,] == pytest.approx(found[32,], rel=0.15)
    # of unit white noise, each part of a bin is a Gaussian of variance window / 4: its mean magnitude
    deviation = math.sqrt(WINDOW / 4)
    expected = 2 * deviation * math.sqrt(2 / math.pi) + deviation * math.sqrt(math.pi / 2)
    assert found[32,] == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("window", [31, 0, -2])
def test_odd_window_is_refused(window: int) -> None:
    estimate = signals(noise(1, 1))
    with pytest.raises(MsdetError, match=f"windows: {window} samples, expected an even number"):
        separation_loss("l1_resynthesized", {"windows": [window]})(estimate, estimate)


@pytest.mark.parametrize("name", NAMES)
def test_all_pairs_at_once_are_each_pair(name: str) -> None:
    estimates, references = signals(noise(2, 3)), signals(noise(2, 3, seed=1))
    references = signals(references.waveform * torch.tensor([1.0, 0.2, 0.0])[:, None])
    loss = separation_loss(name)
    pairs = loss(estimates[:, :, None], references[:, None])
    assert pairs.shape == (2, 3, 3)
    for slot in range(3):
        for talker in range(3):
            torch.testing.assert_close(
                pairs[:, slot, talker],
                loss(estimates[:, [slot]], references[:, [talker]])[:, 0],
                msg=f"{slot} {talker}",
            )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("spoken", [True, False])
@pytest.mark.parametrize("level", [1.0, 1e-4, 0.0])
def test_gradient_is_finite_in_silence(name: str, spoken: bool, level: float) -> None:
    stft = Stft(WINDOW)
    spectrum = (level * stft(noise(1, 2))).requires_grad_()
    estimate = Signals(spectrum, partial(stft.inverse, samples=SAMPLES))
    value = separation_loss(name)(estimate, signals(float(spoken) * noise(1, 2, seed=1)))
    assert value.isfinite().all()
    value.sum().backward()
    assert spectrum.grad is not None
    assert spectrum.grad.isfinite().all()
    if not spoken:  # it does not blow up on the way to silence
        assert spectrum.grad.abs().max() < 1.0


@pytest.mark.parametrize("name", NAMES)
def test_loss_is_least_for_the_reference_and_in_silence_for_silence(name: str) -> None:
    for reference in (noise(1, 1), torch.zeros(1, 1, SAMPLES)):
        loss = separation_loss(name)
        best = float(loss(signals(reference), signals(reference)))
        for wrong in (0.3 * noise(1, 1, seed=2), noise(1, 1, seed=3)):
            assert float(loss(signals(reference + wrong), signals(reference))) > best + 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_that_can_be_below_zero_says_so(name: str) -> None:
    perfect = signals(noise(1, 1))
    assert (float(separation_loss(name)(perfect, perfect)) < 0) == is_signed(name)


@pytest.mark.parametrize("name", NAMES)
def test_losses_take_tensors(name: str) -> None:
    """Of any leading axes; the objective's signals give the same."""
    estimate, reference = signals(noise(2, 3)), signals(noise(2, 3, seed=1))
    loss = SEPARATION_LOSSES.find(name)
    domain = SEPARATION_LOSSES.fact(name, "domain", "waveform")
    window = {"window": WINDOW} if name == "l1_resynthesized" else {}
    found = loss(getattr(estimate, domain), getattr(reference, domain), **window)
    torch.testing.assert_close(found, separation_loss(name)(estimate, reference))
    one_by_one = loss(getattr(estimate, domain)[1, 2], getattr(reference, domain)[1, 2], **window)
    torch.testing.assert_close(one_by_one, found[1, 2])


OWN = """
def log_spectral(estimate, reference):
    return (estimate.abs() + 1).log().sub((reference.abs() + 1).log()).mean((-2, -1))

log_spectral.domain, log_spectral.signed = "spectrum", True

def square(estimate, reference):
    return (estimate - reference).square().mean(-1)
"""


def test_own_loss_says_what_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_losses.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    assert is_signed("own_losses:log_spectral") and not is_signed("own_losses:square")
    quiet, loud = signals(noise(1, 2)), signals(2.0 * noise(1, 2))
    assert (separation_loss("own_losses:log_spectral")(quiet, loud) < 0).all()
    expected = quiet.waveform.square().mean(-1)
    torch.testing.assert_close(separation_loss("own_losses:square")(quiet, loud), expected)
