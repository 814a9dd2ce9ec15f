"""Balanced batches: exact shares in each, epochs that depend on their number alone, processes that share."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from msdet.corpora import load_corpus
from msdet.data.dataset import ConcatSceneDataset, DynamicMixingDataset, LabelSubset, RenderedDataset
from msdet.data.example import KINDS, LabelAvailability
from msdet.data.samplers import BalancedSampler, balance_labels, balance_sets
from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.rir.bank import RirBank


class Labels:
    """Data of which only the labeling is known; so many examples of each of `KINDS`, in turn."""

    def __init__(self, *counts: int) -> None:
        self.kinds = [kind for kind, count in zip(KINDS, counts, strict=True) for _ in range(count)]
        self.population = len(self.kinds)

    def __getitem__(self, index: int) -> Any:
        raise AssertionError("is not read")

    def labeling(self, index: int) -> LabelAvailability:
        return self.kinds[index]


@pytest.fixture(scope="module")
def mixing(bank: RirBank, speech: Path, small_room: SceneDistribution) -> DynamicMixingDataset:
    return DynamicMixingDataset(bank, load_corpus("folder", speech), "train", small_room, seed=3, epoch_size=None)


def drawn(sampler: BalancedSampler, epochs: int) -> list[list[int]]:
    """Batches of the first epochs."""
    items = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        found = list(sampler)
        assert len(found) == len(sampler)
        items += found
    return [items[n : n + sampler.batch] for n in range(0, len(items), sampler.batch)]


def test_every_batch_has_its_share_of_each_task() -> None:
    data = Labels(2, 5, 13, 3)
    sampler = balance_labels(data, size=40, batch=8, reference_fraction=0.5, doa_fraction=0.75)
    batches = drawn(sampler, epochs=13)
    assert len(batches) == 13 * 5
    seen: Counter[int] = Counter()
    for batch in batches:
        kinds = [data.labeling(n) for n in batch]
        assert sum(kind.referenced for kind in kinds) == 4
        assert sum(kind.located for kind in kinds) == 6
        assert KINDS[3] not in kinds, "nothing is without labels"
        seen.update(batch)
    assert set(seen) == set(range(20)), "all that is labeled is seen"
    assert [seen[n] for n in range(2)] == [65, 65], "two of both in a batch"
    assert {seen[n] for n in range(2, 7)} == {26} and {seen[n] for n in range(7, 20)} == {20}


def test_epoch_depends_on_seed_and_number_alone() -> None:
    data = Labels(3, 0, 9, 0)
    sampler = balance_labels(data, size=12, batch=4, reference_fraction=0.25, doa_fraction=1.0, seed=1)
    batches = drawn(sampler, epochs=6)
    resumed = balance_labels(data, size=12, batch=4, reference_fraction=0.25, doa_fraction=1.0, seed=1)
    resumed.set_epoch(4)
    assert list(resumed) == [n for batch in batches[12:15] for n in batch]
    in_one = balance_labels(data, size=72, batch=4, reference_fraction=0.25, doa_fraction=1.0, seed=1)
    assert drawn(in_one, epochs=1) == batches, "whatever the epoch's size"
    other = balance_labels(data, size=12, batch=4, reference_fraction=0.25, doa_fraction=1.0, seed=2)
    assert drawn(other, epochs=6) != batches
    for start in range(0, 18, 3):
        assert sorted(batch[0] for batch in batches[start : start + 3]) == [0, 1, 2], "shuffle after shuffle"


def test_a_part_of_a_batch_is_not_drawn() -> None:
    sampler = balance_labels(Labels(3, 0, 9, 0), size=11, batch=4, reference_fraction=0.25, doa_fraction=1.0)
    assert len(sampler) == len(list(sampler)) == 8


def test_stream_with_withheld_labels_has_exact_shares(mixing: DynamicMixingDataset) -> None:
    data = LabelSubset(mixing, reference_fraction=0.1, doa_fraction=0.8, seed=5)
    batches = drawn(balance_labels(data, size=80, batch=4, reference_fraction=0.25, doa_fraction=1.0), epochs=4)
    assert len(batches) == 80
    for batch in batches:
        assert [data.labeling(n) for n in batch] == [KINDS[0], *[KINDS[2]] * 3]
    items = [n for batch in batches for n in batch]
    assert len(set(items)) == len(items), "the stream does not repeat"
    assert sorted(items[::4]) == items[::4], "and counts up"


def test_stream_with_all_labels_is_itself(mixing: DynamicMixingDataset) -> None:
    sampler = balance_labels(mixing, size=8, batch=4, reference_fraction=1.0, doa_fraction=1.0)
    assert [n for batch in drawn(sampler, 3) for n in batch] == list(range(24))


def test_processes_share_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    def sampler() -> BalancedSampler:
        made = balance_labels(Labels(5, 0, 9, 0), size=24, batch=8, reference_fraction=0.5, doa_fraction=1.0)
        made.set_epoch(3)
        return made

    alone = list(sampler())
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    shares = []
    for rank in range(2):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        shares.append(list(sampler()))
        assert len(sampler()) == len(shares[-1]) == 12
    for start in range(0, 12, 4):
        parts = [share[start : start + 4] for share in shares]
        assert sorted(parts[0] + parts[1]) == sorted(alone[2 * start : 2 * start + 8])
        assert [sum(n < 5 for n in part) for part in parts] == [2, 2], "evenly"


def test_every_batch_has_its_share_of_each_set(dev_set: SceneSet) -> None:
    joined = ConcatSceneDataset([dev_set, dev_set, dev_set])
    batches = drawn(balance_sets(joined, size=24, batch=4, weights=[1, 3, 0]), epochs=3)
    assert {tuple(sorted(int(joined[n]["domain"]) for n in batch)) for batch in batches} == {(0, 1, 1, 1)}
    assert {n for batch in batches for n in batch} == set(range(6))


def test_shares_that_cannot_be_are_refused(dev_set: SceneSet) -> None:
    def refused(message: str, data: Any, references: float, directions: float) -> None:
        with pytest.raises(MsdetError, match=message) as caught:
            balance_labels(data, 8, 4, references, directions)
        assert "\n" not in str(caught.value)

    refused(r"share of references is 1\.2 of a batch of 4, expected a whole number", Labels(1, 1, 1, 1), 0.3, 1)
    refused("share of directions is 8 of a batch of 4", Labels(1, 1, 1, 1), 0, 2)
    refused(
        "a batch of 4 cannot have 1 with references and 4 with directions: the data have examples with "
        "directions alone$", Labels(0, 0, 5, 0), 0.25, 1.0
    )  # fmt: skip
    refused("have examples with references alone, no labels$", Labels(0, 5, 0, 5), 1.0, 0.25)
    refused("have examples with references and directions$", RenderedDataset(dev_set), 0.25, 1.0)
    joined = ConcatSceneDataset([dev_set, dev_set])
    with pytest.raises(MsdetError, match=r"weights of data sets are \[1\], expected 2, 0 or more"):
        balance_sets(joined, 8, 4, [1])
    with pytest.raises(MsdetError, match=r"share of .* is 1\.33333 of a batch of 4, expected a whole number"):
        balance_sets(joined, 8, 4, [1, 2])


def test_one_share_alone_leaves_the_other_labels_as_they_come() -> None:
    """Regression: what was not asked for was taken as all."""
    data = Labels(4, 8, 8, 4)
    for option, place in (("reference_fraction", 0), ("doa_fraction", 1)):
        shares = {"reference_fraction": None, "doa_fraction": None, option: 0.5}
        seen: Counter[LabelAvailability] = Counter()
        for batch in drawn(balance_labels(data, size=48, batch=4, **shares), epochs=2):
            kinds = [data.labeling(n) for n in batch]
            assert sum(kind[place] for kind in kinds) == 2
            seen.update(kinds)
        assert set(seen) == set(KINDS)


def test_one_share_of_a_stream_of_which_the_other_labels_are_withheld(mixing: DynamicMixingDataset) -> None:
    withheld = LabelSubset(mixing, reference_fraction=0.5, doa_fraction=0.0, seed=1)
    for batch in drawn(balance_labels(withheld, 20, 4, reference_fraction=0.5, doa_fraction=None), epochs=2):
        assert sum(withheld.labeling(n).referenced for n in batch) == 2
    with pytest.raises(MsdetError, match="the data have no examples with directions"):
        balance_labels(withheld, 20, 4, reference_fraction=None, doa_fraction=0.5)
    with pytest.raises(MsdetError, match="the data have no examples without references"):
        balance_labels(mixing, 20, 4, reference_fraction=0.5, doa_fraction=None)
