"""The map of all talkers: its target, its peaks and its scores, by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from msdet.dsp.spatial import map_peaks
from msdet.models.frontends import FrontEndOutput
from msdet.models.heads import HeadSizes
from msdet.tasks.doa_map import DoaMapHead, DoaMapTask
from msdet.tasks.labels import BatchLabels

MakeTruth = Callable[..., BatchLabels]
NAN = float("nan")


def bumps(*azimuths_deg: float, classes: int = 72, height: float = 6.0) -> Tensor:
    """Logits ``(1, class)`` with a peak of the same height at each azimuth, and -6 far from all."""
    grid = torch.arange(classes) * (360.0 / classes)
    distance = (grid - torch.tensor(azimuths_deg)[:, None] + 180.0).remainder(360.0) - 180.0
    heights = (height + 6.0) * (-(distance / 10.0).square()).exp()
    return (heights.amax(0) if azimuths_deg else torch.zeros(classes))[None] - 6.0


def test_target_by_hand(truth_with: MakeTruth) -> None:
    truth = truth_with(azimuth_deg=[[355.0, 8.0]])
    target = DoaMapTask(width_deg=8.0).target(truth, 72)[0]
    at = {0: math.exp(-((5 / 8) ** 2)), 71: 1.0, 70: math.exp(-((5 / 8) ** 2))}  # around 355, over the seam
    at |= {1: math.exp(-((3 / 8) ** 2)), 2: math.exp(-((2 / 8) ** 2))}  # nearer to 8
    for index, value in at.items():
        assert float(target[index]) == pytest.approx(value, rel=1e-4), index
    assert float(target[36]) == pytest.approx(0.0, abs=1e-6)


def test_target_is_of_those_who_are_there(truth_with: MakeTruth) -> None:
    one = truth_with(azimuth_deg=[[90.0, 200.0]], active=[[True, False]])
    target = DoaMapTask().target(one, 72)[0]
    assert float(target[18]) == 1.0
    assert float(target[40]) < 1e-6
    assert not DoaMapTask().target(truth_with(active=[[False, False]]), 72).any()


def test_loss_is_lowest_at_the_target(truth_with: MakeTruth) -> None:
    truth = truth_with(azimuth_deg=[[40.0, 300.0]])
    target = DoaMapTask().target(truth, 72).clamp(1e-6, 1 - 1e-6)
    best = DoaMapTask().loss(target.logit(), truth)
    assert best.value.shape == (1,)
    worse = [bumps(40.0, 310.0), bumps(40.0), bumps(40.0, 180.0, 300.0), torch.zeros(1, 72)]
    assert all(float(DoaMapTask().loss(w, truth).mean()) > float(best.mean()) for w in worse)
    torch.testing.assert_close(
        DoaMapTask().loss(torch.zeros(1, 72), truth).value, torch.tensor([math.log(2.0)])
    )  # whatever the target is


@pytest.mark.parametrize(
    ("azimuth_deg", "active", "known"),
    [
        ([10.0, 50.0], [True, True], True),
        ([10.0, NAN], [True, True], False),
        ([10.0, NAN], [True, False], True),
        ([NAN, NAN], [False, False], True),  # an empty scene has an empty map
    ],
)
def test_scene_counts_if_everybody_is_located(
    truth_with: MakeTruth, azimuth_deg: list[float], active: list[bool], known: bool
) -> None:
    truth = truth_with(azimuth_deg=[azimuth_deg], active=[active])
    found = DoaMapTask().loss(torch.zeros(1, 72), truth)
    assert found.known.tolist() == [known]
    assert found.value.isfinite().all()
    assert DoaMapTask().scores(torch.zeros(1, 72), truth)["map_count_accuracy"].isfinite().tolist() == [known]


def test_peaks_by_hand() -> None:
    logits = torch.cat([bumps(20.0, 200.0), bumps(100.0, height=1.0), bumps()])
    logits[0, 4] += 1.0
    found = map_peaks(logits)
    assert found.azimuth_deg[0].tolist() == pytest.approx([20.0, 200.0], abs=0.5)
    assert float(found.probability[0, 0]) == pytest.approx(torch.tensor(7.0).sigmoid().item())
    assert found.azimuth_deg[1, 0].item() == pytest.approx(100.0, abs=0.5)
    assert found.azimuth_deg[1, 1].isnan()
    assert found.azimuth_deg[2].isnan().all()
    assert found.probability[1:].tolist() == [[pytest.approx(1 / (1 + math.exp(-1.0))), 0.0], [0.0, 0.0]]


def test_threshold_decides_which_peaks_count() -> None:
    logits = torch.maximum(bumps(20.0), bumps(200.0, height=-1.0))
    assert map_peaks(logits).azimuth_deg.shape == (1, 1)
    assert map_peaks(logits, threshold=0.2).azimuth_deg[0].tolist() == pytest.approx([20.0, 200.0], abs=0.5)
    assert map_peaks(logits, threshold=0.9999).azimuth_deg.shape == (1, 0)


def test_peaks_that_are_too_close_are_one() -> None:
    logits = torch.full((1, 72), -9.0)
    logits[0, [10, 12]] = torch.tensor([3.0, 2.0])
    assert map_peaks(logits).azimuth_deg.shape == (1, 2)  # 10 degrees apart
    assert map_peaks(logits, gap_deg=10.0).azimuth_deg[0].tolist() == pytest.approx([50.0], abs=1.0)


def test_plateau_is_one_peak_and_a_flat_map_has_none() -> None:
    logits = torch.full((1, 72), -9.0)
    logits[0, 10:14] = 20.0  # a sigmoid in 32 bits is 1 here
    assert map_peaks(logits).azimuth_deg.shape == (1, 1)
    assert map_peaks(torch.full((1, 72), 5.0)).azimuth_deg.shape == (1, 0)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, 11), min_size=0, max_size=5, unique=True), st.floats(0.0, 360.0))
def test_talkers_far_apart_are_found_whatever_the_rotation(places: list[int], turn_deg: float) -> None:
    wanted = sorted((30.0 * place + turn_deg) % 360.0 for place in places)
    found = map_peaks(bumps(*wanted)).azimuth_deg[0]
    assert len(found) == len(wanted)
    assert ((found >= 0.0) & (found < 360.0)).all()
    for azimuth_deg in wanted:
        assert ((found - azimuth_deg + 180.0).remainder(360.0) - 180.0).abs().min() < 1.5


@pytest.mark.parametrize(
    ("found_deg", "f1", "right"),
    [
        ([40.0, 300.0], 1.0, 1.0),
        ([48.0, 292.0], 1.0, 1.0),  # within 10 degrees
        ([40.0, 320.0], 0.5, 1.0),  # one found, one missed, one too many
        ([40.0], 2 / 3, 0.0),
        ([40.0, 180.0, 300.0], 0.8, 0.0),
        ([], 0.0, 0.0),
    ],
)
def test_scores_by_hand(truth_with: MakeTruth, found_deg: list[float], f1: float, right: float) -> None:
    truth = truth_with(azimuth_deg=[[40.0, 300.0]])
    scores = DoaMapTask().scores(bumps(*found_deg), truth)
    assert scores["map_f1"].tolist() == pytest.approx([f1])
    assert scores["map_count_accuracy"].tolist() == [right]


def test_one_peak_finds_one_talker(truth_with: MakeTruth) -> None:
    """Of two talkers near one peak only one is found; of two peaks near one talker only one is right."""
    near = truth_with(azimuth_deg=[[40.0, 52.0]])
    assert DoaMapTask().scores(bumps(46.0), near)["map_f1"].tolist() == pytest.approx([2 / 3])
    alone = truth_with(azimuth_deg=[[0.0, NAN]], active=[[True, False]])
    logits = torch.full((1, 72), -9.0)
    logits[0, [1, 71]] = 4.0
    assert DoaMapTask().scores(logits, alone)["map_f1"].tolist() == pytest.approx([2 / 3])


def test_both_talkers_are_matched_if_they_can_be(truth_with: MakeTruth) -> None:
    """The peak at 12 is nearer to the talker at 10, but only it can find the one at 20."""
    truth = truth_with(azimuth_deg=[[10.0, 20.0]])
    logits = torch.full((1, 72), -9.0)
    logits[0, [1, 3]] = 4.0  # 5 and 15 degrees
    assert DoaMapTask().scores(logits, truth)["map_f1"].tolist() == pytest.approx([1.0])


def test_empty_scene_has_no_f1(truth_with: MakeTruth) -> None:
    truth = truth_with(active=[[False, False]])
    scores = DoaMapTask().scores(bumps(), truth)
    assert scores["map_f1"].isnan().all()
    assert scores["map_count_accuracy"].tolist() == [1.0]
    assert DoaMapTask().scores(bumps(70.0), truth)["map_f1"].tolist() == [0.0]


def test_untrained_map_hears_where_the_talkers_are(sizes: HeadSizes, plane_wave: Callable[[list[int]], Tensor]) -> None:
    torch.manual_seed(0)
    head = DoaMapHead(sizes)
    for part in (head.classify, head.sharpen):
        for parameter in part.parameters():
            parameter.data.zero_()
    spectrum = plane_wave([5] * 8 + [15] * 8)  # of 24 classes: 75 and 225 degrees
    features = torch.randn(1, 129, 16, 8)
    with torch.no_grad():
        found = map_peaks(head(features, FrontEndOutput(spectrum, features, None)), 0.7).azimuth_deg
    assert sorted(found[0].tolist()) == pytest.approx([75.0, 225.0], abs=7.5)  # half a class
