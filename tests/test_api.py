"""The public API: what `import msdet` shows, and the lines of the README."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import msdet
from msdet.cli import main
from msdet.conventions import Array
from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError
from msdet.io import audio
from msdet.models.checkpoint import save_model
from msdet.models.config import ModelConfig
from msdet.models.joint import JointModel

RATE = 8000
PUBLIC = {
    "MicrophoneArray", "Model", "SceneDistribution", "SceneSet", "Separation", "Streamer", "load",
    "load_array", "score", "simulate",
}  # fmt: skip
TRAINING_ONLY = ("lightning", "asteroid", "matplotlib", "torchmetrics", "pyroomacoustics", "optuna", "dask")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("model")
    array = msdet.load_array("circular4_5cm")
    save_model(root, JointModel(ModelConfig(window_s=0.032), array, RATE), {})
    return root


@pytest.fixture
def mixture(dev_set: SceneSet) -> Array:
    return dev_set.mixture(dev_set.scenes[0])


def test_names_are_shown_and_imported_when_used() -> None:
    assert PUBLIC <= set(msdet.__all__) <= set(dir(msdet))
    assert all(callable(getattr(msdet, name)) for name in PUBLIC)
    with pytest.raises(AttributeError, match="'msdet' has no attribute 'lode'"):
        msdet.lode  # noqa: B018
    code = "import sys, msdet; print([name for name in ('torch', 'numpy', 'scipy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_inference_needs_nothing_of_training(tmp_path: Path, folder: Path, mixture: Array) -> None:
    audio.write(tmp_path / "x.wav", mixture, RATE)
    code = f"""
import sys, msdet
for name in {TRAINING_ONLY}:
    sys.modules[name] = None  # importing it fails
model = msdet.load({str(folder)!r})
model.separate_file({str(tmp_path / "x.wav")!r}, {str(tmp_path / "out")!r})
assert callable(msdet.Streamer)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "out" / "doa.json").is_file()


def test_a_file_is_separated_as_by_the_command(tmp_path: Path, folder: Path, mixture: Array) -> None:
    audio.write(tmp_path / "x.wav", mixture, RATE)
    described = msdet.load(folder).separate_file(str(tmp_path / "x.wav"), tmp_path / "api")
    assert len(described["talkers"]) == 2
    assert main(["separate", str(tmp_path / "x.wav"), "--out", str(tmp_path / "cli"), "--model", str(folder)]) == 0
    names = sorted(path.name for path in (tmp_path / "cli").iterdir())
    assert names == ["doa.json", "talker1.wav", "talker2.wav", "talkers.rttm"]
    for name in names:
        assert (tmp_path / "api" / name).read_bytes() == (tmp_path / "cli" / name).read_bytes(), name


def test_a_batch_gives_each_mixture_its_separation(folder: Path, mixture: Array) -> None:
    model = msdet.load(folder)
    batch = np.stack([mixture, 0.5 * mixture[:, ::-1]])
    results = model(batch, RATE)
    assert len(results) == 2
    np.testing.assert_array_equal(results[0].estimates, model(mixture, RATE).estimates)


def test_tensors_give_tensors_and_arrays_give_arrays(folder: Path, mixture: Array) -> None:
    model = msdet.load(folder)
    arrays, tensors = model(mixture, RATE), model(torch.from_numpy(mixture), RATE)
    assert isinstance(arrays.estimates, np.ndarray) and isinstance(tensors.estimates, torch.Tensor)
    for name in ("estimates", "azimuth_deg", "confidence", "track_deg", "activity", "time_s"):
        value = getattr(tensors, name)
        assert value.device == torch.device("cpu")
        np.testing.assert_array_equal(value.numpy(), getattr(arrays, name))


def test_a_model_is_moved_to_a_device_there_is(folder: Path) -> None:
    model = msdet.load(folder)
    assert model.to("cpu") is model
    if not torch.cuda.is_available():
        with pytest.raises(MsdetError, match="device is 'cuda', which cannot be used"):
            model.to("cuda")


def test_a_stream_is_separated_by_a_loaded_model(
    tmp_path: Path, write_causal_model: Callable[..., Path], mixture: Array
) -> None:
    streamer = msdet.Streamer(msdet.load(write_causal_model(tmp_path / "causal")))
    pieces = [streamer.push(mixture[:, :5000]), streamer.push(mixture[:, 5000:]), streamer.finish()]
    assert sum(piece.estimates.shape[1] for piece in pieces) == mixture.shape[1]


def test_estimates_are_scored_into_a_table(
    make_set: Callable[..., SceneSet], write_estimates: Callable[..., Path]
) -> None:
    scene_set = make_set([[10.0, 100.0], [30.0, 200.0]])
    table = msdet.score(str(scene_set.root), str(write_estimates(scene_set)))
    assert len(table.rows["estimates"]) == 2
    assert "SI-SDRi" in str(table)
