"""Checkpoint directories: the same outputs after loading, and a mismatch names the field."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from msdet.arrays import load_array
from msdet.errors import MsdetError
from msdet.models.config import ModelConfig
from msdet.models.joint import JointModel
from msdet.training.checkpoint import load_model, read_description, save_model

SMALL: dict[str, Any] = {"encoder_options": {"hidden": 8, "group": 8}}
CONFIGS = {
    "steered": ModelConfig(**SMALL),
    "sibling": ModelConfig(
        front_end="real_imaginary", doa_head="pooled", separation_head="reference_mask", **SMALL
    ),
    "filtered": ModelConfig(separation_options={"filter_taps": 2}, **SMALL),
}


def make(config: ModelConfig) -> JointModel:
    torch.manual_seed(0)
    model = JointModel(config, load_array("circular4_5cm"), 8000).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn(parameter.shape)
    return model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tmp_path / "model", make(CONFIGS["steered"]), {"step": 3})
    return tmp_path / "model"


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_loaded_model_gives_the_same_outputs(config: ModelConfig, tmp_path: Path) -> None:
    model = make(config)
    save_model(tmp_path / "model", model, {"step": 3, "scores": {"dev/loss": 1.0}})
    loaded = load_model(tmp_path / "model")
    assert (loaded.config, loaded.array, loaded.sample_rate) == (model.config, model.array, 8000)
    assert not loaded.training
    mixture = torch.randn(1, 4, 4000)
    with torch.no_grad():
        expected, found = model(mixture), loaded(mixture)
    torch.testing.assert_close(found.waveforms, expected.waveforms, rtol=0, atol=0)
    torch.testing.assert_close(found.doa_logits, expected.doa_logits, rtol=0, atol=0)
    assert read_description(tmp_path / "model")["notes"]["step"] == 3
    assert {p.name for p in (tmp_path / "model").iterdir()} == {"model.json", "model.safetensors"}


def change(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    description = json.loads((folder / "model.json").read_text())
    edit(description)
    (folder / "model.json").write_text(json.dumps(description))


def test_missing_folder_or_file_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(MsdetError, match="nowhere: no such checkpoint directory"):
        load_model(tmp_path / "nowhere")
    (folder / "model.safetensors").unlink()
    with pytest.raises(MsdetError, match=r"model\.safetensors: no such file"):
        load_model(folder)
    (folder / "model.json").unlink()
    with pytest.raises(MsdetError, match=r"model\.json: no such file"):
        load_model(folder)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: d["model"].update(windw_s=0.03), "unknown key 'windw_s'; did you mean 'window_s'"),
        (lambda d: d["model"].update(encoder="ft_gr"), "did you mean 'ft_gru'"),
        (lambda d: d["model"].update(encoder_options={"hiden": 8}), "did you mean 'hidden'"),
        (lambda d: d.update(schema=2), "not a description of an msdet model"),
        (lambda d: d.pop("array"), "key 'array' is missing"),
        (lambda d: d.pop("sample_rate"), "key 'sample_rate' is missing"),
        (lambda d: d["array"].pop("positions_m"), "array: key 'positions_m' is missing"),
        (lambda d: d.update(model=[1]), "model"),
        (lambda d: d.update(sample_rate="fast"), "sample_rate"),
    ],
)
def test_faulty_description_names_file_and_field(
    folder: Path, edit: Callable[[dict[str, Any]], Any], message: str
) -> None:
    change(folder, edit)
    with pytest.raises(MsdetError, match=message):
        load_model(folder)


def test_weights_of_another_size_are_named(folder: Path) -> None:
    change(folder, lambda d: d["model"].update(encoder_options={"hidden": 9, "group": 8}))
    with pytest.raises(MsdetError, match=r"\(.*\), the configuration expects \(.*\)"):
        load_model(folder)


def test_tampered_weights_are_named(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    for damaged, message in (
        (
            tensors | {"doa_head.frequency": torch.zeros(7)},
            r"doa_head\.frequency is \(7,\), the configuration expects \(\d+,\)",
        ),
        (tensors | {"extra": torch.zeros(2)}, r"extra is \(2,\), the configuration expects absent"),
        ({k: v for k, v in tensors.items() if k != "doa_head.trust"}, r"doa_head\.trust is missing"),
    ):
        save_file(damaged, path)
        with pytest.raises(MsdetError, match=message):
            load_model(folder)


@pytest.mark.parametrize("content", [b"", b"\x80\x02}q\x00.", b"not tensors at all"])
def test_weights_in_another_format_are_refused(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(MsdetError, match="not readable as safetensors"):
        load_model(folder)


def test_model_that_cannot_be_written_leaves_the_old_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill while writing leaves description and weights of one and the same model."""
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    def no_space(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("msdet.training.checkpoint.save_file", no_space)
    with pytest.raises(MsdetError, match=r"model\.safetensors: cannot be written \(No space left"):
        save_model(folder, make(CONFIGS["sibling"]), {"step": 9})
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
