"""Affinities of tasks: what they are by their gradients, that measuring changes nothing, and the grouping."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from msdet.cli import main
from msdet.commands.tune import as_yaml
from msdet.data.dataset import RenderedDataset
from msdet.data.example import Example
from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError
from msdet.models.config import ModelConfig
from msdet.models.joint import JointModel
from msdet.training.affinity import (
    AffinityConfig,
    affinities,
    best_grouping,
    measure_affinities,
    partitions,
    shared_parameters,
)
from msdet.training.config import ObjectiveConfig, OptimizerConfig, TrainConfig
from msdet.training.module import JointModule
from msdet.training.objective import Objective

TASKS = ["separation", "doa", "activity", "distance"]
HEADS: dict[str, dict[str, Any]] = {"activity": {"hidden": 8}, "distance": {"hidden": 8}}
SMALL = ModelConfig(encoder_options={"hidden": 8, "group": 8}, tasks=HEADS)


@pytest.fixture
def system(dev_set: SceneSet) -> JointModule:
    torch.manual_seed(0)
    model = JointModel(SMALL, dev_set.array, 8000)
    with torch.no_grad():  # some layers start at zero, and no gradient comes through
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    objective = Objective(ObjectiveConfig(normalize="running_mean"), SMALL)
    return JointModule(model, objective, OptimizerConfig(gradient_clip_norm=1e9))


@pytest.fixture
def batch(dev_set: SceneSet) -> Example:
    loaded: Example = next(iter(DataLoader(RenderedDataset(dev_set), batch_size=2)))
    return loaded


def test_affinity_of_a_small_step_is_the_inner_product_of_gradients(system: JointModule, batch: Example) -> None:
    """To first order 1 - L_j(after) / L_j(before) is rate * g_i . g_j / L_j."""
    rate = 1e-3
    found = affinities(system, batch, TASKS, rate)
    shared = shared_parameters(system.model)
    losses = system.terms(batch)[0].losses
    gradients = []
    for name in TASKS:
        row = torch.autograd.grad(losses[name], shared, retain_graph=True, allow_unused=True)
        parts = [torch.zeros_like(p) if g is None else g for p, g in zip(shared, row, strict=True)]
        gradients.append(torch.cat([part.flatten() for part in parts]))
    products = torch.stack(gradients) @ torch.stack(gradients).T
    expected = (rate * products / torch.stack([losses[name] for name in TASKS]).detach()).numpy()
    np.testing.assert_allclose(found, expected, rtol=0.1, atol=2e-6)
    assert (found.diagonal() > 0).all()


def test_measuring_changes_nothing(system: JointModule, batch: Example) -> None:
    before = {name: value.clone() for name, value in system.state_dict().items()}
    noise = torch.get_rng_state()
    assert affinities(system, batch, TASKS, 1e-2).shape == (4, 4)
    for name, value in system.state_dict().items():
        assert torch.equal(value, before[name]) or bool(before[name].isnan().all()), name
    assert torch.equal(torch.get_rng_state(), noise)
    assert all(parameter.grad is None for parameter in system.parameters())


def test_a_task_without_labels_has_no_affinity(system: JointModule, batch: Example) -> None:
    batch["distance_m"] = torch.full_like(batch["distance_m"], torch.nan)
    found = affinities(system, batch, TASKS, 1e-3)
    assert np.isnan(found[3]).all() and np.isnan(found[:, 3]).all()
    assert np.isfinite(found[:3, :3]).all()


def test_nothing_shared_is_told(system: JointModule) -> None:
    for parameter in system.model.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(MsdetError, match=r"no parameter of model\.sharing and the front end learns"):
        shared_parameters(system.model)


def test_affinities_of_a_training(make_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    config = make_config(ModelConfig(encoder_options={"hidden": 8, "group": 8}), steps=3)
    settings = AffinityConfig(TASKS, every=2)
    steps: list[tuple[int, int]] = []

    def count(done: int, total: int) -> None:
        steps.append((done, total))

    found = measure_affinities(tmp_path, config, settings, count)
    assert steps[-1] == (3, 3)
    assert found.mean.shape == (4, 4)
    assert (found.measured == 2).all()
    assert np.isfinite(found.standard_error).all()
    content = json.loads((tmp_path / "affinity.json").read_text())
    assert content["affinity"] == found.mean.tolist()
    assert sorted(name for group in content["grouping"]["groups"] for name in group) == sorted(TASKS)
    with (tmp_path / "affinity.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(rows[1][f"onto {name}"]) for name in TASKS] == found.mean[1].tolist()
    steps.clear()
    alone = measure_affinities(tmp_path, config, AffinityConfig(TASKS, every=2, groups=1), count)
    assert steps == []  # read, not measured again
    assert alone.grouping.groups == [TASKS]
    assert alone.mean.tolist() == found.mean.tolist()
    with pytest.raises(MsdetError, match=r"exists with other settings: affinity\.every is 2, asked for 3"):
        measure_affinities(tmp_path, config, AffinityConfig(TASKS, every=3))


def test_the_command_prints_the_matrix_and_the_grouping(
    make_config: Callable[..., TrainConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config(ModelConfig(encoder_options={"hidden": 8, "group": 8}), steps=1)
    (tmp_path / "base.yaml").write_text(as_yaml(config))
    numbers = ["--groups", "1", "--every", "1"]
    arguments = ["--config", str(tmp_path / "base.yaml"), *numbers, "--tasks", "doa", "t60"]
    assert main(["affinity", str(tmp_path / "out"), *arguments]) == 0
    printed = capsys.readouterr().out
    assert "onto doa" in printed and "onto t60" in printed
    assert "Grouping: doa, t60\n" in printed
    assert "This holds for these data, this model, and these steps of training." in printed


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (AffinityConfig(["doa"]), "tasks are doa, expected at least two, each once"),
        (AffinityConfig(["doa", "doa"]), "expected at least two, each once"),
        (AffinityConfig(["doa", "separaton"]), "unknown task 'separaton'; did you mean 'separation'?"),
        (AffinityConfig(TASKS, every=0), "every is 0, expected 1 to 6"),
        (AffinityConfig(TASKS, every=100), "every is 100, expected 1 to 6, the steps"),
        (AffinityConfig(TASKS, step_size=-1.0), "step_size is -1.0, expected more than 0"),
        (AffinityConfig(TASKS, groups=0), "groups is 0, expected at least 1"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    make_config: Callable[..., TrainConfig], tmp_path: Path, settings: AffinityConfig, message: str
) -> None:
    with pytest.raises(MsdetError) as refused:
        measure_affinities(tmp_path / "out", make_config(), settings)
    assert message in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_signed_losses_are_refused(make_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    import dataclasses

    config = dataclasses.replace(make_config(), objective=ObjectiveConfig(separation_loss="si_sdr"))
    with pytest.raises(MsdetError, match="losses above zero; those of separation_loss 'si_sdr' can be below"):
        measure_affinities(tmp_path / "out", config, AffinityConfig(TASKS))


def test_grouping_of_a_matrix_made_by_hand() -> None:
    """Two pairs that help each other, and a task that everybody harms."""
    names = ["a", "b", "c", "d", "e"]
    matrix = np.full((5, 5), -1.0)
    matrix[0, 2] = matrix[2, 0] = 2.0
    matrix[1, 3], matrix[3, 1] = 3.0, 1.0
    three = best_grouping(names, matrix, 3)
    assert three.groups == [["a", "c"], ["b", "d"], ["e"]]
    assert three.onto == {"a": 2.0, "b": 1.0, "c": 2.0, "d": 3.0, "e": 0.0}
    assert three.mean == pytest.approx(8 / 5)
    # with two groups at most: {a, c}, {b, d}, e joins one. With a, c: 0.5 + 0.5 - 1 + 1 + 3 = 4; with b, d:
    # 2 + 2 + 0 + 1 - 1 = 4. All else is less, as {a, c, b, d}, {e}: (0 + 0 - 1/3 + 1/3) + 0
    two = best_grouping(names, matrix, 2)
    assert two.mean == pytest.approx(4 / 5)
    assert best_grouping(names, matrix, 1).groups == [names]
    assert best_grouping(names, -np.ones((5, 5)), 5).groups == [[name] for name in names]
    assert best_grouping(names, np.ones((5, 5)), 5).groups == [names]


def test_partitions_are_all_there_once() -> None:
    found = [tuple(map(tuple, groups)) for groups in partitions(6, 6)]
    assert len(found) == len(set(found)) == 203  # the Bell number
    assert len(list(partitions(6, 2))) == 32  # 1 + Stirling's 31


def test_separation_that_shares_nothing_is_refused(make_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    model = ModelConfig(sharing="none", encoder_options={"hidden": 8, "group": 8})
    with pytest.raises(MsdetError, match=r"model\.sharing is 'none': separation shares nothing"):
        measure_affinities(tmp_path / "a", make_config(model, steps=1), AffinityConfig(TASKS, every=1))
    assert not (tmp_path / "a").exists()
