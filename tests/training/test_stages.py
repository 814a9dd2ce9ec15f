"""Training in stages: what each one changes, that a kill does not change the result, what is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from msdet.cli import main, parse_options
from msdet.commands.train import train as train_command
from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError
from msdet.io.files import read_json, write_json
from msdet.models.checkpoint import load_model
from msdet.models.joint import JointModel
from msdet.training.config import StageConfig, TrainConfig, parse_stage
from msdet.training.run import dry_run, planned, train
from msdet.training.transfer import freeze

MakeConfig = Callable[..., TrainConfig]

ROWS: list[dict[str, Any]] = [
    {"name": "separation", "objective": {"doa_weight": 0.0}, "freeze": ["doa_head.*"]},
    {"name": "doa", "objective": {"doa_weight": 1.0}, "train": ["doa_head.*"], "optimizer": {"learning_rate": 0.01}},
]
STAGES = [parse_stage(row, number) for number, row in enumerate(ROWS, start=1)]


class Killed(BaseException):
    """Stops a run from its report, after the state has been written."""


def silent(line: str) -> None: ...


@pytest.fixture(scope="module")
def config(make_config: MakeConfig) -> TrainConfig:
    """Two stages of two steps."""
    return dataclasses.replace(make_config(steps=2, validate_every=1, warm_up=0), stages=STAGES)


@pytest.fixture(scope="module")
def run(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A finished run and what it said."""
    out = tmp_path_factory.mktemp("run")
    lines: list[str] = []
    train(out, config, lines.append)
    return out, lines


def assert_same(first: Path, second: Path) -> None:
    """The same weights, bit for bit."""
    torch.testing.assert_close(
        load_file(first / "model.safetensors"), load_file(second / "model.safetensors"), rtol=0, atol=0
    )


def test_each_stage_is_a_run_and_the_last_ones_model_is_the_runs(run: tuple[Path, list[str]]) -> None:
    out, lines = run
    stages = [out / "stages" / name for name in ("01-separation", "02-doa")]
    for stage in stages:
        assert {"model.json", "model.safetensors", "training.json", "last.ckpt", "logs"} <= {
            p.name for p in stage.iterdir()
        }
    assert_same(out, stages[1])
    load_model(out)
    header = read_json(out / "training.json")
    assert (header["steps"], header["skipped"]) == (4, 0)
    assert [lines[0], lines[3]] == ["stage 1 of 2, separation:", "stage 2 of 2, doa:"]
    tensors = len(load_file(out / "model.safetensors"))
    assert lines[4] == f"init: {tensors} of {tensors} tensors from {stages[0]}"
    assert read_json(stages[1] / "init.json")["absent"] == []


def test_only_what_a_stage_trains_changes(run: tuple[Path, list[str]], config: TrainConfig) -> None:
    out, _ = run
    array = load_model(out).array
    with torch.random.fork_rng():
        torch.manual_seed(config.trainer.seed)
        start = JointModel(config.model, array, 8000).state_dict()
    first, second = (load_file(out / "stages" / name / "model.safetensors") for name in ("01-separation", "02-doa"))
    changed = [{n for n in b if not torch.equal(a[n], b[n])} for a, b in ((start, first), (first, second))]
    assert changed[0] and not any(name.startswith("doa_head.") for name in changed[0])
    assert changed[1] and all(name.startswith("doa_head.") for name in changed[1])


def test_stages_have_settings_and_mixtures_of_their_own(config: TrainConfig) -> None:
    (_, first), (_, second) = planned(config)
    assert (first.objective.doa_weight, second.objective.doa_weight) == (0.0, 1.0)
    assert (first.optimizer.learning_rate, second.optimizer.learning_rate) == (2e-3, 0.01)
    assert (first.trainer.seed, second.trainer.seed) == (0, 1)
    assert (first.freeze, second.train) == (["doa_head.*"], ["doa_head.*"])
    curriculum = StageConfig("far", data={"t60_s": [0.1, 0.3], "scenes": {"minimum_gap_deg": 40, "talkers": {2: 1}}})
    (_, plan), *_ = planned(dataclasses.replace(config, stages=[curriculum]))
    assert plan.data.t60_s == (0.1, 0.3)
    asked = {"minimum_gap_deg": 40.0, "talkers": {2: 1.0}}
    assert plan.data.scenes == dataclasses.replace(config.data.scenes, **asked)
    assert plan.data.dev == config.data.dev


def test_finished_stages_are_skipped(run: tuple[Path, list[str]], config: TrainConfig) -> None:
    lines: list[str] = []
    train(run[0], config, lines.append)
    assert len(lines) == 1 and "already finished" in lines[0]


@pytest.mark.parametrize("last_words", ["step      1/2", "stage 2 of 2", "init:", "step      2/2"])
def test_run_that_was_killed_in_any_stage_ends_the_same(
    run: tuple[Path, list[str]], config: TrainConfig, tmp_path: Path, last_words: str
) -> None:
    def kill(line: str) -> None:
        if line.startswith(last_words):
            raise Killed

    with pytest.raises(Killed):
        train(tmp_path, config, kill)
    assert not (tmp_path / "training.json").exists()
    train(tmp_path, config, silent)
    assert_same(tmp_path, run[0])
    assert read_json(tmp_path / "training.json") == read_json(run[0] / "training.json")


def test_stages_are_chosen_by_number(run: tuple[Path, list[str]], config: TrainConfig, tmp_path: Path) -> None:
    lines: list[str] = []
    train(tmp_path, config, lines.append, stop_stage=1)
    assert [p.name for p in (tmp_path / "stages").iterdir()] == ["01-separation"]
    assert not (tmp_path / "training.json").exists()
    train(tmp_path, config, lines.append)
    assert_same(tmp_path, run[0])

    faster = dataclasses.replace(STAGES[1], optimizer={"learning_rate": 0.02})
    other = dataclasses.replace(config, stages=[STAGES[0], faster])
    with pytest.raises(MsdetError, match=r"other settings: stages\.02-doa\.optimizer\.learning_rate is 0\.01"):
        train(tmp_path, other, silent)
    stamp = (tmp_path / "stages" / "01-separation" / "last.ckpt").stat().st_mtime_ns
    train(tmp_path, other, silent, stage=2)
    assert (tmp_path / "stages" / "01-separation" / "last.ckpt").stat().st_mtime_ns == stamp
    assert_same(tmp_path, tmp_path / "stages" / "02-doa")
    second, before = (load_file(p / "model.safetensors") for p in (tmp_path, run[0]))
    assert any(not torch.equal(second[name], before[name]) for name in second)

    changed = dataclasses.replace(other, stages=[dataclasses.replace(STAGES[0], freeze=[]), faster])
    with pytest.raises(MsdetError, match="stage 01-separation had other settings"):
        train(tmp_path, changed, silent, stage=2)
    assert (tmp_path / "training.json").exists()


def test_numbers_without_stages_or_beyond_them_are_refused(
    config: TrainConfig, make_config: MakeConfig, tmp_path: Path
) -> None:
    with pytest.raises(MsdetError, match="stop_stage is 3, expected 1 to 2"):
        train(tmp_path / "run", config, silent, stop_stage=3)
    with pytest.raises(MsdetError, match="stage is 0, expected 1 to 2"):
        train(tmp_path / "run", config, silent, stage=0)
    with pytest.raises(MsdetError, match="the settings name none"):
        train(tmp_path / "run", make_config(), silent, stage=1)
    assert not (tmp_path / "run").exists()


def test_stage_starts_from_a_checkpoint_or_from_nothing(
    run: tuple[Path, list[str]], config: TrainConfig, tmp_path: Path
) -> None:
    there = StageConfig("there", init=str(run[0]), freeze=["*.bias"])
    anew = StageConfig("anew", init="none")
    lines: list[str] = []
    train(tmp_path / "run", dataclasses.replace(config, stages=[there, anew]), lines.append)
    assert sum(line.startswith("init:") for line in lines) == 1
    first, second, source = (
        load_file(p / "model.safetensors") for p in (tmp_path / "run" / "stages" / "01-there", tmp_path / "run", run[0])
    )
    biases = [name for name in source if name.endswith(".bias")]
    assert biases
    assert all(torch.equal(first[name], source[name]) for name in biases)
    assert any(not torch.equal(second[name], source[name]) for name in biases)


def test_single_run_starts_from_a_checkpoint_wherever_it_lies(
    run: tuple[Path, list[str]], make_config: MakeConfig, tmp_path: Path
) -> None:
    import shutil

    config = dataclasses.replace(make_config(steps=1), init=run[0], freeze=["sharing.*"])
    lines: list[str] = []
    train(tmp_path / "run", config, lines.append)
    assert lines[0].startswith("init: ")
    ours, theirs = (load_file(p / "model.safetensors") for p in (tmp_path / "run", run[0]))
    kept = [name for name in ours if name.startswith("sharing.")]
    assert kept and all(torch.equal(ours[name], theirs[name]) for name in kept)
    moved = Path(shutil.copytree(run[0], tmp_path / "moved"))
    train(tmp_path / "run", dataclasses.replace(config, init=moved), lines.append)
    assert "already finished" in lines[-1]
    with pytest.raises(MsdetError, match="other settings: init is"):
        train(tmp_path / "run", dataclasses.replace(config, init=run[0] / "stages" / "01-separation"), silent)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"name": "a", "freez": []}, "stages, 2: unknown key 'freez'; did you mean 'freeze'"),
        ({"freeze": []}, "stages, 2: key 'name' is missing"),
        ({"name": "a", "objective": {"doa_wait": 1}}, "objective: unknown key 'doa_wait'; did you mean 'doa_weight'"),
        ({"name": "a", "optimizer": {"stepz": 1}}, "optimizer: unknown key 'stepz'; did you mean 'steps'"),
        ({"name": "a", "data": {"scenes": {"t60": 1}}}, "data.scenes: unknown key 't60'; did you mean 't60_s'"),
        ({"name": "a", "optimizer": {"steps": "many"}}, 'optimizer: Parser key "steps": Expected a <class .int'),
        ({"name": "a", "freeze": "all"}, 'stages, 2: Parser key "freeze"'),
        ({"name": "a", "optimizer": {"schedule": "cosin"}}, r"stages, 2 \(a\): unknown schedule 'cosin'; did you"),
        ({"name": "a", "objective": {"assignment": "azimut"}}, "did you mean 'azimuth'"),
        ({"name": "a/b"}, "stages, 2: name is 'a/b', expected a plain name"),
        ({"name": "a", "freeze": ["encodr.*"]}, r"freeze: no parameter is named 'encodr\.\*'"),
        ({"name": "a", "init": "nowhere"}, "stage 02-a: nowhere: no such checkpoint directory"),
        ({"name": "a", "trainer": {"monitor": "dev/los"}}, "02-a: unknown metric 'dev/los'; did you mean"),
        ({"name": "a", "objective": {"regularization": {"x*": {"l1": 1}}}}, r"02-a: .* 'x\*' matches no"),
        ({"name": "a", "data": {"batch_references": 0.3}}, "stage 02-a: share of references is 0.6"),
        ({"name": "a", "data": {"doa_fraction": 0.0}}, "stage 02-a: .*no scene has azimuths"),
        (
            {"name": "a", "objective": {"doa_loss": "soft", "doa_options": {"width_deg": -1}}},
            "stage 02-a: DoA loss 'soft': objective.doa_options.width_deg is -1",
        ),
    ],
)
def test_faulty_stage_is_refused_before_anything_is_written(
    make_config: MakeConfig, tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    with pytest.raises(MsdetError, match=message) as error:
        stages = [StageConfig("fine"), parse_stage(row, 2)]
        train(tmp_path / "run", dataclasses.replace(make_config(), stages=stages), silent)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("../../canary", r"stage is '\.\./\.\./canary', expected a plain name"),
        ("{canary}", "stage is '/.*, expected a plain name"),
        ("03-link", "03-link: is a link or a file"),
        ("03-theirs", "03-theirs: has no training.json or in-progress.json of msdet's training"),
    ],
)
@pytest.mark.parametrize("header", ["in-progress.json", "training.json"])
def test_a_run_that_names_other_folders_as_its_stages_deletes_nothing(
    config: TrainConfig, tmp_path: Path, file_bytes: Callable[[Path], dict[str, bytes]], folder: str,
    message: str, header: str,
) -> None:  # fmt: skip
    out, canary = tmp_path / "run", tmp_path / "canary"
    write_json(canary / "training.json", {"settings": {}})
    (out / "stages" / "03-theirs").mkdir(parents=True)
    (out / "stages" / "03-theirs" / "thesis.tex").touch()
    (out / "stages" / "03-link").symlink_to(canary)
    write_json(out / header, {"settings": {"stages": {folder.format(canary=canary): {}}}})
    before = file_bytes(tmp_path)
    with pytest.raises(MsdetError, match=message) as refused:
        train(out, config, silent, stage=1)
    assert "\n" not in str(refused.value)
    assert file_bytes(tmp_path) == before


def test_change_of_a_later_stage_says_where_to_start(run: tuple[Path, list[str]], config: TrainConfig) -> None:
    def changed(number: int) -> TrainConfig:
        stages = list(config.stages)
        stages[number] = dataclasses.replace(stages[number], optimizer={"learning_rate": 0.5})
        return dataclasses.replace(config, stages=stages)

    with pytest.raises(MsdetError, match=r"exists with other settings.*; --stage 2 trains again from there"):
        train(run[0], changed(1), silent)
    with pytest.raises(MsdetError, match="exists with other settings") as error:
        train(run[0], changed(0), silent)
    assert "--stage" not in str(error.value)


def test_stage_may_start_from_an_earlier_one_of_its_run(config: TrainConfig, tmp_path: Path) -> None:
    out = tmp_path / "run"
    again = StageConfig("again", init=str(out / "stages" / "01-separation"))
    lines: list[str] = []
    train(out, dataclasses.replace(config, stages=[*config.stages, again]), lines.append)
    assert any(line.startswith("init:") and "01-separation" in line for line in lines)


def test_two_stages_of_one_name_are_refused(make_config: MakeConfig, tmp_path: Path) -> None:
    config = dataclasses.replace(make_config(), stages=[StageConfig("a"), StageConfig("a")])
    with pytest.raises(MsdetError, match="stages, 1: name 'a' stands twice"):
        train(tmp_path / "run", config, silent)


def test_run_without_stages_is_not_one_with(
    run: tuple[Path, list[str]], config: TrainConfig, make_config: MakeConfig, tmp_path: Path
) -> None:
    with pytest.raises(MsdetError, match="exists with other settings"):
        train(run[0], make_config(), silent)
    train(tmp_path / "run", make_config(steps=1), silent)
    with pytest.raises(MsdetError, match="is a run without stages"):
        train(tmp_path / "run", config, silent, stage=1)


def test_shipped_stages_fit_their_model(dev_set: SceneSet) -> None:
    argv = ["run", "--config", "msdet_stages", "--data.dev", "d", "--data.train", "t"]
    options = parse_options(train_command, argv, "msdet train")
    stages = [parse_stage(row, number) for number, row in enumerate(options["stages"], start=1)]
    config = TrainConfig(options["data"], options["model"], options["objective"], options["optimizer"], stages=stages)
    plans = [plan for _, plan in planned(config)]
    assert [plan.objective.doa_weight for plan in plans] == [0.0, 1.0, 0.25]
    shipped = resources.files("msdet") / "configs" / "sibling.yaml"
    sibling = parse_options(train_command, ["run", "--config", str(shipped), *argv[3:]], "msdet train")
    assert (config.model, config.objective) == (sibling["model"], sibling["objective"])
    model = JointModel(config.model, dev_set.array, 8000)
    learning = []
    for plan in plans:
        freeze(model, plan.freeze, plan.train)
        learning.append({n.split(".")[0] for n, p in model.named_parameters() if p.requires_grad})
    assert learning[1] == {"doa_head"}
    assert "doa_head" not in learning[0] and "sharing" in learning[0]
    assert learning[2] == learning[0] | learning[1]


def test_dry_run_tries_every_stage(config: TrainConfig) -> None:
    lines: list[str] = []
    dry_run(config, lines.append)
    assert [line for line in lines if line.startswith("stage")] == ["stage 01-separation:", "stage 02-doa:"]
    counts = [line.split(", ")[1] for line in lines if line.startswith("model:")]
    assert counts[0] != counts[1]


def test_faulty_stage_at_the_command_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "stages.yaml"
    path.write_text("stages:\n  - {name: a, frezze: []}\n")
    argv = ["train", str(tmp_path / "run"), "--config", str(path), "--data.dev", "d"]
    assert main(argv) == 2
    assert capsys.readouterr().err == "error: stages, 1: unknown key 'frezze'; did you mean 'freeze'?\n"
