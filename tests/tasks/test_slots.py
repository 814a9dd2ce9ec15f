"""By hand: activity, distance and elevation of each slot's talker; T60, count and domain of a scene."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from msdet.data.example import Example
from msdet.dsp.stft import Signals, Stft
from msdet.models.frontends import FrontEndOutput
from msdet.models.heads import HeadSizes
from msdet.tasks.labels import BatchLabels, batch_labels
from msdet.tasks.pooled import ActivityTask as Activity
from msdet.tasks.pooled import CountTask as Count
from msdet.tasks.pooled import DistanceTask as Distance
from msdet.tasks.pooled import DomainHead, ElevationHead, decode_elevation, speech_activity
from msdet.tasks.pooled import DomainTask as Domain
from msdet.tasks.pooled import ElevationTask as Elevation
from msdet.tasks.pooled import T60Task as T60

MakeTruth = Callable[..., BatchLabels]


def spoken(*energies: list[float]) -> Signals:
    """Signals of one frequency with the energy of each frame, ``(1, slot, 1, frame)``."""
    return Signals(torch.tensor(energies)[None, :, None].sqrt().to(torch.complex64), torch.real)


def test_activity_of_a_talker_who_is_silent_for_half_of_the_time(batch: Example) -> None:
    stft = Stft(256)
    truth = batch_labels(batch, stft, 0, torch.ones(2, 1, 1))
    target = Activity().target(truth)
    assert target.shape == (2, 2, 33)
    assert target[0, 0].all()
    # 2000 samples in hops of 128: frame 16 is centered on 2048 and starts at 1920, frame 17 starts at 2048
    assert target[0, 1].tolist() == [True] * 17 + [False] * 16
    assert target[1, 0].all()
    assert not target[1, 1].any()


def test_activity_is_relative_to_the_talkers_own_loudest_frame() -> None:
    energies = spoken([1.0, 1e-4, 0.99e-4, 0.0], [1e-6, 1e-9, 1e-11, 0.0], [0.0] * 4).spectrum
    expected = [[[True, True, False, False], [True, True, False, False], [False] * 4]]
    assert speech_activity(energies).tolist() == expected
    assert speech_activity(energies * 1e-3).tolist() == expected
    assert speech_activity(energies, 5.0)[0, 1].tolist() == [True, False, False, False]


def test_activity_loss_and_scores_by_hand(truth_with: MakeTruth) -> None:
    truth = truth_with(references=spoken([1.0, 1.0, 0.0, 0.0], [0.0] * 4), referenced=[True], active=[[True, False]])
    logits = torch.tensor([[[3.0, -1.0, 2.0, -4.0], [-5.0, -5.0, -5.0, 1.0]]])
    found = Activity().loss(logits, truth)
    expected = [[[-3.0, 1.0, 2.0, -4.0], [-5.0, -5.0, -5.0, 1.0]]]
    torch.testing.assert_close(found.value, torch.tensor(expected).exp().log1p())
    assert found.known.all()
    scores = Activity().scores(logits, truth)
    # one frame found rightly, one missed, one too many; F1 = 2 / (2 + 1 + 1)
    assert float(scores["activity_f1"][0, 0]) == pytest.approx(0.5)
    assert scores["activity_f1"][0, 1].isnan()
    assert scores["activity_accuracy"].tolist() == [[0.5, 0.75]]
    unknown = truth._replace(referenced=torch.tensor([False]))
    assert not Activity().loss(logits, unknown).known.any()
    assert all(values.isnan().all() for values in Activity().scores(logits, unknown).values())


def test_distance_by_hand(truth_with: MakeTruth) -> None:
    truth = truth_with(distance_m=[[2.0, 1.0]], active=[[True, False]])
    prediction = torch.tensor([[math.log(2.5), 7.0]])
    found = Distance().loss(prediction, truth)
    assert found.known.tolist() == [[True, False]]
    # beyond 0.2 the loss goes on as the error less a tenth
    assert float(found.mean()) == pytest.approx(math.log(1.25) - 0.1, rel=1e-5)
    scores = Distance().scores(prediction, truth)
    assert float(scores["distance_error_m"][0, 0]) == pytest.approx(0.5, rel=1e-5)
    assert float(scores["distance_error_percent"][0, 0]) == pytest.approx(25.0, rel=1e-5)
    assert all(values[0, 1].isnan() for values in scores.values())
    at_truth = Distance().loss(torch.tensor([[math.log(2.0), 0.0]]), truth)
    assert float(at_truth.mean()) == pytest.approx(0.0, abs=1e-9)


def test_factor_too_far_costs_as_much_as_the_same_factor_too_near(truth_with: MakeTruth) -> None:
    truth = truth_with(distance_m=[[2.0, 0.5]])
    found = Distance().loss(torch.tensor([[math.log(3.0), math.log(0.5 / 1.5)]]), truth).value
    torch.testing.assert_close(found[0, 0], found[0, 1])


@pytest.mark.parametrize("t60_s", [float("nan"), 0.0])
def test_t60_that_is_not_known_or_zero_has_no_label(truth_with: MakeTruth, t60_s: float) -> None:
    truth = truth_with(t60_s=[t60_s])
    found = T60().loss(torch.tensor([0.3]), truth)
    assert not found.known.any()
    assert found.value.isfinite().all()


def test_t60_by_hand(truth_with: MakeTruth) -> None:
    truth = truth_with(t60_s=[0.5])
    assert float(T60().loss(torch.tensor([math.log(0.5)]), truth).mean()) == pytest.approx(0.0, abs=1e-9)
    small = math.log(0.55 / 0.5)  # below 0.2 half its square over 0.2
    assert float(T60().loss(torch.tensor([math.log(0.55)]), truth).mean()) == pytest.approx(small**2 / 0.4)
    assert float(T60().scores(torch.tensor([math.log(0.4)]), truth)["t60_error_s"]) == pytest.approx(0.1)


def sure_of(index: list[int], classes: int) -> Tensor:
    """Logits ``(1, slot, class)``."""
    return 40.0 * torch.nn.functional.one_hot(torch.tensor([index]), classes).float()


@pytest.mark.parametrize(
    ("elevation_deg", "index"),
    [(-90.0, 0), (-85.5, 0), (-84.5, 1), (-0.1, 9), (0.0, 9), (4.9, 9), (5.0, 10), (85.1, 18), (90.0, 18)],
)
def test_elevation_loss_is_lowest_at_the_class_of_the_truth(
    truth_with: MakeTruth, elevation_deg: float, index: int
) -> None:
    truth = truth_with(elevation_deg=[[elevation_deg, float("nan")]])
    losses = [float(Elevation().loss(sure_of([k, 3], 19), truth).mean()) for k in range(19)]
    assert losses[index] == pytest.approx(0.0, abs=1e-6)
    assert min(losses[:index] + losses[index + 1 :]) == pytest.approx(40.0)


def test_elevation_between_classes_is_resolved() -> None:
    logits = torch.full((1, 3, 19), -30.0)
    logits[0, 0, 18] = 0.0
    logits[0, 1, [9, 10]] = 0.0
    logits[0, 2, 0], logits[0, 2, 1] = math.log(3.0), 0.0
    elevation, confidence = decode_elevation(logits)
    assert elevation[0].tolist() == pytest.approx([90.0, 5.0, -87.5], abs=0.01)
    assert confidence[0].tolist() == pytest.approx([1.0, 1.0, 1.0], abs=1e-4)


def test_elevation_score_by_hand(truth_with: MakeTruth) -> None:
    truth = truth_with(elevation_deg=[[12.0, 20.0]], active=[[True, False]])
    error = Elevation().scores(sure_of([11, 11], 19), truth)["elevation_mae_deg"]
    assert float(error[0, 0]) == pytest.approx(8.0, abs=1e-3)
    assert error[0, 1].isnan()


@pytest.mark.parametrize(("width_deg", "classes"), [(10.0, 19), (5.0, 37), (22.5, 9), (180.0, 2)])
def test_width_of_elevation_classes(sizes: HeadSizes, width_deg: float, classes: int) -> None:
    head = ElevationHead(sizes, width_deg)
    features = torch.randn(1, 129, 3, 8)
    assert head(features, FrontEndOutput(features, features, None)).shape == (1, 2, classes)


def test_count_by_hand(truth_with: MakeTruth) -> None:
    logits = torch.tensor([[0.0, math.log(2.0), 0.0]])  # one talker: probability 1/2, others 1/4
    for active, probability, right in (([True, True], 0.25, 0.0), ([True, False], 0.5, 1.0), ([False] * 2, 0.25, 0.0)):
        truth = truth_with(active=[active])
        assert float(Count().loss(logits, truth).mean()) == pytest.approx(-math.log(probability))
        assert Count().scores(logits, truth)["count_accuracy"].tolist() == [right]


def test_domain_by_hand(truth_with: MakeTruth) -> None:
    logits = torch.tensor([[0.0, 0.0, math.log(2.0)]])
    for domain, probability, right in ((2, 0.5, 1.0), (5, 0.5, 1.0), (3, 0.25, 0.0)):
        truth = truth_with(domain=[domain])
        assert float(Domain().loss(logits, truth).mean()) == pytest.approx(-math.log(probability))
        assert Domain().scores(logits, truth)["domain_accuracy"].tolist() == [right]


def test_gradient_of_the_domain_is_reversed_at_the_features_alone(sizes: HeadSizes, truth_with: MakeTruth) -> None:
    truth = truth_with(domain=[7])
    features = torch.randn(1, 129, 6, 8, requires_grad=True)
    heads = {}
    for strength in (1.0, 0.25):
        torch.manual_seed(0)
        heads[strength] = DomainHead(sizes, strength=strength)
    by_hand = heads[1.0].classify(heads[1.0].pool(features))[:, 0]  # the same layers, nothing reversed
    assert torch.equal(heads[1.0](features, FrontEndOutput(features, features, None)), by_hand)
    inside = dict(heads[1.0].named_parameters())
    straight = torch.autograd.grad(Domain().loss(by_hand, truth).mean(), [features, *inside.values()])
    assert straight[0].any()
    for strength, head in heads.items():
        loss = Domain().loss(head(features, FrontEndOutput(features, features, None)), truth).mean()
        found = torch.autograd.grad(loss, [features, *head.parameters()])
        torch.testing.assert_close(found[0], -strength * straight[0])
        for name, one, other in zip(inside, found[1:], straight[1:], strict=True):
            torch.testing.assert_close(one, other, msg=name)


def test_features_learn_to_hide_the_domain(sizes: HeadSizes) -> None:
    """A feature that gives the domain away fades once the classifier has learned it."""
    torch.manual_seed(0)
    head = DomainHead(sizes, domains=2, strength=1.0)
    telling = torch.nn.Parameter(torch.tensor(1.0))
    sign = torch.tensor([-1.0, 1.0])[:, None, None, None]
    noise = torch.randn(2, 129, 4, 8)
    target = torch.tensor([0, 1])

    def step(optimizer: torch.optim.Optimizer) -> float:
        features = noise + telling * sign
        loss = torch.nn.functional.cross_entropy(head(features, FrontEndOutput(features, features, None)), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    learn = torch.optim.Adam(head.parameters(), lr=1e-2)
    assert [step(learn) for _ in range(20)][-1] < 0.3
    hide = torch.optim.SGD([telling], lr=0.5)
    assert [step(hide) for _ in range(20)][-1] > 0.5
    assert float(telling.detach()) < 0.6
