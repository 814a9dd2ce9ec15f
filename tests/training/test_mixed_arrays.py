"""Training on many arrays at once: a bank for each, every batch of one, validation on its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError
from msdet.inference.model import load
from msdet.models.checkpoint import read_description
from msdet.models.config import ModelConfig
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.rir.bank import RirBank, make_bank
from msdet.training.config import ObjectiveConfig, TrainConfig
from msdet.training.loaders import load_data, loaders
from msdet.training.run import train

MakeConfig = Callable[..., TrainConfig]
ANY = ModelConfig(
    talkers=3,
    variable_num_speakers=True,
    window_s=0.032,
    front_end="srp_map",
    encoder="direction_cnn",
    encoder_options={"hidden": 8, "dilations": [1]},
    doa_head="map_peaks",
    separation_head="directional_filter",
    separation_options={"hidden": [8, 8], "refiner_options": {"hidden": 8, "outputs": 8}},
    tasks={"direction_map": {}},
)


@pytest.fixture(scope="session")
def banks(tmp_path_factory: pytest.TempPathFactory, small_room: SceneDistribution) -> Path:
    """Banks of three arrays: a circle of four, a line, and a frame."""
    root = tmp_path_factory.mktemp("banks")
    for n, array in enumerate(("circular4_5cm", "linear4_5cm", "chime_tablet")):
        distribution = dataclasses.replace(small_room, array=array, minimum_gap_deg=0.0, position_error_m=0.001)
        make_bank(root / f"{n}", distribution, 2, 4, n, 1)
    return root


@pytest.fixture
def mixed(make_config: MakeConfig, banks: Path, small_room: SceneDistribution) -> TrainConfig:
    scenes = dataclasses.replace(small_room, talkers={1: 1, 2: 1}, minimum_gap_deg=0.0)
    config = make_config(ANY, {"bank": banks, "scenes": scenes}, steps=6, validate_every=3)
    return dataclasses.replace(config, objective=ObjectiveConfig(assignment="doa_anchored", separation_loss="snr"))


def test_a_batch_is_of_one_array(mixed: TrainConfig) -> None:
    data = load_data(mixed.data, mixed.model, 0)
    assert [array.name for array in data.arrays] == ["circular4_5cm", "linear4_5cm", "chime_tablet"]
    assert data.array.name == data.dev.scene_set.array.name
    batches = list(loaders(data, mixed)[0])
    for batch in batches:
        number = int(batch["array"][0])
        assert (batch["array"] == number).all()
        assert batch["mixture"].shape[1] == data.arrays[number].microphones
    again = load_data(mixed.data, mixed.model, 0)
    loaders(again, mixed)
    assert torch.equal(again.train[5]["mixture"], data.train[5]["mixture"])
    numbers = {int(data.train[2 * n]["array"]) for n in range(12)}
    assert numbers == {0, 1, 2}


def test_labels_are_what_an_array_can_tell(mixed: TrainConfig) -> None:
    data = load_data(mixed.data, mixed.model, 0)
    lines = [example for n in range(12) if int((example := data.train[n])["array"]) == 1]
    assert lines
    for example in lines:
        azimuths = example["azimuth_deg"][example["active"]]
        assert (azimuths <= 180.0).all()
        assert (example["elevation_deg"][example["active"]] == 0.0).all()


def test_a_model_learns_from_all_and_serves_others(mixed: TrainConfig, dev_set: SceneSet, tmp_path: Path) -> None:
    lines: list[str] = []
    train(tmp_path / "model", mixed, lines.append)
    assert any("step" in line for line in lines)
    model = load(tmp_path / "model", array=dev_set.array)
    assert model.array.name == dev_set.array.name
    assert model.training is not None and model.training.array is None
    scenes = read_description(tmp_path / "model")["notes"]["training"]["data"]["scenes"]
    assert scenes["array"] == "3 arrays"
    assert scenes["distance_m"] == [0.8, 1.5]
    assert scenes["position_error_m"] == 0.001
    for name in ("circular6_10cm", "linear8_3cm"):
        other = load(tmp_path / "model", array=name)
        result = other(torch.randn(other.array.microphones, 16_000).numpy(), 8000)
        assert 1 <= result.count <= 3


def test_weights_do_not_depend_on_where_a_run_was_interrupted(mixed: TrainConfig, tmp_path: Path) -> None:
    def interrupt(line: str) -> None:
        if line.startswith("step      3/6"):
            raise InterruptedError

    mixed = dataclasses.replace(mixed, optimizer=dataclasses.replace(mixed.optimizer, ema=0.9))
    train(tmp_path / "whole", mixed, lambda line: None)
    with pytest.raises(InterruptedError):
        train(tmp_path / "parts", mixed, interrupt)
    lines: list[str] = []
    train(tmp_path / "parts", mixed, lines.append)
    assert lines[0].endswith("going on from the last checkpoint")
    whole, parts = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "parts"))
    assert whole == parts


def test_a_bound_model_is_refused(make_config: MakeConfig, banks: Path, tmp_path: Path) -> None:
    bound = ModelConfig(front_end="real_imaginary", encoder_options={"hidden": 8, "group": 8}, doa_head="pooled")
    with pytest.raises(MsdetError, match="front end 'real_imaginary' cannot serve another"):
        train(tmp_path / "model", make_config(bound, {"bank": banks}), lambda line: None)


def test_a_folder_without_banks_is_no_bank(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(ANY, {"bank": tmp_path})
    with pytest.raises(MsdetError, match=r"not a finished RIR bank, bank\.json is missing"):
        load_data(config.data, config.model, 0)


def test_rooms_of_a_bank_have_microphones_misplaced(banks: Path, small_room: SceneDistribution) -> None:
    bank = RirBank.open(banks / "0")
    assert bank.settings["position_error_m"] == 0.001
    bank.check_for(small_room)
    with pytest.raises(MsdetError, match=r"position_error_m 0\.001, 0\.01 is asked for"):
        bank.check_for(dataclasses.replace(small_room, position_error_m=0.01))
