"""Batches of examples of different lengths."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from msdet.data.dataset import RenderedDataset
from msdet.data.example import Example
from msdet.data.samplers import LengthBatches, SharedBatches, collate_padded, cut
from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError

LENGTHS_S = [1.0 + (7 * n % 30) / 10 for n in range(40)]


def shortened(example: Example, samples: int, labels: int) -> Example:
    short = Example(**example)  # type: ignore[typeddict-item]
    short["mixture"] = example["mixture"][:, :samples]
    short["references"] = example["references"][:, :samples]
    short["track_deg"] = example["track_deg"][:, :labels]
    return short


def test_shorter_examples_end_in_zeros_and_their_last_azimuth(dev_set: SceneSet) -> None:
    long, other = RenderedDataset(dev_set)[0], RenderedDataset(dev_set)[1]
    short = shortened(other, 8000, 11)
    batch = collate_padded([long, short])
    assert batch["mixture"].shape == (2, 4, 12000)
    assert torch.equal(batch["mixture"][0], long["mixture"])
    assert torch.equal(batch["mixture"][1, :, :8000], short["mixture"])
    assert torch.equal(batch["references"][1, :, :8000], short["references"])
    assert not batch["mixture"][1, :, 8000:].any() and not batch["references"][1, :, 8000:].any()
    assert torch.equal(batch["track_deg"][1, :, 11:], short["azimuth_deg"][:, None].expand(-1, 5))
    assert batch["item"].tolist() == [0, 1]
    assert short["mixture"].shape == (4, 8000)  # the example itself is as it was


def test_batches_hold_so_many_seconds_and_every_example_once() -> None:
    sampler = LengthBatches(LENGTHS_S, batch_seconds=8.0, batches=10, seed=3)
    for shuffle in range(3):
        batches = sampler.shuffled(shuffle)
        assert sorted(item for batch in batches for item in batch) == list(range(40))
        for batch in batches:
            lengths = [LENGTHS_S[item] for item in batch]
            assert max(lengths) * len(batch) <= 8.0
        audio = sum(LENGTHS_S)
        padding = sum(max(LENGTHS_S[i] for i in b) * len(b) for b in batches)
        assert padding < 1.1 * audio
    assert sampler.shuffled(0) != sampler.shuffled(1)


def test_epochs_go_on_where_the_last_one_ended() -> None:
    sampler = LengthBatches(LENGTHS_S, batch_seconds=8.0, batches=7, seed=3)
    stream = [batch for shuffle in range(3) for batch in sampler.shuffled(shuffle)]
    for epoch in (3, 0, 1, 2):
        sampler.set_epoch(epoch)
        assert len(sampler) == 7
        assert list(sampler) == stream[7 * epoch : 7 * epoch + 7]


def test_example_longer_than_a_batch_is_refused() -> None:
    with pytest.raises(MsdetError, match=r"data.batch_seconds is 3, the longest scene has 3\.9 s"):
        LengthBatches(LENGTHS_S, batch_seconds=3.0, batches=1)


def test_processes_share_each_batch_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(LengthBatches(LENGTHS_S, batch_seconds=12.0, batches=5))
    shares = []
    for rank in range(2):
        monkeypatch.setattr("msdet.data.samplers.rank_and_world_size", lambda rank=rank: (rank, 2))
        shares.append(list(LengthBatches(LENGTHS_S, batch_seconds=12.0, batches=5)))
    for batch, first, second in zip(whole, *shares, strict=True):
        assert len(first) == len(second) == len(batch) // 2
        assert set(first + second) <= set(batch)


@pytest.mark.parametrize(("batches", "expected"), [(3, [[[0], [2]], [[1]]]), (1, [[[0]], [[0]]])])
def test_given_batches_are_dealt_out(
    monkeypatch: pytest.MonkeyPatch, batches: int, expected: list[list[list[int]]]
) -> None:
    found = []
    for rank in range(2):
        monkeypatch.setattr("msdet.data.samplers.rank_and_world_size", lambda rank=rank: (rank, 2))
        sampler = SharedBatches([[n] for n in range(batches)])
        found.append(list(sampler))
        assert len(sampler) == len(found[-1])
    assert found == expected


def test_example_longer_than_the_limit_is_a_batch_of_its_own() -> None:
    assert cut([0, 1, 2], [5.0, 1.0, 1.0], 3.0) == [[0], [1, 2]]


def test_mixed_lengths_are_read_on_request(dev_set: SceneSet) -> None:
    longer = dataclasses.replace(dev_set.scenes[0], duration_s=2.0)
    mixed = dataclasses.replace(dev_set, scenes=(*dev_set.scenes, longer))
    assert len(RenderedDataset(mixed, mixed_lengths=True)) == 4
