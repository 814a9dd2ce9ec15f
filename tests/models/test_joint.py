"""Joint models: shapes and gradients of every wiring; untrained, the default is the classical chain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from msdet.arrays import MicrophoneArray, load_array
from msdet.conventions import angular_distance_deg, azimuth_to_class
from msdet.data.dataset import RenderedDataset
from msdet.data.example import Example
from msdet.data.scene_set import SceneSet
from msdet.dsp.beamforming import apply_beam, past_frames, steered_beam_weights, wiener_filter
from msdet.dsp.spatial import (
    decode_azimuth,
    phase_normalize,
    pick_peaks,
    srp_from_covariance,
    srp_phat,
    steered_response,
    von_mises_logits,
    weighted_covariance,
)
from msdet.dsp.stft import Stft
from msdet.errors import MsdetError
from msdet.models.config import ModelConfig
from msdet.models.encoders import ENCODERS
from msdet.models.frontends import ArrayGeometry
from msdet.models.joint import JointModel, JointOutput
from msdet.tasks.labels import batch_labels
from msdet.training.config import ObjectiveConfig
from msdet.training.objective import Objective, ObjectiveTerms

RATE = 8000
SMALL: dict[str, Any] = {"encoder_options": {"hidden": 8, "group": 8}}
WIRINGS = {
    "default": ModelConfig(),
    "steered": ModelConfig(**SMALL),
    "sibling": ModelConfig(front_end="real_imaginary", doa_head="pooled", separation_head="reference_mask", **SMALL),
    "filtered": ModelConfig(
        separation_options={"filter_taps": 2, "refiner_options": {"hidden": 8, "group": 8}}, **SMALL
    ),
    "deep": ModelConfig(separation_options={"frames": 3}, **SMALL),
    "unseeded": ModelConfig(front_end="real_imaginary", **SMALL),
    "vacant": ModelConfig(variable_num_speakers=True, talkers=3, **SMALL),
    "vacant_sibling": ModelConfig(
        variable_num_speakers=True,
        front_end="real_imaginary",
        doa_head="pooled",
        separation_head="reference_mask",
        **SMALL,
    ),
    "apart": ModelConfig(sharing="none", **SMALL),
    "coarse": ModelConfig(doa_classes=36, window_s=0.016, **SMALL),
}
every_wiring = pytest.mark.parametrize("config", WIRINGS.values(), ids=WIRINGS.keys())


@pytest.fixture(scope="module")
def mixture(dev_set: SceneSet) -> Tensor:
    """``(2, 4, 12000)``: two mixtures of two talkers."""
    return torch.from_numpy(np.stack([dev_set.mixture(scene) for scene in dev_set.scenes[:2]]))


@pytest.fixture
def batch(dev_set: SceneSet, config: ModelConfig) -> Example:
    loaded: Example = next(iter(DataLoader(RenderedDataset(dev_set, slots=config.talkers), batch_size=2)))
    return loaded


def judge(model: JointModel, output: JointOutput, batch: Example) -> ObjectiveTerms:
    terms: ObjectiveTerms = Objective(ObjectiveConfig(), model.config)(
        output.predictions, batch_labels(batch, model.stft, model.array.reference, output.level)
    )
    return terms


def build(config: ModelConfig, array: MicrophoneArray, jitter: float = 0.0) -> JointModel:
    """A model; with `jitter`, one that has left its starting point."""
    torch.manual_seed(0)
    model = JointModel(config, array, RATE).eval()
    with torch.no_grad():
        for parameter in model.parameters() if jitter else ():
            parameter += jitter * torch.randn(parameter.shape)
    return model


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@every_wiring
def test_shapes_and_gradients(config: ModelConfig, dev_set: SceneSet, mixture: Tensor, batch: Example) -> None:
    model = build(config, dev_set.array)
    output: JointOutput = model(mixture)
    window = round(config.window_s * RATE)
    freqs, frames = window // 2 + 1, -(-12000 // (window // 2)) + 1  # the end is padded to a whole hop
    assert output.waveforms.shape == (2, config.talkers, 12000)
    assert len(output.spectra) == (2 if "filter_taps" in config.separation_options else 1)
    assert all(s.shape == (2, config.talkers, freqs, frames) and s.is_complex() for s in output.spectra)
    assert output.doa_logits.shape == (2, config.talkers, config.doa_classes)
    assert output.occupancy.shape == (2, config.talkers)
    assert (output.occupancy < 1.0).all() == config.variable_num_speakers
    assert output.features.shape[:3] == (2, freqs, frames)
    assert output.level.shape == (2, 1, 1)
    judge(model, output, batch).total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    assert model.separation_head is not None
    learning = [p for p in model.separation_head.parameters() if p.grad is not None and p.grad.any()]
    assert learning, "the separation head cannot start to learn"


@every_wiring
def test_all_parameters_learn_once_the_model_has_left_its_start(
    config: ModelConfig, dev_set: SceneSet, mixture: Tensor, batch: Example
) -> None:
    model = build(config, dev_set.array, jitter=0.02)
    output = model(mixture)
    judge(model, output, batch).total.backward()
    unused = set() if config.front_end == "steered" else {"doa_head.trust"}  # there is no seed to trust
    for name, parameter in model.named_parameters():
        assert name in unused or (parameter.grad is not None and parameter.grad.any()), name


@pytest.mark.parametrize("config", [ModelConfig(), WIRINGS["coarse"]], ids=["default", "coarse"])
def test_untrained_default_model_is_the_classical_chain(
    config: ModelConfig, dev_set: SceneSet, mixture: Tensor
) -> None:
    model = build(config, dev_set.array)
    with torch.no_grad():
        output = model(mixture)
    stft = Stft(round(config.window_s * RATE))
    geometry = ArrayGeometry(dev_set.array, stft.freqs, RATE, config.doa_classes)
    spectrum = stft(mixture)
    seed = von_mises_logits(pick_peaks(srp_phat(spectrum, geometry.steering), 2), config.doa_classes)
    weights = steered_beam_weights(seed.softmax(-1), geometry.steering, geometry.coherence)
    waveforms = stft.inverse(apply_beam(weights, spectrum), mixture.shape[-1])
    assert relative_error(output.waveforms, waveforms) <= 1e-4
    for found, expected in zip(decode_azimuth(output.doa_logits), decode_azimuth(seed), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-4)


@every_wiring
def test_louder_mixture_gives_louder_talkers_in_the_same_place(
    config: ModelConfig, dev_set: SceneSet, mixture: Tensor
) -> None:
    model = build(config, dev_set.array, jitter=0.02)
    with torch.no_grad():
        quiet, loud = model(mixture), model(10.0 * mixture)
    assert relative_error(loud.waveforms, 10.0 * quiet.waveforms) <= 1e-3
    torch.testing.assert_close(loud.doa_logits, quiet.doa_logits, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(loud.level, 10.0 * quiet.level)


@every_wiring
def test_batch_equals_single_items(config: ModelConfig, dev_set: SceneSet, mixture: Tensor) -> None:
    model = build(config, dev_set.array, jitter=0.02)
    with torch.no_grad():
        together = model(mixture)
        for n in range(2):
            alone = model(mixture[n : n + 1])
            assert relative_error(together.waveforms[n], alone.waveforms[0]) <= 1e-4
            torch.testing.assert_close(together.doa_logits[n], alone.doa_logits[0], atol=5e-3, rtol=1e-3)


@every_wiring
@pytest.mark.parametrize("samples", [1, 100, 3999])
def test_mixture_of_any_length_keeps_its_length(
    config: ModelConfig, dev_set: SceneSet, mixture: Tensor, samples: int
) -> None:
    with torch.no_grad():
        output = build(config, dev_set.array, jitter=0.02)(mixture[..., 3000 : 3000 + samples])
    assert output.waveforms.shape == (2, config.talkers, samples)
    assert torch.isfinite(output.waveforms).all()
    assert torch.isfinite(output.doa_logits).all()


@every_wiring
def test_silence_stays_silent(config: ModelConfig, dev_set: SceneSet) -> None:
    with torch.no_grad():
        output = build(config, dev_set.array, jitter=0.02)(torch.zeros(1, 4, 4000))
    assert torch.isfinite(output.doa_logits).all()
    assert output.waveforms.abs().max() <= 1e-6


def test_half_precision_leaves_the_classical_chain_alone(dev_set: SceneSet, mixture: Tensor) -> None:
    model = build(ModelConfig(**SMALL), dev_set.array)
    with torch.no_grad():
        full = model(mixture)
        with torch.autocast("cpu", torch.bfloat16):
            half = model(mixture)
    assert half.features.dtype == torch.bfloat16
    assert relative_error(half.waveforms, full.waveforms) <= 1e-3
    torch.testing.assert_close(decode_azimuth(half.doa_logits)[0], decode_azimuth(full.doa_logits)[0], atol=0.1, rtol=0)


def test_reference_microphone_of_the_array_is_used(mixture: Tensor) -> None:
    positions = load_array("circular4_5cm").positions_m
    at_2 = build(ModelConfig(**SMALL), MicrophoneArray("other", positions, reference=2))
    with torch.no_grad():
        output = at_2(mixture)
    torch.testing.assert_close(output.level[:, 0, 0], mixture[:, 2].square().mean(-1).sqrt())


def test_three_talkers_and_another_array() -> None:
    config = ModelConfig(talkers=3, **SMALL)
    with torch.no_grad():
        output = build(config, load_array("circular8_10cm"))(torch.randn(1, 8, 4000))
    assert output.waveforms.shape == (1, 3, 4000)
    assert output.doa_logits.shape == (1, 3, 72)


def test_spectrum_and_back_is_the_identity(mixture: Tensor) -> None:
    stft = Stft(256)
    torch.testing.assert_close(stft.inverse(stft(mixture), 12000), mixture, atol=1e-5, rtol=1e-4)


ENCODER = """
import torch


class Mine(torch.nn.Module):
    def __init__(self, features_in: int, width: int = 3) -> None:
        super().__init__()
        self.features_out, self.causal = width, True
        self.layer = torch.nn.Linear(features_in, width)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.layer(features))


class NoModule:
    features_out, causal = 3, True

    def __init__(self, features_in: int) -> None:
        pass
"""


@pytest.fixture
def own_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "encoder_of_a_user.py").write_text(ENCODER)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "encoder_of_a_user"


def test_encoder_of_a_user_works_by_import_path(own_encoder: str, dev_set: SceneSet, mixture: Tensor) -> None:
    config = ModelConfig(encoder=f"{own_encoder}:Mine", encoder_options={"width": 5})
    output = build(config, dev_set.array)(mixture)
    assert output.features.shape[-1] == 5
    assert output.waveforms.shape == (2, 2, 12000)
    output.features.sum().backward()
    with pytest.raises(MsdetError, match="has no option 'widht'; did you mean 'width'"):
        build(ModelConfig(encoder=f"{own_encoder}:Mine", encoder_options={"widht": 5}), dev_set.array)


def test_encoder_that_is_no_module_is_refused(own_encoder: str, dev_set: SceneSet) -> None:
    with pytest.raises(MsdetError, match=r"is not a torch\.nn\.Module"):
        build(ModelConfig(encoder=f"{own_encoder}:NoModule"), dev_set.array)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"front_end": "steerd"}, "unknown front end 'steerd'; did you mean 'steered'"),
        ({"doa_head": "pool"}, "unknown DoA head 'pool'; did you mean 'pooled'"),
        ({"separation_head": "steered_bean"}, "unknown separation head .* did you mean 'steered_beam'"),
        ({"separation_head": "zzz"}, "unknown separation head 'zzz'"),
        ({"encoder": "ft_gruu"}, "unknown encoder .* did you mean 'ft_gru'"),
        ({"encoder_options": {"hiden": 8}}, "encoder 'ft_mingru' has no option 'hiden'; did you mean 'hidden'"),
        ({"separation_options": {"filter_tap": 2}}, "no option 'filter_tap'; did you mean 'filter_taps'"),
        ({"separation_options": {"talkers": 2}}, "no option 'talkers'"),
        ({"window_s": 100.0}, "window_s is 100.0, expected at most 1 s"),
        ({"talkers": 0}, "model.talkers is 0, expected 1 to 16"),
        ({"window_s": 0.0005}, "window_s is 0.0005, which is 4 samples at 8000 Hz"),
        (
            {"separation_options": {"filter_taps": 1, "refiner": "ft_gr"}},
            "unknown encoder 'ft_gr'; did you mean 'ft_gru'",
        ),
    ],
)
def test_wrong_name_or_option_offers_the_nearest(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(MsdetError, match=message):
        JointModel(ModelConfig(**changes), load_array("circular4_5cm"), RATE)


@pytest.mark.parametrize("products", [2**25, 2000])  # at once, and in pieces of a frequency or two
def test_pooled_response_is_the_weighted_mean_of_the_map(
    dev_set: SceneSet, mixture: Tensor, monkeypatch: pytest.MonkeyPatch, products: int
) -> None:
    monkeypatch.setattr("msdet.dsp.spatial._MAX_PRODUCTS", products)
    stft = Stft(128)
    geometry = ArrayGeometry(dev_set.array, stft.freqs, RATE, 36)
    phases = phase_normalize(stft(mixture[..., :2000]))
    weights = torch.rand(2, 3, *phases.shape[2:], generator=torch.Generator().manual_seed(0))
    whole = torch.einsum("bdft,bsft->bsd", steered_response(phases, geometry.steering), weights)
    pooled = srp_from_covariance(weighted_covariance(phases, weights), geometry.steering)
    torch.testing.assert_close(pooled, whole, rtol=1e-4, atol=1e-3)
    response = steered_response(phases, geometry.steering)
    assert response.min() >= 0.0
    assert response.max() <= 1.0 + 1e-5


@pytest.mark.parametrize("frames", [1, 3])
def test_past_frames_come_after_the_present_one(mixture: Tensor, frames: int) -> None:
    spectrum = Stft(128)(mixture)
    past = past_frames(spectrum, frames)
    assert past.shape == (2, 4 * frames, *spectrum.shape[2:])
    for k in range(frames):
        channels = past[:, 4 * k : 4 * (k + 1)]
        torch.testing.assert_close(channels[..., k:], spectrum[..., : spectrum.shape[-1] - k])
        assert not channels[..., :k].any()


def peaked(azimuths_deg: list[float], heights: list[float], directions: int = 72) -> Tensor:
    grid = torch.arange(directions) * (360.0 / directions)
    bumps = [
        h * torch.exp(20.0 * (torch.cos(torch.deg2rad(grid - a)) - 1.0))
        for a, h in zip(azimuths_deg, heights, strict=True)
    ]
    return torch.stack(bumps).sum(0)[None]


@pytest.mark.parametrize("azimuths_deg", [[10.0, 200.0], [2.0, 181.0], [91.3, 358.2], [120.0, 165.0]])
def test_peaks_are_found_between_directions_and_ascend(azimuths_deg: list[float]) -> None:
    for order in (azimuths_deg, azimuths_deg[::-1]):
        found = pick_peaks(peaked(order, [1.0, 0.8]), 2)[0]
        np.testing.assert_allclose(found, azimuths_deg, atol=0.5)


def test_second_peak_keeps_the_gap_from_a_single_bump() -> None:
    found = pick_peaks(peaked([100.0], [1.0]), 2, minimum_gap_deg=15.0)[0]
    assert angular_distance_deg(float(found[0]), float(found[1])) >= 15.0 - 5.0
    assert angular_distance_deg(found.numpy(), 100.0).min() <= 0.5


def test_peaks_are_azimuths_below_360() -> None:
    """A peak a rounding error below 0 degrees is at 0, not at 360."""
    response = torch.zeros(1, 72)
    response[0, 0], response[0, 1], response[0, -1] = 1.0, 0.5, 0.5 + 1e-7
    found = pick_peaks(response, 1)
    assert (found >= 0.0).all() and (found < 360.0).all()
    assert angular_distance_deg(float(found), 0.0) <= 1e-3


def test_seed_is_sure_of_its_azimuth_and_leaves_a_floor() -> None:
    posterior = von_mises_logits(torch.tensor([[357.5, 90.0]]), 72).softmax(-1)[0]
    assert azimuth_to_class(90.0) == posterior[1].argmax()
    assert posterior[1, 17:20].sum() > 0.9
    assert posterior[0, 71] == pytest.approx(float(posterior[0, 0]), rel=1e-4)
    assert posterior.min() > 1e-5


def test_filter_recovers_what_a_linear_filter_can(mixture: Tensor) -> None:
    """The target is a filter of microphones and past frames: the least-squares filter finds it."""
    spectrum = Stft(128)(mixture)
    past = torch.nn.functional.pad(spectrum, (1, 0))[..., :-1]
    desired = (0.7 * spectrum[:, 1] - 0.2j * past[:, 2])[:, None]
    assert relative_error(wiener_filter(spectrum, desired, taps=2, loading=1e-7), desired) <= 0.05
    assert relative_error(wiener_filter(spectrum, desired, taps=1, loading=1e-7), desired) > 0.05


@pytest.mark.parametrize("samples", [1000, 1023, 1024, 1025, 1151, 1279])
def test_resynthesis_has_no_click_at_the_end_whatever_the_length(samples: int) -> None:
    """Regression: the last samples of a masked spectrum were divided by a window that is almost zero."""
    stft = Stft(256)
    torch.manual_seed(samples)
    spectrum = stft(torch.randn(1, 8, samples))
    masked = spectrum * torch.randn_like(spectrum.real)  # no longer the spectrum of any waveform
    waveform = stft.inverse(masked, samples)
    assert waveform.shape == (1, 8, samples)
    assert waveform[..., -16:].abs().max() < 5 * waveform[..., 256:-256].std()


def test_linear_array_is_refused() -> None:
    points = tuple((0.05 * n, 0.0, 0.0) for n in range(4))
    with pytest.raises(MsdetError, match="is linear: it cannot tell a talker from the mirror image"):
        JointModel(ModelConfig(**SMALL), MicrophoneArray("line", points), RATE)


@pytest.mark.parametrize("encoder", [n for n in ENCODERS.names() if not ENCODERS.fact(n, "of_directions", False)])
def test_every_encoder_serves_both_heads(encoder: str) -> None:
    tiny = ENCODERS.fact(encoder, "tiny", {})
    config = ModelConfig(encoder=encoder, encoder_options=tiny)
    model = JointModel(config, load_array("circular4_5cm"), 8000)
    output = model(torch.randn(1, 4, 4000, generator=torch.Generator().manual_seed(0)))
    assert output.waveforms.shape == (1, 2, 4000)
    assert output.doa_logits.shape == (1, 2, 72)
    (output.waveforms.square().mean() + output.doa_logits.square().mean()).backward()
    assert all(p.grad is not None for p in model.sharing.parameters() if p.requires_grad)
