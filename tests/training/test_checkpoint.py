"""Checkpoint directories: the same outputs after loading, and a mismatch names the field."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from msdet.arrays import load_array
from msdet.cli import main
from msdet.components import allowing
from msdet.errors import CodeNotAllowedError, MsdetError
from msdet.io import audio
from msdet.models.checkpoint import load_model, read_description, save_model
from msdet.models.config import ModelConfig
from msdet.models.joint import JointModel
from msdet.training.config import TrainConfig
from msdet.training.run import train
from msdet.training.transfer import transfer

SMALL: dict[str, Any] = {"encoder_options": {"hidden": 8, "group": 8}}
CONFIGS = {
    "steered": ModelConfig(**SMALL),
    "sibling": ModelConfig(front_end="real_imaginary", doa_head="pooled", separation_head="reference_mask", **SMALL),
    "filtered": ModelConfig(separation_options={"filter_taps": 2}, **SMALL),
    "any_array": ModelConfig(
        front_end="tac",
        front_end_options={"hidden": 8, "causal": True},
        doa_head="pooled",
        separation_head="masked_mvdr",
        **SMALL,
    ),
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
        (lambda d: d.update(sample_rate=10**15), "model.json: describes no model that can be built"),
        (lambda d: d["model"].update(doa_classes=300_000), "model.doa_classes is 300000, expected 8 to 720"),
        (lambda d: d["model"].update(talkers=10**6), "model.talkers is 1000000, expected 1 to 16"),
        (lambda d: d["model"]["encoder_options"].update(blocks=200_000), "that is larger than its weights"),
        (lambda d: d["model"]["encoder_options"].update(hidden=60_000), "that is larger than its weights"),
        (lambda d: d["model"].update(talkers="2"), "model.json: describes no model that can be built"),
        (lambda d: d.update(notes=[1]), r"model.json: notes is \[1\], expected dict"),
    ],
)
def test_faulty_description_names_file_and_field(
    folder: Path, edit: Callable[[dict[str, Any]], Any], message: str
) -> None:
    change(folder, edit)
    with pytest.raises(MsdetError, match=message):
        load_model(folder)


@pytest.mark.parametrize("part", ["front_end", "encoder", "sharing", "doa_head", "separation_head", "refiner"])
def test_a_description_calls_nothing_but_networks(folder: Path, tmp_path: Path, part: str) -> None:
    """`torch.hub.load` runs a file of anybody's choice, and takes any further options."""
    (tmp_path / "hubconf.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nentry = dict\n")
    options = {"repo_or_dir": str(tmp_path), "model": "entry", "source": "local"}
    named = {part: "torch.hub:load", f"{part.removesuffix('_head')}_options": options}
    settings: dict[str, Any] = (
        named
        if part != "refiner"
        else {"separation_options": {"refiner": named["refiner"], "refiner_options": options, "passes": 2}}
    )
    change(folder, lambda d: d["model"].update(settings))
    refused = pytest.raises(MsdetError, match=r"'torch.hub:load' is not a torch.nn.Module")
    with allowing(["torch"]), refused:
        load_model(folder)
    assert not (tmp_path / "ran").exists()


def test_a_task_that_is_none_is_refused(folder: Path) -> None:
    change(folder, lambda d: d["model"].update(tasks={"os:system": {"command": "true"}}))
    refused = pytest.raises(MsdetError, match=r"task 'os:system' has no Head that is a torch.nn.Module")
    with allowing(["os"]), refused:
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


def test_model_that_cannot_be_written_leaves_the_old_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill while writing leaves description and weights of one and the same model."""
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    def no_space(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("msdet.models.checkpoint.save_file", no_space)
    with pytest.raises(MsdetError, match=r"model\.safetensors: cannot be written \(No space left"):
        save_model(folder, make(CONFIGS["sibling"]), {"step": 9})
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


@pytest.mark.parametrize("name", ["steered", "any_array"])
def test_model_serves_another_array_with_the_same_weights(name: str, tmp_path: Path) -> None:
    model = make(CONFIGS[name])
    save_model(tmp_path / "model", model, {})
    other = load_model(tmp_path / "model", load_array("circular6_10cm"))
    assert other.array.name == "circular6_10cm"
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[key]), key
    with torch.no_grad():
        assert other(torch.randn(1, 6, 4000)).waveforms.shape == (1, 2, 4000)


@pytest.mark.parametrize(
    ("config", "part"),
    [
        (CONFIGS["sibling"], "front end 'real_imaginary'"),
        (ModelConfig(separation_head="multi_frame_filter", **SMALL), "separation head 'multi_frame_filter'"),
    ],
    ids=["front_end", "head"],
)
@pytest.mark.parametrize("array", ["circular6_10cm", "circular4_10cm"])
def test_model_bound_to_its_array_says_so(config: ModelConfig, part: str, array: str, tmp_path: Path) -> None:
    """Also where the other array has as many microphones, so that the weights would fit."""
    save_model(tmp_path / "model", make(config), {})
    assert load_model(tmp_path / "model", load_array("circular4_5cm")).array.name == "circular4_5cm"
    with pytest.raises(
        MsdetError, match=f"is for the array 'circular4_5cm' alone, not for '{array}': {part} cannot serve"
    ):
        load_model(tmp_path / "model", load_array(array))


def test_array_that_no_model_serves_is_refused(folder: Path) -> None:
    with pytest.raises(MsdetError, match="array 'linear4_5cm' is linear"):
        load_model(folder, load_array("linear4_5cm"))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: d.update(sample_rate=16000), "sample_rate 8000, model.json beside it says 16000"),
        (lambda d: d["model"].update(talkers=3), "talkers 2, model.json beside it says 3"),
        (lambda d: d["model"].update(doa_classes=36), "doa_classes 72, model.json beside it says 36"),
        (lambda d: d["array"].update(name="mine"), "array circular4_5cm, model.json beside it says mine"),
    ],
    ids=["sample_rate", "talkers", "classes", "array"],
)
def test_weights_beside_another_description_name_both_values(
    folder: Path, edit: Callable[[dict[str, Any]], Any], message: str
) -> None:
    change(folder, edit)
    with pytest.raises(MsdetError, match=rf"model\.safetensors: is of a model with {message}"):
        load_model(folder)


def test_separate_takes_another_array(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recording, bound = tmp_path / "recording.wav", tmp_path / "bound"
    rng = np.random.default_rng(0)
    audio.write(recording, 0.1 * rng.standard_normal((6, 4000)).astype(np.float32), 8000)
    save_model(bound, make(CONFIGS["sibling"]), {})
    for model, code in ((folder, 0), (bound, 2)):
        out = tmp_path / f"out{code}"
        arguments = ["separate", str(recording), "--model", str(model), "--out", str(out)]
        assert main([*arguments, "--array", "circular6_10cm"]) == code
    described = json.loads((tmp_path / "out0" / "doa.json").read_text())
    assert described["array"]["name"] == "circular6_10cm"
    assert "for the array 'circular4_5cm' alone, not for 'circular6_10cm'" in capsys.readouterr().err
    assert not (tmp_path / "out2").exists()


class Killed(BaseException):
    """What ends a training in the middle."""


def test_own_parts_are_free_in_training_and_named_when_the_model_is_loaded(
    make_config: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = tmp_path / "imported"
    (tmp_path / "own_trained.py").write_text(
        f"open({str(imported)!r}, 'w').close()\nfrom msdet.models.encoders.mingru import FTMinGRU as Encoder\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = make_config(ModelConfig(encoder="own_trained:Encoder", **SMALL))
    out = tmp_path / "run"

    def kill(line: str) -> None:
        if line.startswith("step "):
            raise Killed

    with pytest.raises(Killed):
        train(out, config, kill)
    lines: list[str] = []
    train(out, config, lines.append)
    assert f"{out}: going on from the last checkpoint" in lines and (out / "training.json").is_file()
    sys.modules.pop("own_trained")
    imported.unlink()
    with pytest.raises(CodeNotAllowedError, match=r"encoder 'own_trained:Encoder'.*--allow-code own_trained "):
        load_model(out)
    there = make(ModelConfig(**SMALL))  # the same weights, of msdet's own
    assert not transfer(there, out).unused
    assert not imported.exists() and "own_trained" not in sys.modules
