"""Methods of several models: `ensemble` and `folded`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from msdet.arrays import load_array
from msdet.cli import main
from msdet.conventions import angular_distance_deg
from msdet.errors import MsdetError
from msdet.io import audio
from msdet.io.files import read_json
from msdet.methods import build_method
from msdet.methods.base import Oracle, Separation, Separator
from msdet.methods.trained import combined, farther, margin_deg, model_separator
from msdet.models.checkpoint import load_model, save_model
from msdet.models.config import ModelConfig
from msdet.models.joint import JointModel

RATE = 8000
CIRCLE = load_array("circular4_5cm")
Array = npt.NDArray[Any]


def write(folder: Path, seed: int, axis_deg: float | None = None, talkers: int = 2, rate: int = RATE) -> Path:
    """A model that was never trained; its notes say that its slots were ordered about an axis."""
    torch.manual_seed(seed)
    config = ModelConfig(
        talkers=talkers, encoder_options={"hidden": 8, "group": 8}, tasks={"activity": {}, "tracking": {}}
    )
    objective: dict[str, Any] = {"assignment": "azimuth", "assignment_options": {}}
    if axis_deg is not None:
        objective = {"assignment": "folded", "assignment_options": {"axis_deg": axis_deg}}
    model = JointModel(config, CIRCLE, rate)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    save_model(folder, model, {"training": {"objective": objective}})
    return folder


def ordinary(method: str, sample_rate: int = RATE) -> Separator:
    separator = build_method(method, CIRCLE, sample_rate, 2)
    assert not isinstance(separator, Oracle)
    return separator


@pytest.fixture
def mixture() -> Array:
    return np.random.default_rng(1).standard_normal((4, RATE // 2)).astype(np.float32)


def test_an_ensemble_of_a_model_with_itself_is_the_model(tmp_path: Path, mixture: Array) -> None:
    folder = write(tmp_path / "a", 1)
    alone = model_separator(load_model(folder))(mixture)
    together = ordinary(f"ensemble,models={folder}:{folder}:{folder}")(mixture)
    for name in ("estimates", "azimuth_deg", "confidence", "activity", "track_deg"):
        np.testing.assert_allclose(getattr(together, name), getattr(alone, name), rtol=1e-5, atol=1e-6, err_msg=name)


def test_slots_are_aligned_before_they_are_averaged() -> None:
    """The second model has the talkers in the other order, and is less sure."""
    rng = np.random.default_rng(2)
    voices = rng.standard_normal((2, 4000))
    noise = 0.1 * rng.standard_normal((2, 4000))
    first = Separation(voices + noise, np.array([10.0, 200.0]), np.array([0.9, 0.6]))
    second = Separation((voices - noise)[::-1], np.array([190.0, 350.0]), np.array([0.6, 0.3]))
    mean = combined([first, second])
    assert mean.estimates is not None and mean.azimuth_deg is not None and mean.confidence is not None
    np.testing.assert_allclose(mean.estimates, voices, atol=1e-12)
    # 10 and 350 degrees: sides of 0.9 and 0.3 at +-10 degrees
    expected = np.rad2deg(np.arctan2(0.6 * np.sin(np.deg2rad(10)), 1.2 * np.cos(np.deg2rad(10))))
    assert mean.azimuth_deg == pytest.approx([expected, 195.0])
    assert mean.confidence[1] == pytest.approx(0.6 * np.cos(np.deg2rad(5)))


def test_azimuths_decide_where_voices_do_not() -> None:
    alike = np.ones((2, 1)) * np.random.default_rng(3).standard_normal((1, 4000))
    first = Separation(alike, np.array([10.0, 200.0]), np.array([1.0, 1.0]))
    second = Separation(alike, np.array([198.0, 12.0]), np.array([1.0, 1.0]))
    assert combined([first, second]).azimuth_deg == pytest.approx([11.0, 199.0])


def test_a_talker_whom_one_model_does_not_find_is_the_others() -> None:
    voices = np.random.default_rng(4).standard_normal((2, 4000))
    both = Separation(voices, np.array([10.0, 200.0]), np.array([1.0, 1.0]))
    one = Separation(voices[1:], np.array([202.0]), np.array([1.0]))
    mean = combined([both, one])
    assert mean.azimuth_deg == pytest.approx([10.0, 201.0])
    np.testing.assert_allclose(mean.estimates, voices)  # type: ignore[arg-type]
    assert combined([one, both]).count == 1


@pytest.mark.parametrize(
    ("azimuths_deg", "axis"),
    [
        ([30.0, 330.0], 90),  # mirrored about 0
        ([350.0, 10.0], 90),
        ([60.0, 120.0], 0),  # mirrored about 90
        ([200.0, 340.0], 0),
        ([20.0, 310.0], 90),  # angles of 20 and 50 to 0, of 70 and 140 to 90
        ([0.0, 180.0], 0),
        ([90.0, 270.0], 90),
        ([100.0], 0),  # no seam
        ([40.0, 320.0, 180.0], 90),  # the nearest two decide
    ],
)
def test_folded_takes_the_axis_farther_from_its_seam(azimuths_deg: list[float], axis: int) -> None:
    assert [0, 90][farther([np.array(azimuths_deg)], [0.0, 90.0])] == axis
    assert [0, 90][1 - farther([np.array(azimuths_deg)], [90.0, 0.0])] == axis or len(azimuths_deg) == 1


def test_margin_by_hand() -> None:
    assert margin_deg(np.array([20.0, 310.0]), 0.0) == pytest.approx(30.0)
    assert margin_deg(np.array([20.0, 310.0]), 90.0) == pytest.approx(70.0)
    # margins about 0 and 90 degrees: 1 and 59 by the one estimate, 48 and 8 by the other
    assert farther([np.array([30.0, 331.0]), np.array([62.0, 110.0])], [0.0, 90.0]) == 1
    assert farther([np.array([30.0, 331.0]), np.array([50.0, 140.0])], [0.0, 90.0]) == 0  # 90 and 10


def test_folded_gives_what_the_better_model_gives(tmp_path: Path, mixture: Array) -> None:
    folders = [write(tmp_path / "a", 1, 0.0), write(tmp_path / "b", 2, 90.0)]
    found = [model_separator(load_model(folder))(mixture) for folder in folders]
    best = farther([f.azimuth_deg for f in found if f.azimuth_deg is not None], [0.0, 90.0])
    chosen = ordinary(f"folded,models={folders[0]}:{folders[1]}")(mixture)
    np.testing.assert_array_equal(chosen.estimates, found[best].estimates)
    np.testing.assert_array_equal(chosen.azimuth_deg, found[best].azimuth_deg)


def test_recordings_of_another_rate_come_back_at_theirs(tmp_path: Path) -> None:
    """Through `msdet separate` as well."""
    folders = [write(tmp_path / "a", 1), write(tmp_path / "b", 2)]
    samples = np.random.default_rng(5).standard_normal((12001, 4)) * 0.1
    audio.write(tmp_path / "mixture.wav", samples.T, 16000)
    method = f"ensemble,models={folders[0]}:{folders[1]}"
    found = ordinary(method, 16000)(samples.T.astype(np.float32))
    assert found.estimates is not None and found.estimates.shape == (2, 12001)
    arguments = ["--out", str(tmp_path / "out"), "--method", method, "--array", "circular4_5cm"]
    assert main(["separate", str(tmp_path / "mixture.wav"), *arguments]) == 0
    described = read_json(tmp_path / "out" / "doa.json")
    assert described["separated_by"] == method
    assert audio.info(tmp_path / "out" / "talker1.wav").frames == 12001


def test_wrong_models_are_refused_in_one_line(tmp_path: Path) -> None:
    zero, ninety, ordered = (
        write(tmp_path / "zero", 1, 0.0),
        write(tmp_path / "ninety", 1, 90.0),
        write(tmp_path / "ordered", 1),
    )
    three, fast = write(tmp_path / "three", 1, talkers=3), write(tmp_path / "fast", 1, rate=16000)
    unknown = tmp_path / "unknown"
    save_model(unknown, load_model(zero), {})
    for method, message in (
        ("ensemble", "method 'ensemble' needs the option models: ensemble,models=..."),
        (f"ensemble,models={zero}", "method 'ensemble' needs several models"),
        (f"ensemble,models={zero}:{tmp_path}/no", "no: no such checkpoint directory"),
        (f"ensemble,models={zero}:{three}", "three: is for 3 talkers, the recordings have 2"),
        (f"ensemble,models={zero}:{fast}", f"fast: sample rate is 16000, that of {zero} is 8000"),
        (
            f"folded,models={zero}:{ordered}",
            "ordered: was trained with assignment 'azimuth', method 'folded' needs folded",
        ),
        (f"folded,models={zero}:{unknown}", "unknown: was trained with unknown assignment"),
        (f"folded,models={zero}:{zero}", "axis_deg is 0, that of"),
        (f"folded,models={zero}:{ninety}:{zero}", "method 'folded' takes two models, found 3"),
    ):
        with pytest.raises(MsdetError) as refused:
            build_method(method, CIRCLE, RATE, 2)
        assert message in str(refused.value)
        assert "\n" not in str(refused.value)


def test_who_walks_is_separated_along_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model("universal_16k", CIRCLE)
    time = np.linspace(0.0, 1.0, 47)
    grid_deg = 5.0 * np.arange(72)
    tracks_deg = np.stack([60.0 + 80.0 * time, np.full(47, 250.0)])
    apart_deg = angular_distance_deg(grid_deg[:, None, None], tracks_deg)
    logits = torch.from_numpy(9.0 * np.exp(-0.5 * (apart_deg / 8.0) ** 2) - 6.0).amax(1)
    mixture = np.random.default_rng(1).standard_normal((4, 96_000)).astype(np.float32)
    standing = model_separator(model)(mixture)
    assert standing.track_deg is None
    monkeypatch.setattr(model.doa_head, "moments", lambda features: logits[None])
    walking = model_separator(model)(mixture)
    assert walking.estimates is not None and walking.track_deg is not None and walking.azimuth_deg is not None
    assert walking.estimates.shape == (2, 96_000)
    assert angular_distance_deg(walking.track_deg, tracks_deg).mean() < 3.0
    assert walking.azimuth_deg == pytest.approx([100.0, 250.0], abs=3.0)
    assert np.isfinite(walking.estimates).all()
    assert walking.activity is not None and (walking.activity > 0.5).all()
    model.tell(3)  # who are not all heard in the moments
    assert model_separator(model)(mixture).track_deg is None
