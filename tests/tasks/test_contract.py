"""What every auxiliary task promises, found by walking the package."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from msdet.arrays import MicrophoneArray, load_array
from msdet.data.example import Example
from msdet.errors import MsdetError, UnknownNameError
from msdet.models.config import ModelConfig
from msdet.models.frontends import ArrayGeometry, FrontEndOutput
from msdet.models.heads import TASKS, HeadSizes, build_task_head
from msdet.models.joint import JointModel
from msdet.tasks.labels import BatchLabels, LabeledLoss, batch_labels
from msdet.training.config import ObjectiveConfig
from msdet.training.objective import AUXILIARY_WEIGHT, Objective

OF_BINS = [name for name in TASKS.names() if not getattr(TASKS.find(name).Head, "of_directions", False)]
every_task = pytest.mark.parametrize("name", OF_BINS)
SHIPPED = {"activity", "count", "distance", "doa_map", "domain", "elevation", "t60", "tracking"}
FRAMES = 33  # of half a second in hops of 16 ms


@pytest.fixture
def model(tetrahedron: MicrophoneArray, make_config: Callable[..., ModelConfig]) -> JointModel:
    torch.manual_seed(0)
    return JointModel(make_config(), tetrahedron, 8000)


def judge(model: JointModel, batch: Example, name: str) -> tuple[Tensor, LabeledLoss, BatchLabels]:
    """Prediction, loss and labels, talkers in their own order."""
    output = model(batch["mixture"])
    truth = batch_labels(batch, model.stft, model.array.reference, output.level, model.sample_rate)
    prediction = output.predictions[name]
    return prediction, TASKS.find(name)().loss(prediction, truth), truth


def gradients(model: JointModel) -> Iterator[Tensor]:
    return (p.grad for p in model.parameters() if p.grad is not None)


def without_labels(batch: Example, scene: int | slice) -> None:
    batch["referenced"][scene] = False
    batch["references"][scene] = 0.0
    batch["domain"][scene] = -1
    for label in (batch[k] for k in ("azimuth_deg", "elevation_deg", "distance_m", "track_deg", "t60_s")):
        label[scene] = torch.nan


def test_every_task_of_the_issue_is_there() -> None:
    assert set(TASKS.names()) >= SHIPPED


@every_task
def test_shapes(model: JointModel, batch: Example, name: str) -> None:
    prediction, found, truth = judge(model, batch, name)
    assert prediction.shape[0] == 2
    assert prediction.isfinite().all()
    assert found.value.shape == found.known.shape
    assert found.known.dtype == torch.bool
    assert len(found.value) == 2
    assert found.value.isfinite().all()
    assert found.known.any()
    scores = TASKS.find(name)().scores(prediction, truth)
    assert scores
    assert all(len(values) == 2 and not values.isnan().all() for values in scores.values())
    expected = {
        "activity": (2, 2, FRAMES),
        "count": (2, 3),
        "distance": (2, 2),
        "doa_map": (2, 24),
        "domain": (2, 16),
        "elevation": (2, 2, 19),
        "t60": (2,),
        "tracking": (2, 2, FRAMES, 24),
    }
    assert prediction.shape == expected.get(name, prediction.shape)


@every_task
def test_gradient_reaches_every_parameter_of_the_head_and_the_features(
    sizes: HeadSizes, model: JointModel, batch: Example, name: str
) -> None:
    torch.manual_seed(1)
    output = model(batch["mixture"])
    truth = batch_labels(batch, model.stft, 0, output.level)
    observation = model.front_end(model.stft(batch["mixture"] / output.level))
    head = build_task_head(name, {}, sizes)
    features = output.features.detach().requires_grad_()
    TASKS.find(name)().loss(head(features, observation), truth).mean().backward()
    for parameter, value in head.named_parameters():
        assert value.grad is not None and value.grad.isfinite().all(), parameter
        assert value.grad.any(), parameter
    assert features.grad is not None and features.grad.isfinite().all()
    assert features.grad.flatten(1).any(-1).any()


@every_task
def test_a_batch_of_two_is_two_batches_of_one(model: JointModel, batch: Example, name: str) -> None:
    together, loss, _ = judge(model, batch, name)
    for n in range(2):
        one = Example(**{k: v[n : n + 1] for k, v in batch.items()})  # type: ignore[typeddict-item, index]
        alone, loss_alone, _ = judge(model, one, name)
        torch.testing.assert_close(alone[0], together[n], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(loss_alone.masked()[0], loss.masked()[n], rtol=1e-4, atol=1e-4)


@every_task
def test_what_is_not_labeled_leaves_no_gradient(model: JointModel, batch: Example, name: str) -> None:
    without_labels(batch, slice(None))
    prediction, loss, truth = judge(model, batch, name)
    assert loss.value.isfinite().all()
    assert loss.known.any() == (name == "count")  # who is there is always known
    loss.mean().backward()
    assert all(g.isfinite().all() for g in gradients(model))
    assert any(g.any() for g in gradients(model)) == (name == "count")
    for score, values in TASKS.find(name)().scores(prediction, truth).items():
        assert values.isnan().all() != (name == "count"), score


@pytest.mark.parametrize("name", [n for n in OF_BINS if n != "count"])  # which is always known
def test_scene_without_labels_changes_nothing_for_the_other(model: JointModel, batch: Example, name: str) -> None:
    without_labels(batch, 1)
    prediction, loss, truth = judge(model, batch, name)
    one = Example(**{k: v[:1] for k, v in batch.items()})  # type: ignore[typeddict-item, index]
    torch.testing.assert_close(loss.mean(), judge(model, one, name)[1].mean(), rtol=1e-4, atol=1e-4)
    there = prediction.detach().requires_grad_()
    TASKS.find(name)().loss(there, truth).mean().backward()
    assert there.grad is not None
    assert there.grad[0].any()
    assert not there.grad[1].any()


@every_task
def test_empty_slot_counts_only_as_silence(model: JointModel, batch: Example, name: str) -> None:
    """Whatever is said of a place, a distance or a path where nobody is costs nothing."""
    prediction, loss, truth = judge(model, batch, name)
    assert not truth.active[1, 1]
    if prediction.dim() > 1 and prediction.shape[1] == 2:
        assert loss.known[1, 1].any() == (name == "activity")


@every_task
def test_half_precision_is_close(model: JointModel, batch: Example, name: str) -> None:
    with torch.no_grad():
        full = judge(model, batch, name)[1].mean()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = judge(model, batch, name)[1].mean()
    assert float(half) == pytest.approx(float(full), rel=0.05, abs=0.02)


@every_task
def test_training_lowers_the_loss(
    tetrahedron: MicrophoneArray, make_config: Callable[..., ModelConfig], batch: Example, name: str
) -> None:
    torch.manual_seed(0)
    config = make_config(name)
    model = JointModel(config, tetrahedron, 8000)
    objective = Objective(ObjectiveConfig(task_weights={name: 1.0}), config)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(8):
        output = model(batch["mixture"])
        terms = objective(output.predictions, batch_labels(batch, model.stft, 0, output.level))
        optimizer.zero_grad()
        terms.total.backward()
        optimizer.step()
        losses.append(float(terms.losses[name].detach()))
    assert losses[-1] < 0.95 * losses[0]


def test_weight_of_a_task(model: JointModel, make_config: Callable[..., ModelConfig], batch: Example) -> None:
    output = model(batch["mixture"])
    truth = batch_labels(batch, model.stft, 0, output.level)
    config = make_config("t60", "count")
    weights = {"t60": 0.5}
    terms = Objective(ObjectiveConfig(task_weights=weights), config)(output.predictions, truth)
    main = 0.75 * terms.losses["separation"] + 0.25 * terms.losses["doa"]
    expected = main + 0.5 * terms.losses["t60"] + AUXILIARY_WEIGHT * terms.losses["count"]
    torch.testing.assert_close(terms.total, expected)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"activty": 1.0}, "unknown task in task_weights: 'activty'; did you mean 'activity'?"),
        ({"count": 1.0}, "unknown task in task_weights: 'count'"),
        ({"activity": -1.0}, "task_weights.activity is -1.0, expected 0 or more"),
    ],
)
def test_weight_that_is_refused(
    make_config: Callable[..., ModelConfig], weights: dict[str, float], message: str
) -> None:
    with pytest.raises(MsdetError) as caught:
        Objective(ObjectiveConfig(task_weights=weights), make_config("activity"))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({"activty": {}}, "unknown task 'activty'; did you mean 'activity'?"),
        ({"_pooling": {}}, "unknown task '_pooling'"),
        ({"truth": {}}, "unknown task 'truth'"),
        ({"doa": {}}, "unknown task 'doa'"),  # it is always there
        ({"activity": {"hiden": 3}}, "task 'activity' has no option 'hiden'; did you mean 'hidden'?"),
        ({"activity": {"hidden": 0}}, "task 'activity' cannot be built with hidden=0"),
        ({"elevation": {"width_deg": 7.0}}, "width_deg is 7.0, expected to divide 180"),
        ({"elevation": {"width_deg": 0.0}}, "width_deg is 0.0, expected to divide 180"),
        ({"domain": {"domains": 1}}, "domains is 1, expected at least 2"),
        ({"domain": {"strength": -1.0}}, "strength is -1.0, expected 0 or more"),
    ],
)
def test_setting_that_is_refused(tetrahedron: MicrophoneArray, tasks: dict[str, dict[str, Any]], message: str) -> None:
    with pytest.raises(MsdetError) as caught:
        JointModel(ModelConfig(tasks=tasks), tetrahedron, 8000)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_task_is_also_refused_by_the_objective(make_config: Callable[..., ModelConfig]) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'tracking'"):
        Objective(ObjectiveConfig(), make_config("traking"))


def test_elevation_is_refused_on_a_flat_array(make_config: Callable[..., ModelConfig]) -> None:
    with pytest.raises(MsdetError) as caught:
        JointModel(make_config("elevation"), load_array("circular4_5cm"), 8000)
    assert str(caught.value) == (
        "task 'elevation' needs microphones that span space; these resolve azimuth 0 to 360 degrees, and the "
        "size of the elevation but not whether up or down"
    )


@every_task
def test_any_number_of_frames_talkers_and_microphones(make_config: Callable[..., ModelConfig], name: str) -> None:
    config = make_config(name, talkers=3, variable_num_speakers=True)
    model = JointModel(config, load_array("chime_tablet"), 16000)
    assert all(len(model(torch.randn(1, 6, samples)).predictions[name]) == 1 for samples in (700, 5000))


@every_task
def test_the_order_of_microphones_does_not_matter(sizes: HeadSizes, tetrahedron: MicrophoneArray, name: str) -> None:
    """A head depends on microphones only through their coordinates."""
    order = [3, 1, 0, 2]
    positions = tuple(tetrahedron.positions_m[m] for m in order)
    turned = MicrophoneArray("turned", positions, reference=order.index(0))
    head = build_task_head(name, {}, sizes)
    again = build_task_head(name, {}, sizes._replace(geometry=ArrayGeometry(turned, 129, 8000, 24)))
    again.load_state_dict(head.state_dict())
    spectrum, features = torch.randn(1, 4, 129, 9, dtype=torch.complex64), torch.randn(1, 129, 9, 8)
    found = head(features, FrontEndOutput(spectrum, features, None))
    moved = again(features, FrontEndOutput(spectrum[:, order], features, None))
    torch.testing.assert_close(moved, found, rtol=1e-4, atol=1e-4)


@every_task
def test_saved_weights_come_back(sizes: HeadSizes, name: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    one, two = (build_task_head(name, {}, sizes) for _ in range(2))
    save_file(one.state_dict(), tmp_path / "head.safetensors")
    two.load_state_dict(load_file(tmp_path / "head.safetensors"))
    spectrum, features = torch.randn(1, 4, 129, 9, dtype=torch.complex64), torch.randn(1, 129, 9, 8)
    observation = FrontEndOutput(spectrum, features, None)
    assert torch.equal(one(features, observation), two(features, observation))


def test_heads_stay_small(model: JointModel) -> None:
    for name, head in model.task_heads.items():
        assert isinstance(head, nn.Module)
        assert sum(p.numel() for p in head.parameters()) < 100_000, name
