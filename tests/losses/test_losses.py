"""Losses and decoding against values worked out by hand."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from msdet.dsp.spatial import decode_azimuth
from msdet.dsp.stft import SeparationPasses, Signals
from msdet.errors import MsdetError
from msdet.losses.assignment import cheapest_permutation
from msdet.losses.doa import cross_entropy_loss as doa_cross_entropy
from msdet.losses.separation import separation_loss, si_sdr_db
from msdet.models.config import ModelConfig
from msdet.tasks.labels import BatchLabels
from msdet.training.config import ObjectiveConfig
from msdet.training.objective import Objective, ObjectiveTerms


def spectrum(*bins: complex) -> Tensor:
    """``(1, 1, 1, frame)``: one talker, one frequency."""
    return torch.tensor(bins, dtype=torch.complex64)[None, None, None]


def no_waveform(_: Tensor) -> Tensor:
    raise AssertionError("a spectral loss needs no waveform")


def signals(spectra: Tensor) -> Signals:
    return Signals(spectra, no_waveform)


def test_l1_losses_by_hand() -> None:
    estimate, reference = signals(spectrum(3 + 4j, 0j)), signals(spectrum(0j, 1 - 2j))
    # |3| + |4| and |-1| + |2|, over two bins; magnitudes 5 - 0 and 0 - sqrt(5)
    assert float(separation_loss("l1_real_imaginary")(estimate, reference)) == pytest.approx((7 + 3) / 2)
    assert float(separation_loss("l1_real_imaginary_magnitude")(estimate, reference)) == pytest.approx(
        (7 + 3) / 2 + (5 + math.sqrt(5)) / 2, rel=1e-5
    )


def test_waveform_is_resynthesized_once_and_keeps_its_axes() -> None:
    asked = []

    def resynthesize(spectra: Tensor) -> Tensor:
        asked.append(spectra.shape)
        return spectra.real.flatten(-2)

    found = Signals(torch.randn(2, 3, 4, 5, dtype=torch.complex64), resynthesize)
    assert found.waveform.shape == (2, 3, 20)
    assert found.waveform is found.waveform
    assert found[:, None].waveform.shape == (2, 1, 3, 20)
    torch.testing.assert_close(found.sum(1).waveform, found.waveform.sum(1))
    assert asked == [(6, 1, 4, 5)]


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
    for table, found in zip(pairs, cheapest_permutation(-pairs), strict=True):
        best = max(itertools.permutations(range(3)), key=lambda p: sum(table[s, r] for s, r in enumerate(p)))
        assert tuple(found.tolist()) == best


AZIMUTHS_DEG = (120.0, 250.0, 10.0)


def labels(active: int = 3) -> tuple[Tensor, Tensor, BatchLabels]:
    """References, logits of no idea, and labels; slot k of an ideal azimuth model is reference 2, 0, 1."""
    references = torch.randn(2, 3, 4, 5, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    there = torch.arange(3).expand(2, 3) < active
    references = references * there[..., None, None]
    azimuth = torch.tensor([AZIMUTHS_DEG] * 2).masked_fill(~there, torch.nan)
    truth = BatchLabels(
        references=signals(references),
        mixture=torch.zeros(2, 20),
        referenced=torch.tensor([True, True]),
        active=there,
        azimuth_deg=azimuth,
        elevation_deg=torch.zeros(2, 3),
        distance_m=torch.ones(2, 3).masked_fill(~there, torch.nan),
        track_deg=azimuth[..., None],
        t60_s=torch.tensor([0.3, torch.nan]),
        domain=torch.zeros(2),
    )
    return references, torch.zeros(2, 3, 72), truth


def judge(
    estimates: tuple[Tensor, ...],
    logits: Tensor,
    truth: BatchLabels,
    variable_num_speakers: bool = False,
    **options: Any,
) -> ObjectiveTerms:
    objective = Objective(
        ObjectiveConfig(**options), ModelConfig(talkers=3, variable_num_speakers=variable_num_speakers)
    )
    found: ObjectiveTerms = objective(
        {"separation": SeparationPasses(tuple(signals(e) for e in estimates)), "doa": logits}, truth
    )
    return found


def test_objective_pairs_slots_with_references_in_azimuth_order() -> None:
    references, logits, truth = labels()
    for slot, k in enumerate((2, 24, 50)):
        logits[:, slot, k] = 100.0
    terms = judge((references[:, [2, 0, 1]],), logits, truth, assignment="azimuth")
    assert terms.assignment.tolist() == [[2, 0, 1]] * 2
    assert float(terms.losses["separation"]) <= 1e-5
    assert float(terms.losses["doa"]) <= 1e-5


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("rule", ["pit", "pit_joint", "doa_anchored"])
def test_free_objective_is_zero_for_any_order_of_perfect_estimates(rule: str, order: tuple[int, ...]) -> None:
    references, logits, truth = labels()
    for slot, talker in enumerate(order):
        logits[:, slot, (24, 50, 2)[talker]] = 100.0
    terms = judge((references[:, order],), logits, truth, assignment=rule)
    assert float(terms.losses["separation"]) <= 1e-5
    assert float(terms.losses["doa"]) <= 1e-5, "the DoA follows the same permutation"


@pytest.mark.parametrize("rule", ["azimuth", "distance", "pit", "pit_joint", "azimuth_or_distance"])
def test_empty_slot_costs_nothing_when_it_is_silent_and_says_so(rule: str) -> None:
    references, _, truth = labels(active=2)
    logits = torch.zeros(2, 3, 73)
    logits[:, 0, 24] = logits[:, 1, 50] = 100.0
    logits[:, 2, 72] = 100.0  # nobody
    terms = judge((references,), logits, truth, variable_num_speakers=True, assignment=rule)
    assert terms.assignment.tolist() == [[0, 1, 2]] * 2
    assert float(terms.losses["separation"]) <= 1e-5
    assert float(terms.losses["doa"]) <= 1e-5
    loud = judge((references + 1.0,), logits.flip(1), truth, variable_num_speakers=True, assignment="azimuth")
    assert float(loud.losses["doa"]) > 60.0
    assert float(loud.losses["separation"]) > 0.5


def test_presence_and_place_together_are_the_cross_entropy_over_all_outputs() -> None:
    references, _, truth = labels(active=2)
    logits = torch.randn(2, 3, 73, generator=torch.Generator().manual_seed(1))
    found = judge((references,), logits, truth, variable_num_speakers=True, assignment="azimuth").losses["doa"]
    wanted = torch.tensor([24, 50, 72]).expand(2, 3)
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten())
    torch.testing.assert_close(found, expected)


def test_scene_without_references_trains_the_doa_alone_and_the_other_way_round() -> None:
    references, logits, truth = labels()
    estimates = (references * 0.5).requires_grad_()
    logits.requires_grad_()
    partial = truth._replace(
        referenced=torch.tensor([True, False]),
        azimuth_deg=torch.where(torch.tensor([[False], [True]]), truth.azimuth_deg, torch.nan),
    )
    for rule in ("azimuth", "pit", "pit_joint", "doa_anchored", "azimuth_or_distance"):
        estimates.grad = logits.grad = None
        terms = judge((estimates,), logits, partial, assignment=rule)
        terms.total.backward()
        assert estimates.grad is not None and logits.grad is not None
        assert estimates.grad[0].abs().sum() > 0 and estimates.grad[1].abs().sum() == 0, rule
        assert logits.grad[0].abs().sum() == 0 and logits.grad[1].abs().sum() > 0, rule
        whole = judge((estimates[:1],), logits[:1], labels_of(truth, 0), assignment="pit")
        torch.testing.assert_close(terms.losses["separation"], whole.losses["separation"])


def labels_of(truth: BatchLabels, scene: int) -> BatchLabels:
    one = slice(scene, scene + 1)
    return BatchLabels(*(value if value is None or isinstance(value, bool) else value[one] for value in truth))


def test_nothing_labeled_costs_nothing() -> None:
    references, logits, truth = labels()
    estimates = references.clone().requires_grad_()
    blank = truth._replace(referenced=torch.tensor([False, False]), azimuth_deg=torch.full((2, 3), torch.nan))
    total = judge((estimates,), logits, blank, assignment="azimuth").total
    total.backward()
    assert total.item() == 0.0
    assert estimates.grad is not None and not estimates.grad.any()


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_total_is_the_weighted_average_over_all_passes(weight: float) -> None:
    references, logits, truth = labels()
    passes = (references * 0.5, references * 0.9)
    options: dict[str, Any] = {"separation_loss": "l1_real_imaginary", "doa_weight": weight}
    terms = judge(passes, logits, truth, **options)
    each = [judge((p,), logits, truth, **options).losses["separation"] for p in passes]
    torch.testing.assert_close(terms.losses["separation"], (each[0] + each[1]) / 2)
    torch.testing.assert_close(terms.losses["doa"], torch.tensor(math.log(72)))
    expected = (1 - weight) * terms.losses["separation"] + weight * terms.losses["doa"]
    torch.testing.assert_close(terms.total, expected)


def test_consistency_asks_for_the_sum_of_all_estimates() -> None:
    references, logits, truth = labels()
    moved = references.clone()
    moved[:, 0] += 0.3
    moved[:, 1] -= 0.3  # the sum is right
    plain, kept = (judge((moved,), logits, truth, assignment="pit", consistency=c) for c in (0.0, 1.0))
    torch.testing.assert_close(plain.losses["separation"], kept.losses["separation"], atol=1e-4, rtol=1e-4)
    moved[:, 1] += 0.6
    plain, lost = (judge((moved,), logits, truth, assignment="pit", consistency=c) for c in (0.0, 1.0))
    assert float(lost.losses["separation"] - plain.losses["separation"]) > 0.5


@pytest.mark.parametrize("weight", [-0.1, 1.1, math.nan])
def test_weight_outside_zero_to_one_is_refused(weight: float) -> None:
    with pytest.raises(MsdetError, match=r"doa_weight is .*, expected 0 to 1"):
        Objective(ObjectiveConfig(doa_weight=weight))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"separation_loss": "l1_real_imaginry"}, r"unknown separation loss .* did you mean 'l1_real_imagin"),
        ({"doa_loss": "cross_entrpy"}, r"unknown DoA loss .* did you mean 'cross_entropy'"),
        ({"doa_options": {"sigma": 1}}, r"DoA loss 'cross_entropy' has no option 'sigma'"),
        ({"separation_options": {"scal": 1}, "separation_loss": "si_sdr"}, "did you mean 'scale'"),
        ({"balance": "fixd"}, r"unknown balancing 'fixd'; did you mean 'fixed'"),
        ({"task_weights": {"activity": 1.0}}, r"unknown task in task_weights"),
        ({"consistency": -1.0}, "consistency is -1.0"),
    ],
)
def test_wrong_setting_is_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(MsdetError, match=message):
        Objective(ObjectiveConfig(**options))
