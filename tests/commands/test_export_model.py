"""`msdet export-model`: what it prints is measured, what it cannot do it says in a line."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from msdet.arrays import load_array
from msdet.cli import main
from msdet.data.scene_set import SceneSet
from msdet.export import formats
from msdet.io.files import read_json, write_json
from msdet.models.checkpoint import save_model
from msdet.models.config import ModelConfig
from msdet.models.joint import JointModel


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small model that has an output for nobody, and two more tasks."""
    config = ModelConfig(
        variable_num_speakers=True,
        front_end="real_imaginary",
        doa_head="pooled",
        separation_head="reference_mask",
        encoder_options={"hidden": 8, "group": 8},
        window_s=0.032,
        tasks={"activity": {}, "t60": {}},
    )
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model")
    save_model(path, JointModel(config, load_array("circular4_5cm"), 8000), {"license": "CC0-1.0"})
    return path


def test_weights_in_eight_bits_and_what_they_cost(
    folder: Path, tmp_path: Path, dev_set: SceneSet, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model.onnx"
    options = ["--precision", "int8", "--stft", "inside", "--data", str(dev_set.root)]
    assert main(["export-model", str(folder), "--out", str(out), *options]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "left out: t60" in printed.out
    assert "weights in int8, STFT inside" in printed.out
    assert re.search(r"real-time factor on one core: onnxruntime \d\.\d+, PyTorch \d\.\d+", printed.out)
    gains = re.findall(r"SI-SDRi (-?\d+\.\d+) dB, DoA error (\d+\.\d+)°", printed.out)
    assert len(gains) == 2
    assert abs(float(gains[0][0]) - float(gains[1][0])) < 1.0
    outputs = formats.onnx_runner(out.read_bytes())(np.random.default_rng(0).standard_normal((3, 4, 3001), np.float32))
    assert {name: value.shape for name, value in outputs.items()} == {
        "estimates": (3, 2, 3001),
        "doa": (3, 2, 72),
        "occupancy": (3, 2),
        "activity": (3, 2, 25),
    }
    assert {node.domain for node in onnx.load(out).graph.node} == {""}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "onx"], "onx"),
        (["--out", "model.pt2"], "model.pt2: the name of a file of format onnx must end in .onnx"),
        (["--format", "torch"], "model.onnx: the name of a file of format torch must end in .pt2"),
        (
            ["--format", "torch", "--out", "x.pt2", "--precision", "int8"],
            "precision is 'int8', but a file of format torch has",
        ),
        (["--data", "nowhere"], "nowhere"),
    ],
)
def test_bad_options_are_one_line_and_leave_nothing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["export-model", str(folder), "--out", str(tmp_path / "model.onnx"), *options]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert message in told
    assert not list(tmp_path.iterdir())


def test_a_missing_package_says_what_to_install(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(formats.NEEDED, "onnx", ("no_such_runtime",))
    assert main(["export-model", str(folder), "--out", str(tmp_path / "model.onnx")]) == 2
    assert capsys.readouterr().err == ("error: format onnx needs no_such_runtime: pip install 'msdet[export]'\n")


def test_a_data_set_of_another_array_of_the_same_name_is_refused(
    folder: Path, dev_set: SceneSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    description = read_json(folder / "model.json")
    description["array"]["positions_m"][0][0] += 0.01
    moved = Path(shutil.copytree(folder, tmp_path / "moved"))
    write_json(moved / "model.json", description)
    out = tmp_path / "model.onnx"
    assert main(["export-model", str(moved), "--out", str(out), "--data", str(dev_set.root)]) == 2
    assert "its array 'circular4_5cm' has other coordinates than 'circular4_5cm'" in capsys.readouterr().err
    assert not out.exists()
