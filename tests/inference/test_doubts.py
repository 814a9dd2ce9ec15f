"""What speaks against a result is told: a recording far from the training, and another number of talkers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import msdet
from msdet.arrays import MicrophoneArray, load_array
from msdet.cli import main
from msdet.conventions import SPEED_OF_SOUND, Array, direction_vector
from msdet.inference.activity import Levels
from msdet.inference.blocks import BlockOptions
from msdet.inference.offline import RecordingSystem, SystemFactory, prepare
from msdet.inference.sources import MemorySource
from msdet.inference.training_range import TrainingRange, flattened
from msdet.io import audio
from msdet.methods.base import Separation
from msdet.models.checkpoint import read_description

RATE = 8000
HEXAGON = load_array("circular6_10cm")


def heard(
    azimuths_deg: list[float], array: MicrophoneArray = HEXAGON, seconds: float = 12.0, noise: float = 0.03
) -> Array:
    """Bursts of noise from each direction at times of their own, ``(mic, time)``."""
    rng = np.random.default_rng(0)
    size = round(seconds * RATE)
    frequency_hz = np.fft.rfftfreq(size, 1 / RATE)
    mixture = np.zeros((array.microphones, size))
    for azimuth_deg in azimuths_deg:
        loud = np.repeat(rng.permutation(np.linspace(0.0, 1.0, -(-size // 2000))) ** 3, 2000)[:size]
        lead_s = array.positions @ direction_vector(azimuth_deg) / SPEED_OF_SOUND
        spectrum = np.fft.rfft(loud * rng.standard_normal(size))
        mixture += np.fft.irfft(spectrum * np.exp(2j * np.pi * frequency_hz * lead_s[:, None]), size)
    mixture += noise * mixture.std() * rng.standard_normal(mixture.shape)
    return (0.1 * mixture).astype(np.float32)


def levels(speech_db: float, floor_db: float) -> Levels:
    counted = Levels()
    for level_db in (speech_db, floor_db):
        counted.add(np.full(1000, 10 ** (level_db / 20)), 100)
    return counted


@pytest.fixture
def trained() -> TrainingRange:
    found = TrainingRange.of(read_description("circular6_8k"))
    assert found is not None
    return found


def test_the_description_of_a_model_tells_its_training(trained: TrainingRange) -> None:
    assert trained.array is not None and trained.array.name == "circular6_10cm" and trained.snr_db == 20.0
    assert TrainingRange.of(read_description("universal_16k")) == TrainingRange(None, -5.0)
    assert TrainingRange.of({"notes": {}}) is None
    assert TrainingRange.of({"notes": {"training": {"data": {"scenes": {"snr_db": "loud"}}}}}) is None


def test_what_is_as_in_training_is_left_alone(trained: TrainingRange) -> None:
    assert trained.compare(HEXAGON, levels(-20.0, -50.0)) == ((), 1.0)
    assert trained.compare(load_array("circular4_5cm"), levels(-20.0, -50.0)) == ((), 1.0)  # measured to be as good
    confidence = np.array([0.3, 0.99, np.nan])
    np.testing.assert_array_equal(flattened(confidence, 1.0), confidence)


@pytest.mark.parametrize(
    ("array", "of", "message"),
    [
        ("respeaker_usb_4mic_square", levels(-20.0, -50.0), "are 4.5 cm apart, not 10.0 cm"),
        ("circular6_10cm", levels(-20.0, -24.0), "dB above the noise, not 20 dB or more"),
        ("circular6_10cm", levels(-70.0, -100.0), "speech is at -70 dB of full scale"),
    ],
)
def test_what_is_not_is_named(array: str, of: Levels, message: str, trained: TrainingRange) -> None:
    ((told,), temperature) = trained.compare(load_array(array), of)
    assert message in told
    assert temperature > 1.3 or "full scale" in told


def test_confidences_fall_and_keep_their_order() -> None:
    confidence = np.linspace(0.01, 1.0, 50)
    warm, hot = flattened(confidence, 1.5), flattened(confidence, 3.0)
    assert (hot <= warm).all() and (warm <= confidence).all() and (np.diff(hot) >= 0).all()
    assert warm[45] < 0.75  # of 0.92


def test_another_array_is_told_in_the_command_and_in_python(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    usb = load_array("respeaker_usb_4mic_square")
    mixture = heard([80.0, 230.0], usb, 4.0)
    audio.write(tmp_path / "in.wav", mixture, RATE)
    options = ["--model", "circular6_8k", "--array", usb.name, "--json"]
    assert main(["localize", str(tmp_path / "in.wav"), *options]) == 0
    printed = capsys.readouterr()
    described = json.loads(printed.out)
    (warning,) = described["warnings"]
    assert f"warning: {warning}\n" in printed.err and "far from what circular6_8k learned from" in warning
    model = msdet.load("circular6_8k", usb)
    result = model(mixture, RATE)
    assert len(result.warnings) == 1 and "confidences are lowered" in result.warnings[0]
    sure = msdet.Model(model.joint, model.folder)(mixture, RATE)  # of which it is not known what it learned from
    assert sure.warnings == ()
    assert (result.confidence < sure.confidence - 0.05).all()
    assert np.nanmax(result.track_confidence) < np.nanmax(sure.track_confidence)
    np.testing.assert_array_equal(result.azimuth_deg, sure.azimuth_deg)


def found(mixture: Array, azimuths_deg: list[float], counts: bool = False, **options: Any) -> Separation:
    """What a system that always finds these directions gives."""

    def separate(block: Array) -> Separation:
        return Separation(block[: len(azimuths_deg)], np.array(azimuths_deg), np.full(len(azimuths_deg), 0.9))

    system = RecordingSystem(separate, HEXAGON, RATE, len(azimuths_deg), "fixed", counts=counts)
    offline = prepare(SystemFactory(HEXAGON, lambda *_: system), MemorySource(mixture, RATE), BlockOptions(**options))
    assert list(offline.pieces())
    return offline.talkers()[1]


@pytest.mark.parametrize("seconds", [12.0, 30.0])
def test_a_third_talker_is_told_where(seconds: float) -> None:
    mixture = heard([40.0, 160.0, 280.0], seconds=seconds)
    (warning,) = found(mixture, [40.0, 160.0]).warnings
    assert "more than 2 talkers" in warning and "come from about 280°" in warning
    assert found(mixture, [40.0, 160.0, 280.0]).warnings == ()
    assert found(mixture, [40.0, 160.0], counts=True).warnings == ()


def test_one_talker_who_became_two_is_told() -> None:
    mixture = heard([130.0])
    (split,) = found(mixture, [129.0, 132.0]).warnings
    assert "perhaps fewer than 2 talkers: two were found 3° apart" in split
    (nobody,) = found(mixture, [130.0, 250.0]).warnings
    assert "perhaps fewer than 2 talkers: no loud moment, or hardly one, comes from 250°" in nobody
    assert found(heard([130.0, 250.0]), [130.0, 250.0]).warnings == ()


def test_where_nobody_speaks_that_is_said_and_not_that_there_are_no_directions(
    run: Callable[..., tuple[Array, Separation]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def silent(mixture: Array) -> Separation:
        return Separation(mixture[1:3], np.array([40.0, 200.0]), activity=np.zeros((2, 40)))

    mixture = 0.01 * np.random.default_rng(0).standard_normal((4, 20 * RATE), dtype=np.float32)
    _, talkers = run(silent, mixture, block_s=4.0, overlap_s=1.0)
    assert talkers.azimuth_deg is not None and np.isnan(talkers.azimuth_deg).all()
    assert talkers.warnings == ("mixture: nobody is found to speak",)
