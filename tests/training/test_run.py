"""A training run: what it leaves, that a kill does not change it, what it refuses."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError
from msdet.models.checkpoint import load_model, read_description
from msdet.models.config import ModelConfig
from msdet.training.callbacks import TRAINER_STATE
from msdet.training.config import DataConfig, ObjectiveConfig, OptimizerConfig, TrainConfig
from msdet.training.module import JointModule
from msdet.training.run import train

FileBytes = Callable[[Path], dict[str, bytes]]
MakeConfig = Callable[..., TrainConfig]


class Killed(BaseException):
    """Stops a run from its report, after the state has been written."""


def kill(line: str) -> None:
    raise Killed


def interrupt(line: str) -> None:
    raise KeyboardInterrupt


@dataclasses.dataclass(frozen=True)
class Run:
    out: Path
    config: TrainConfig
    lines: list[str]


@pytest.fixture(scope="module")
def run(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run."""
    lines: list[str] = []
    out = tmp_path_factory.mktemp("run")
    config = make_config()
    assert train(out, config, lines.append) == out
    return Run(out, config, lines)


def weights(out: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(out / TRAINER_STATE, weights_only=True)["state_dict"]
    return state


def model_of(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix("model."): t for name, t in state.items() if name.startswith("model.")}


def assert_same_weights(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name in first:  # bit for bit
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=0, equal_nan=True)


def read_metrics(out: Path) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = []
    for part in (*sorted((out / "logs").glob("metrics-*.csv")), out / "logs" / "metrics.csv"):
        with part.open(newline="") as file:
            rows += csv.DictReader(file)
    return rows


def test_run_finishes_with_everything_promised(run: Run) -> None:
    header = json.loads((run.out / "training.json").read_text())
    assert (header["steps"], header["skipped"]) == (6, 0)
    assert not (run.out / "in-progress.json").exists()
    assert [re.findall(r"^step +(\d/6) ", line) for line in run.lines] == [["3/6"], ["6/6"]]
    rows = read_metrics(run.out)
    for name in ("loss", "separation", "doa", "si_sdr_improvement_db", "doa_mae_deg", "accuracy_10deg"):
        values = [float(row[f"dev/{name}"]) for row in rows if row[f"dev/{name}"]]
        assert len(values) == 2, name
        assert all(value == value for value in values), name
    assert len([row for row in rows if row["train/loss"]]) == 2
    assert list((run.out / "logs").glob("events.out.tfevents.*"))
    assert not list(run.out.rglob(".part-*"))


def test_checkpoint_is_the_best_validated_model(run: Run, dev_set: SceneSet) -> None:
    description = read_description(run.out)
    scored = {round(float(row["dev/loss"]), 4): int(row["step"]) for row in read_metrics(run.out) if row["dev/loss"]}
    assert description["notes"]["scores"]["dev/loss"] == min(scored)
    assert description["notes"]["step"] == scored[min(scored)] + 1  # logged under the step's index
    assert description["array"] == dev_set.array.to_dict()
    assert description["notes"]["training"]["optimizer"]["steps"] == 6
    model = load_model(run.out)
    assert not model.training
    mixture = torch.from_numpy(dev_set.mixture(dev_set.scenes[0]))[None]
    with torch.no_grad():
        output = model(mixture)
    assert output.waveforms.shape == (1, 2, 12000)
    if description["notes"]["step"] == 6:
        assert_same_weights(load_file(run.out / "model.safetensors"), model_of(weights(run.out)))


def test_training_changes_the_weights(run: Run, dev_set: SceneSet) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(run.config.trainer.seed)
        start = load_model(run.out).state_dict()
    state = torch.load(run.out / TRAINER_STATE, weights_only=True)
    assert state["global_step"] == 6
    optimizer = state["optimizer_states"][0]["state"]
    assert len(optimizer) == len([name for name in start if name])
    assert all(torch.isfinite(moments["exp_avg"]).all() for moments in optimizer.values())
    assert state["lr_schedulers"][0]["last_epoch"] == 6


@pytest.mark.parametrize("workers", [0, 1])
def test_run_that_was_killed_ends_with_the_same_weights(
    run: Run, make_config: MakeConfig, tmp_path: Path, workers: int
) -> None:
    with pytest.raises(Killed):
        train(tmp_path / "run", run.config, kill)
    assert not (tmp_path / "run" / "training.json").exists()
    lines: list[str] = []
    train(tmp_path / "run", make_config(data={"workers": workers}), lines.append)
    assert "going on from the last checkpoint" in lines[0]
    assert [re.findall(r"^step +(\d/6) ", line) for line in lines[1:]] == [["6/6"]]
    assert_same_weights(weights(tmp_path / "run"), weights(run.out))
    for name in ("model.safetensors", "model.json", "training.json"):
        assert (tmp_path / "run" / name).read_bytes() == (run.out / name).read_bytes(), name


def test_every_validation_is_in_the_metrics_after_a_kill(run: Run, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(tmp_path / "run", run.config, kill)
    train(tmp_path / "run", run.config, lambda line: None)

    def losses(out: Path) -> list[str]:
        return [row["dev/loss"] for row in read_metrics(out) if row["dev/loss"]]

    assert losses(tmp_path / "run") == losses(run.out)


def test_run_killed_before_its_first_checkpoint_starts_again(
    run: Run, make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(system: JointModule, batch: object, batch_idx: int) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(JointModule, "training_step", die)
        with pytest.raises(Killed):
            train(tmp_path / "run", run.config, print)
    (tmp_path / "run" / ".part-left.ckpt").write_bytes(b"half")
    train(tmp_path / "run", run.config, lambda line: None)
    assert_same_weights(weights(tmp_path / "run"), weights(run.out))
    assert not (tmp_path / "run" / ".part-left.ckpt").exists()


def reshaped(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    name = next(iter(content["state_dict"]))
    content["state_dict"][name] = torch.zeros(3)
    torch.save(content, path)


def without_optimizer(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    del content["optimizer_states"]
    torch.save(content, path)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.write_bytes(b""), "not readable as a trainer's state"),
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), "not readable as a trainer's state"),
        (lambda path: torch.save([1], path), "not readable as a trainer's state"),
        (reshaped, "not the state of a training of this model"),
        (without_optimizer, "not readable as a trainer's state"),
    ],
)
def test_a_damaged_state_is_told_before_anything_is_touched(
    run: Run, tmp_path: Path, file_bytes: FileBytes, damage: Callable[[Path], object], reason: str
) -> None:
    out = tmp_path / "run"
    with pytest.raises(Killed):
        train(out, run.config, kill)
    damage(out / TRAINER_STATE)
    before = file_bytes(out)
    with pytest.raises(MsdetError, match=f"last.ckpt: {reason}; delete it .* with --init") as error:
        train(out, run.config, kill)
    assert "\n" not in str(error.value)
    assert file_bytes(out) == before


def test_progress_is_reported_from_the_first_step(make_config: MakeConfig, tmp_path: Path) -> None:
    steps: list[tuple[int, int, str]] = []
    config = make_config(steps=2, validate_every=2)
    train(tmp_path / "run", config, lambda line: None, lambda *step: steps.append(step))
    assert [step[:2] for step in steps] == [(1, 2), (2, 2)]
    assert all(re.fullmatch(r"\d+\.\d\d s a step, \d+ MB", note) for _, _, note in steps)


def test_interrupted_run_is_not_finished(run: Run, tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "run", run.config, interrupt)
    finally:
        signal.signal(signal.SIGINT, handler)
        assert not (tmp_path / "run" / "training.json").exists()


def test_finished_run_is_left_alone(run: Run) -> None:
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in run.out.rglob("*") if p.is_file()}
    lines: list[str] = []
    train(run.out, run.config, lines.append)
    assert len(lines) == 1
    assert "already finished" in lines[0]
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in run.out.rglob("*") if p.is_file()} == before


def test_what_cannot_change_the_result_may_differ(run: Run, make_config: MakeConfig) -> None:
    lines: list[str] = []
    train(run.out, make_config(data={"workers": 2}, threads=2), lines.append)
    assert "already finished" in lines[0]
    torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("learning_rate", {"learning_rate": 1e-3}),
        ("batch", {"batch": 3}),
        ("hidden", {"model": ModelConfig(encoder_options={"hidden": 9, "group": 8})}),
        ("doa_head", {"model": ModelConfig(encoder_options={"hidden": 8, "group": 8}, doa_head="pooled")}),
    ],
)
def test_other_settings_in_the_folder_are_refused_by_field(
    run: Run, make_config: MakeConfig, field: str, change: dict[str, object]
) -> None:
    with pytest.raises(MsdetError, match=rf"exists with other settings: (\w+\.)*{field} is "):
        train(run.out, make_config(**change))


def test_other_speech_is_other_settings(run: Run, make_config: MakeConfig, speech: Path, tmp_path: Path) -> None:
    fewer = shutil.copytree(speech, tmp_path / "speech")
    (fewer / "talker0" / "1.wav").unlink()
    with pytest.raises(MsdetError, match=r"other settings: .*speech"):
        train(run.out, make_config(data={"speech": fewer}))


def test_moved_data_are_the_same_settings(run: Run, make_config: MakeConfig, speech: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(speech, tmp_path / "speech")
    lines: list[str] = []
    train(run.out, make_config(data={"speech": moved}), lines.append)
    assert "already finished" in lines[0]


def test_state_of_the_trainer_loads_without_unpickling(run: Run) -> None:
    state = torch.load(run.out / TRAINER_STATE, weights_only=True)
    assert state["bad_steps"] == {"total": 0, "in_a_row": 0}


@pytest.mark.parametrize(("steps", "every", "taken"), [(2, 5, 2), (5, 2, 4), (4, 3, 4)])
def test_run_ends_with_a_validation_whatever_the_interval(
    make_config: MakeConfig, tmp_path: Path, steps: int, every: int, taken: int
) -> None:
    train(tmp_path / "run", make_config(steps=steps, validate_every=every), lambda line: None)
    assert json.loads((tmp_path / "run" / "training.json").read_text())["steps"] == taken
    rows = read_metrics(tmp_path / "run")
    assert max(int(row["step"]) for row in rows if row["dev/loss"]) == taken - 1
    load_model(tmp_path / "run")


def test_run_on_a_rendered_set_smaller_than_a_batch(make_config: MakeConfig, dev_set: SceneSet, tmp_path: Path) -> None:
    data = {"train": dev_set.root, "bank": None, "speech": None}
    config = make_config(data=data, steps=2, batch=4, validate_every=2)
    train(tmp_path / "run", config, lambda line: None)
    assert json.loads((tmp_path / "run" / "training.json").read_text())["steps"] == 2
    assert load_model(tmp_path / "run").array == dev_set.array


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("optimizer.steps", 0),
        ("optimizer.batch", 0),
        ("trainer.validate_every", -1),
        ("optimizer.learning_rate", 0.0),
        ("optimizer.gradient_clip_norm", -1.0),
        ("trainer.precision", "16-mixed"),
        ("optimizer.learning_rate", float("nan")),
    ],
)
def test_impossible_setting_is_refused_by_name(
    make_config: MakeConfig, tmp_path: Path, name: str, value: object
) -> None:
    with pytest.raises(MsdetError, match=rf"{name} is"):
        train(tmp_path / "run", make_config(**{name.split(".")[1]: value}))
    assert not (tmp_path / "run").exists()


def test_data_must_be_rendered_or_mixed(dev_set: SceneSet, tmp_path: Path) -> None:
    config = TrainConfig(DataConfig(dev=dev_set.root), optimizer=OptimizerConfig(steps=1))
    with pytest.raises(MsdetError, match=r"give either train .* or bank and speech"):
        train(tmp_path / "run", config)
    assert not (tmp_path / "run").exists()


def test_data_that_do_not_fit_are_refused(make_config: MakeConfig, dev_set: SceneSet, tmp_path: Path) -> None:
    with pytest.raises(MsdetError, match=r"has 3 output slots, the data have \[2\] talkers"):
        train(tmp_path / "run", make_config(ModelConfig(talkers=3)))
    other = Path(shutil.copytree(dev_set.root, tmp_path / "other"))
    header = json.loads((other / "dataset.json").read_text())
    header["array"]["positions_m"][0][0] += 0.01
    (other / "dataset.json").write_text(json.dumps(header))
    with pytest.raises(MsdetError, match="other: array is 'circular4_5cm', training data have"):
        train(tmp_path / "run", make_config(data={"dev": other}))
    assert not (tmp_path / "run").exists()


def test_wrong_names_are_refused_before_anything_is_written(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config()
    for wrong, message in (
        (make_config(ModelConfig(encoder="ft_gr")), "did you mean 'ft_gru'"),
        (dataclasses.replace(config, objective=ObjectiveConfig(assignment="azimut")), "did you mean 'azimuth'"),
    ):
        with pytest.raises(MsdetError, match=message):
            train(tmp_path / "run", wrong)
    assert not (tmp_path / "run").exists()
