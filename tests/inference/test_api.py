"""`msdet.load`, and voices estimated once more by a beamformer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

import msdet
from msdet.arrays import MicrophoneArray, load_array
from msdet.data.scene_set import SceneSet
from msdet.dsp.spatial import decode_azimuth
from msdet.errors import MsdetError
from msdet.inference.blocks import BlockOptions
from msdet.io import audio
from msdet.methods.base import Separation
from msdet.methods.masks import mvdr_separator
from msdet.methods.trained import model_separator
from msdet.models.checkpoint import save_model
from msdet.models.config import ModelConfig
from msdet.models.joint import JointModel
from msdet.scoring.separation_metrics import si_sdr
from msdet.tasks.tracking import decode_track

RATE = 8000
Array = npt.NDArray[Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained default model, which is the classical chain."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("model")
    save_model(root, JointModel(ModelConfig(window_s=0.032), load_array("circular4_5cm"), RATE), {})
    return root


@pytest.fixture
def mixture(dev_set: SceneSet) -> Array:
    """A mixture of the small set."""
    return dev_set.mixture(dev_set.scenes[0])


def test_a_model_is_loaded_and_called(folder: Path, mixture: Array) -> None:
    model = msdet.load(str(folder), options=BlockOptions(highpass_hz=0.0))
    assert (model.sample_rate, model.talkers, model.array.microphones) == (RATE, 2, 4)
    result = model(mixture, RATE)
    expected = model_separator(model.joint)(mixture)
    np.testing.assert_array_equal(result.estimates, expected.estimates)
    np.testing.assert_allclose(result.azimuth_deg, expected.azimuth_deg)
    np.testing.assert_allclose(result.confidence, expected.confidence)
    assert result.track_deg.shape == result.activity.shape == (2, result.time_s.size) == (2, 15)
    assert result.elevation_deg is None and result.warnings == ()


def test_tensors_and_integers_are_taken_too(folder: Path, mixture: Array) -> None:
    model = msdet.load(folder)
    expected = model(mixture, RATE).estimates
    np.testing.assert_array_equal(model(torch.from_numpy(mixture), RATE).estimates, expected)
    whole = model(np.round(mixture * 32768).astype(np.int16), RATE).estimates
    assert si_sdr(expected, whole).min() > 30


def test_voices_are_as_long_as_the_mixture_at_its_rate(folder: Path, mixture: Array) -> None:
    model = msdet.load(folder, options=BlockOptions(highpass_hz=0.0))
    fast = audio.resample(mixture, RATE, 44_100)[:, :-3]
    voices = model(fast, 44_100).estimates
    assert voices.shape == (2, fast.shape[1])
    expected = model_separator(model.joint)(audio.resample(fast, 44_100, RATE)).estimates
    np.testing.assert_allclose(voices, audio.resample(expected, RATE, 44_100)[:, : fast.shape[1]], atol=1e-6)


def test_a_long_recording_is_cut(folder: Path, mixture: Array) -> None:
    model = msdet.load(folder, options=BlockOptions(block_s=2.0, overlap_s=0.5))
    long = np.tile(mixture, 6)
    result = model(long, RATE)
    assert result.estimates.shape == (2, long.shape[1])
    np.testing.assert_allclose(result.azimuth_deg, model(mixture, RATE).azimuth_deg, atol=3.0)


def test_an_array_may_be_given_by_name_or_itself(folder: Path) -> None:
    assert msdet.load(folder, "circular4_10cm").array.name == "circular4_10cm"
    assert msdet.load(folder, load_array("circular6_10cm")).array.microphones == 6


def test_a_dead_channel_is_left_out(folder: Path, mixture: Array) -> None:
    """Voices are nearly those of all channels; with silence left in they are not."""
    model = msdet.load(folder)
    whole = model(mixture, RATE).estimates
    mixture[2] = 0.0
    result = model(mixture, RATE)
    assert result.warnings == ("mixture: channel 2 is dead",)
    spoiled = model_separator(model.joint)(mixture).estimates
    assert si_sdr(whole, result.estimates).min() > si_sdr(whole, spoiled).max() + 3


def test_a_model_of_one_array_alone_is_told_to_suffer_from_a_dead_channel(mixture: Array, tmp_path: Path) -> None:
    config = ModelConfig(window_s=0.032, front_end="real_imaginary")
    save_model(tmp_path, JointModel(config, load_array("circular4_5cm"), RATE), {})
    mixture[2] = 0.0
    warnings = msdet.load(tmp_path)(mixture, RATE).warnings
    assert warnings[0] == "mixture: channel 2 is dead"
    assert "the dead channels are used all the same" in warnings[1] and "real_imaginary" in warnings[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.T, r"mixture is \(12000, 4\), expected \(mic, time\): transpose it"),
        (lambda x: x[0], r"mixture has 1 axes, expected \(mic, time\)"),
        (lambda x: x[:2], "has 2 channels, the array 'circular4_5cm' has 4"),
        (lambda x: x * np.nan, "holds NaN"),
        (lambda x: x > 0, "mixture is of type bool"),
    ],
)
def test_what_is_no_mixture_is_refused(change: Any, message: str, folder: Path, mixture: Array) -> None:
    with pytest.raises(MsdetError, match=message):
        msdet.load(folder)(change(mixture), RATE)


def test_options_that_do_not_work_are_refused(folder: Path, mixture: Array) -> None:
    with pytest.raises(MsdetError, match="sample_rate is 0"):
        msdet.load(folder)(mixture, 0)
    with pytest.raises(MsdetError, match="device is 'nonsense', which cannot be used"):
        msdet.load(folder, device="nonsense")
    with pytest.raises(MsdetError, match="no such checkpoint directory"):
        msdet.load("/nowhere")


def test_what_auxiliary_tasks_say_is_passed_on(mixture: Array) -> None:
    torch.manual_seed(0)
    config = ModelConfig(window_s=0.032, tasks={"activity": {}, "tracking": {}})
    model = JointModel(config, load_array("circular4_5cm"), RATE).eval()
    found = model_separator(model)(mixture)
    assert found.activity is not None and found.track_deg is not None
    assert found.activity.shape == found.track_deg.shape
    assert len(found.activity) == 2 and found.activity.shape[1] > 50
    assert 0 <= found.activity.min() <= found.activity.max() <= 1
    with torch.no_grad():
        said = model(torch.from_numpy(mixture)[None]).predictions
    bridged = decode_track(said["tracking"], said["activity"].sigmoid())[0][0]  # pauses are bridged
    np.testing.assert_allclose(found.track_deg, bridged.numpy(), atol=1e-3)
    assert not np.allclose(found.track_deg, decode_azimuth(said["tracking"])[0][0].numpy(), atol=1.0)


def test_mvdr_separates_by_what_the_voices_say(dev_set: SceneSet) -> None:
    """Told faint copies of the references, it gains on the mixture, linearly: no voice is made up."""
    scene = dev_set.scenes[0]
    mixture, references = dev_set.mixture(scene), dev_set.references(scene)
    array: MicrophoneArray = dev_set.array
    told = Separation(references.astype(np.float32), np.sort(scene.azimuths_deg))
    found = mvdr_separator(lambda _: told, array, RATE)(mixture)
    assert found.estimates is not None
    before = si_sdr(references, np.repeat(mixture[[array.reference]], 2, axis=0))
    assert (si_sdr(references, found.estimates) - before).min() > 3
    assert found.azimuth_deg is told.azimuth_deg
    louder = mvdr_separator(lambda _: Separation(10 * references.astype(np.float32)), array, RATE)
    again = louder(10 * mixture).estimates
    np.testing.assert_allclose(again, 10 * found.estimates, atol=1e-3 * np.abs(again).max())


def test_mvdr_needs_voices(mixture: Array) -> None:
    only = mvdr_separator(lambda _: Separation(azimuth_deg=np.zeros(2)), load_array("circular4_5cm"), RATE)
    with pytest.raises(MsdetError, match="beamform needs voices"):
        only(mixture)
