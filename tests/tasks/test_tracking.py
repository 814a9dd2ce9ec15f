"""Talkers who move: labels on the frames of the STFT, across the seam, and a head that follows."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from msdet.data.example import Example
from msdet.dsp.spatial import frame_response, phase_normalize, srp_from_covariance, weighted_covariance
from msdet.dsp.stft import Signals, Stft
from msdet.models.frontends import FrontEndOutput
from msdet.models.heads import HeadSizes
from msdet.tasks.labels import BatchLabels, batch_labels
from msdet.tasks.tracking import TrackingHead, TrackingTask, decode_track, frame_track_deg, running_averages

MakeTruth = Callable[..., BatchLabels]
NAN = float("nan")


def test_labels_are_joined_at_the_frames_own_times(batch: Example) -> None:
    """Hops of 16 ms, labels every 100 ms: from 340 degrees on at 100 degrees a second, over the seam."""
    truth = batch_labels(batch, Stft(256), 0, torch.ones(2, 1, 1), 8000)
    found = frame_track_deg(truth, 33)
    expected = (340.0 + 100.0 * 0.016 * torch.arange(33)) % 360.0
    expected[32:] = 30.0  # the last label is at 0.5 s, frame 32 at 0.512 s
    difference = (found[0, 0] - expected + 180.0).remainder(360.0) - 180.0
    assert difference.abs().max() < 1e-3
    assert ((found >= 0.0) & (found < 360.0))[0].all()
    torch.testing.assert_close(found[0, 1], torch.full((33,), 100.0))  # who stands still stays
    assert found[1, 1].isnan().all()


def test_sample_rate_says_where_the_labels_are(batch: Example) -> None:
    """0.55 s have labels up to 0.5 s; without a sample rate the last one is taken to be at the end."""
    longer = batch.copy()
    for signal in ("mixture", "references"):
        longer[signal] = torch.nn.functional.pad(batch[signal], (0, 400))
    known, unknown = (
        frame_track_deg(batch_labels(longer, Stft(256), 0, torch.ones(2, 1, 1), rate), 36)[0, 0, 16]
        for rate in (8000, None)
    )
    assert float(known) == pytest.approx(340.0 + 25.6 - 360.0, abs=1e-3)
    assert float(unknown) == pytest.approx(340.0 + 25.6 / 1.1 - 360.0, abs=1e-3)
    short = batch_labels(batch, Stft(256), 0, torch.ones(2, 1, 1))  # of half a second exactly: the same
    exact = frame_track_deg(short._replace(sample_rate=8000), 33)
    torch.testing.assert_close(frame_track_deg(short, 33), exact, equal_nan=True, rtol=0, atol=1e-3)


def test_shorter_way_around_the_circle(truth_with: MakeTruth) -> None:
    """36 samples in hops of 4, labels at samples 0, 12, 24 and 36: three frames from one to the next."""
    track = [[[358.0, 4.0, 352.0, 352.0], [90.0, NAN, 0.0, 0.0]]]
    found = frame_track_deg(truth_with(track_deg=track), 10)[0]
    assert found[0].tolist() == pytest.approx([358, 0, 2, 4, 0, 356, 352, 352, 352, 352], abs=1e-3)
    assert found[1].isnan().tolist() == [True] * 6 + [False] * 4


def sure_of(azimuth_deg: Tensor, classes: int = 72) -> Tensor:
    """Logits ``(..., class)`` that fall with the distance from the class nearest to each azimuth."""
    index = (azimuth_deg * (classes / 360.0)).round().long() % classes
    return 30.0 * torch.nn.functional.one_hot(index, classes).float()


def test_loss_by_hand(truth_with: MakeTruth) -> None:
    logits = torch.zeros(1, 2, 10, 4)
    logits[..., 0] = math.log(3.0)  # class 0 of four: probability 1/2, others 1/6
    track = [[[0.0] * 4, [292.5] * 4]]  # between the classes at 270 and 0, a quarter of the way
    found = TrackingTask().loss(logits, truth_with(track_deg=track))
    torch.testing.assert_close(found.value[0, 0], torch.full((10,), math.log(2.0)))
    torch.testing.assert_close(found.value[0, 1], torch.full((10,), 0.75 * math.log(6.0) + 0.25 * math.log(2.0)))
    assert found.known.all()


def test_loss_is_lowest_on_the_path(truth_with: MakeTruth) -> None:
    truth = truth_with(track_deg=[[[350.0, 355.0, 0.0, 5.0], [100.0, 105.0, 110.0, 115.0]]])
    path = frame_track_deg(truth, 10)
    best = float(TrackingTask().loss(sure_of(path), truth).mean())
    for other in (path.flip(1), path + 15.0, path - 15.0, path.flip(2), path[:, :, :1].expand(-1, -1, 10)):
        assert float(TrackingTask().loss(sure_of(other), truth).mean()) > best


def test_frames_without_speech_count_only_where_it_is_not_known(truth_with: MakeTruth) -> None:
    spectrum = torch.zeros(1, 2, 5, 10, dtype=torch.complex64)
    spectrum[0, 0, :, 3:6] = 1.0
    spectrum[0, 1] = 1.0
    labels = {"track_deg": [[[0.0] * 4] * 2], "references": Signals(spectrum, torch.real)}
    known = TrackingTask().loss(torch.zeros(1, 2, 10, 24), truth_with(**labels, referenced=[True])).known
    assert known.sum(-1).tolist() == [[3, 10]]
    assert known[0, 0, 3:6].all()
    unreferenced = TrackingTask().loss(torch.zeros(1, 2, 10, 24), truth_with(**labels))
    assert unreferenced.known.all()
    empty = truth_with(**labels, referenced=[True], active=[[True, False]])
    assert TrackingTask().loss(torch.zeros(1, 2, 10, 24), empty).known.sum(-1).tolist() == [[3, 0]]


def test_scores_by_hand(truth_with: MakeTruth) -> None:
    truth = truth_with(track_deg=[[[350.0, 355.0, 0.0, 5.0], [NAN] * 4]])
    path = frame_track_deg(truth, 10)
    found = path.nan_to_num(0.0).clone()
    found[..., 8:] += 20.0
    scores = TrackingTask().scores(sure_of(found, 360), truth)  # to the nearest degree
    error = scores["track_mae_deg"]
    assert error.shape == (1, 2, 10)
    assert error[0, 0, :8].max() < 0.7
    assert error[0, 0, 8:].tolist() == pytest.approx([20.0, 20.0], abs=0.7)
    assert float(scores["track_accuracy_10deg"].nanmean()) == pytest.approx(0.8)
    assert error[0, 1].isnan().all()


def test_frame_response_is_that_of_the_covariance(sizes: HeadSizes) -> None:
    torch.manual_seed(0)
    phases = phase_normalize(torch.randn(2, 4, 129, 6, dtype=torch.complex64))
    weights, steering = torch.rand(2, 3, 129, 6), sizes.geometry.steering
    found = frame_response(phases, weights, steering)
    assert found.shape == (2, 3, 6, 24)
    expected = srp_from_covariance(weighted_covariance(phases, weights), steering)
    torch.testing.assert_close(found.sum(2), expected, rtol=1e-3, atol=1e-2)


def test_running_averages_are_exponential() -> None:
    impulse = torch.zeros(1, 81, 1)
    impulse[0, 40] = 1.0
    memory = torch.tensor([1.0, 4.0])
    causal = running_averages(impulse, memory, causal=True)[0, :, :, 0]
    both = running_averages(impulse, memory, causal=False)[0, :, :, 0]
    assert not causal[:, :40].any()
    decay = (-1 / memory).exp()
    torch.testing.assert_close(causal[:, 41:50] / causal[:, 40:49], decay[:, None].expand(2, 9))
    torch.testing.assert_close(both[:, 31:40], both[:, 41:50].flip(1))
    torch.testing.assert_close(both.sum(1), torch.ones(2))
    torch.testing.assert_close(causal.sum(1), torch.ones(2))


@pytest.mark.parametrize("causal", [False, True])
def test_untrained_head_follows_a_walking_talker(
    sizes: HeadSizes, plane_wave: Callable[[list[int]], Tensor], causal: bool
) -> None:
    """One step of 15 degrees every four frames, across the seam; nothing has been learned yet."""
    torch.manual_seed(0)
    head = TrackingHead(sizes, causal=causal)
    for part in (head.classify, head.sharpen):
        for parameter in part.parameters():
            parameter.data.zero_()
    walk = [k % 24 for k in range(18, 30) for _ in range(4)]
    features = torch.randn(1, 129, len(walk), 8)
    with torch.no_grad():
        logits = head(features, FrontEndOutput(plane_wave(walk), features, None))
    assert logits.shape == (1, 2, 48, 24)
    error = (decode_track(logits)[0] - 15.0 * torch.tensor(walk) + 180.0).remainder(360.0) - 180.0
    assert error.abs().max() < 15.0 + causal * 7.5  # the past lags behind
    assert error.abs().mean() < 8.0 + causal * 4.0


def test_causal_head_does_not_look_ahead(sizes: HeadSizes) -> None:
    torch.manual_seed(0)
    head = TrackingHead(sizes, causal=True)
    spectrum, features = torch.randn(1, 4, 129, 12, dtype=torch.complex64), torch.randn(1, 129, 12, 8)
    before = head(features, FrontEndOutput(spectrum, features, None))
    spectrum[..., 8:] *= 5.0
    features[:, :, 8:] += 1.0
    after = head(features, FrontEndOutput(spectrum, features, None))
    torch.testing.assert_close(after[:, :, :8], before[:, :, :8])
    assert not torch.allclose(after[:, :, 8:], before[:, :, 8:])


def test_decoding_takes_each_frame_by_itself() -> None:
    azimuth_deg = torch.tensor([[[355.0, 0.0, 90.0], [10.0, 180.0, 270.0]]])
    found, confidence = decode_track(sure_of(azimuth_deg))
    torch.testing.assert_close(found, azimuth_deg, rtol=0, atol=1e-2)
    torch.testing.assert_close(confidence, torch.ones(1, 2, 3))


def test_decoding_bridges_pauses_over_the_seam() -> None:
    """A talker at 350 and then at 10 degrees; between, the posterior is sure of somebody else."""
    azimuth_deg = torch.tensor([[[350.0] * 5 + [180.0] * 3 + [10.0] * 5]])
    speech = torch.ones(1, 1, 13)
    speech[..., 5:8] = 0.0
    found, confidence = decode_track(sure_of(azimuth_deg), speech)
    distance = (found + 180.0).remainder(360.0) - 180.0
    assert distance.abs().max() < 10.5
    assert float(distance[0, 0, 6]) == pytest.approx(0.0, abs=1e-2)
    assert (distance.diff() >= -1e-3).all()
    torch.testing.assert_close(confidence, speech, rtol=0, atol=1e-3)
    backwards, _ = decode_track(sure_of(azimuth_deg), speech, causal=True)
    torch.testing.assert_close(backwards[0, 0, :8], torch.full((8,), 350.0), rtol=0, atol=1e-2)
    silent, _ = decode_track(sure_of(azimuth_deg), torch.zeros(1, 1, 13))  # nothing to bridge from
    torch.testing.assert_close(silent, azimuth_deg, rtol=0, atol=1e-2)


def test_labels_follow_the_order_of_slots(batch: Example) -> None:
    truth = batch_labels(batch, Stft(256), 0, torch.ones(2, 1, 1), 8000)
    swapped = truth.in_slots(torch.tensor([[1, 0], [0, 1]]))
    assert swapped.sample_rate == 8000
    assert torch.equal(frame_track_deg(swapped, 33)[0], frame_track_deg(truth, 33)[0].flip(0))
