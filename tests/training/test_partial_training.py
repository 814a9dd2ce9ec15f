"""Training on what is partly labeled: withheld labels, several sets, batches made by label or by set."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError
from msdet.training.config import TrainConfig
from msdet.training.loaders import check_labels, load_data, loaders
from msdet.training.run import train

MakeConfig = Callable[..., TrainConfig]
RENDERED = {"bank": None, "speech": None}


@pytest.fixture(scope="module")
def recordings(dev_set: SceneSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The development set as recordings of known directions: without references."""
    root = tmp_path_factory.mktemp("recordings") / "set"
    shutil.copytree(dev_set.root, root)
    rows = [json.loads(line) | {"referenced": False} for line in (root / "scenes.jsonl").read_text().splitlines()]
    (root / "scenes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for path in root.glob("audio/*/talker*.wav"):
        path.unlink()
    return root


def batches(config: TrainConfig) -> list[Any]:
    data = load_data(config.data, config.model, config.trainer.seed)
    return list(loaders(data, config)[0])


def test_each_batch_has_its_share_of_labels(make_config: MakeConfig) -> None:
    shares = {"reference_fraction": 0.25, "batch_references": 0.5, "batch_directions": 1.0}
    found = batches(make_config(data=shares, batch=2, steps=4, validate_every=4))
    assert len(found) == 4
    for batch in found:
        assert batch["referenced"].sum() == 1
        assert torch.isfinite(batch["azimuth_deg"]).all()
    again = batches(make_config(data=shares, batch=2, steps=4, validate_every=4))
    for one, other in zip(found, again, strict=True):
        assert torch.equal(one["mixture"], other["mixture"])


def test_only_what_is_labeled_can_be_asked_for(make_config: MakeConfig, dev_set: SceneSet) -> None:
    """As if the scenes without references were not there."""
    shares = {"reference_fraction": 1 / 3, "batch_references": 1.0, **RENDERED, "train": dev_set.root}
    found = batches(make_config(data=shares, batch=1, steps=4, validate_every=4))
    assert all(batch["referenced"].all() for batch in found)
    assert len({int(batch["item"]) for batch in found}) == 1


def test_recordings_without_references_train_beside_a_rendered_set(
    make_config: MakeConfig, dev_set: SceneSet, recordings: Path, tmp_path: Path
) -> None:
    sets = {**RENDERED, "train": dev_set.root, "extra_train": [recordings], "set_weights": [1, 1]}
    config = make_config(data=sets, steps=4, validate_every=2)
    for batch in batches(config):
        assert Counter(batch["referenced"].tolist()) == {True: 1, False: 1}
        assert batch["domain"].tolist() == [0, 1]
    out = train(tmp_path / "run", config, lambda line: None)
    with (out / "logs" / "metrics.csv").open(newline="") as file:
        logged = [row for row in csv.DictReader(file) if row["train/loss"]]
    assert logged
    assert all(float(row["train/separation"]) > 0 and float(row["train/doa"]) > 0 for row in logged)


def test_recordings_alone_cannot_teach_separation(make_config: MakeConfig, recordings: Path) -> None:
    config = make_config(data={**RENDERED, "train": recordings})
    data = load_data(config.data, config.model, 0)
    with pytest.raises(MsdetError, match=r"no scene has references; objective\.doa_weight 1"):
        check_labels(data, config.objective)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reference_fraction": 1.5}, r"data\.reference_fraction is 1\.5, expected 0 to 1"),
        ({"batch_directions": -0.1}, r"data\.batch_directions is -0\.1, expected 0 to 1"),
        ({"extra_train": [Path("x")]}, r"data\.extra_train goes with data\.train"),
        ({"set_weights": [1.0, 2.0]}, r"data\.set_weights has 2 numbers, expected 1"),
        ({"set_weights": [1.0]}, r"data\.set_weights goes with data\.train"),
        ({"mix_on_device": True, "train": Path("x"), "bank": None, "speech": None}, r"data\.mix_on_device goes with"),
        ({"batch_references": 0.5, "batch_seconds": 4.0}, "one of them"),
        ({"reference_fraction": 0.5, "batch_references": 0.3}, "expected a whole number of examples"),
    ],
)
def test_impossible_shares_are_refused(
    make_config: MakeConfig, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(MsdetError, match=message):
        train(tmp_path / "run", make_config(data=changes), lambda line: None)
    assert not (tmp_path / "run").exists()
