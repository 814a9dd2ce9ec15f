"""Losses and decoding against values worked out by hand."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from msdet.errors import MsdetError
from msdet.objectives.assignment import Labels
from msdet.objectives.doa import decode_azimuth, doa_cross_entropy
from msdet.objectives.joint import Objective, ObjectiveConfig
from msdet.objectives.separation import LOSSES, l1_real_imaginary, l1_real_imaginary_magnitude, si_sdr_db
from msdet.training.system import best_permutation


def spectrum(*bins: complex) -> Tensor:
    """``(1, 1, 1, frame)``: one talker, one frequency."""
    return torch.tensor(bins, dtype=torch.complex64)[None, None, None]


def test_l1_losses_by_hand() -> None:
    estimate, reference = spectrum(3 + 4j, 0j), spectrum(0j, 1 - 2j)
    # |3| + |4| and |-1| + |2|, over two bins; magnitudes 5 - 0 and 0 - sqrt(5)
    assert float(l1_real_imaginary(estimate, reference)) == pytest.approx((7 + 3) / 2)
    assert float(l1_real_imaginary_magnitude(estimate, reference)) == pytest.approx(
        (7 + 3) / 2 + (5 + math.sqrt(5)) / 2, rel=1e-5
    )


@pytest.mark.parametrize("name", LOSSES)
def test_loss_is_zero_at_the_reference_and_has_a_gradient_at_silence(name: str) -> None:
    x = torch.randn(2, 3, 4, 5, dtype=torch.complex64)
    assert LOSSES[name](x, x).shape == (2, 3)
    assert LOSSES[name](x, x).abs().max() <= 1e-6
    silent = torch.zeros_like(x).requires_grad_()
    LOSSES[name](silent, x).sum().backward()
    assert silent.grad is not None
    assert torch.isfinite(torch.view_as_real(silent.grad)).all()
    assert silent.grad.abs().min() > 0


@pytest.mark.parametrize("name", LOSSES)
def test_loss_of_all_pairs_is_the_loss_of_each(name: str) -> None:
    estimates, references = torch.randn(2, 2, 3, 4, 5, dtype=torch.complex64)
    pairs = LOSSES[name](estimates[:, :, None], references[:, None, :])
    assert pairs.shape == (2, 3, 3)
    for slot, talker in itertools.product(range(3), repeat=2):
        torch.testing.assert_close(
            pairs[:, slot, talker], LOSSES[name](estimates[:, slot], references[:, talker])
        )


def test_cross_entropy_by_hand() -> None:
    uniform = torch.zeros(1, 2, 72)
    torch.testing.assert_close(
        doa_cross_entropy(uniform, torch.tensor([[0.0, 123.0]])), torch.full((1, 2), math.log(72))
    )
    logits = torch.zeros(1, 4, 4)
    logits[0, :, 0] = math.log(3.0)  # class 0 of four: probability 1/2, others 1/6
    found = doa_cross_entropy(logits, torch.tensor([[350.0, 44.0, 46.0, 359.99]]))
    expected = [math.log(2), math.log(2), math.log(6), math.log(2)]
    torch.testing.assert_close(found[0], torch.tensor(expected))


def test_azimuth_between_classes_is_resolved() -> None:
    logits = torch.full((1, 3, 72), -30.0)
    logits[0, 0, 10] = 0.0
    logits[0, 1, [10, 11]] = 0.0
    logits[0, 2, 10], logits[0, 2, 11] = math.log(3.0), 0.0
    azimuth, confidence = decode_azimuth(logits)
    assert azimuth[0].tolist() == pytest.approx([50.0, 52.5, 51.25], abs=0.02)
    assert confidence[0].tolist() == pytest.approx([1.0, 1.0, 1.0], abs=1e-4)


def test_azimuth_is_decoded_across_the_seam() -> None:
    logits = torch.full((1, 2, 72), -30.0)
    logits[0, 0, [71, 0]] = 0.0
    logits[0, 1, 71], logits[0, 1, 0] = 0.0, math.log(3.0)
    assert decode_azimuth(logits)[0][0].tolist() == pytest.approx([357.5, 358.75], abs=0.02)


def test_confidence_is_the_probability_near_the_peak() -> None:
    logits = torch.full((1, 1, 72), -40.0)
    logits[0, 0, [20, 60]] = torch.tensor([math.log(3.0), 0.0])
    azimuth, confidence = decode_azimuth(logits)
    assert float(azimuth) == pytest.approx(100.0, abs=1e-3)
    assert float(confidence) == pytest.approx(0.75, abs=1e-5)


@settings(deadline=None, max_examples=200)
@given(azimuth_deg=st.floats(-0.01, 0.01), concentration=st.floats(1.0, 300.0))
def test_azimuth_decoded_near_zero_is_below_360(azimuth_deg: float, concentration: float) -> None:
    grid_rad = torch.arange(72) * (2 * math.pi / 72) - math.radians(azimuth_deg)
    azimuth, _ = decode_azimuth(concentration * grid_rad.cos()[None, None])
    assert 0.0 <= float(azimuth) < 360.0


@pytest.mark.parametrize("snr_db", [-10.0, 0.0, 20.0])
@pytest.mark.parametrize("gain", [1.0, -0.5, 40.0])
def test_si_sdr_by_hand(snr_db: float, gain: float) -> None:
    t = torch.arange(800) / 800.0
    reference, noise = torch.sin(2 * math.pi * 5 * t), torch.cos(2 * math.pi * 5 * t)
    estimate = gain * (reference + 10 ** (-snr_db / 20) * noise)
    assert float(si_sdr_db(estimate, reference)) == pytest.approx(snr_db, abs=1e-3)


def test_si_sdr_is_finite_for_silence() -> None:
    silence, speech = torch.zeros(2, 100), torch.randn(2, 100)
    for value in (si_sdr_db(silence, speech), si_sdr_db(speech, silence), si_sdr_db(speech, speech)):
        assert torch.isfinite(value).all()


def test_best_permutation_is_the_best_of_all() -> None:
    pairs = torch.randn(10, 3, 3, generator=torch.Generator().manual_seed(0))
    for table, found in zip(pairs, best_permutation(pairs), strict=True):
        best = max(itertools.permutations(range(3)), key=lambda p: sum(table[s, r] for s, r in enumerate(p)))
        assert tuple(found.tolist()) == best


def batch(talkers: int = 3) -> tuple[Tensor, Tensor, Labels]:
    """References, their own logits and labels; slot k of an ideal azimuth model is reference 2, 0, 1."""
    references = torch.randn(
        2, talkers, 4, 5, dtype=torch.complex64, generator=torch.Generator().manual_seed(0)
    )
    azimuth = torch.tensor([[120.0, 250.0, 10.0]] * 2)[:, :talkers]
    return references, torch.zeros(2, talkers, 72), Labels(azimuth, torch.ones_like(azimuth))


def test_objective_pairs_slots_with_references_in_azimuth_order() -> None:
    references, logits, labels = batch()
    ideal = references[:, [2, 0, 1]]
    for slot, k in enumerate((2, 24, 50)):
        logits[:, slot, k] = 100.0
    terms = Objective(ObjectiveConfig(assignment="azimuth"))((ideal,), references, logits, labels)
    assert terms.assignment.tolist() == [[2, 0, 1]] * 2
    assert float(terms.separation) <= 1e-5
    assert float(terms.doa) <= 1e-5


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_pit_objective_is_zero_for_any_order_of_perfect_estimates(order: tuple[int, ...]) -> None:
    references, logits, labels = batch()
    for slot, talker in enumerate(order):
        logits[:, slot, (24, 50, 2)[talker]] = 100.0
    terms = Objective(ObjectiveConfig(assignment="pit"))((references[:, order],), references, logits, labels)
    assert float(terms.separation) <= 1e-5
    assert float(terms.doa) <= 1e-5, "the DoA follows the permutation found on the spectra"


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_total_is_the_weighted_average_over_all_passes(weight: float) -> None:
    references, logits, labels = batch()
    passes = (references * 0.5, references * 0.9)
    config = ObjectiveConfig(separation_loss="l1_real_imaginary", doa_weight=weight)
    terms = Objective(config)(passes, references, logits, labels)
    each = [Objective(config)((p,), references, logits, labels).separation for p in passes]
    torch.testing.assert_close(terms.separation, (each[0] + each[1]) / 2)
    torch.testing.assert_close(terms.doa, torch.tensor(math.log(72)))
    torch.testing.assert_close(terms.total, (1 - weight) * terms.separation + weight * terms.doa)


@pytest.mark.parametrize("weight", [-0.1, 1.1, math.nan])
def test_weight_outside_zero_to_one_is_refused(weight: float) -> None:
    with pytest.raises(MsdetError, match=r"doa_weight is .*, expected 0 to 1"):
        Objective(ObjectiveConfig(doa_weight=weight))


def test_unknown_loss_offers_the_nearest() -> None:
    with pytest.raises(MsdetError, match=r"unknown separation loss .* did you mean 'l1_real_imaginary'"):
        Objective(ObjectiveConfig(separation_loss="l1_real_imaginry"))
