"""`msdet average`: by hand, what it writes down, and what cannot be averaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from msdet.arrays import load_array
from msdet.cli import main
from msdet.errors import MsdetError
from msdet.models.checkpoint import load_model, read_description, save_model
from msdet.models.config import ModelConfig
from msdet.models.joint import JointModel
from msdet.training.weight_averaging import average_checkpoints, common, weighted_mean

SMALL: dict[str, Any] = {"encoder_options": {"hidden": 8, "group": 8}}


def write(folder: Path, seed: int, notes: dict[str, Any] | None = None, rate: int = 8000, **changes: Any) -> Path:
    torch.manual_seed(seed)
    array = load_array(changes.pop("array", "circular4_5cm"))
    save_model(folder, JointModel(ModelConfig(**SMALL | changes), array, rate), notes or {"step": 10 * seed})
    return folder


def trained(axis_deg: float, seed: int = 0) -> dict[str, Any]:
    """Notes of a training."""
    objective = {"assignment": "folded", "assignment_options": {"axis_deg": axis_deg}}
    return {"step": 1, "training": {"objective": objective, "optimizer": {"seed": seed, "steps": 9}}}


def test_mean_by_hand() -> None:
    states = [
        {"weight": torch.tensor([1.0, 2.0]), "phase": torch.tensor(1.0 + 2.0j), "steps": torch.tensor(3)},
        {"weight": torch.tensor([3.0, 6.0]), "phase": torch.tensor(3.0 - 2.0j), "steps": torch.tensor(9)},
    ]
    mean = weighted_mean(states, [0.75, 0.25])
    assert mean["weight"].tolist() == [1.5, 3.0]
    assert mean["phase"].item() == 1.5 + 1.0j
    assert mean["steps"].item() == 3
    assert mean["weight"].dtype == torch.float32 and mean["phase"].dtype == torch.complex64


def test_the_command_averages_and_names_the_sources(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [write(tmp_path / name, seed) for seed, name in enumerate("abc", start=1)]
    states = [load_model(folder).state_dict() for folder in folders]
    arguments = [*map(str, folders), "--out", str(tmp_path / "mean"), "--weights", "1", "1", "2"]
    assert main(["average", *arguments]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/mean: average of 3 models\n"
    averaged = load_model(tmp_path / "mean").state_dict()
    for name, (a, b, c) in ((name, (s[name] for s in states)) for name in averaged):
        torch.testing.assert_close(averaged[name], a / 4 + b / 4 + c / 2)
    sources = read_description(tmp_path / "mean")["notes"]["averaged"]
    assert [(s["model"], s["weight"], s["step"]) for s in sources] == [
        (str(folders[0]), 0.25, 10), (str(folders[1]), 0.25, 20), (str(folders[2]), 0.5, 30),
    ]  # fmt: skip
    assert len({s["hash"] for s in sources}) == 3


def test_a_model_averaged_with_itself_is_the_model(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", 1)
    average_checkpoints([folder, folder], tmp_path / "mean")
    assert (tmp_path / "mean" / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_what_the_trainings_have_in_common_is_kept(tmp_path: Path) -> None:
    folders = [write(tmp_path / name, 1, trained(90.0, seed)) for seed, name in enumerate("ab")]
    average_checkpoints(folders, tmp_path / "mean")
    training = read_description(tmp_path / "mean")["notes"]["training"]
    assert training["objective"] == trained(90.0)["training"]["objective"]
    assert training["optimizer"] == {"steps": 9}
    assert common({"a": None, "b": 1}, {"a": None, "b": 2}) == {"a": None}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"encoder_options": {"hidden": 4, "group": 8}}, "model.encoder_options.hidden is 4, that of"),
        ({"sharing": "none"}, "model.sharing is none, that of"),
        ({"rate": 16000}, "sample_rate is 16000, that of"),
        ({"array": "circular6_10cm"}, "array.positions_m is "),
        ({"notes": trained(0.0)}, "objective.assignment_options.axis_deg is 0.0, that of"),
    ],
)
def test_another_configuration_is_refused_by_field(tmp_path: Path, changes: dict[str, Any], field: str) -> None:
    first = write(tmp_path / "a", 1, trained(90.0))
    second = write(tmp_path / "b", 2, **changes)
    with pytest.raises(MsdetError) as refused:
        average_checkpoints([first, second], tmp_path / "mean")
    assert str(refused.value).startswith(f"{second}: {field}")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "mean").exists()


def test_wrong_numbers_and_folders_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", 1)
    for folders, weights, message in (
        ([folder], None, "models: 1 given, expected at least two"),
        ([folder, folder], [1.0], "weights: 1 given for 2 models"),
        ([folder, folder], [1.0, -1.0], "expected 0 or more"),
        ([folder, folder], [0.0, 0.0], "not all of them 0"),
        ([folder, tmp_path / "x"], None, "x: no such checkpoint directory"),
    ):
        with pytest.raises(MsdetError, match=message):
            average_checkpoints(folders, tmp_path / "mean", weights)
    with pytest.raises(MsdetError, match="a: exists; choose another folder"):
        average_checkpoints([folder, folder], folder)
