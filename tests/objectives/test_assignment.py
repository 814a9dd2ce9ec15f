"""Assignment rules against hand-made cases and brute force."""

from __future__ import annotations

import itertools
from typing import NoReturn

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from msdet.components import component_names
from msdet.errors import UnknownNameError
from msdet.objectives.assignment import Labels, assignment_rule

AZIMUTH, DISTANCE, PIT = (assignment_rule(name) for name in ("azimuth", "distance", "pit"))


def not_needed() -> NoReturn:
    raise AssertionError("a rule on geometry computed pairwise losses")


def by_azimuth(*azimuths_deg: float) -> list[int]:
    azimuth = torch.tensor([azimuths_deg], dtype=torch.float64)
    return AZIMUTH(Labels(azimuth, torch.ones_like(azimuth)), not_needed)[0].tolist()


def test_the_rules_promised_exist() -> None:
    assert {"azimuth", "distance", "pit"} <= set(component_names("msdet.objectives.assignment"))


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
    labels = Labels(
        torch.tensor([[10.0, 20.0, 30.0], [10.0, 20.0, 30.0]]),
        torch.tensor([[2.0, 1.0, 1.5], [1.0, 1.0, 0.5]]),
    )
    assert DISTANCE(labels, not_needed).tolist() == [[1, 2, 0], [2, 0, 1]]


@settings(deadline=None)
@given(
    azimuths_deg=st.lists(st.integers(0, 359), min_size=2, max_size=5),
    rotation_deg=st.integers(0, 359),
)
def test_rotation_moves_slots_only_when_a_talker_crosses_zero(
    azimuths_deg: list[int], rotation_deg: int
) -> None:
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
    found = PIT(Labels(geometry, geometry), lambda: losses)
    for pairwise, assignment in zip(losses, found, strict=True):
        totals = {
            p: float(sum(pairwise[slot, talker] for slot, talker in enumerate(p)))
            for p in itertools.permutations(range(talkers))
        }
        assert totals[tuple(assignment.tolist())] == pytest.approx(min(totals.values()))


def test_pit_does_not_carry_gradients() -> None:
    pairwise: Tensor = torch.rand(2, 2, 2, requires_grad=True)
    assert not PIT(Labels(torch.zeros(2, 2), torch.zeros(2, 2)), lambda: pairwise).requires_grad


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
    assert rule(Labels(torch.tensor([[10.0, 20.0]]), torch.ones(1, 2)), not_needed).tolist() == [[1, 0]]
