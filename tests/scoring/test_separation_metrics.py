"""Separation metrics: hand-computed values, other implementations, degenerate signals, levels."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from msdet.errors import MsdetError
from msdet.scoring.separation_metrics import (
    RATIO_LIMIT_DB,
    UndefinedMetricError,
    bss_eval,
    estoi,
    pairwise_si_sdr,
    pesq,
    sdr,
    si_sdr,
    snr,
    stoi,
)

RATE = 8000


def _sine(cycles: int, samples: int = 8000) -> np.ndarray:
    return np.sin(2 * np.pi * cycles * np.arange(samples) / samples)


def test_si_sdr_of_orthogonal_noise_is_the_energy_ratio():
    reference, noise = _sine(100), _sine(333)
    assert si_sdr(reference, -3.0 * (reference + 0.1 * noise)) == pytest.approx(20.0, abs=1e-9)
    assert si_sdr(reference, reference + noise) == pytest.approx(0.0, abs=1e-9)


def test_si_sdr_keeps_the_mean():
    # by hand: <e,s> = 4, target = (2, 2), residual = (1, -1); without the mean it would be infinite
    assert si_sdr([1.0, 1.0], [3.0, 1.0]) == pytest.approx(10 * np.log10(4.0), abs=1e-12)


def test_si_sdr_of_a_batch_is_that_of_its_signals(speech):
    references, others = speech(2), speech(2, seed=5)
    batch = si_sdr(references, references + others)
    assert batch.shape == (2,)
    assert batch[1] == si_sdr(references[1], references[1] + others[1])


def test_perfect_and_orthogonal_estimates_are_limited(speech):
    reference = speech(1)[0]
    assert si_sdr(reference, 0.3 * reference) == RATIO_LIMIT_DB
    assert sdr(reference, 0.3 * reference) == RATIO_LIMIT_DB
    assert si_sdr([1.0, 0.0], [0.0, 1.0]) == -RATIO_LIMIT_DB


def test_sdr_allows_a_short_filter_that_si_sdr_does_not(speech):
    reference = speech(1)[0]
    reference[-3:] = 0.0  # so that the filter's tail is inside
    filtered = np.convolve(reference, [0.3, 0.0, 0.4, -0.8])[: reference.size]
    assert sdr(reference, filtered) > 60.0
    assert si_sdr(reference, filtered) < 20.0


def test_snr_counts_a_wrong_level_as_noise():
    reference, noise = _sine(100), _sine(333)
    assert snr(reference, reference + 0.1 * noise) == pytest.approx(20.0, abs=1e-9)
    assert snr(reference, 0.5 * reference) == pytest.approx(20 * np.log10(2.0), abs=1e-9)
    assert snr(1e-3 * reference, 1e-3 * (reference + 0.1 * noise)) == pytest.approx(20.0, abs=1e-9)
    assert snr(reference, reference) == RATIO_LIMIT_DB
    assert snr(np.full(9, 5e-324), np.full(9, 1e308)) == -RATIO_LIMIT_DB


@pytest.mark.filterwarnings("ignore")  # the packages' own, at import and on deprecated names
def test_metrics_agree_with_asteroid(speech):
    get_metrics = pytest.importorskip("asteroid.metrics").get_metrics
    references = speech(2, seconds=2.0)
    mixture = references.sum(0, keepdims=True)
    noise = np.random.default_rng(0).standard_normal(references.shape)
    noise -= noise.mean(-1, keepdims=True)
    estimates = references + 0.2 * references[::-1] + 0.02 * noise
    theirs = get_metrics(mixture, references, estimates, sample_rate=RATE, metrics_list="all", average=False)
    mixtures = np.broadcast_to(mixture, references.shape)
    np.testing.assert_allclose(si_sdr(references, estimates), theirs["si_sdr"], atol=0.01)
    np.testing.assert_allclose(sdr(references, estimates), theirs["sdr"], atol=0.01)
    np.testing.assert_allclose(sdr(references, mixtures), theirs["input_sdr"].ravel(), atol=0.01)
    ours = bss_eval(references, np.concatenate([estimates, mixture]))
    for name, ratios_db in ours._asdict().items():
        np.testing.assert_allclose(np.diag(ratios_db), theirs[name], atol=0.01)
        before = np.minimum(theirs[f"input_{name}"].ravel(), RATIO_LIMIT_DB)  # a sum has no artifacts
        np.testing.assert_allclose(ratios_db[:, 2], before, atol=0.01)
    for metric, tolerance in ((stoi, 1e-4), (pesq, 1e-3)):
        ours = [metric(r, e, RATE) for r, e in zip(references, estimates, strict=True)]
        np.testing.assert_allclose(ours, theirs[metric.__name__], atol=tolerance)


def test_bss_eval_of_three_talkers_agrees_with_mir_eval(speech):
    separation = pytest.importorskip("mir_eval.separation")
    references = speech(3, seconds=1.0)
    noise = np.random.default_rng(0).standard_normal(references.shape)
    estimates = references + 0.3 * np.roll(references, 1, axis=0) + 0.02 * noise
    with pytest.warns(FutureWarning):
        theirs = separation.bss_eval_sources(references, estimates, compute_permutation=False)
    for ratios_db, expected in zip(bss_eval(references, estimates), theirs, strict=False):
        np.testing.assert_allclose(np.diag(ratios_db), expected, atol=0.01)
    np.testing.assert_allclose(np.diag(bss_eval(references, estimates).sdr), sdr(references, estimates), atol=1e-9)


def test_sdr_of_band_limited_speech_is_that_of_mir_eval(speech):
    separation = pytest.importorskip("mir_eval.separation")
    spectrum = np.fft.rfft(speech(1, seconds=1.0)[0])
    spectrum[len(spectrum) // 10 :] = 0.0  # the equations for the filter are close to singular
    reference = np.fft.irfft(spectrum, 8000)
    estimate = reference + 0.05 * np.random.default_rng(0).standard_normal(8000) * reference.std()
    with pytest.warns(FutureWarning):
        theirs = separation.bss_eval_sources(reference[None], estimate[None], compute_permutation=False)
    assert sdr(reference, estimate) == pytest.approx(float(theirs[0][0]), abs=0.01)


@pytest.mark.parametrize("rate", [8000, 10000, 16000, 44100])
@pytest.mark.parametrize("level", [0.1, 1.0, 10.0])
def test_stoi_is_that_of_pystoi(rate, level):
    import pystoi

    rng = np.random.default_rng(rate)
    envelope = np.clip(np.sin(2 * np.pi * 3 * np.arange(rate) / rate), 0.0, None)  # a third is silent
    reference = envelope * rng.standard_normal(rate)
    estimate = reference + level * rng.standard_normal(rate)
    assert stoi(reference, estimate, rate) == pytest.approx(pystoi.stoi(reference, estimate, rate), abs=1e-9)
    theirs = pystoi.stoi(reference, estimate, rate, extended=True)
    assert estoi(reference, estimate, rate) == pytest.approx(theirs, abs=1e-6)


def test_pesq_is_wide_band_at_16_khz_and_says_where_it_is_undefined(speech, monkeypatch):
    reference = speech(1, seconds=1.0)[0]
    assert pesq(reference, reference, 8000) == pytest.approx(4.549, abs=1e-3)  # the best of each
    assert pesq(reference, reference, 16000) == pytest.approx(4.644, abs=1e-3)
    for rate, signal, reason in (
        (11025, reference, "8 and 16 kHz"),
        (8000, reference[:1000], "0.25 s"),
        (8000, np.zeros(8000), "silent"),
    ):
        with pytest.raises(UndefinedMetricError, match=reason):
            pesq(signal, signal, rate)
    monkeypatch.setitem(sys.modules, "pesq", None)
    with pytest.raises(UndefinedMetricError, match=r"pip install msdet\[pesq\]"):
        pesq(reference, reference, 8000)


def test_bss_eval_needs_references_that_can_be_told_apart(speech):
    reference = speech(1, seconds=0.5)[0]
    with pytest.raises(UndefinedMetricError, match="do not determine"):
        bss_eval(np.stack([reference, reference]), reference + 0.1)
    with pytest.raises(UndefinedMetricError, match="reference is silent"):
        bss_eval(np.stack([reference, 0 * reference]), reference)
    with pytest.raises(MsdetError, match="expected one length"):
        bss_eval(reference, reference[:-1])


def test_estoi_is_below_stoi_deterministic_and_leaves_the_global_generator_alone(speech):
    reference = speech(1)[0]
    estimate = reference + 0.1 * np.random.default_rng(0).standard_normal(reference.size)
    np.random.seed(3)
    expected_draw = np.random.random()
    np.random.seed(3)
    first = estoi(reference, estimate, RATE)
    assert np.random.random() == expected_draw
    assert first == estoi(reference, estimate, RATE)
    assert 0.0 < first < stoi(reference, estimate, RATE) < 1.0


@pytest.mark.parametrize("level_db", [-60.0, 0.0, 6.0])
def test_metrics_do_not_depend_on_levels(speech, level_db):
    reference, other = speech(2) * 0.2
    estimate = reference + 0.3 * other
    gain = 10 ** ((level_db + 20) / 20)
    for metric in (si_sdr, sdr, lambda r, e: stoi(r, e, RATE), lambda r, e: estoi(r, e, RATE)):
        expected = float(metric(reference, estimate))
        assert float(metric(gain * reference, estimate)) == pytest.approx(expected, abs=1e-6)
        assert float(metric(gain * reference, gain * estimate)) == pytest.approx(expected, abs=1e-6)


def _degenerate_signals(samples: int) -> list[np.ndarray]:
    n = np.arange(samples)
    return [
        np.zeros(samples),
        np.ones(samples),
        np.full(samples, 5e-324),
        np.where(n == 0, 1e308, 0.0),
        np.where(n == samples - 1, 1.0, 0.0),
        np.random.default_rng(0).standard_normal(samples),
        np.where(n == 0, np.nan, 1.0),
        np.where(n == 0, np.inf, 1.0),
    ]


def _value_or_reason(metric, samples):
    for reference in _degenerate_signals(samples):
        for estimate in _degenerate_signals(samples):
            try:
                assert np.isfinite(metric(reference, estimate)).all()
            except UndefinedMetricError as error:
                assert str(error)


@pytest.mark.parametrize("samples", [0, 1, 511, 512])
@pytest.mark.parametrize("metric", [si_sdr, snr, sdr, lambda r, e: np.array(bss_eval(r, e))])
def test_ratios_of_degenerate_signals_are_finite_or_have_a_reason(metric, samples):
    _value_or_reason(metric, samples)


@pytest.mark.parametrize("samples", [0, 1, 300, 4000])
@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("metric", [stoi, estoi, pesq])
def test_intelligibility_of_degenerate_signals_is_finite_or_has_a_reason(metric, samples, rate):
    _value_or_reason(lambda r, e: metric(r, e, rate), samples)


@pytest.mark.parametrize(
    ("reference", "estimate", "reason"),
    [
        (np.zeros(8000), _sine(50), "reference is silent"),
        (_sine(50), np.zeros(8000), "estimate is silent"),
        (_sine(50), np.full(8000, np.nan), "estimate holds NaN"),
    ],
)
def test_undefined_metrics_say_why(reference, estimate, reason):
    for metric in (si_sdr, sdr, lambda r, e: stoi(r, e, RATE)):
        with pytest.raises(UndefinedMetricError, match=reason):
            metric(reference, estimate)


def test_too_short_signals_say_so():
    with pytest.raises(UndefinedMetricError, match="STOI"):
        stoi(_sine(50, 1000), _sine(50, 1000), RATE)
    burst = np.zeros(16000)
    burst[-400:] = 1.0
    with pytest.raises(UndefinedMetricError, match="STOI"):
        stoi(burst, burst, RATE)
    with pytest.raises(UndefinedMetricError, match="512 taps"):
        sdr(_sine(5, 511), _sine(5, 511))


def test_other_shapes_are_an_error_of_the_caller():
    with pytest.raises(MsdetError, match="shapes"):
        si_sdr(np.ones(3), np.ones(4))


def test_pairwise_marks_undefined_pairs(speech):
    references = speech(2)
    estimates = np.stack([references[1], np.zeros_like(references[0]), references[0] + references[1]])
    matrix = pairwise_si_sdr(references, estimates)
    assert matrix.shape == (2, 3)
    assert np.isnan(matrix[:, 1]).all() and np.isfinite(matrix[:, [0, 2]]).all()
    assert matrix[0, 2] == si_sdr(references[0], estimates[2])
