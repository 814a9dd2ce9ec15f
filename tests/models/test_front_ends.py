"""Every front end in the package keeps the contract; those that are bound to no array serve any."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from msdet.arrays import MicrophoneArray, load_array
from msdet.dsp.spatial import highest_peaks, pick_peaks
from msdet.dsp.streaming_state import running_mean
from msdet.errors import MsdetError
from msdet.models.config import ModelConfig
from msdet.models.frontends import (
    FRONT_ENDS,
    ArrayGeometry,
    FrontEndOutput,
    FrontEndSizes,
    build_front_end,
    reference_level,
    running_rms_normalize,
)
from msdet.models.joint import JointModel

RATE = 8000
FREQS = 17
CLASSES = 24
NAMES = FRONT_ENDS.names()
CAUSAL = [name for name in NAMES if "causal" in inspect.signature(FRONT_ENDS.find(name)).parameters]
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "steered": [{"peaks": 2}, {"peaks": 1, "causal": True}],
    "stft": [{"compression": 0.5, "relative": True}, {"compression": 0.3, "causal": True}],
}
CASES = [
    pytest.param(name, options, id="-".join([name, *options]))
    for name in NAMES
    for options in [{}, *([{"causal": True}] if name in CAUSAL else []), *OPTIONS.get(name, [])]
]
ANY_ARRAY = {
    "steered": {"front_end": "steered", "front_end_options": {"peaks": 1}},
    "tac": {"front_end": "tac", "doa_head": "pooled", "separation_head": "masked_mvdr"},
    "tac_to_beam": {"front_end": "tac"},
    "srp_map": {"front_end": "srp_map", "encoder": "direction_cnn", "doa_head": "map_peaks"}
    | {"separation_head": "directional_filter", "encoder_options": {"hidden": 8, "dilations": [1]}}
    | {"separation_options": {"hidden": [8, 8], "refiner_options": {"hidden": 8}}},
}
SMALL: dict[str, Any] = {"encoder_options": {"hidden": 8, "group": 8}}
every_front_end = pytest.mark.parametrize(("name", "options"), CASES)
any_array = pytest.mark.parametrize("parts", ANY_ARRAY.values(), ids=ANY_ARRAY.keys())


def build(name: str, options: dict[str, Any], array: str = "circular4_5cm", talkers: int = 2) -> Any:
    torch.manual_seed(0)
    geometry = ArrayGeometry(load_array(array), FREQS, RATE, CLASSES)
    return cast(nn.Module, build_front_end(name, options, FrontEndSizes(geometry, talkers))).eval()


def spectrum(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))


@every_front_end
@pytest.mark.parametrize("frames", [1, 2, 9])
def test_shapes_for_any_number_of_frames(name: str, options: dict[str, Any], frames: int) -> None:
    front_end = build(name, options, talkers=3)
    x = spectrum(2, 4, FREQS, frames)
    seen: FrontEndOutput = front_end(x)
    directions = getattr(front_end, "bins_out", None)
    shape = (FREQS, frames) if directions is None else (directions, -(-frames // front_end.group))
    assert seen.features.shape == (2, *shape, front_end.features_out)
    assert directions in (None, CLASSES)
    assert torch.isfinite(seen.features).all()
    assert seen.spectrum is x
    assert seen.seed_logits is None or seen.seed_logits.shape == (2, 3, 24)
    assert seen.level is not None
    assert seen.level.shape == (2, 1, frames if front_end.causal else 1)
    assert front_end.causal == options.get("causal", False)
    assert (seen.elevation_deg is None) == (directions is None)


@every_front_end
def test_silence_is_finite(name: str, options: dict[str, Any]) -> None:
    x = spectrum(1, 4, FREQS, 6)
    x[..., :3] = 0.0  # a recording that starts with digital silence
    for silent in (x, torch.zeros_like(x)):
        assert torch.isfinite(build(name, options)(silent).features).all()


@every_front_end
def test_phase_is_kept_or_not_as_declared(name: str, options: dict[str, Any]) -> None:
    front_end = build(name, options)
    x = spectrum(1, 4, FREQS, 9)
    turned = x * torch.polar(torch.ones(FREQS, 9), 2 * torch.pi * torch.rand(FREQS, 9))
    keeps = getattr(front_end, "keeps_phase", False)
    seen = front_end(x)
    change = (front_end(turned).features - seen.features).norm() / seen.features.norm()
    assert seen.keeps_phase == keeps
    assert change > 0.5 if keeps else change < 1e-3


@every_front_end
def test_items_of_a_batch_do_not_touch(name: str, options: dict[str, Any]) -> None:
    front_end = build(name, options)
    x = spectrum(2, 4, FREQS, 6)
    alone = torch.cat([front_end(x[:1]).features, front_end(x[1:]).features])
    torch.testing.assert_close(front_end(x).features, alone, atol=1e-4, rtol=1e-4)


@every_front_end
def test_gradient_reaches_every_parameter(name: str, options: dict[str, Any]) -> None:
    front_end = build(name, options)
    features = front_end(spectrum(2, 4, FREQS, 6)).features
    if not list(front_end.parameters()):
        assert not features.requires_grad
        return
    features.square().sum().backward()
    for parameter_name, parameter in front_end.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), parameter_name


@every_front_end
def test_declared_causality_is_true(name: str, options: dict[str, Any]) -> None:
    front_end = build(name, options)
    x = spectrum(1, 4, FREQS, 10)
    changed = torch.cat([x[..., :6], 30.0 * x[..., 6:].flip(1)], dim=-1)
    level = float(changed[:, 0].abs().square().mean().sqrt())  # the model scales by what is yet to come
    before, after = front_end(x).features, front_end(changed / level).features
    same = torch.isclose(before, after, atol=1e-3, rtol=1e-3).all(-1).all(1)[0]
    past = 6 // getattr(front_end, "group", 1)
    assert not same[past:].any()
    assert same[:past].all() == front_end.causal


@every_front_end
def test_arrays_that_a_front_end_is_not_bound_to_change_no_weight(name: str, options: dict[str, Any]) -> None:
    front_ends = [build(name, options, array) for array in ("circular4_5cm", "circular6_10cm")]
    shapes = [{k: v.shape for k, v in f.state_dict().items()} | {"": f.features_out} for f in front_ends]
    assert (shapes[0] == shapes[1]) == (not front_ends[0].array_bound)


def permuted(array: MicrophoneArray, order: list[int]) -> MicrophoneArray:
    return MicrophoneArray("permuted", tuple(array.positions_m[i] for i in order), order.index(array.reference))


def model(parts: dict[str, Any], array: MicrophoneArray, rate: int = RATE) -> JointModel:
    torch.manual_seed(0)
    built = JointModel(ModelConfig(**(SMALL | parts)), array, rate).eval()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter += 0.02 * torch.randn(parameter.shape)
    return built


@any_array
@pytest.mark.parametrize("order", [[0, 3, 1, 2], [2, 0, 1, 3]], ids=["reference_first", "reference_second"])
def test_the_order_of_the_microphones_does_not_matter(parts: dict[str, Any], order: list[int]) -> None:
    array = load_array("circular4_5cm")
    mixture = torch.randn(1, 4, 3000, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = model(parts, array)(mixture)
        found = model(parts, permuted(array, order))(mixture[:, order])
    torch.testing.assert_close(found.waveforms, expected.waveforms, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(found.doa_logits, expected.doa_logits, atol=1e-3, rtol=1e-3)


@any_array
@pytest.mark.parametrize("rate", [8000, 16000])
def test_one_set_of_weights_serves_several_arrays(parts: dict[str, Any], rate: int) -> None:
    weights = model(parts, load_array("circular6_10cm"), rate).state_dict()
    for array in ("circular6_10cm", "circular4_5cm", "circular8_10cm"):
        other = model(parts, load_array(array), rate)
        other.load_state_dict(weights)
        with torch.no_grad():
            output = other(torch.randn(1, other.array.microphones, rate // 8))
        assert output.waveforms.shape == (1, 2, rate // 8)
        assert torch.isfinite(output.waveforms).all()
        assert torch.isfinite(output.doa_logits).all()


CAUSAL_HEADS: dict[str, dict[str, Any]] = {
    "reference_mask": {},
    "complex_mapping": {},
    "multi_frame_filter": {},
    "masked_mvdr": {"causal": True, "loading": 1e-3},
}


@any_array
def test_a_model_is_placed_at_another_array(parts: dict[str, Any]) -> None:
    arrays = [load_array(name) for name in ("circular6_10cm", "circular4_5cm")]
    turned = MicrophoneArray("turned", arrays[1].positions_m, 2)
    placed = model(parts, arrays[0])
    for array in (arrays[1], turned, arrays[0]):
        fresh = model(parts, array)
        fresh.load_state_dict(placed.state_dict())
        placed.place(array)
        mixture = torch.randn(1, array.microphones, 2000, generator=torch.Generator().manual_seed(2))
        with torch.no_grad():
            torch.testing.assert_close(placed(mixture).waveforms, fresh(mixture).waveforms)
            torch.testing.assert_close(placed(mixture).doa_logits, fresh(mixture).doa_logits)


def test_a_model_that_is_bound_to_its_array_is_not_placed_at_another() -> None:
    bound = model({"front_end": "stft", "doa_head": "pooled"}, load_array("circular4_5cm"))
    with pytest.raises(MsdetError, match=r"is for the array 'circular4_5cm' alone.*front end 'stft' cannot serve"):
        bound.place(load_array("circular6_10cm"))


def test_features_of_directions_are_for_heads_that_take_them() -> None:
    with pytest.raises(MsdetError, match="'srp_map' gives features of directions, which DoA head 'steered' does not"):
        model({"front_end": "srp_map"}, load_array("circular4_5cm"))


@pytest.mark.parametrize("front_end", CAUSAL)
@pytest.mark.parametrize(("head", "options"), CAUSAL_HEADS.items(), ids=CAUSAL_HEADS.keys())
def test_causal_model_does_not_look_ahead(front_end: str, head: str, options: dict[str, Any]) -> None:
    """Front end, encoder, head and the recording's scale: only the STFT's window is waited for."""
    config = ModelConfig(
        window_s=0.016,
        front_end=front_end,
        front_end_options={"causal": True},
        encoder_options={**SMALL["encoder_options"], "causal": True},
        doa_head="pooled",
        separation_head=head,
        separation_options=options,
    )
    torch.manual_seed(0)
    causal = JointModel(config, load_array("circular4_5cm"), RATE).eval()
    mixture = torch.randn(1, 4, 3000, generator=torch.Generator().manual_seed(2))
    changed = torch.cat([mixture[..., :2000], 5.0 * mixture[..., 2000:].flip(1)], dim=-1)
    with torch.no_grad():
        before, after = causal(mixture).waveforms, causal(changed).waveforms
    difference = (before - after).abs()
    assert difference[..., 2000:].max() > 1e-2
    assert difference[..., : 2000 - 128].max() <= 1e-4 * before.abs().max()


def test_further_peaks_are_added_after_what_is_there_without(mixture_spectrum: Tensor) -> None:
    plain, more = (build("steered", {"peaks": peaks})(mixture_spectrum) for peaks in (0, 2))
    assert torch.equal(plain.seed_logits, more.seed_logits)
    head = 12 + 1  # responses of every second class, and the level
    talkers, peaks = 2, 2
    torch.testing.assert_close(more.features[..., :head], plain.features[..., :head], rtol=0, atol=0)
    for block in range(4):  # response there, level, real and imaginary part of each peak's beam
        start, all_start = head + block * talkers, head + block * (talkers + peaks)
        torch.testing.assert_close(
            more.features[..., all_start : all_start + talkers],
            plain.features[..., start : start + talkers],
            rtol=1e-5,
            atol=1e-6,
        )


@pytest.fixture
def mixture_spectrum() -> Tensor:
    return spectrum(2, 4, FREQS, 20)


def test_causal_seeds_end_where_those_of_the_whole_recording_are(mixture_spectrum: Tensor) -> None:
    whole, causal = (build("steered", {"causal": causal})(mixture_spectrum) for causal in (False, True))
    torch.testing.assert_close(causal.seed_logits, whole.seed_logits, atol=1e-2, rtol=1e-2)
    # the last frame's beams are those of the whole recording
    torch.testing.assert_close(causal.features[:, :, -1, 13:15], whole.features[:, :, -1, 13:15], atol=1e-2, rtol=1e-2)


def test_highest_peaks_come_first_and_picked_peaks_ascend() -> None:
    grid_rad = torch.arange(72) * (2 * torch.pi / 72)
    response = sum(
        height * torch.exp(20.0 * (torch.cos(grid_rad - torch.deg2rad(torch.tensor(a))) - 1.0))
        for a, height in ((300.0, 1.0), (20.0, 0.8), (150.0, 0.6))
    )
    assert isinstance(response, Tensor)
    found = highest_peaks(response[None], 3)[0]
    torch.testing.assert_close(found, torch.tensor([300.0, 20.0, 150.0]), atol=0.5, rtol=0)
    torch.testing.assert_close(pick_peaks(response[None], 2)[0], found[:2].flip(0), atol=0, rtol=0)


def test_running_level_is_that_of_the_frames_so_far() -> None:
    x = spectrum(2, 3, FREQS, 5)
    scaled, level, _ = running_rms_normalize(x, 1)
    for frame in range(5):
        expected = x[:, 1, :, : frame + 1].abs().square().mean((1, 2)).sqrt()
        torch.testing.assert_close(level[:, 0, frame], expected)
    torch.testing.assert_close(reference_level(x[:, 1])[:, 0, 0], level[:, 0, -1])
    torch.testing.assert_close(scaled[:, 1, :, 0].abs().square().mean(-1), torch.full((2,), FREQS - 1.0))
    torch.testing.assert_close(running_mean(x.abs(), 2)[0][:, :, -1], x.abs().mean(2))


OWN = """
from torch import nn
from msdet.models.frontends import FrontEndOutput


class Levels(nn.Module):
    causal, array_bound = True, False

    def __init__(self, sizes, offset=0.0):
        super().__init__()
        self.features_out, self.offset = 1, offset
        self.reference = sizes.geometry.reference

    def forward(self, spectrum):
        level = spectrum[:, self.reference, ..., None].abs().log1p() + self.offset
        return FrontEndOutput(spectrum, level, None)


class Unsaid(Levels):
    def __init__(self, sizes):
        super().__init__(sizes)
        del self.features_out


class NoModule:
    features_out, causal, array_bound = 1, True, False

    def __init__(self, sizes):
        pass
"""


def test_front_end_of_a_user_works_by_import_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_front_ends.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    array = load_array("circular4_5cm")
    config = ModelConfig(
        front_end="own_front_ends:Levels",
        front_end_options={"offset": 1.0},
        doa_head="pooled",
        separation_head="complex_mapping",
        **SMALL,
    )
    assert JointModel(config, array, RATE)(torch.randn(1, 4, 2000)).waveforms.shape == (1, 2, 2000)
    for front_end, message in (("Unsaid", "has no attribute 'features_out'"), ("NoModule", "is not a torch")):
        with pytest.raises(MsdetError, match=f"front end 'own_front_ends:{front_end}' {message}"):
            JointModel(ModelConfig(front_end=f"own_front_ends:{front_end}"), array, RATE)


@pytest.mark.parametrize(
    ("front_end", "options", "message"),
    [
        ("tacc", {}, "unknown front end 'tacc'; did you mean 'tac'"),
        ("steered", {"peeks": 1}, "front end 'steered' has no option 'peeks'; did you mean 'peaks'"),
        ("steered", {"peaks": -1}, "peaks is -1, expected 0 or more"),
        ("tac", {"directions": 73}, "directions is 73, expected 1 to 72"),
        ("real_imaginary", {"geometry": 1}, "no option 'geometry'"),
    ],
)
def test_wrong_name_or_option_is_named(front_end: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(MsdetError, match=message):
        JointModel(ModelConfig(front_end=front_end, front_end_options=options), load_array("circular4_5cm"), RATE)


def test_another_number_of_channels_is_named() -> None:
    with pytest.raises(MsdetError, match="mixture has 6 channels, the model's array 'circular4_5cm' has 4"):
        model({}, load_array("circular4_5cm"))(torch.randn(1, 6, 2000))


def test_compressed_magnitudes_keep_their_phases() -> None:
    leveled = spectrum(2, 4, FREQS, 9)
    real, imaginary = build("stft", {"compression": 0.5}).features(leveled).permute(0, 3, 1, 2).split(4, dim=1)
    compressed = torch.complex(real, imaginary)
    assert torch.allclose(compressed.abs(), leveled.abs().sqrt(), atol=1e-5)
    assert torch.allclose(compressed.angle(), leveled.angle(), atol=1e-5)


def test_silence_stays_silent_when_compressed() -> None:
    features = build("stft", {"compression": 0.5}).features(torch.zeros(1, 4, FREQS, 3, dtype=torch.complex64))
    assert not features.any()


def test_relative_parts_come_after_the_spectra() -> None:
    leveled = spectrum(2, 4, FREQS, 9)
    plain, both = (build("stft", options).features(leveled) for options in ({}, {"relative": True}))
    assert torch.equal(both[..., :8], plain)
    assert torch.equal(both[..., 8:], build("real_imaginary", {}).features(leveled))


@pytest.mark.parametrize("compression", [0.0, -0.5, 1.5])
def test_a_compression_that_is_none_is_refused(compression: float) -> None:
    with pytest.raises(MsdetError, match=rf"compression is {compression}, expected above 0 to 1"):
        build("stft", {"compression": compression})
