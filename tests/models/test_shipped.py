"""Checkpoints of before load, and give what they gave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile
import torch

from msdet.arrays import load_array
from msdet.cli import main
from msdet.models.checkpoint import load_model, read_description, save_model
from msdet.models.config import ModelConfig
from msdet.models.joint import JointModel

RECORDING = Path(__file__).parents[2] / "docs" / "two_talkers.flac"

OUTPUTS = {  # of commit 8308933: RMS of both waveforms, two samples of each, the highest DoA logits
    "circular6_8k": (
        [0.059167867543628246, 0.01603924151169987],
        [[-0.002179334405809641, 0.027863912284374237], [0.0007448567193932831, 0.00128454458899796]],
        [4, 20],
        [2.706106185913086, 0.05409899353981018],
    ),
    "circular6_16k": (
        [0.009700748890951672, 0.020804023699730573],
        [[-0.005782547872513533, 0.0027218814939260483], [-0.011500624939799309, -0.010516755282878876]],
        [6, 6],
        [-4.938084602355957, -8.080336570739746],
    ),
    "universal_16k": (  # two of four slots are empty; of the commit that shipped these weights
        [0.047601529926247374, 0.012322128582780903, 0.0, 0.0],
        [
            [-0.002067774999886751, 0.042143288999795914], [-0.0006809631595388055, -0.000224774528760463],
            [0.0, 0.0], [0.0, 0.0],
        ],
        [4, 21, 5, 44],
        [-0.6939442753791809, -0.7138658761978149, -2.031285047531128, -4.011714458465576],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OUTPUTS)
def test_shipped_models_give_what_they_always_gave(name: str) -> None:
    """The first two seconds, which models for 16 kHz take for one."""
    audio, _ = soundfile.read(RECORDING, frames=16000, dtype="float32")
    with torch.no_grad():
        output = load_model(name, load_array("circular6_10cm"))(torch.from_numpy(audio.T.copy())[None])
    waveforms, logits = output.waveforms[0].double(), output.doa_logits[0]
    rms, samples, classes, highest = OUTPUTS[name]
    assert waveforms.square().mean(-1).sqrt().tolist() == pytest.approx(rms, rel=1e-4)
    for samples_now, samples_then in zip(waveforms[:, 8000:8002].tolist(), samples, strict=True):
        assert samples_now == pytest.approx(samples_then, rel=1e-3, abs=1e-6)
    assert logits.argmax(-1).tolist() == classes
    assert logits.amax(-1).tolist() == pytest.approx(highest, rel=1e-3)


def test_shipped_models_are_listed_with_what_they_serve(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    listed = capsys.readouterr().out
    assert "circular6_8k  8000 Hz, 2 talkers, array circular6_10cm, 6 microphones" in listed
    assert "universal_16k  16000 Hz, 1 to 4 talkers, any array" in listed


def test_settings_of_before_are_read_under_todays_names(tmp_path: Path) -> None:
    causal = {"causal": True, "time_constant_s": 2.0, "update_interval": 4}
    config = ModelConfig(
        variable_num_speakers=True,
        encoder_options={"hidden": 8, "group": 16, "causal": True},
        front_end_options=causal,
        doa_options=causal,
        separation_options={"causal": True, "update_interval": 4},
    )
    save_model(tmp_path, JointModel(config, load_array("circular4_5cm"), 8000), {})
    text = (tmp_path / "model.json").read_text()
    for today, before in (
        ("variable_num_speakers", "vacancy"),
        ("time_constant_s", "memory_s"),
        ("update_interval", "every"),
    ):
        assert today in text
        text = text.replace(f'"{today}"', f'"{before}"')
    (tmp_path / "model.json").write_text(text)
    assert load_model(tmp_path).config == config
    assert read_description(tmp_path)["model"]["doa_options"] == causal


def test_options_of_a_users_own_part_keep_their_names(tmp_path: Path) -> None:
    settings = {"front_end": "mine:FrontEnd", "front_end_options": {"every": 2}, "vacancy": False}
    description = {"schema": 1, "sample_rate": 8000, "array": {}, "model": settings}
    (tmp_path / "model.json").write_text(json.dumps(description))
    assert read_description(tmp_path)["model"] == {
        "front_end": "mine:FrontEnd",
        "front_end_options": {"every": 2},
        "variable_num_speakers": False,
    }
