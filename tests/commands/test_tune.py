"""`msdet tune`: trials, pruning, going on after a kill, two processes, what is refused before training."""

from __future__ import annotations

import csv
import dataclasses
import fcntl
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from msdet.cli import load_command, main, parse_options
from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError
from msdet.models.checkpoint import read_description
from msdet.plots.histograms import importance_figure
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.rir.bank import RirBank
from msdet.training.config import TrainConfig
from msdet.training.study import StudyConfig
from msdet.training.tuning import Outcome, tune, validations

RATE = "optimizer.learning_rate"


class Killed(BaseException):
    """Stops a study from its report."""


@pytest.fixture(scope="module")
def settings(bank: RirBank, speech: Path, dev_set: SceneSet, small_room: SceneDistribution) -> dict[str, Any]:
    """Options of a training of four steps, validated after each second one."""
    scenes = json.loads(json.dumps(dataclasses.asdict(small_room)))
    return {
        "data": {
            "dev": str(dev_set.root), "bank": str(bank.root), "speech": str(speech), "scenes": scenes,
            "workers": 0,
        },
        "model": {"encoder_options": {"hidden": 8, "group": 8}},
        "optimizer": {"steps": 4, "batch": 1, "warm_up": 1},
        "trainer": {"validate_every": 2, "accelerator": "cpu", "threads": 1},
    }  # fmt: skip


@pytest.fixture(scope="module")
def base(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    file = tmp_path_factory.mktemp("base") / "base.yaml"
    file.write_text(yaml.safe_dump(settings))
    o = parse_options(load_command("train"), ["run", "--config", str(file)], "msdet train")
    return TrainConfig(o["data"], o["model"], o["objective"], o["optimizer"], o["trainer"])


GRID = StudyConfig(
    {RATE: [2e-3, 1e-9, 8e-3]}, sampler="grid", pruner_options={"n_startup_trials": 1}
)  # a rate of nothing is behind from the first validation on


@dataclasses.dataclass(frozen=True)
class Finished:
    out: Path
    outcome: Outcome
    lines: list[str]


@pytest.fixture(scope="module")
def finished(base: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A study that nothing disturbed."""
    lines: list[str] = []
    out = tmp_path_factory.mktemp("study")
    return Finished(out, tune(out, base, GRID, lines.append), lines)


def test_a_grid_tries_each_value_and_prunes_the_hopeless_one(finished: Finished) -> None:
    records = finished.outcome.records
    assert [record.options for record in records] == [{RATE: rate} for rate in (2e-3, 1e-9, 8e-3)]
    assert (records[0].state, records[1].state) == ("done", "pruned")
    folder = finished.out / "trials" / "0001"
    marked = json.loads((folder / "pruned.json").read_text())
    assert (marked["validations"], marked["metric"]) == (1, "dev/loss")
    assert len(validations(folder, "dev/loss")) == 1
    assert not (folder / "training.json").exists()
    assert not (finished.out / "trials" / "0000" / "pruned.json").exists()
    assert any(line.startswith("trial 1: pruned after 1 validations") for line in finished.lines)


def test_the_best_trial_is_the_one_with_the_least_loss(finished: Finished) -> None:
    done = [record for record in finished.outcome.records if record.state == "done"]
    best = finished.outcome.best
    assert best is not None and best.value == min(record.value for record in done if record.value is not None)
    for record in done:
        folder = finished.out / "trials" / f"{record.number:04d}"
        assert record.value == min(validations(folder, "dev/loss"))
        assert record.value == pytest.approx(read_description(folder)["notes"]["scores"]["dev/loss"], abs=1e-4)
    assert finished.outcome.config is not None
    assert finished.outcome.config.optimizer.learning_rate == best.options[RATE]
    header = json.loads((finished.out / "study.json").read_text())
    assert header["best"] == best.number
    assert sum(header["trials"].values()) == 3


def test_a_study_that_was_killed_goes_on_with_the_trial_that_was_running(
    finished: Finished, base: TrainConfig, tmp_path: Path
) -> None:
    def kill(line: str) -> None:
        if line.startswith("trial 2: step      2/4"):
            raise Killed

    with pytest.raises(Killed):
        tune(tmp_path / "study", base, GRID, kill)
    assert not (tmp_path / "study" / "study.json").exists()
    lines: list[str] = []
    outcome = tune(tmp_path / "study", base, GRID, lines.append)
    assert lines[0].startswith("trial 2: optimizer.learning_rate")  # not a new one
    assert "going on from the last checkpoint" in lines[1]
    assert outcome.records == finished.outcome.records
    again: list[str] = []
    assert tune(tmp_path / "study", base, GRID, again.append).records == outcome.records
    assert again == []


def test_two_processes_share_the_trials_and_a_finished_study_takes_more(base: TrainConfig, tmp_path: Path) -> None:
    """Another process is played by a lock, which is what shows that one is at work."""
    study = StudyConfig({RATE: {"low": 1e-4, "high": 1e-2, "log": True}}, trials=1, pruner="none", seed=3)

    def kill(line: str) -> None:
        raise Killed

    with pytest.raises(Killed):
        tune(tmp_path / "study", base, study, kill)
    with (tmp_path / "study" / "trials" / "0000.lock").open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        elsewhere = tune(tmp_path / "study", base, study, lambda line: None)
        assert (elsewhere.running, elsewhere.best) == (1, None)
        assert not (tmp_path / "study" / "study.json").exists()
        more = tune(tmp_path / "study", base, dataclasses.replace(study, trials=2), lambda line: None)
    assert [record.state for record in more.records] == ["running", "done"]
    assert more.records[0].options != more.records[1].options
    end = tune(tmp_path / "study", base, dataclasses.replace(study, trials=2), lambda line: None)
    assert [record.state for record in end.records] == ["done", "done"]
    assert end.records[1] == more.records[1]
    with pytest.raises(MsdetError, match=r"exists with other settings: study\.seed is 3, asked for 4"):
        tune(tmp_path / "study", base, dataclasses.replace(study, seed=4))


def test_the_command_writes_what_train_takes(
    settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also of parts of an option, of a direction, and of samplers and pruners with options."""
    study = {
        **settings,
        "out": str(tmp_path / "study"),
        "search": {
            RATE: {"low": 1e-4, "high": 1e-2, "log": True},
            "model.encoder_options.hidden": [4, 8],
            "optimizer.accumulate": {"low": 1, "high": 2},
            "objective.balance": ["fixed", "uncertainty"],
        },
        "trials": 3,
        "metric": "dev/accuracy_10deg",
        "sampler": "tpe",
        "sampler_options": {"n_startup_trials": 1},
        "pruner": "hyperband",
        "seed": 1,
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    assert main(["tune", "--config", str(tmp_path / "study.yaml"), "--metric", "dev/si_sdr_improvement_db"]) == 0
    printed = capsys.readouterr().out
    assert "largest dev/si_sdr_improvement_db first" in printed
    with (tmp_path / "study" / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == ["0", "1", "2"]
    assert {row["model.encoder_options.hidden"] for row in rows} <= {"4", "8"}
    done = [row for row in rows if row["state"] == "done"]
    best = max(done, key=lambda row: float(row["dev/si_sdr_improvement_db"]))
    file_name = str(tmp_path / "study" / "best.yaml")
    options = parse_options(load_command("train"), ["run", "--config", file_name], "msdet train")
    assert options["optimizer"].learning_rate == pytest.approx(float(best[RATE]), rel=1e-5)
    assert options["model"].encoder_options == {
        "hidden": int(best["model.encoder_options.hidden"]), "group": 8,
    }  # fmt: skip
    assert options["optimizer"].accumulate == int(best["optimizer.accumulate"])
    assert options["trainer"].devices == "auto"
    assert options["objective"].balance == best["objective.balance"]
    trained = read_description(tmp_path / "study" / "trials" / f"{int(best['trial']):04d}")
    assert trained["model"]["encoder_options"] == options["model"].encoder_options
    if len({row["dev/si_sdr_improvement_db"] for row in done}) > 1:
        assert (tmp_path / "study" / "importance.png").read_bytes().startswith(b"\x89PNG")


def test_the_plot_names_its_axes_and_options() -> None:
    axes = importance_figure({"optimizer.learning_rate": 0.8, "model.encoder": 0.2}, "dev/loss", 12).axes[0]
    assert axes.get_xlabel() == "Importance for dev/loss (%), 12 trials"
    assert axes.get_ylabel() == "Option"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["model.encoder", "optimizer.learning_rate"]
    assert [bar.get_width() for bar in axes.patches] == [20.0, 80.0]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search": {}}, "search is empty"),
        (
            {"search": {"optimizer.learning_rat": [1e-3]}},
            "unknown option in search 'optimizer.learning_rat'; did you mean 'optimizer.learning_rate'?",
        ),
        ({"search": {RATE: {"low": 1e-3}}}, "search, optimizer.learning_rate: key 'high' is missing"),
        (
            {"search": {RATE: {"low": 1e-3, "hihg": 1e-2}}},
            "search, optimizer.learning_rate: unknown key 'hihg'; did you mean 'high'?",
        ),
        ({"search": {RATE: {"low": 2.0, "high": 1.0}}}, "low is 2.0, high is 1.0, expected low <= high"),
        ({"search": {RATE: {"low": 0.0, "high": 1.0, "log": True}}}, "log needs low above 0"),
        ({"search": {RATE: 3.0}}, "search, optimizer.learning_rate is 3.0, expected a list of values or"),
        ({"search": {"optimizer.batch": {"low": 1.5, "high": 3}}}, "search: optimizer: "),
        ({"search": {"optimizer.name": ["adam", "adan"]}}, "= adan: optimizer.name is 'adan'; did you mean 'adam"),
        ({"search": {"model.encoder": ["ft_gru", "ft_gro"]}}, "unknown encoder 'ft_gro'; did you mean 'ft_gru'?"),
        ({"search": {"model.encoder_options.hiden": [4]}}, "has no option 'hiden'; did you mean 'hidden'?"),
        (
            {"search": {"model": [{"talkers": 2}], "model.talkers": [2]}},
            "search: model.talkers is a part of model, which is searched as well",
        ),
        (
            {"search": {"objective.doa_weight": [0.1, 0.5]}},
            "metric dev/loss cannot compare trials that differ in objective.doa_weight; choose a score",
        ),
        ({"metric": "dev/los"}, "unknown metric 'dev/los'; did you mean 'dev/loss'?"),
        ({"sampler": "tp"}, "unknown sampler 'tp'; did you mean 'tpe'?"),
        ({"sampler_options": {"n_startup_trial": 3}}, "did you mean 'n_startup_trials'?"),
        ({"pruner": "medial"}, "unknown pruner 'medial'; did you mean 'median'?"),
        ({"sampler": "grid"}, "search, optimizer.learning_rate: sampler 'grid' needs points"),
        ({"trials": 0}, "trials is 0, expected at least 1"),
        ({"seed": -1}, "seed is -1, expected 0 to 4294967295"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    base: TrainConfig, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    study = StudyConfig({RATE: {"low": 1e-4, "high": 1e-2}}, trials=1)
    with pytest.raises(MsdetError) as refused:
        tune(tmp_path / "study", base, dataclasses.replace(study, **changes))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "study").exists()


def test_several_devices_and_a_missing_optuna_are_told(
    base: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = dataclasses.replace(base, trainer=dataclasses.replace(base.trainer, devices="2"))
    with pytest.raises(MsdetError, match="devices is 2, nodes 1: a trial has one; run"):
        tune(tmp_path / "study", two, GRID)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MsdetError, match=r"needs Optuna: pip install 'msdet\[tune\]'"):
        tune(tmp_path / "study", base, GRID)


def test_a_study_whose_trials_all_fail_says_why(
    base: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a training shows what its learning rate does to the weights."""
    study = StudyConfig({RATE: [1e30]}, trials=1, pruner="none")
    with pytest.raises(MsdetError, match=r"no trial came to its end; trial 0 failed: .*no validation had a fin"):
        tune(tmp_path / "study", base, study, lambda line: None)


def test_ranges_give_grids() -> None:
    from msdet.training.search_space import Option, parse_space

    def grid(values: dict[str, Any], name: str = RATE) -> list[Any]:
        option: Option = parse_space({name: values}, TrainConfig(data=None))[0]  # type: ignore[arg-type]
        return list(option.grid())

    assert grid({"low": 1e-4, "high": 1e-2, "log": True, "points": 3}) == pytest.approx([1e-4, 1e-3, 1e-2])
    assert grid({"low": 0.0, "high": 1.0, "step": 0.5}) == [0.0, 0.5, 1.0]
    assert grid({"low": 2, "high": 5}, "optimizer.batch") == [2, 3, 4, 5]
    assert grid({"low": 1, "high": 100, "log": True, "points": 3}, "optimizer.batch") == [1, 10, 100]


def test_folder_of_a_study_may_have_any_name(base: TrainConfig, tmp_path: Path) -> None:
    config = dataclasses.replace(GRID, search={RATE: [2e-3]})
    assert tune(tmp_path / "{{ a }} {b}?#", base, config, lambda line: None).best.number == 0
    assert [path.name for path in tmp_path.iterdir()] == ["{{ a }} {b}?#"]
