"""Training on a GPU, without one: combinations of parts on a pretended GPU.

A few run in every ``make test``, all of them with ``pytest -m pretended_gpu``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from msdet.arrays import load_array
from msdet.data.example import Example, TalkerPosition, make_example
from msdet.losses.assignment import ASSIGNMENTS
from msdet.losses.doa import DOA_LOSSES
from msdet.losses.separation import SEPARATION_LOSSES
from msdet.losses.weighting import BALANCERS
from msdet.models.checkpoint import load_model
from msdet.models.config import ModelConfig
from msdet.models.encoders import ENCODERS, ft_gru
from msdet.models.heads import SEPARATION_HEADS, TASKS
from msdet.models.joint import JointModel
from msdet.models.sharing import SHARING_SCHEMES
from msdet.scenes.distribution import SceneDistribution
from msdet.training.config import ObjectiveConfig, OptimizerConfig, TrainConfig
from msdet.training.module import JointModule
from msdet.training.objective import Objective
from msdet.training.optimization import build_optimizer
from msdet.training.run import train

RATE = 8000

Pretend = Callable[[], AbstractContextManager[tuple[Any, Any]]]


@dataclasses.dataclass
class Case:
    """What is trained for two steps."""

    model: dict[str, Any] = dataclasses.field(default_factory=dict)
    objective: dict[str, Any] = dataclasses.field(default_factory=dict)
    labels: str = "all"
    bf16: bool = False
    array: str = "circular4_5cm"


def small(**changes: Any) -> dict[str, Any]:
    """The default model in frames of 16 ms, with a small encoder."""
    encoder = changes.get("encoder", ModelConfig.encoder)
    grouped = encoder in ("ft_gru", "ft_mingru")
    tiny = {"hidden": 8, "group": 8} if grouped else ENCODERS.fact(encoder, "tiny", {})
    return {"window_s": 0.016, "encoder_options": tiny} | changes


PLAIN = {"front_end": "stft", "doa_head": "pooled", "separation_head": "complex_mapping"}
MAPS = {
    "front_end": "srp_map", "encoder": "direction_cnn", "doa_head": "map_peaks",
    "separation_head": "directional_filter", "variable_num_speakers": True, "tasks": {"direction_map": {}},
}  # fmt: skip
OF_BINS = [name for name in TASKS.names() if not getattr(TASKS.find(name).Head, "of_directions", False)]


def all_cases() -> Iterator[tuple[str, Case]]:
    """Every part beside the default's others, in both precisions, and labels of every kind."""
    models = {"default": {}} | {f"encoder-{name}": PLAIN | {"encoder": name} for name in ENCODERS.names()}
    models.pop("encoder-direction_cnn")
    models |= {f"front-{name}": PLAIN | {"front_end": name} for name in ("real_imaginary", "tac", "steered")}
    models |= {f"separation-{name}": {"separation_head": name} for name in SEPARATION_HEADS.names()}
    models.pop("separation-directional_filter")
    blocks = {"encoder_options": {"hidden": 8, "group": 8, "blocks": 2}}
    models |= {f"sharing-{name}": {"sharing": name} | blocks for name in SHARING_SCHEMES.names()}
    models |= {f"task-{name}": {"tasks": {name: {}}} for name in OF_BINS}
    causal = {"causal": True, "update_interval": 4}
    models["streaming"] = {
        "front_end_options": causal, "doa_options": causal, "separation_options": causal, "encoder": "ft_gru",
        "encoder_options": {"hidden": 8, "group": 8, "causal": True},
    }  # fmt: skip
    models |= {"any-array": MAPS, "empty-slots": {"variable_num_speakers": True}}
    for name, model in models.items():
        for bf16 in (False, True):
            array = "eigenmike32" if name == "task-elevation" else Case.array
            yield f"{name}-{'bf16' if bf16 else 'fp32'}", Case(small(**model), bf16=bf16, array=array)
    objectives = [{"assignment": name} for name in ASSIGNMENTS.names()]
    objectives += [{"separation_loss": name} for name in SEPARATION_LOSSES.names()]
    objectives += [{"doa_loss": name} for name in DOA_LOSSES.names()]
    objectives += [{"balance": name} for name in BALANCERS.names()]
    objectives += [{"normalize": name} for name in ("running_mean", "log")]
    for objective in objectives:
        for labels in ("all", "references", "directions"):
            yield f"{'-'.join(*objective.items())}-{labels}", Case(small(), objective, labels)


CASES = dict(all_cases())
QUICK = [
    "default-fp32", "any-array-bf16", "encoder-ft_jnf-bf16", "empty-slots-fp32", "assignment-pit-all",
    "assignment-azimuth-directions", "balance-uncertainty-references", "separation-recording_filter-bf16",
]  # fmt: skip


def batch_of(case: Case, slots: int, microphones: int) -> Example:
    """Two mixtures of two talkers, noise in place of speech; of one talker in the first where slots may be empty."""
    rng = torch.Generator().manual_seed(1)
    examples = []
    for item in range(2):
        talkers = 1 if item == 0 and case.model.get("variable_num_speakers") else 2
        references = torch.randn(talkers, 1600, generator=rng)
        mixture = references.sum(0) + 0.1 * torch.randn(microphones, 1600, generator=rng)
        nowhere = case.labels == "references" and item == 0
        places = [
            TalkerPosition(*(3 * [torch.nan] if nowhere else (80.0 * n + 10.0, 5.0, 1.0 + n))) for n in range(talkers)
        ]
        known = None if case.labels == "directions" and item == 0 else references.numpy()
        examples.append(make_example(mixture.numpy(), known, places, slots, RATE, 0.3, item, item))
    collated: Example = torch.utils.data.default_collate(examples)
    return collated


def learn(case: Case, device: str, gpu: Any = None, steps: int = 2) -> list[float]:
    """Train for a few steps as Lightning does; the losses. What the host waited for is of the last step alone."""
    torch.manual_seed(0)
    array, model = load_array(case.array), ModelConfig(**case.model)
    objective = ObjectiveConfig(**{"log_cosine_every": 0} | case.objective)
    module = JointModule(JointModel(model, array, RATE), Objective(objective, model), OptimizerConfig(), steps)
    module.to(device)
    optimizer = build_optimizer(module.settings, module.model, module.objective)
    losses = []
    with mock.patch.object(module, "log_dict"):
        for step in range(steps):
            batch = module.on_before_batch_transfer(batch_of(case, model.talkers, array.microphones), 0)
            batch = Example(**{k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()})  # type: ignore[typeddict-item]
            if gpu:
                gpu.waits.clear()
            with torch.autocast(device, torch.bfloat16, enabled=case.bf16):
                loss = module.training_step(batch, step)
            assert loss is not None
            module.backward(loss)
            module.configure_gradient_clipping(optimizer)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.detach())
        waits = list(gpu.waits) if gpu else []
        numbers = [float(loss) for loss in losses]
        if gpu:
            gpu.waits[:] = waits
    return numbers


def check(case: Case, pretend: Pretend, waits: int) -> None:
    """A case learns on the GPU what it learns on the CPU, mixes no devices, and seldom waits."""
    with pretend() as (gpu, functions), deterministic():
        losses = learn(case, "cuda", gpu)
    assert not gpu.mixed
    assert not gpu.unrepeatable
    assert functions.dtypes <= {torch.float32}
    assert len(gpu.waits) <= waits, gpu.waits
    if not (case.bf16 and case.model.get("front_end") == "srp_map"):  # where rounding decides who is there
        assert losses == pytest.approx(learn(case, "cpu"), rel=0.05 if case.bf16 else 1e-4)


@contextmanager
def deterministic() -> Iterator[None]:
    """As with ``--trainer.deterministic true``."""
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def waits_of(name: str) -> int:
    """How often the host may wait in a step."""
    case = CASES[name]
    if case.model.get("front_end") == "srp_map":
        return 6  # how many talkers there are decides sizes
    if case.model.get("encoder") == "conv_tasnet" or case.model.get("separation_head") == "masked_mvdr":
        return 3  # asteroid's network makes a constant, torchaudio's beamformer checks a solution
    if "balance" in case.objective or "normalize" in case.objective:
        return 60  # signs are looked at, and TorchJD solves on the host
    if case.labels != "all":
        return 6  # whether a label is missing decides what is computed
    return 2


@pytest.mark.parametrize("name", QUICK)
def test_some_combinations(name: str, pretend: Pretend) -> None:
    check(CASES[name], pretend, waits_of(name))


@pytest.mark.pretended_gpu
@pytest.mark.parametrize("name", CASES)
def test_all_combinations(name: str, pretend: Pretend) -> None:
    check(CASES[name], pretend, waits_of(name))


def test_tensor_of_the_host_in_a_step_is_noticed(pretend: Pretend, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.ones(2, 1)
    loss = JointModel.forward

    def planted(self: JointModel, *args: Any, **kwargs: Any) -> Any:
        output = loss(self, *args, **kwargs)
        return output._replace(predictions=output.predictions | {"doa": output.predictions["doa"] * weight})

    monkeypatch.setattr(JointModel, "forward", planted)
    with pytest.raises(AssertionError, match=r"aten\.mul"):
        check(CASES["default-fp32"], pretend, 2)


def test_value_that_is_asked_for_is_noticed(pretend: Pretend, monkeypatch: pytest.MonkeyPatch) -> None:
    assign = Objective.assign

    def planted(self: Objective, predictions: Any, truth: Any) -> Tensor:
        assert float(truth.azimuth_deg.sum()) > 0.0
        return assign(self, predictions, truth)

    monkeypatch.setattr(Objective, "assign", planted)
    with pytest.raises(AssertionError, match=r"_local_scalar_dense"):
        check(CASES["default-fp32"], pretend, 2)


def test_operation_that_is_not_repeatable_is_noticed(pretend: Pretend, monkeypatch: pytest.MonkeyPatch) -> None:
    assign = Objective.assign

    def planted(self: Objective, predictions: Any, truth: Any) -> Tensor:
        truth.azimuth_deg.cumsum(-1)
        return assign(self, predictions, truth)

    monkeypatch.setattr(Objective, "assign", planted)
    with pytest.raises(AssertionError, match=r"aten\.cumsum"):
        check(CASES["default-fp32"], pretend, 2)


def test_recurrence_in_half_precision_is_noticed(pretend: Pretend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ft_gru, "run_rnn_along", lambda layer, x, axis, state=None: run_plainly(layer, x, axis))
    with pytest.raises(AssertionError, match=r"float16"):
        check(Case({"encoder": "ft_gru"}, bf16=True), pretend, 2)


def run_plainly(layer: nn.RNNBase, x: Tensor, axis: int) -> tuple[Tensor, Any]:
    """A recurrence as autocast would have it."""
    sequence = x.movedim(axis, 0)
    output, state = layer(sequence.flatten(1, 2))
    return output.reshape(*sequence.shape[:3], output.shape[-1]).movedim(0, axis), state


def test_batches_are_mixed_on_the_device(
    pretend: Pretend, make_config: Callable[..., TrainConfig], small_room: SceneDistribution, tmp_path: Path
) -> None:
    noisy: dict[str, Any] = {"diffuse": "spherical", "point_noises": 1, "gain_error_db": 1.0, "phase_error_deg": 3.0}
    scenes = dataclasses.replace(small_room, **noisy)
    config = make_config(accelerator="gpu", steps=2, validate_every=1, data={"mix_on_device": True, "scenes": scenes})
    lines: list[str] = []
    with pretend() as (gpu, _):
        train(tmp_path / "run", config, lines.append)
    assert not gpu.mixed
    assert sum(line.startswith("step ") for line in lines) == 2


def test_lightning_trains(pretend: Pretend, make_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    config = make_config(accelerator="gpu", steps=2, validate_every=1, precision="bf16-mixed")
    lines: list[str] = []
    with pretend() as (gpu, functions):
        train(tmp_path / "run", config, lines.append)
    assert not gpu.mixed
    assert functions.dtypes <= {torch.float32}
    assert sum(line.startswith("step ") for line in lines) == 2
    assert load_model(tmp_path / "run").config == config.model
