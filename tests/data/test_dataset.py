"""Mixtures on the fly depend on seed and index alone; epochs never repeat one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from msdet.conventions import angular_distance_deg
from msdet.corpora import Corpus, Utterance, load_corpus
from msdet.data.dataset import DynamicMixingDataset, RenderedDataset
from msdet.data.example import Example, TalkerPosition, make_example
from msdet.data.samplers import EpochSampler
from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError
from msdet.io import audio
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.dry_sounds import Sounds
from msdet.scenes.rir.bank import RirBank


@pytest.fixture(scope="module")
def corpus(speech: Path) -> Corpus:
    return load_corpus("folder", speech)


@pytest.fixture(scope="module")
def mixing(bank: RirBank, corpus: Corpus, small_room: SceneDistribution) -> DynamicMixingDataset:
    return DynamicMixingDataset(bank, corpus, "train", small_room, seed=3, epoch_size=None)


def assert_same(first: Example, second: Example) -> None:
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=0, equal_nan=True, msg=name)  # type: ignore[literal-required]


def test_item_depends_on_seed_and_index_only(
    mixing: DynamicMixingDataset, bank: RirBank, corpus: Corpus, small_room: SceneDistribution
) -> None:
    third = mixing[3]
    mixing[8], mixing[0]
    assert_same(mixing[3], third)
    assert_same(DynamicMixingDataset(bank, corpus, "train", small_room, seed=3)[3], third)
    for other in (mixing[4], DynamicMixingDataset(bank, corpus, "train", small_room, seed=4)[3]):
        assert not torch.equal(other["mixture"], third["mixture"])


def test_workers_do_not_change_batches(mixing: DynamicMixingDataset) -> None:
    def batches(workers: int) -> list[Example]:
        loader = DataLoader(
            mixing,
            batch_size=2,
            sampler=EpochSampler(6),
            num_workers=workers,
            multiprocessing_context="forkserver" if workers else None,
        )
        return list(loader)

    alone, parallel = batches(0), batches(2)
    assert len(alone) == len(parallel) == 3
    for one, other in zip(alone, parallel, strict=True):
        assert_same(one, other)


def test_example_has_the_shapes_and_levels_it_promises(mixing: DynamicMixingDataset) -> None:
    for index in range(6):
        item = mixing[index]
        assert item["mixture"].shape == (4, 12000)
        assert item["references"].shape == (2, 12000)
        assert item["azimuth_deg"].shape == item["distance_m"].shape == (2,)
        for name in ("mixture", "references", "azimuth_deg", "elevation_deg", "distance_m", "track_deg", "t60_s"):
            tensor = item[name]  # type: ignore[literal-required]
            assert tensor.dtype == torch.float32
            assert torch.isfinite(tensor).all(), name
        assert item["referenced"] and item["active"].all()
        assert item["track_deg"].shape == (2, 16), "0, 0.1 ... 1.5 s"
        assert (item["track_deg"] == item["azimuth_deg"][:, None]).all()
        assert item["item"] == index and 0 <= item["domain"] < 4
        assert 0.01 < item["mixture"].abs().max() <= 1.0
        assert (item["references"].abs().amax(-1) > 1e-4).all()


def test_labels_are_positions_of_one_room_of_the_bank(mixing: DynamicMixingDataset, bank: RirBank) -> None:
    drawn = set()
    for index in range(20):
        item = mixing[index]
        matches = [
            (number, tuple(positions))
            for number, room in enumerate(bank.table)
            for positions in np.ndindex(3, 3)
            if np.allclose(np.array(room.azimuths_deg)[list(positions)], item["azimuth_deg"], atol=1e-4)
            and np.allclose(np.array(room.distances_m)[list(positions)], item["distance_m"], atol=1e-6)
        ]
        assert len(matches) == 1
        assert len(set(matches[0][1])) == 2, "two talkers in one place"
        drawn.add(matches[0][0])
    assert len(drawn) >= 3, "rooms are drawn from the whole bank"


def test_talkers_are_distinct_and_of_the_split(mixing: DynamicMixingDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(20):
        read: list[str] = []
        monkeypatch.setattr(
            mixing.sounds,
            "utterance",
            lambda path, log=read: (log.append(path), Sounds.utterance(mixing.sounds, path))[1],
        )
        mixing[index]
        speakers = {path.split("/")[0] for path in read}
        assert len(read) == len(speakers) == 2
        assert speakers <= {"talker0", "talker1", "talker2", "talker3"}


def test_smallest_gap_is_kept(bank: RirBank, corpus: Corpus, small_room: SceneDistribution) -> None:
    wide = dataclasses.replace(small_room, minimum_gap_deg=60.0)
    for index in range(10):
        a, b = DynamicMixingDataset(bank, corpus, "train", wide, seed=0)[index]["azimuth_deg"]
        assert angular_distance_deg(float(a), float(b)) >= 60.0 - 1e-3


def test_gap_that_no_room_of_the_bank_has_is_refused(
    bank: RirBank, corpus: Corpus, small_room: SceneDistribution
) -> None:
    apart = dataclasses.replace(small_room, minimum_gap_deg=179.999)
    with pytest.raises(MsdetError, match=r"minimum_gap_deg 179\.999"):
        DynamicMixingDataset(bank, corpus, "train", apart, seed=0)[0]


def test_bank_of_another_rate_or_with_too_few_positions_is_refused(
    bank: RirBank, corpus: Corpus, small_room: SceneDistribution
) -> None:
    with pytest.raises(MsdetError, match="is at 8000 Hz, the distribution asks for 16000 Hz"):
        DynamicMixingDataset(bank, corpus, "train", dataclasses.replace(small_room, sample_rate=16000), seed=0)
    with pytest.raises(MsdetError, match="has 3 positions a room, 4 talkers and 0 noise sources need 4"):
        DynamicMixingDataset(bank, corpus, "train", dataclasses.replace(small_room, talkers=4), seed=0)


def test_silent_draw_is_replaced(bank: RirBank, small_room: SceneDistribution, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    half_silent = 0.3 * rng.standard_normal(40000).clip(-3, 3)
    half_silent[:20000] = 0.0
    for name in ("a", "b"):
        audio.write(tmp_path / name / "0.wav", half_silent, 8000)
    utterances = tuple(Utterance(n, f"{n}/0.wav", 5.0, "train") for n in ("a", "b"))
    mixing = DynamicMixingDataset(bank, Corpus(tmp_path, utterances), "train", small_room, seed=0)
    for index in range(10):
        assert (mixing[index]["references"].abs().amax(-1) > 1e-4).all()


def test_speech_that_is_always_silent_is_an_error(bank: RirBank, small_room: SceneDistribution, tmp_path: Path) -> None:
    for name in ("a", "b"):
        audio.write(tmp_path / name / "0.wav", np.zeros(16000), 8000)
    utterances = tuple(Utterance(n, f"{n}/0.wav", 2.0, "train") for n in ("a", "b"))
    with pytest.raises(MsdetError, match="silent"):
        DynamicMixingDataset(bank, Corpus(tmp_path, utterances), "train", small_room, seed=0)[0]


def test_kept_speech_is_what_the_file_holds_and_stays_small(speech: Path) -> None:
    sounds = Sounds(speech, 8000, cache_samples=30000)
    for path in ("talker0/0.wav", "talker1/1.wav", "talker0/0.wav"):
        first, kept = sounds.utterance(path), sounds.utterance(path)
        np.testing.assert_array_equal(first, kept)
        np.testing.assert_allclose(first, audio.read_mono(speech / path, 8000), atol=2.0**-15)
    assert 0 < sounds._samples <= 30000


def items_of(loader: DataLoader[Example]) -> dict[int, Example]:
    return {int(item["item"]): item for batch in loader for item in unbatched(batch)}  # type: ignore[arg-type]


def unbatched(batch: Example) -> list[Example]:
    return [Example(**{k: v[n] for k, v in batch.items()}) for n in range(len(batch["item"]))]  # type: ignore[attr-defined]


@pytest.mark.parametrize("options", [{}, {"shuffle": True}, {"num_workers": 2, "persistent_workers": True}])
def test_a_plain_loader_gets_new_mixtures_in_every_epoch(
    bank: RirBank, corpus: Corpus, small_room: SceneDistribution, options: dict[str, Any]
) -> None:
    if "num_workers" in options:
        options = options | {"multiprocessing_context": "forkserver"}
    data = DynamicMixingDataset(bank.root, corpus, distribution=small_room, seed=3, epoch_size=6)
    loader = DataLoader(data, batch_size=4, **options)
    assert (len(data), len(loader)) == (6, 2)
    epochs = [items_of(loader) for _ in range(3)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(n, n + 6)) for n in (0, 6, 12)]
    stream = DynamicMixingDataset(bank, corpus, "train", small_room, seed=3, epoch_size=None)
    for number, item in (epochs[0] | epochs[1] | epochs[2]).items():
        assert_same(item, stream[number])
    data.set_epoch(1)
    assert sorted(items_of(loader)) == list(range(6, 12))


def test_a_loader_of_an_endless_data_set_says_what_is_missing(mixing: DynamicMixingDataset) -> None:
    with pytest.raises(TypeError, match="give epoch_size"):
        next(iter(DataLoader(mixing, batch_size=4)))


def test_epochs_without_end_never_repeat_an_index() -> None:
    sampler = EpochSampler(7)
    seen = []
    for epoch in range(5):
        sampler.set_epoch(epoch)
        seen += list(sampler)
    assert len(sampler) == 7
    assert sorted(seen) == list(range(35))


def indices(sampler: EpochSampler, epochs: int) -> list[int]:
    seen = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        assert len(list(sampler)) == len(sampler)
        seen += list(sampler)
    return seen


@pytest.mark.parametrize("size", [1, 6, 20, 45])
def test_epochs_of_a_population_are_shuffle_after_shuffle(size: int) -> None:
    seen = indices(EpochSampler(size, population=20, seed=1), epochs=180 // size)
    assert len(seen) == 180
    shuffles = [tuple(seen[start : start + 20]) for start in range(0, 180, 20)]
    assert all(sorted(shuffle) == list(range(20)) for shuffle in shuffles)
    assert len(set(shuffles)) == len(shuffles), "each shuffle has an order of its own"
    assert seen == indices(EpochSampler(45, population=20, seed=1), epochs=4), "whatever the epoch's size"
    assert seen != indices(EpochSampler(size, population=20, seed=2), epochs=180 // size)


def test_processes_share_an_epoch_without_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 3)
    shares = []
    for rank in range(3):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        sampler = EpochSampler(11)
        sampler.set_epoch(2)
        shares.append(list(sampler))
        assert len(sampler) == len(shares[-1]) == 3
    assert len({i for share in shares for i in share}) == 9
    assert all(22 <= i < 33 for share in shares for i in share)


def test_rendered_examples_are_the_set(dev_set: SceneSet) -> None:
    dataset = RenderedDataset(str(dev_set.root))
    assert len(dataset) == 3 and len(next(iter(DataLoader(dataset, batch_size=2)))["mixture"]) == 2
    for item, scene in zip((dataset[n] for n in range(3)), dev_set.scenes, strict=True):
        np.testing.assert_array_equal(item["mixture"], dev_set.mixture(scene))
        np.testing.assert_array_equal(item["references"], dev_set.references(scene))
        np.testing.assert_allclose(item["azimuth_deg"], scene.azimuths_deg, rtol=1e-6)
        np.testing.assert_allclose(item["distance_m"], [s.distance_m for s in scene.sources], rtol=1e-6)
    assert len(RenderedDataset(dev_set, limit=2)) == 2


def test_rendered_set_of_mixed_lengths_is_refused(dev_set: SceneSet) -> None:
    longer = dataclasses.replace(dev_set.scenes[0], duration_s=2.0)
    with pytest.raises(MsdetError, match="differ in length"):
        RenderedDataset(dataclasses.replace(dev_set, scenes=(*dev_set.scenes, longer)))


def test_rooms_other_than_the_banks_are_refused_if_asked_for(
    bank: RirBank, corpus: Corpus, small_room: SceneDistribution
) -> None:
    other = dataclasses.replace(small_room, t60_s=(0.4, 0.45))
    with pytest.raises(MsdetError, match="RIR bank has t60_s"):
        DynamicMixingDataset(bank, corpus, "train", other, 1)
    silent_about_rooms = SceneDistribution(duration_s=small_room.duration_s)
    assert DynamicMixingDataset(bank, corpus, "train", silent_about_rooms, 1)[0]["mixture"].isfinite().all()


def test_a_talker_in_two_splits_is_refused(tmp_path: Path) -> None:
    utterances = (Utterance("ann", "ann/1.wav", 3.0, "train"), Utterance("ann", "ann/2.wav", 3.0, "test"))
    with pytest.raises(MsdetError, match="talker 'ann' is in the splits 'train' and 'test'"):
        Corpus(tmp_path, utterances)


def test_examples_are_padded_with_nobody(
    bank: RirBank, corpus: Corpus, small_room: SceneDistribution, dev_set: SceneSet
) -> None:
    some = dataclasses.replace(small_room, talkers={1: 1.0, 2: 1.0}, minimum_gap_deg=0.0)
    mixing = DynamicMixingDataset(bank, corpus, "train", some, seed=3, slots=3)
    items = [mixing[n] for n in range(12)]
    counts = [int(item["active"].sum()) for item in items]
    assert set(counts) == {1, 2}
    for item, count in zip([*items, RenderedDataset(dev_set, slots=3)[0]], [*counts, 2], strict=True):
        assert item["references"].shape[0] == 3
        assert (item["references"].abs().amax(-1) > 0).tolist() == item["active"].tolist()
        assert item["active"].tolist() == [slot < count for slot in range(3)]
        for name in ("azimuth_deg", "elevation_deg", "distance_m"):
            assert torch.isfinite(item[name]).tolist() == item["active"].tolist()  # type: ignore[literal-required]


def test_more_talkers_than_slots_are_refused(
    bank: RirBank, corpus: Corpus, small_room: SceneDistribution, dev_set: SceneSet
) -> None:
    with pytest.raises(MsdetError, match="talkers is 2, the model has 1 output slots"):
        DynamicMixingDataset(bank, corpus, "train", small_room, seed=3, slots=1)
    with pytest.raises(MsdetError, match="has 2 talkers, the model has 1 output slots"):
        RenderedDataset(dev_set, slots=1)


def test_track_of_a_moving_talker_is_kept(dev_set: SceneSet) -> None:
    track = np.array([10.0, 20.0, 30.0])
    item = make_example(
        np.zeros((4, 4000)), None, [TalkerPosition(10.0, 0.0, 1.0, track)], 2, 8000, None, -1, 7
    )  # 0.5 s: labels at 0, 0.1 ... 0.5
    assert item["track_deg"][0].tolist() == [10.0, 20.0, 30.0, 30.0, 30.0, 30.0]
    assert item["track_deg"][1].isnan().all()
    assert not item["referenced"] and item["t60_s"].isnan()
