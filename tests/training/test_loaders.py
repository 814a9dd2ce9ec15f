"""What a run learns from: rooms by T60, scenes of different lengths, labels that must be there."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from msdet.data.dataset import ConcatSceneDataset
from msdet.data.device_mixing import mix_batch
from msdet.data.samplers import EpochSampler
from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError
from msdet.io import audio
from msdet.io.files import read_json
from msdet.models.config import ModelConfig
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.rir.bank import RirBank
from msdet.training.config import ObjectiveConfig, TrainConfig
from msdet.training.loaders import check_labels, load_data, loaders
from msdet.training.run import train

MakeConfig = Callable[..., TrainConfig]


def silent(line: str) -> None: ...


def test_bank_is_drawn_from_in_rooms_of_the_interval(bank: RirBank, small_room: SceneDistribution) -> None:
    times_s = sorted(room.t60_measured_s for room in bank.table)
    chosen = bank.within((times_s[1], times_s[2]))
    assert chosen.among is not None and len(chosen.among) == 2
    rng = np.random.default_rng(0)
    drawn = {chosen.draw_positions(small_room, 2, rng)[0] for _ in range(40)}
    assert drawn == set(chosen.among)
    everywhere = bank.within((0.0, 9.0))
    first, second = (
        [b.draw_positions(small_room, 2, np.random.default_rng(n)) for n in range(9)] for b in (bank, everywhere)
    )
    assert first == second
    with pytest.raises(MsdetError, match=r"no room has a T60 of 5\.0 to 6\.0 s, they have 0\.\d\d to 0\.\d\d s"):
        bank.within((5.0, 6.0))


def test_t60_chooses_rooms_and_scenes(make_config: MakeConfig, bank: RirBank, dev_set: SceneSet) -> None:
    room = bank.table[2].t60_measured_s
    config = make_config(data={"t60_s": (room, room)})
    data = load_data(config.data, config.model, 0)
    assert {int(data.train[n]["domain"]) for n in range(4)} == {2}
    assert data.rendered is None and data.name(3) == "mixture 3"

    t60_s = dev_set.scenes[1].t60_s
    rendered = {"train": dev_set.root, "bank": None, "speech": None}
    config = make_config(data={**rendered, "t60_s": (t60_s, t60_s)})
    data = load_data(config.data, config.model, 0)
    assert data.rendered is not None
    assert [scene.id for scene in data.rendered.scenes] == [dev_set.scenes[1].id]
    assert data.name(0) == dev_set.scenes[1].id
    config = make_config(data={**rendered, "t60_s": (5.0, 6.0)})
    with pytest.raises(MsdetError, match=r"no scene has a T60 of 5\.0 to 6\.0 s"):
        load_data(config.data, config.model, 0)


@pytest.fixture
def mixed_set(dev_set: SceneSet, tmp_path: Path) -> Path:
    """The rendered set, its second scene cut to 1 s."""
    root = Path(shutil.copytree(dev_set.root, tmp_path / "mixed"))
    rows = [json.loads(line) for line in (root / "scenes.jsonl").read_text().splitlines()]
    rows[1]["duration_s"] = 1.0
    (root / "scenes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for path in (root / "audio" / rows[1]["id"]).glob("*.wav"):
        samples, rate = audio.read(path)
        audio.write(path, samples[:, :8000], rate)
    return root


def test_scenes_of_different_lengths_train_by_seconds(make_config: MakeConfig, mixed_set: Path, tmp_path: Path) -> None:
    source = {"train": mixed_set, "dev": mixed_set, "bank": None, "speech": None}
    with pytest.raises(MsdetError, match=r"scenes differ in length; data\.batch_seconds trains on them"):
        train(tmp_path / "run", make_config(data=source), silent)
    config = make_config(data={**source, "batch_seconds": 2.2}, steps=3, validate_every=3)
    batches, dev = loaders(load_data(config.data, config.model, 0), config)
    assert sorted(tuple(batch["mixture"].shape[::2]) for batch in batches) == [(1, 8000), (1, 12000), (1, 12000)]
    assert [tuple(batch["mixture"].shape[::2]) for batch in dev] == [(1, 8000), (1, 12000), (1, 12000)]
    config = make_config(data={**source, "batch_seconds": 4.5}, steps=2, validate_every=1)
    train(tmp_path / "run", config, silent)
    assert read_json(tmp_path / "run" / "training.json")["steps"] == 2
    with pytest.raises(MsdetError, match=r"data\.batch_seconds is 1\.2, the longest scene has 1\.5 s"):
        train(tmp_path / "other", make_config(data={**source, "batch_seconds": 1.2}), silent)


def test_mixtures_fill_the_seconds_of_a_batch(make_config: MakeConfig) -> None:
    config = make_config(data={"batch_seconds": 5.0})
    batches, _ = loaders(load_data(config.data, config.model, 0), config)
    assert {batch["mixture"].shape[0] for batch in batches} == {3}
    with pytest.raises(MsdetError, match=r"data\.batch_seconds is 1, a mixture has 1\.5 s"):
        config = make_config(data={"batch_seconds": 1.0})
        loaders(load_data(config.data, config.model, 0), config)


@pytest.mark.parametrize("processes", range(1, 9))
def test_each_process_has_batches_of_its_own(make_config: MakeConfig, processes: int) -> None:
    config = make_config(batch=3)
    batches, _ = loaders(load_data(config.data, config.model, 0), config, processes=processes)
    assert batches.batch_size == 3
    assert isinstance(batches.sampler, EpochSampler)
    assert batches.sampler.size == 3 * processes * 3  # validated after three steps


@pytest.mark.parametrize(
    ("field", "message", "weight"),
    [
        ("references", r"no scene has references; objective\.doa_weight 1", 1.0),
        ("directions", r"no scene has azimuths; objective\.doa_weight 0", 0.0),
    ],
)
def test_task_without_a_single_label_is_refused(
    make_config: MakeConfig, dev_set: SceneSet, field: str, message: str, weight: float
) -> None:
    config = make_config(data={"train": dev_set.root, "bank": None, "speech": None})
    data = load_data(config.data, config.model, 0)
    check_labels(data, ObjectiveConfig())

    attribute = {"references": "referenced", "directions": "located"}[field]
    nothing = [dataclasses.replace(scene, **{attribute: False}) for scene in dev_set.scenes]
    for scenes, refused in ((nothing, True), ([*nothing[1:], dev_set.scenes[0]], False)):
        few = ConcatSceneDataset([dataclasses.replace(dev_set, scenes=tuple(scenes))])
        changed = dataclasses.replace(data, rendered=few, train=few)
        check_labels(changed, ObjectiveConfig(doa_weight=weight))
        if refused:
            with pytest.raises(MsdetError, match=message):
                check_labels(changed, ObjectiveConfig())
        else:
            check_labels(changed, ObjectiveConfig())


@pytest.mark.parametrize(
    ("shares", "tasks", "objective", "message"),
    [
        ({"reference_fraction": 0.0}, {}, {}, "no scene has references"),
        ({"doa_fraction": 0.0}, {}, {}, "no scene has azimuths"),
        ({"reference_fraction": 0.0, "doa_fraction": 0.0}, {"t60": {}}, {}, "no scene has references"),
        ({"reference_fraction": 0.0}, {"activity": {}}, {"doa_weight": 1.0}, "references, which task 'activity'"),
        ({"doa_fraction": 0.0}, {"distance": {}}, {"doa_weight": 0.0}, "distances, which task 'distance'"),
        ({"doa_fraction": 0.0}, {"doa_map": {}}, {"doa_weight": 0.0}, "directions, which task 'doa_map'"),
        ({"reference_fraction": 0.0}, {"activity": {}}, {"doa_weight": 1.0, "task_weights": {"activity": 0.0}}, None),
        ({"doa_fraction": 0.0}, {"t60": {}, "count": {}}, {"doa_weight": 0.0}, None),
        ({"reference_fraction": 0.5, "doa_fraction": 0.5}, {"activity": {}, "distance": {}}, {}, None),
    ],
)
def test_mixtures_without_a_single_label_of_a_task_are_refused(
    make_config: MakeConfig,
    shares: dict[str, float],
    tasks: dict[str, Any],
    objective: dict[str, Any],
    message: str | None,
) -> None:
    model = ModelConfig(tasks=tasks)
    config = make_config(model, data=shares)
    data = load_data(config.data, model, 0)
    refused = pytest.raises(MsdetError, match=message) if message else contextlib.nullcontext()
    with refused:
        check_labels(data, ObjectiveConfig(**objective), model)


def test_training_mixes_where_it_is_told(make_config: Callable[..., TrainConfig]) -> None:
    found = {}
    for on_device in (False, True):
        config = make_config(data={"mix_on_device": on_device})
        batch = next(iter(loaders(load_data(config.data, config.model, 0), config)[0]))
        assert ("dry" in batch) == on_device
        found[on_device] = mix_batch(batch)["mixture"]
    torch.testing.assert_close(found[True], found[False], rtol=0, atol=1e-6)
