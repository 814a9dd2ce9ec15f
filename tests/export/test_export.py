"""Exported models: other programs hear the voices that the model gives, and are told all they need."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from msdet.arrays import load_array
from msdet.conventions import Array
from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError
from msdet.export import writing
from msdet.export.formats import METADATA, METADATA_FILE
from msdet.export.model import ExportedModel
from msdet.export.parity import file_separator, run_on_waveforms
from msdet.export.program import in_real_arithmetic, trace
from msdet.export.recurrence import pack_recurrences
from msdet.export.writing import ExportedFile, export_model
from msdet.io import audio
from msdet.methods.trained import model_separator
from msdet.models.config import ModelConfig
from msdet.models.encoders import ENCODERS
from msdet.models.joint import JointModel

RATE = 8000
PAGE = Path(__file__).resolve().parents[2] / "docs" / "pages" / "export.md"
SMALL = {"encoder_options": {"hidden": 8, "group": 8}, "window_s": 0.032}
SIBLING = ModelConfig(
    front_end="real_imaginary",
    doa_head="pooled",
    separation_head="reference_mask",
    encoder_options={"hidden": 8, "group": 8, "causal": True},
    window_s=0.032,
)


def stirred(config: ModelConfig) -> JointModel:
    """A model whose weights are none that it starts with: masks that are zero would hide what they do."""
    torch.manual_seed(0)
    model = JointModel(config, load_array("circular4_5cm"), RATE).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.03 * torch.randn_like(parameter)
    return model


@pytest.fixture(scope="module")
def model() -> JointModel:
    return stirred(ModelConfig(**SMALL))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def exported(model: JointModel, tmp_path_factory: pytest.TempPathFactory) -> ExportedFile:
    notes = {"training": {"objective": {"assignment": "azimuth"}}, "license": "CC-BY-4.0"}
    return export_model(model, tmp_path_factory.mktemp("onnx") / "model.onnx", notes=notes)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> ExportedFile:
    return export_model(stirred(SIBLING), tmp_path_factory.mktemp("torch") / "model.pt2", "torch", stft="inside")


@pytest.fixture(scope="module")
def mixture(dev_set: SceneSet) -> Array:
    """``(4, time)``, a whole number of hops."""
    return dev_set.mixture(dev_set.scenes[0])[:, : 40 * 128]


def test_the_beam_is_within_the_file_and_its_voices_are_the_models(
    model: JointModel, exported: ExportedFile, mixture: Array
) -> None:
    assert exported.parity.estimates <= 1e-4
    batch = np.stack([mixture, mixture[:, ::-1].copy(), 0.01 * mixture])
    found = run_on_waveforms(model, exported.runner, "outside", batch)
    with torch.inference_mode():
        output = model(torch.from_numpy(batch))
    wanted = output.waveforms.numpy()
    error = np.abs(found["estimates"] - wanted).max(-1) / np.abs(wanted).max(-1)
    assert error.max() <= 1e-4
    np.testing.assert_allclose(found["doa"], output.doa_logits.softmax(-1), atol=1e-4)


def test_a_separator_of_the_file_finds_what_the_models_finds(
    model: JointModel, exported: ExportedFile, mixture: Array
) -> None:
    found = file_separator(model, exported.runner, "outside")(mixture)
    wanted = model_separator(model)(mixture)
    np.testing.assert_allclose(found.azimuth_deg, wanted.azimuth_deg, atol=0.1)
    np.testing.assert_allclose(found.confidence, wanted.confidence, atol=1e-3)


def test_a_file_says_what_it_is_and_nothing_of_where_it_was_made(exported: ExportedFile) -> None:
    content = exported.path.read_bytes()
    written = onnx.load_from_string(content)
    said = json.loads({prop.key: prop.value for prop in written.metadata_props}[METADATA])
    assert said["sample_rate"] == RATE
    assert said["array"]["positions_m"] == [list(p) for p in load_array("circular4_5cm").positions_m]
    assert said["stft"]["window_samples"] == 2 * said["stft"]["hop_samples"] == 256
    assert said["azimuth_deg"] == [5.0 * k for k in range(72)]
    assert (said["talkers"], said["assignment"], said["license"]) == (2, "azimuth", "CC-BY-4.0")
    axes = [d.dim_param or d.dim_value for d in written.graph.input[0].type.tensor_type.shape.dim]
    assert axes == ["batch", 4, 129, "frame", 2]
    assert {output.name for output in written.graph.output} == set(said["outputs"]) == {"estimates", "doa"}
    for trace_of_place in (str(Path.cwd()), str(Path(torch.__file__).parent), "program.py"):
        assert trace_of_place.encode() not in content


def test_the_example_of_the_documentation_needs_no_msdet(
    model: JointModel, exported: ExportedFile, mixture: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    code = next(block for block in blocks if "onnxruntime" in block)
    assert set(re.findall(r"^import (\w+)", code, re.MULTILINE)) <= {"json", "numpy", "onnxruntime", "soundfile", "sys"}
    (tmp_path / "consumer.py").write_text(code, encoding="utf-8")
    audio.write(tmp_path / "mixture.wav", mixture[:, :-37], RATE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["consumer.py", str(exported.path), "mixture.wav"])
    runpy.run_path("consumer.py", run_name="__main__")
    heard = np.pad(mixture[:, :-37], ((0, 0), (0, 37)))
    with torch.inference_mode():
        wanted = model(torch.from_numpy(heard)[None]).waveforms[0].numpy()
    for talker in (0, 1):
        voice, rate = audio.read(tmp_path / f"talker{talker + 1}.wav")
        assert rate == RATE
        assert voice.shape == (1, mixture.shape[1] - 37)
        peak = np.abs(wanted[talker]).max()
        assert np.abs(voice[0] - wanted[talker, :-37]).max() <= 1e-3 * peak + 2**-15


def test_a_program_of_pytorch_takes_waveforms_of_any_length(program: ExportedFile, mixture: Array) -> None:
    said = {METADATA_FILE: ""}
    loaded = torch.export.load(program.path, extra_files=said)
    assert json.loads(said[METADATA_FILE])["stft"]["place"] == "inside"
    assert not any("msdet" in str(node.target) for node in loaded.graph.nodes)
    assert not any(node.meta.get("stack_trace") for node in loaded.graph.nodes)
    sibling = stirred(SIBLING)
    for samples in (2000, 4097):
        heard = torch.from_numpy(mixture[None, :, :samples].copy())
        with torch.inference_mode():
            wanted = sibling(heard).waveforms
            voices, _ = loaded.module()(heard)
        torch.testing.assert_close(voices, wanted, rtol=0, atol=1e-4 * float(wanted.abs().max()))


def test_spectra_stand_in_for_waveforms_exactly(model: JointModel, mixture: Array) -> None:
    heard = torch.from_numpy(mixture)[None]
    with torch.inference_mode():
        spectrum = torch.view_as_real(model.stft(heard))
        voices, *_ = ExportedModel(model, "outside")(spectrum)
        found = model.stft.inverse(torch.view_as_complex(voices.contiguous()), heard.shape[-1])
        wanted = model(heard).waveforms
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-5 * float(wanted.abs().max()))


def test_voices_that_differ_leave_no_file(
    program: ExportedFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a program of another model of the same shape."""
    monkeypatch.setattr(writing, "torch_content", lambda *_: program.path.read_bytes())
    other = JointModel(SIBLING, load_array("circular4_5cm"), RATE).eval()
    with pytest.raises(MsdetError, match=r"model\.pt2: not written: its voices differ from the model's by"):
        export_model(other, tmp_path / "model.pt2", "torch", stft="inside")
    assert not list(tmp_path.iterdir())


class Signs(nn.Module):
    def forward(self, spectrum: Tensor) -> Tensor:
        return torch.view_as_complex(spectrum).sgn().real


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = Signs()

    def forward(self, spectrum: Tensor) -> tuple[Tensor, ...]:
        return (self.head(2 * spectrum),)


def test_a_part_that_cannot_be_exported_is_named() -> None:
    example, lengths = torch.randn(3, 5, 2), {0: "batch"}
    expected = r"^head \(.*Signs\) cannot be exported: it uses sgn of complex numbers$"
    with pytest.raises(MsdetError, match=expected):
        in_real_arithmetic(trace(Network().eval(), example, lengths), example, lengths)


@pytest.mark.parametrize("name", ["conv_tasnet", "dprnn"])
def test_asteroids_networks_are_traced_for_any_length(name: str) -> None:
    torch.manual_seed(0)
    encoder = ENCODERS.find(name)(3, 5, **ENCODERS.fact(name, "tiny", {})).eval()
    traced = trace(encoder, torch.randn(2, 5, 23, 3), {0: "batch", 2: "frame"}).module()
    for frames in (9, 40):
        heard = torch.randn(1, 5, frames, 3)
        with torch.no_grad():
            torch.testing.assert_close(traced(heard), encoder(heard), rtol=1e-4, atol=1e-5)


class SharedRecurrence(nn.Module):
    """One LSTM in two places, used as asteroid does."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.LSTM(3, 3, 2, batch_first=True)
        self.second = self.first

    def forward(self, x: Tensor) -> Tensor:
        self.first.flatten_parameters()
        return self.second(self.first(x)[0], None)[0]


def test_recurrent_layers_are_packed_once() -> None:
    network = SharedRecurrence().eval()
    pack_recurrences(network)
    assert network.first is network.second
    traced = trace(network, torch.randn(2, 5, 3), {0: "batch"})
    assert [str(n.target) for n in traced.graph.nodes].count("msdet.lstm_layer.default") == 4
    assert {name.rpartition(".")[2] for name in traced.state_dict} == {"W0", "R0", "B0", "W1", "R1", "B1"}


def test_the_license_is_that_of_the_package() -> None:
    notes = {"package": {"license": "CC BY 4.0"}, "training": {"objective": {"assignment": "pit"}}}
    model = JointModel(SIBLING, load_array("circular4_5cm"), RATE)
    for given, license, assignment in (
        (notes, "CC BY 4.0", "pit"),
        ({"package": [1], "training": {"objective": "?"}, "license": "CC0"}, "CC0", None),
    ):
        said = writing.describe(model, "outside", ["estimates"], "float32", given)
        assert (said["license"], said["assignment"]) == (license, assignment)
