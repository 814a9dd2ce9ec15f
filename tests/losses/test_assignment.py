"""Assignment rules against hand-made cases and brute force."""

from __future__ import annotations

import itertools
from typing import NoReturn

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from msdet.errors import MsdetError, UnknownNameError
from msdet.losses import PITLoss, l1_spectral_loss, si_sdr_loss
from msdet.losses.assignment import ASSIGNMENTS, PairCosts, TalkerLabels, assignment_rule

AZIMUTH, DISTANCE, PIT = (assignment_rule(name) for name in ("azimuth", "distance", "pit"))


def not_needed() -> NoReturn:
    raise AssertionError("a rule asked for what it does not need")


GEOMETRY_ALONE = PairCosts(not_needed, not_needed, 0.25, not_needed)


def costs(**given: Tensor) -> PairCosts:
    """Costs of which only those given may be asked for."""
    return GEOMETRY_ALONE._replace(**{name: lambda value=value: value for name, value in given.items()})


def by_azimuth(*azimuths_deg: float) -> list[int]:
    azimuth = torch.tensor([azimuths_deg], dtype=torch.float64)
    return AZIMUTH(TalkerLabels(azimuth, torch.ones_like(azimuth)), GEOMETRY_ALONE)[0].tolist()


def test_the_rules_promised_exist() -> None:
    promised = {"azimuth", "distance", "azimuth_or_distance", "folded", "pit", "pit_joint", "doa_anchored"}
    assert promised == set(ASSIGNMENTS.names())


@pytest.mark.parametrize(
    ("azimuths_deg", "expected"),
    [
        ((200.0, 10.0), [1, 0]),
        ((0.0, 180.0), [0, 1]),
        ((180.0, 0.0), [1, 0]),
        ((359.9, 0.0), [1, 0]),
        ((359.9, 0.1, 180.0), [1, 2, 0]),
        ((90.0, 90.0), [0, 1]),
        ((90.0, 20.0, 90.0, 20.0), [1, 3, 0, 2]),
        ((360.0, 5.0), [0, 1]),
        ((-10.0, 340.0), [1, 0]),
    ],
)
def test_slots_ascend_in_azimuth(azimuths_deg: tuple[float, ...], expected: list[int]) -> None:
    assert by_azimuth(*azimuths_deg) == expected


def test_slots_ascend_in_distance_whatever_the_azimuth() -> None:
    labels = TalkerLabels(
        torch.tensor([[10.0, 20.0, 30.0], [10.0, 20.0, 30.0]]), torch.tensor([[2.0, 1.0, 1.5], [1.0, 1.0, 0.5]])
    )
    assert DISTANCE(labels, GEOMETRY_ALONE).tolist() == [[1, 2, 0], [2, 0, 1]]


@settings(deadline=None)
@given(azimuths_deg=st.lists(st.integers(0, 359), min_size=2, max_size=5), rotation_deg=st.integers(0, 359))
def test_rotation_moves_slots_only_when_a_talker_crosses_zero(azimuths_deg: list[int], rotation_deg: int) -> None:
    rotated = [(a + rotation_deg) % 360 for a in azimuths_deg]
    crossed = sum(a + rotation_deg >= 360 for a in azimuths_deg)
    before, after = by_azimuth(*azimuths_deg), by_azimuth(*rotated)
    # those that crossed come first now, and no two talkers change their order otherwise
    assert after == before[len(before) - crossed :] + before[: len(before) - crossed]


@settings(deadline=None)
@given(azimuths_deg=st.lists(st.floats(0.0, 359.99), min_size=1, max_size=5), data=st.data())
def test_order_of_the_references_does_not_matter(azimuths_deg: list[float], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(azimuths_deg))))
    shuffled = [azimuths_deg[k] for k in order]
    in_slots = [azimuths_deg[k] for k in by_azimuth(*azimuths_deg)]
    assert [shuffled[k] for k in by_azimuth(*shuffled)] == in_slots == sorted(azimuths_deg)


@pytest.mark.parametrize("talkers", [1, 2, 3, 4, 5])
def test_pit_is_the_best_of_all_permutations(talkers: int) -> None:
    losses = torch.rand(20, talkers, talkers, generator=torch.Generator().manual_seed(talkers))
    geometry = torch.zeros(20, talkers)
    found = PIT(TalkerLabels(geometry, geometry), costs(separation=losses))
    for pairwise, assignment in zip(losses, found, strict=True):
        totals = {
            p: float(sum(pairwise[slot, talker] for slot, talker in enumerate(p)))
            for p in itertools.permutations(range(talkers))
        }
        assert totals[tuple(assignment.tolist())] == pytest.approx(min(totals.values()))


def test_pit_does_not_carry_gradients() -> None:
    pairwise: Tensor = torch.rand(2, 2, 2, requires_grad=True)
    assert not PIT(TalkerLabels(torch.zeros(2, 2), torch.zeros(2, 2)), costs(separation=pairwise)).requires_grad


def assigned(rule: str, azimuths_deg: tuple[float, ...], distances_m: tuple[float, ...], **options: float) -> list[int]:
    labels = TalkerLabels(torch.tensor([azimuths_deg]), torch.tensor([distances_m]))
    return assignment_rule(rule, options)(labels, GEOMETRY_ALONE)[0].tolist()


@pytest.mark.parametrize(
    ("azimuths_deg", "distances_m", "expected"),
    [
        ((100.0, 50.0), (1.0, 2.0), [1, 0]),  # far apart: by azimuth
        ((55.0, 50.0), (1.0, 2.0), [0, 1]),  # close: by distance
        ((50.0, 60.0), (2.0, 1.0), [0, 1]),  # as far apart as the threshold: by azimuth
        ((357.0, 2.0), (1.0, 2.0), [0, 1]),  # close across 0: by distance
        ((357.0, 2.0), (2.0, 1.0), [1, 0]),
        ((200.0, 357.0, 2.0), (1.0, 1.0, 2.0), [1, 2, 0]),  # the group across 0 is the first
        ((350.0, 10.0), (1.0, 2.0), [1, 0]),  # apart across 0: by azimuth
        ((40.0, 47.0, 54.0, 200.0), (3.0, 1.0, 2.0, 0.5), [1, 2, 0, 3]),  # a chain of neighbors
        ((50.0, 52.0), (1.0, 1.0), [0, 1]),  # equally far away: azimuth again
        ((52.0, 50.0), (1.0, 1.0), [1, 0]),
        ((70.0,), (1.0,), [0]),
    ],
)
def test_close_azimuths_are_told_apart_by_distance(
    azimuths_deg: tuple[float, ...], distances_m: tuple[float, ...], expected: list[int]
) -> None:
    assert assigned("azimuth_or_distance", azimuths_deg, distances_m) == expected


def test_threshold_of_azimuth_or_distance_is_an_option() -> None:
    assert assigned("azimuth_or_distance", (100.0, 80.0), (1.0, 2.0), threshold_deg=30.0) == [0, 1]
    assert assigned("azimuth_or_distance", (100.0, 80.0), (1.0, 2.0), threshold_deg=15.0) == [1, 0]


def test_rules_take_every_scene_of_a_batch_for_itself() -> None:
    labels = TalkerLabels(torch.tensor([[100.0, 50.0], [55.0, 50.0], [357.0, 2.0]]), torch.tensor([[1.0, 2.0]] * 3))
    mixed = assignment_rule("azimuth_or_distance")(labels, GEOMETRY_ALONE)
    assert mixed.tolist() == [[1, 0], [0, 1], [0, 1]]


@pytest.mark.parametrize(
    ("azimuths_deg", "axis_deg", "expected"),
    [
        ((350.0, 5.0), 0.0, [1, 0]),  # 10 and 5 degrees from the axis
        ((350.0, 15.0), 0.0, [0, 1]),
        ((180.0, 0.0), 0.0, [1, 0]),
        ((90.0, 270.0), 0.0, [0, 1]),  # its seam: a tie keeps the order of the references
        ((270.0, 90.0), 0.0, [0, 1]),
        ((270.0, 90.0), 90.0, [1, 0]),  # where the other axis tells them apart
        ((359.9, 0.0, 180.0, 200.0), 0.0, [1, 0, 3, 2]),
    ],
)
def test_folded_slots_ascend_in_the_angle_to_the_axis(
    azimuths_deg: tuple[float, ...], axis_deg: float, expected: list[int]
) -> None:
    distances = (1.0,) * len(azimuths_deg)
    assert assigned("folded", azimuths_deg, distances, axis_deg=axis_deg) == expected


@settings(deadline=None)
@given(first=st.floats(20.0, 70.0), second=st.floats(80.0, 160.0), axis_deg=st.sampled_from([0.0, 90.0]))
def test_folded_order_does_not_change_across_zero(first: float, second: float, axis_deg: float) -> None:
    """Moving both talkers by a degree, also across 0, never swaps them unless they mirror each other."""
    for start in range(0, 360, 7):
        pair = [(start + first) % 360, (start + second) % 360]
        angles = [abs((a - axis_deg + 180) % 360 - 180) for a in pair]
        moved = [(a + 0.5) % 360 for a in pair]
        if abs(angles[0] - angles[1]) > 1.5:
            before = assigned("folded", tuple(pair), (1.0, 1.0), axis_deg=axis_deg)
            assert assigned("folded", tuple(moved), (1.0, 1.0), axis_deg=axis_deg) == before


def test_pit_joint_weighs_both_losses() -> None:
    separation = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
    doa = torch.tensor([[[9.0, 0.0], [0.0, 9.0]]])
    labels = TalkerLabels(torch.zeros(1, 2), torch.zeros(1, 2))
    rule = assignment_rule("pit_joint")
    for weight, expected in ((0.0, [0, 1]), (0.05, [0, 1]), (0.5, [1, 0]), (1.0, [1, 0])):
        given_costs = costs(separation=separation, doa=doa)._replace(doa_weight=weight)
        assert rule(labels, given_costs)[0].tolist() == expected


def test_doa_anchored_slots_answer_for_the_talker_they_point_at() -> None:
    labels = TalkerLabels(torch.tensor([[10.0, 120.0, 350.0]]), torch.ones(1, 3))
    rule = assignment_rule("doa_anchored")
    assert rule(labels, costs(azimuth_deg=torch.tensor([[118.0, 352.0, 15.0]])))[0].tolist() == [1, 2, 0]
    # two slots point at one talker: the one that is nearer to another takes the other
    assert rule(labels, costs(azimuth_deg=torch.tensor([[12.0, 5.0, 121.0]])))[0].tolist() == [0, 2, 1]


NAN = float("nan")
INACTIVE = TalkerLabels(
    torch.tensor([[200.0, NAN, 10.0]]), torch.tensor([[1.0, NAN, 3.0]]), torch.tensor([[True, False, True]])
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("azimuth", [2, 0, 1]), ("distance", [0, 2, 1]), ("azimuth_or_distance", [2, 0, 1]), ("folded", [2, 0, 1])],
)
def test_nobody_comes_last_in_every_ordering(name: str, expected: list[int]) -> None:
    assert assignment_rule(name)(INACTIVE, GEOMETRY_ALONE)[0].tolist() == expected


def test_talkers_across_zero_share_a_group_also_when_a_slot_is_empty() -> None:
    labels = INACTIVE._replace(azimuth_deg=torch.tensor([[357.0, NAN, 2.0]]))
    rule = assignment_rule("azimuth_or_distance")
    assert rule(labels, GEOMETRY_ALONE)[0].tolist() == [0, 2, 1], "the nearer talker first"


def test_doa_anchored_slot_that_points_nowhere_near_is_nobodys() -> None:
    found = assignment_rule("doa_anchored")(INACTIVE, costs(azimuth_deg=torch.tensor([[90.0, 12.0, 198.0]])))
    assert found[0].tolist() == [1, 2, 0]


@pytest.mark.parametrize("name", ["azimuth", "distance", "azimuth_or_distance", "folded", "doa_anchored"])
def test_scene_without_labels_takes_the_cheapest_permutation(name: str) -> None:
    known = torch.tensor([[10.0, 100.0], [NAN, NAN], [10.0, NAN]])
    pairs = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).expand(3, 2, 2)
    given_costs = costs(separation=pairs, doa=torch.zeros(3, 2, 2), azimuth_deg=torch.tensor([[10.0, 100.0]] * 3))
    found = assignment_rule(name)(TalkerLabels(known, known), given_costs)
    assert found.tolist() == [[0, 1], [1, 0], [1, 0]]


def test_option_that_a_rule_does_not_have_is_refused() -> None:
    with pytest.raises(MsdetError, match="assignment 'folded' has no option 'axis'; did you mean 'axis_deg'"):
        assignment_rule("folded", {"axis": 0.0})


def test_unknown_rule_offers_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown assignment 'azimut'; did you mean 'azimuth'"):
        assignment_rule("azimut")


def test_rule_of_a_user_works_by_import_path(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("own")
    (folder / "rule_of_a_user.py").write_text(
        "def backwards(labels, pairwise):\n    return labels.azimuth_deg.argsort(dim=-1, descending=True)\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    rule = assignment_rule("rule_of_a_user:backwards")
    assert rule(TalkerLabels(torch.tensor([[10.0, 20.0]]), torch.ones(1, 2)), GEOMETRY_ALONE).tolist() == [[1, 0]]


def test_pit_wrapper_undoes_any_permutation_and_has_a_gradient() -> None:
    torch.manual_seed(0)
    reference = torch.randn(3, 4, 800)
    order = torch.stack([torch.randperm(4) for _ in range(3)])
    estimate = (reference + 0.1 * torch.randn(3, 4, 800))[torch.arange(3)[:, None], order].requires_grad_()
    loss, permutation = PITLoss(si_sdr_loss)(estimate, reference)
    assert torch.equal(permutation, order)
    torch.testing.assert_close(loss, torch.tensor(-2.0), atol=0.05, rtol=0)  # 20 dB times 0.1
    loss.backward()
    assert estimate.grad is not None and estimate.grad.any()
    spectra = torch.randn(2, 2, 5, 7, dtype=torch.complex64)
    loss, permutation = PITLoss(l1_spectral_loss)(spectra, spectra.flip(1))
    assert loss == 0 and permutation.tolist() == [[1, 0]] * 2
