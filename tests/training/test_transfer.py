"""Weights of another checkpoint, and parts of a model that do not learn."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from msdet.arrays import load_array
from msdet.errors import MsdetError
from msdet.models.checkpoint import save_model
from msdet.models.config import ModelConfig
from msdet.models.joint import JointModel
from msdet.training.config import ObjectiveConfig, OptimizerConfig
from msdet.training.module import JointModule
from msdet.training.objective import Objective
from msdet.training.transfer import freeze, frozen_modules, transfer

POOLED = ModelConfig(front_end="real_imaginary", encoder_options={"hidden": 8, "group": 8}, doa_head="pooled")


def make(config: ModelConfig = POOLED, seed: int = 0) -> JointModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return JointModel(config, load_array("circular4_5cm"), 8000)


def test_same_model_takes_everything(tmp_path: Path) -> None:
    first, second = make(seed=1), make(seed=2)
    save_model(tmp_path / "model", first, {})
    found = transfer(second, tmp_path / "model")
    assert (found.absent, found.other_shape, found.unused) == ([], {}, [])
    assert found.loaded == sorted(first.state_dict())
    assert len(found.lines()) == 1
    for name, tensor in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], tensor), name


def test_what_does_not_fit_is_left_and_said(tmp_path: Path) -> None:
    save_model(tmp_path / "model", make(seed=1), {})
    finer = make(dataclasses.replace(POOLED, doa_classes=36), seed=2)
    before = {name: t.clone() for name, t in finer.state_dict().items()}
    found = transfer(finer, tmp_path / "model")
    assert found.other_shape
    assert all(name.startswith("doa_head.") for name in found.other_shape)
    (name, shapes), *_ = found.other_shape.items()
    assert "72" in shapes.split(" there")[0] and "36" in shapes.split("there, ")[1]
    for name in found.other_shape:
        assert torch.equal(finer.state_dict()[name], before[name])
    for name in found.loaded:
        assert torch.equal(finer.state_dict()[name], make(seed=1).state_dict()[name])
    text = "\n".join(found.lines())
    assert f"{len(found.loaded)} of {len(before)} tensors" in text
    assert f"as drawn: {next(iter(found.other_shape))}: {shapes}" in text

    other_head = make(dataclasses.replace(POOLED, doa_head="steered"), seed=2)
    found = transfer(other_head, tmp_path / "model")
    assert found.absent and all(name.startswith("doa_head.") for name in found.absent)
    assert found.unused and all(name.startswith("doa_head.") for name in found.unused)
    assert f"as drawn: {found.absent[0]}: not in the checkpoint" in found.lines()[1]


def test_checkpoint_without_anything_for_the_model_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path / "model", make(), {})
    with pytest.raises(MsdetError, match="no tensor has a name and shape of this model"):
        transfer(nn.Linear(3, 3), tmp_path / "model")
    with pytest.raises(MsdetError, match="nowhere: no such checkpoint directory"):
        transfer(make(), tmp_path / "nowhere")


def test_patterns_choose_what_learns() -> None:
    model = make()
    freeze(model, ["sharing.*"], [])
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert learning and not any(name.startswith("sharing.") for name in learning)
    freeze(model, [], ["doa_head.*"])
    assert {n.split(".")[0] for n, p in model.named_parameters() if p.requires_grad} == {"doa_head"}
    freeze(model, [], [])
    assert all(p.requires_grad for p in model.parameters())


def test_pattern_that_fits_nothing_is_refused() -> None:
    with pytest.raises(MsdetError, match=r"freeze: no parameter is named 'doa_hed\.\*'; did you mean 'doa_"):
        freeze(make(), ["doa_hed.*"], [])
    with pytest.raises(MsdetError, match="train: no parameter is named 'x'"):
        freeze(make(), [], ["x"])
    with pytest.raises(MsdetError, match="nothing learns"):
        freeze(make(), ["*"], [])


def test_frozen_parts_stay_in_evaluation_mode() -> None:
    """Batch statistics and dropout of what is frozen rest; the same parts outside do not."""
    parts = nn.ModuleDict(
        {
            "still": nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout(0.5), nn.GRU(2, 2)),
            "learning": nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)),
        }
    )
    freeze(parts, ["still.*"], [])
    found = frozen_modules(parts)
    still = parts["still"]
    assert set(found) == {still, *list(still)[:3]}  # type: ignore[call-overload]
    model = make()
    model.add_module("extra", parts["still"])
    freeze(model, ["extra.*"], [])
    system = JointModule(model, Objective(ObjectiveConfig()), OptimizerConfig())
    assert system.training and model.training and model.doa_head.training
    assert not still[1].training and not still[2].training  # type: ignore[index]
    system.eval()
    assert not model.training
    system.train()
    assert model.training and not still[1].training  # type: ignore[index]
