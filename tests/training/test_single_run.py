"""Averages of weights, accumulation, stopping, keeping, bad steps: what a run does beside its steps."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from safetensors.torch import load_file

from msdet.errors import MsdetError
from msdet.io.files import read_json
from msdet.training.callbacks import TRAINER_STATE, NonFiniteGuard, ReportLines, StopEarly
from msdet.training.config import OptimizerConfig, TrainConfig
from msdet.training.module import JointModule
from msdet.training.run import dry_run, train
from msdet.training.single_run import PreparedRun, prepare
from msdet.training.trainer import LOGGERS, fit, restored_determinism
from msdet.training.weight_averaging import WeightAveraging, averaging

MakeConfig = Callable[..., TrainConfig]
Weights = dict[str, torch.Tensor]


class Killed(BaseException):
    """Stops a run from its report, after the state has been written."""


def kill(line: str) -> None:
    raise Killed


def silent(line: str) -> None: ...


def state(out: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(out / TRAINER_STATE, weights_only=True)
    return loaded


def assert_same(first: Any, second: Any) -> None:
    """Bit for bit, through dictionaries."""
    torch.testing.assert_close(first, second, rtol=0, atol=0, equal_nan=True)


class Watch(pl.Callback):
    """Weights after each step, and those that validation sees."""

    def __init__(self) -> None:
        self.steps: list[Weights] = []
        self.validated: list[Weights] = []

    def on_train_batch_end(self, trainer: pl.Trainer, module: JointModule, *_: Any) -> None:
        self.steps.append({n: p.detach().clone() for n, p in module.model.named_parameters()})

    def on_validation_batch_start(
        self, trainer: pl.Trainer, module: JointModule, batch: Any, number: int, *_: Any
    ) -> None:
        if number == 0 and not trainer.sanity_checking:
            self.validated.append({n: p.detach().clone() for n, p in module.model.named_parameters()})


def run(config: TrainConfig, out: Path, *callbacks: pl.Callback) -> PreparedRun:
    prepared = prepare(config, silent, callbacks=callbacks, out=out)
    fit(prepared.trainer, prepared.module, prepared.batches)
    return prepared


def test_moving_average_is_what_validation_sees(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(ema=0.75, learning_rate=0.01, warm_up=0)
    watch = Watch()
    run(config, tmp_path, *averaging(config), watch)
    assert len(watch.validated) == 2
    for name, first in watch.steps[0].items():
        average = first
        for step in watch.steps[1:]:
            average = 0.75 * average + 0.25 * step[name]
        torch.testing.assert_close(watch.validated[-1][name], average, rtol=1e-5, atol=1e-7)
    moved = [n for n, p in watch.validated[-1].items() if not torch.equal(p, watch.steps[-1][n])]
    assert moved


def test_tail_average_starts_late_and_is_plain(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(swa_from=0.5, learning_rate=0.01, warm_up=0)
    (callback,) = averaging(config)
    assert isinstance(callback, WeightAveraging) and callback.first_step == 3
    watch = Watch()
    run(config, tmp_path, callback, watch)
    for name in watch.steps[0]:
        assert torch.equal(watch.validated[0][name], watch.steps[2][name])
        plain = torch.stack([step[name] for step in watch.steps[3:]]).mean(0)
        torch.testing.assert_close(watch.validated[1][name], plain, rtol=1e-5, atol=1e-7)
    assert averaging(dataclasses.replace(config, optimizer=OptimizerConfig())) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"ema": 0.9, "accumulate": 2, "name": "adamw"},
        {"swa_from": 0.3, "schedule": "plateau", "schedule_options": {"patience": 1, "metric": "dev/doa"}},
    ],
)
def test_averages_and_schedules_go_on_after_a_kill(
    make_config: MakeConfig, tmp_path: Path, settings: dict[str, Any]
) -> None:
    config = make_config(**settings, steps=3, validate_every=1)
    train(tmp_path / "whole", config, silent)
    for _ in range(2):
        with pytest.raises(Killed):
            train(tmp_path / "killed", config, lambda line: kill(line) if line.startswith("step") else None)
    train(tmp_path / "killed", config, silent)
    whole, killed = state(tmp_path / "whole"), state(tmp_path / "killed")
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "callbacks", "plateaus", "plateau"):
        assert_same(killed[part], whole[part])
    models = [load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed")]
    assert_same(*models)


def test_kept_model_is_the_average(make_config: MakeConfig, tmp_path: Path) -> None:
    train(tmp_path, make_config(ema=0.9, steps=2, validate_every=2), silent)
    (average,) = (v["average"] for v in state(tmp_path)["callbacks"].values() if "average" in v)
    kept = load_file(tmp_path / "model.safetensors")
    assert_same(kept, {name: average[f"module.{name}"] for name in kept})


def test_weights_of_some_steps_are_kept(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(steps=8, validate_every=2, ema=0.9, keep_steps=[2, 3, 8])
    train(tmp_path / "run", config, silent)
    folders = sorted((tmp_path / "run" / "steps").iterdir())
    assert [folder.name for folder in folders] == ["000002", "000003", "000008"]
    assert [read_json(folder / "model.json")["notes"]["step"] for folder in folders] == [2, 4, 8]
    watch = Watch()
    run(config, tmp_path / "again", watch, *averaging(config))
    for folder, seen in zip(folders, (watch.validated[0], watch.validated[1], watch.validated[3]), strict=True):
        kept = load_file(folder / "model.safetensors")
        for name, value in seen.items():
            assert_same(kept[name], value)
    train(tmp_path / "other", dataclasses.replace(config, trainer=make_config().trainer), silent)
    assert not (tmp_path / "other" / "steps").exists()


def test_accumulated_batches_are_one_large_batch(make_config: MakeConfig, tmp_path: Path) -> None:
    found = []
    plain = {"steps": 2, "validate_every": 2, "name": "sgd"}  # Adam magnifies rounding of tiny gradients
    for name, settings in (("large", {"batch": 4}), ("small", {"batch": 2, "accumulate": 2})):
        watch = Watch()
        run(make_config(**plain, **settings), tmp_path / name, watch)
        found.append(watch.steps[-1])
    for name in found[0]:
        torch.testing.assert_close(found[1][name], found[0][name], rtol=1e-4, atol=1e-5)


def test_run_without_progress_stops_early_and_is_finished(make_config: MakeConfig, tmp_path: Path) -> None:
    # the rate is too small for anything to change
    settings = {"steps": 5, "validate_every": 1, "learning_rate": 1e-12}
    config = make_config(**settings, stop_metric="dev/accuracy_10deg", stop_patience=2)
    lines: list[str] = []
    train(tmp_path / "run", config, lines.append)
    reason = "dev/accuracy_10deg has not improved in 2 validations"
    assert lines[-1] == f"stopped at step 3: {reason}"
    header = read_json(tmp_path / "run" / "training.json")
    assert (header["steps"], header["stopped"]) == (3, reason)
    train(tmp_path / "run", config, lines.append)
    assert "already finished" in lines[-1]

    def kill_at_the_end(line: str) -> None:
        if line.startswith("step      3"):
            raise Killed

    with pytest.raises(Killed):
        train(tmp_path / "killed", config, kill_at_the_end)
    train(tmp_path / "killed", config, silent)
    assert read_json(tmp_path / "killed" / "training.json") == header
    assert_same(state(tmp_path / "killed")["state_dict"], state(tmp_path / "run")["state_dict"])


def test_run_that_gets_better_does_not_stop(make_config: MakeConfig, tmp_path: Path) -> None:
    stop = StopEarly("dev/loss", 1)
    run(make_config(steps=3, validate_every=1, learning_rate=1e-3, warm_up=0), tmp_path, stop)
    assert stop.wait_count == 0 and stop.reason is None


def test_kept_model_is_the_best_by_the_metric_asked_for(make_config: MakeConfig, tmp_path: Path) -> None:
    metric = "dev/si_sdr_improvement_db"
    config = make_config(steps=4, validate_every=1, learning_rate=0.02, warm_up=0, monitor=metric)
    train(tmp_path, config, silent)
    scores = []
    for row in (tmp_path / "logs" / "metrics.csv").read_text().splitlines()[1:]:
        header = (tmp_path / "logs" / "metrics.csv").read_text().splitlines()[0].split(",")
        value = dict(zip(header, row.split(","), strict=True))[metric]
        scores += [float(value)] if value else []
    notes = read_json(tmp_path / "model.json")["notes"]
    assert len(scores) == 4
    assert notes["step"] == scores.index(max(scores)) + 1
    assert notes["scores"][metric] == pytest.approx(max(scores), abs=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"monitor": "dev/los"},
        {"stop_metric": "dev/los"},
        {"schedule": "plateau", "schedule_options": {"metric": "dev/los"}},
    ],
)
def test_unknown_metric_is_refused_before_anything_is_written(
    make_config: MakeConfig, tmp_path: Path, settings: dict[str, Any]
) -> None:
    with pytest.raises(MsdetError, match="unknown metric 'dev/los'; did you mean 'dev/loss'"):
        train(tmp_path / "run", make_config(**settings), silent)
    assert not (tmp_path / "run").exists()


def test_bad_steps_name_their_scenes_and_end_the_run_in_a_row(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps 2, 3 and then 5 to 7 are bad: the third in a row, of steps 5 to 7, ends it."""
    lines: list[str] = []
    config = make_config(steps=8, validate_every=8, max_nonfinite_steps=3)
    prepared = prepare(config, lines.append)
    good = prepared.module.terms
    asked = iter([True, False, False, True, *[False] * 4])

    def terms(batch: Any) -> Any:
        found = good(batch)
        fine = not prepared.module.training or next(asked)
        return found if fine else (found[0]._replace(balanced=found[0].balanced * torch.nan, finite=False), *found[1:])

    monkeypatch.setattr(prepared.module, "terms", terms)
    with pytest.raises(MsdetError) as error:
        fit(prepared.trainer, prepared.module, prepared.batches)
    named = "step {}: the loss is not finite with mixture {}, mixture {}"
    assert lines == [f"{named.format(s, 2 * s, 2 * s + 1)}; skipped" for s in (1, 2, 4, 5)]
    assert str(error.value).startswith(f"{named.format(6, 12, 13)}; 3 steps in a row were not")
    assert "\n" not in str(error.value)


def test_bad_gradients_name_all_scenes_of_their_step() -> None:
    lines: list[str] = []
    bad = NonFiniteGuard(2, lambda item: f"scene{item}", lines.append)
    for items in ([3, 4], [5, 6]):
        bad.add_examples(torch.tensor(items))
    assert not bad.may_step(7, torch.tensor(False))
    assert lines == ["step 7: the gradient is not finite with scene3, scene4, scene5, scene6; skipped"]
    bad.add_examples(torch.tensor([1]))
    assert bad.may_step(8, torch.tensor(True))
    assert (bad.total, bad.in_a_row) == (1, 0)
    again = NonFiniteGuard(2, str, silent)
    again.load_state_dict(json.loads(json.dumps(bad.state_dict())))
    assert (again.total, again.in_a_row) == (1, 0)


def test_task_without_labels_in_the_dev_set_is_told_once(make_config: MakeConfig, tmp_path: Path) -> None:
    lines: list[str] = []
    config = make_config(steps=2, validate_every=1)
    prepared = prepare(config, silent, callbacks=[ReportLines(2, lines.append)], out=tmp_path)
    scenes = list(prepared.data.dev.scenes)
    unknown = [
        dataclasses.replace(
            s, sources=tuple(dataclasses.replace(talker, azimuth_deg=float("nan")) for talker in s.sources)
        )
        for s in scenes
    ]
    prepared.data.dev.scenes = tuple(unknown)
    fit(prepared.trainer, prepared.module, prepared.batches)
    assert [line for line in lines if not line.startswith("step ")] == [
        "validation: no scene of the dev set is labeled for the task 'doa'"
    ]


def test_deterministic_mode_is_of_the_run_alone(make_config: MakeConfig, tmp_path: Path) -> None:
    class Look(pl.Callback):
        seen = False

        def on_train_start(self, *_: Any) -> None:
            self.seen = torch.are_deterministic_algorithms_enabled()

    look = Look()
    with restored_determinism():
        run(make_config(steps=1, deterministic=True), tmp_path / "a", look)
    assert look.seen
    assert not torch.are_deterministic_algorithms_enabled()
    train(tmp_path / "b", make_config(steps=1, deterministic=True), silent)
    assert not torch.are_deterministic_algorithms_enabled()


def test_dry_run_tells_and_writes_nothing(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines: list[str] = []
    config = dataclasses.replace(make_config(ema=0.9), freeze=["doa_head.*"])
    dry_run(config, lines.append)
    assert not list(tmp_path.iterdir())
    assert [line.split(":")[0] for line in lines] == ["model", "step", "validation", "total", "memory"]
    parameters = prepare(config, silent).module.model.parameters()
    sizes = [(p.numel(), p.requires_grad) for p in parameters]
    learning = sum(size for size, learns in sizes if learns)
    assert lines[0] == f"model: {sum(s for s, _ in sizes):,} parameters, {learning:,} of them learn"
    assert "6 steps and 2 validations" in lines[3]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ema": 1.0}, r"optimizer\.ema is 1\.0"),
        ({"ema": 0.9, "swa_from": 0.5}, "swa_from is 0.5 and ema 0.9"),
        ({"swa_from": 1.0}, r"optimizer\.swa_from is 1\.0"),
        ({"accumulate": 0}, r"optimizer\.accumulate is 0"),
        ({"max_nonfinite_steps": 0}, r"trainer\.max_nonfinite_steps is 0"),
        ({"warm_up": -5}, r"optimizer\.warm_up is -5, expected 0 or more"),
        ({"decay_from": 2.0}, r"optimizer\.decay_from is 2\.0, expected 0\.0 to 1\.0"),
        ({"threads": -1}, r"trainer\.threads is -1, expected 0 to 1024"),
        ({"threads": 1_000_000}, r"trainer\.threads is 1000000"),
        ({"seed": -1}, r"trainer\.seed is -1, expected 0 to 4294967295"),
        ({"seed": 2**32}, r"trainer\.seed is 4294967296"),
        ({"options": {"amsgrad": "no"}}, "option 'amsgrad' is 'no', expected true or false"),
        ({"options": {"capturable": True}}, "capturable is not for training here"),
        ({"options": {"maximize": True}}, "maximize is not for training here: losses are minimized"),
        ({"weight_decay": -0.1}, r"optimizer\.weight_decay is -0\.1"),
        ({"devices": "two"}, r"trainer\.devices is 'two'"),
        ({"name": "adamm"}, r"optimizer\.name is 'adamm'; did you mean 'adam"),
        ({"schedule": "plato"}, "unknown schedule 'plato'"),
        ({"loggers": ["wandbb"]}, "unknown logger 'wandbb'; did you mean 'wandb'"),
        ({"accelerator": "gpu"}, "trainer.accelerator gpu, devices auto"),
    ],
)
def test_impossible_practice_is_refused_by_name(
    make_config: MakeConfig, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    if settings == {"accelerator": "gpu"} and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(MsdetError, match=message) as error:
        train(tmp_path / "run", make_config(**settings), silent)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore")  # of their own libraries
@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_other_loggers_stay_offline_in_the_runs_folder(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    pytest.importorskip(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    train(tmp_path / "run", make_config(steps=1, loggers=[name]), silent)
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    assert any(name in p.name for p in (tmp_path / "run" / "logs").iterdir())


def test_folder_that_looks_like_a_home_is_a_folder(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    train(Path("~root"), make_config(steps=3), lambda line: None)
    assert (tmp_path / "~root" / "logs" / "metrics.csv").is_file()


def test_logger_that_is_not_installed_says_how_to(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(out: Path, logs: Path) -> None:
        raise ModuleNotFoundError("No module named 'wandb'")

    monkeypatch.setitem(LOGGERS, "wandb", missing)
    with pytest.raises(MsdetError, match=r"wandb needs its package: pip install msdet\[wandb\]"):
        train(tmp_path / "run", make_config(loggers=["wandb"]), silent)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # of torch's own tracing
def test_compiled_training_gives_the_same_weights(make_config: MakeConfig, tmp_path: Path) -> None:
    """With a backend that traces and changes nothing."""
    for backend in (None, "eager"):
        train(tmp_path / str(backend), make_config(steps=2, validate_every=2, compile=backend), silent)
    plain, compiled = (load_file(tmp_path / name / "model.safetensors") for name in ("None", "eager"))
    assert plain.keys() == compiled.keys()
    for name, weight in plain.items():
        torch.testing.assert_close(compiled[name], weight, rtol=1e-4, atol=1e-5)


def test_unknown_backend_of_compilation_is_refused(make_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(MsdetError, match=r"unknown backend of torch\.compile: 'inducto'; did you mean 'inductor'"):
        train(tmp_path / "run", make_config(compile="inducto"), silent)


def test_logger_without_its_package_writes_nothing(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("msdet.training.checks.find_spec", lambda name: None)
    with pytest.raises(MsdetError, match=r"mlflow needs its package: pip install msdet\[mlflow\]"):
        train(tmp_path / "run", make_config(loggers=["mlflow"]), silent)
    assert not (tmp_path / "run").exists()
