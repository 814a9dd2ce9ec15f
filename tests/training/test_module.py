"""One step: it learns, it survives bad numbers, and its rate follows the plan."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, default_collate

from msdet.conventions import angular_distance_deg
from msdet.data.dataset import RenderedDataset
from msdet.data.example import Example
from msdet.data.scene_set import SceneSet
from msdet.dsp.spatial import decode_azimuth
from msdet.dsp.stft import SeparationPasses
from msdet.losses.assignment import cheapest_permutation
from msdet.models.config import ModelConfig
from msdet.models.joint import JointModel
from msdet.training.config import ObjectiveConfig, OptimizerConfig, TrainConfig
from msdet.training.module import JointModule, pairwise_scores
from msdet.training.objective import Objective
from msdet.training.trainer import make_trainer

SMALL = ModelConfig(encoder_options={"hidden": 8, "group": 8})


@pytest.fixture
def system(dev_set: SceneSet) -> JointModule:
    torch.manual_seed(0)
    settings = OptimizerConfig(steps=20, warm_up=1, learning_rate=3e-3)
    return JointModule(JointModel(SMALL, dev_set.array, 8000), Objective(ObjectiveConfig()), settings)


@pytest.fixture
def batch(dev_set: SceneSet) -> Example:
    loaded: Example = next(iter(DataLoader(RenderedDataset(dev_set), batch_size=2)))
    return loaded


def test_a_few_steps_lower_the_loss_of_a_batch(system: JointModule, batch: Example) -> None:
    optimizer = system.configure_optimizers()["optimizer"]
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        terms = system.terms(batch)[0]
        terms.total.backward()
        optimizer.step()
        losses.append((terms.losses["separation"].item(), terms.losses["doa"].item()))
    assert losses[-1][0] < 0.98 * losses[0][0]
    assert losses[-1][1] < 0.9 * losses[0][1]


@pytest.mark.parametrize("field", ["mixture", "references"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_batch_that_is_not_finite_is_skipped_and_counted(
    system: JointModule, batch: Example, field: str, value: float
) -> None:
    batch[field][0, 0, 100] = value  # type: ignore[literal-required]
    assert system.training_step(batch, 0) is None
    assert system.bad.total == 1


def test_gradient_that_is_not_finite_is_dropped_and_counted(system: JointModule, batch: Example) -> None:
    before = {name: p.detach().clone() for name, p in system.model.named_parameters()}
    optimizer = system.configure_optimizers()["optimizer"]
    system.terms(batch)[0].total.backward()
    next(system.model.parameters()).grad.flatten()[0] = float("nan")  # type: ignore[union-attr]
    system.configure_gradient_clipping(optimizer)
    optimizer.step()
    assert system.bad.total == 1
    for name, parameter in system.model.named_parameters():
        assert torch.equal(parameter, before[name]), name


def test_gradients_are_clipped_together(system: JointModule) -> None:
    for parameter in system.model.parameters():
        parameter.grad = torch.full_like(parameter, 10.0)
    system.configure_gradient_clipping(None)
    norm = torch.stack([p.grad.norm() for p in system.model.parameters()]).norm()  # type: ignore[union-attr]
    assert float(norm) == pytest.approx(system.settings.gradient_clip_norm, rel=1e-4)
    assert system.bad.total == 0


@pytest.mark.filterwarnings("ignore")
def test_bad_batch_within_a_run_changes_nothing_and_the_run_goes_on(
    system: JointModule, batch: Example, make_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    bad = Example(**{k: v.clone() for k, v in batch.items()})  # type: ignore[attr-defined, typeddict-item]
    bad["mixture"][:] = float("nan")
    seen: list[dict[str, torch.Tensor]] = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, module: JointModule, *rest: object) -> None:
            seen.append({name: p.detach().clone() for name, p in module.model.named_parameters()})

    trainer = make_trainer(tmp_path, make_config(steps=3), [Watch()])
    loader = DataLoader([batch, bad, batch], batch_size=None)
    trainer.fit(system, loader, DataLoader([batch], batch_size=None))
    assert system.bad.total == 1
    assert trainer.global_step == 3
    assert float(trainer.callback_metrics["train/skipped_steps"]) == 1
    assert len(seen) == 3
    assert all(torch.equal(seen[0][name], seen[1][name]) for name in seen[0])
    assert any(not torch.equal(seen[1][name], seen[2][name]) for name in seen[0])
    assert all(torch.isfinite(tensor).all() for tensor in seen[2].values())


def test_rate_warms_up_stays_and_falls(system: JointModule) -> None:
    system.settings = OptimizerConfig(warm_up=10, decay_from=0.5, final_lr_ratio=0.1)
    system.total_steps = 100
    rates = [system.rate(step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:51] == pytest.approx([1.0] * 42)
    assert rates[75] == pytest.approx(0.55)
    assert rates[100] == pytest.approx(0.1)
    assert all(a <= b + 1e-12 for a, b in pairwise(rates[:51]))
    assert all(a >= b - 1e-12 for a, b in pairwise(rates[50:]))
    assert system.rate(1000) == pytest.approx(0.1)


def test_perfect_estimates_score_perfectly(
    system: JointModule, batch: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Validation pairs slots with talkers by SI-SDR, and scores the DoA under the same pairing."""
    terms, output, truth = system.terms(batch)
    azimuths = batch["azimuth_deg"].flip(1)
    grid = torch.arange(72) * 5.0
    logits = 300.0 * (torch.deg2rad(grid - azimuths[..., None]).cos() - 1.0)
    swapped = SeparationPasses((truth.references[:, [1, 0]],))
    perfect = output._replace(predictions={"separation": swapped, "doa": logits}, doa_logits=logits)
    monkeypatch.setattr(system, "terms", lambda _: (terms, perfect, truth))
    found = validate(system, batch, monkeypatch)
    assert found["dev/si_sdr_improvement_db"] > 60.0
    assert found["dev/doa_mae_deg"] < 0.5
    assert found["dev/accuracy_5deg"] == 1.0


def validate(system: JointModule, batch: Example, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    logged: dict[str, float] = {}
    monkeypatch.setattr(system, "log_dict", lambda values, **_: logged.update(values))
    with torch.no_grad():
        system.on_validation_epoch_start()
        system.validation_step(batch, 0)
        system.on_validation_epoch_end()
    return logged


def test_nobody_is_left_out_of_the_scores(dev_set: SceneSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty slots count neither for SI-SDR nor for azimuth errors; that they are known to be empty does."""
    torch.manual_seed(0)
    config = dataclasses.replace(SMALL, talkers=3, variable_num_speakers=True)
    system = JointModule(
        JointModel(config, dev_set.array, 8000), Objective(ObjectiveConfig(), config), OptimizerConfig()
    )
    batch = next(iter(DataLoader(RenderedDataset(dev_set, slots=3), batch_size=3)))
    found = validate(system, batch, monkeypatch)
    assert all(math.isfinite(value) for value in found.values()), found
    _, output, truth = system.terms(batch)
    wanted = truth.in_slots(cheapest_permutation(-pairwise_scores(output, truth)))
    assert wanted.active.sum().item() == 6
    occupied = output.occupancy > 0.5
    assert float(found["dev/vacancy_accuracy"]) == pytest.approx(float((occupied == wanted.active).float().mean()))
    # with the talkers' azimuths under the same pairing, by hand
    errors = angular_distance_deg(decode_azimuth(output.doa_logits)[0].detach().numpy(), wanted.azimuth_deg.numpy())
    assert float(found["dev/doa_mae_deg"]) == pytest.approx(float(np.nanmean(errors)), abs=1e-3)


def test_scene_without_references_is_paired_by_azimuth(
    system: JointModule, batch: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch["referenced"][:] = False
    found = validate(system, batch, monkeypatch)
    assert math.isnan(found["dev/si_sdr_improvement_db"])
    _, output, truth = system.terms(batch)
    estimated = decode_azimuth(output.doa_logits)[0].detach().numpy()
    orders = [truth.azimuth_deg.numpy()[:, order] for order in ([0, 1], [1, 0])]
    best = np.minimum(*(angular_distance_deg(estimated, order).mean(-1) for order in orders))
    assert float(found["dev/doa_mae_deg"]) == pytest.approx(best.mean(), abs=1e-3)


def test_validation_does_not_depend_on_how_partly_labeled_scenes_are_batched(
    system: JointModule, dev_set: SceneSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: batches without a label counted as batches of loss zero."""
    items = [RenderedDataset(dev_set)[n] for n in range(3)]
    for item in items[1:]:
        item["referenced"], item["references"] = torch.tensor(False), torch.zeros_like(item["references"])
    logged: dict[str, float] = {}
    monkeypatch.setattr(system, "log_dict", lambda values, **_: logged.update(values))
    found = []
    for batches in ([[0], [1], [2]], [[0, 1, 2]], [[1, 0], [2]]):
        with torch.no_grad():
            system.on_validation_epoch_start()
            for batch in batches:
                system.validation_step(default_collate([items[n] for n in batch]), 0)
            system.on_validation_epoch_end()
        found.append({name: float(value) for name, value in logged.items()})
    alone = system.terms(default_collate(items[:1]))[0].losses["separation"].item()
    assert found[0]["dev/separation"] == pytest.approx(alone, rel=1e-3)
    for name in ("dev/loss", "dev/separation", "dev/doa"):
        assert [f[name] for f in found] == pytest.approx([found[0][name]] * 3, rel=1e-2), name
    weights = system.objective.weights
    expected = sum(weight * found[0][f"dev/{name}"] for name, weight in weights.items())
    assert found[0]["dev/loss"] == pytest.approx(expected, rel=1e-5)
