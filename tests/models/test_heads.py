"""Every head in the package keeps the contract; what can be worked out by hand comes out so."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from msdet.arrays import load_array
from msdet.data.scene_set import SceneSet
from msdet.dsp.beamforming import masked_mvdr, power_masks
from msdet.dsp.stft import Stft
from msdet.errors import MsdetError
from msdet.losses.separation import si_sdr_db
from msdet.models.config import ModelConfig
from msdet.models.frontends import ArrayGeometry, FrontEndOutput
from msdet.models.heads import DOA_HEADS, SEPARATION_HEADS, HeadSizes, build_head
from msdet.models.joint import JointModel

RATE = 8000
FREQS, WIDTH, CLASSES = 17, 6, 24
TINY = {"refiner_options": {"hidden": 4, "group": 8}}
SEPARATION: dict[str, list[dict[str, Any]]] = {
    "steered_beam": [{"frames": 2}, {"filter_taps": 2, **TINY}, {"second": "mvdr", **TINY}, {"passes": 3, **TINY}],
    "multi_frame_filter": [{"microphones": "reference"}, {"frames": 1}],
    "masked_mvdr": [{"frames": 2}, {"causal": True}],
    "recording_filter": [{"taps": 1, "refiner": "ft_gru", **TINY}],
}
"""Options to test besides the defaults."""


def cases(task: str, options: dict[str, list[dict[str, Any]]]) -> list[Any]:
    registry = {"doa": DOA_HEADS, "separation": SEPARATION_HEADS}[task]
    of_bins = [name for name in registry.names() if not getattr(registry.find(name), "of_directions", False)]
    return [
        pytest.param(name, given, id="-".join([name, *(f"{k}={v}" for k, v in given.items() if k not in TINY)]))
        for name in of_bins
        for given in [{}, *options.get(name, [])]
    ]


every_separation_head = pytest.mark.parametrize(("name", "options"), cases("separation", SEPARATION))
every_doa_head = pytest.mark.parametrize(("name", "options"), cases("doa", {}))
slots = pytest.mark.parametrize("per_slot", [False, True], ids=["together", "per_slot"])


def sizes(talkers: int = 2, per_slot: bool = False, variable_num_speakers: bool = False) -> HeadSizes:
    geometry = ArrayGeometry(load_array("circular4_5cm"), FREQS, RATE, CLASSES)
    return HeadSizes(geometry, WIDTH, talkers, variable_num_speakers, per_slot)


def build(task: str, name: str, options: dict[str, Any], of: HeadSizes, jitter: float = 0.1) -> nn.Module:
    torch.manual_seed(0)
    head = build_head(task, name, options, of).eval()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter += jitter * torch.randn(parameter.shape)
    return head


def seen(of: HeadSizes, batch: int, frames: int) -> tuple[Tensor, FrontEndOutput, Tensor]:
    """Features, observation and azimuth logits as a model would give them."""
    g = torch.Generator().manual_seed(3)
    spectrum = torch.randn(batch, 4, FREQS, frames, dtype=torch.complex64, generator=g)
    shape = (batch, of.talkers) if of.per_slot else (batch,)
    features = torch.randn(*shape, FREQS, frames, WIDTH, generator=g)
    seed, logits = (torch.randn(batch, of.talkers, CLASSES, generator=g) for _ in range(2))
    return features, FrontEndOutput(spectrum, features, seed), 3.0 * logits


def items(given: tuple[Tensor, FrontEndOutput, Tensor], which: slice) -> tuple[Tensor, FrontEndOutput, Tensor]:
    features, observation, logits = given
    assert observation.seed_logits is not None
    part = FrontEndOutput(observation.spectrum[which], features[which], observation.seed_logits[which])
    return features[which], part, logits[which]


@every_separation_head
@slots
@pytest.mark.parametrize("frames", [1, 2, 9])
def test_separation_shapes_for_any_number_of_frames(
    name: str, options: dict[str, Any], per_slot: bool, frames: int
) -> None:
    of = sizes(3, per_slot)
    estimates = build("separation", name, options, of)(*seen(of, 2, frames))
    passes = 3 if name == "recording_filter" else 2 if options.keys() & {"filter_taps", "second"} else 1
    assert len(estimates) == options.get("passes", passes)
    for estimate in estimates:
        assert estimate.shape == (2, 3, FREQS, frames)
        assert estimate.dtype == torch.complex64
        assert torch.isfinite(torch.view_as_real(estimate)).all()


@every_separation_head
@slots
def test_separation_gradient_reaches_every_parameter(name: str, options: dict[str, Any], per_slot: bool) -> None:
    of = sizes(2, per_slot)
    head = build("separation", name, options, of)
    features, observation, logits = seen(of, 2, 6)
    features.requires_grad_()
    estimates = head(features, observation, logits)
    torch.stack([e.abs().square().sum() for e in estimates]).sum().backward()
    for parameter_name, parameter in head.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
    assert features.grad is not None and features.grad.any()


@every_separation_head
@slots
def test_separation_of_a_batch_is_that_of_its_items(name: str, options: dict[str, Any], per_slot: bool) -> None:
    of = sizes(2, per_slot)
    head, given = build("separation", name, options, of), seen(of, 2, 6)
    alone = [head(*items(given, slice(n, n + 1)))[-1] for n in range(2)]
    torch.testing.assert_close(head(*given)[-1], torch.cat(alone), atol=1e-3, rtol=1e-3)


@every_separation_head
def test_slots_with_features_of_their_own_can_change_places(name: str, options: dict[str, Any]) -> None:
    of = sizes(2, per_slot=True)
    head = build("separation", name, options, of)
    features, observation, logits = seen(of, 1, 6)
    swapped = head(features.flip(1), observation, logits.flip(1))[-1]
    torch.testing.assert_close(swapped, head(features, observation, logits)[-1].flip(1), atol=1e-3, rtol=1e-3)


@every_separation_head
def test_declared_causality_is_true(name: str, options: dict[str, Any]) -> None:
    of = sizes()
    head = build("separation", name, options, of)
    features, observation, logits = seen(of, 1, 9)
    level = torch.ones(1, 1, 9)
    later, spectrum = features.clone(), observation.spectrum.clone()
    later[:, :, 6:] += 1.0
    spectrum[..., 6:] *= -3.0
    before = head(features, observation._replace(level=level), logits)[-1]
    after = head(later, FrontEndOutput(spectrum, later, observation.seed_logits, level), logits)[-1]
    difference = (before - after).abs().amax((0, 1, 2))
    assert (difference[6:] > 0.1).all()
    if getattr(head, "causal", False):
        assert (difference[:6] <= 1e-4).all()
    assert getattr(head, "causal", False) == (
        options.get("causal", False) or name in ("reference_mask", "complex_mapping", "multi_frame_filter")
    )


@every_separation_head
def test_a_whole_model_is_as_loud_as_its_input(name: str, options: dict[str, Any]) -> None:
    config = ModelConfig(
        window_s=0.016, encoder_options={"hidden": 4, "group": 8}, separation_head=name, separation_options=options
    )
    torch.manual_seed(0)
    model = JointModel(config, load_array("circular4_5cm"), RATE).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
        mixture = torch.randn(1, 4, 2000)
        quiet, loud = model(mixture).waveforms, model(100.0 * mixture).waveforms
        silent = model(torch.zeros(1, 4, 2000)).waveforms
        with torch.autocast("cpu", torch.bfloat16):
            half = model(mixture).waveforms
    assert quiet.abs().max() > 1e-3
    assert float((loud - 100.0 * quiet).norm() / loud.norm()) <= 1e-3
    assert silent.abs().max() <= 1e-6
    assert 0.0 < float((half - quiet).norm() / quiet.norm()) <= 0.05


def test_complex_mapping_gives_the_spectrum_itself_where_phases_are_kept() -> None:
    of = sizes()
    head = build("separation", "complex_mapping", {}, of)
    features, observation, logits = seen(of, 1, 6)
    turned = torch.polar(torch.ones(FREQS, 6), torch.rand(FREQS, 6))
    for keeps in (True, False):
        plain, again = (
            head(features, FrontEndOutput(x, features, None, keeps_phase=keeps), logits)[0]
            for x in (observation.spectrum, observation.spectrum * turned)
        )
        torch.testing.assert_close(again, plain if keeps else plain * turned, atol=1e-4, rtol=1e-4)


@every_doa_head
@pytest.mark.parametrize("variable_num_speakers", [False, True], ids=["full", "vacant"])
@pytest.mark.parametrize("frames", [1, 9])
def test_doa_shapes_and_gradients(name: str, options: dict[str, Any], variable_num_speakers: bool, frames: int) -> None:
    of = sizes(3, variable_num_speakers=variable_num_speakers)
    head = build("doa", name, options, of)
    features, observation, _ = seen(of, 2, frames)
    logits = head(features, observation)
    assert logits.shape == (2, 3, CLASSES + variable_num_speakers)
    logits.square().sum().backward()
    for parameter_name, parameter in head.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), parameter_name


@every_doa_head
def test_doa_of_a_batch_is_that_of_its_items_and_of_silence_finite(name: str, options: dict[str, Any]) -> None:
    of = sizes()
    head, given = build("doa", name, options, of), seen(of, 2, 6)
    alone = torch.cat([head(*items(given, slice(n, n + 1))[:2]) for n in range(2)])
    torch.testing.assert_close(head(*given[:2]), alone, atol=1e-3, rtol=1e-3)
    silence = FrontEndOutput(torch.zeros_like(given[1].spectrum), given[0], None)
    assert torch.isfinite(head(given[0], silence)).all()


@pytest.mark.parametrize("microphones", ["all", "reference"])
def test_filter_set_by_hand_is_a_delay(microphones: str) -> None:
    """Slot 0 is given microphone 2 two frames ago, or the reference; slot 1 the reference now, times j."""
    of = sizes()
    head: Any = build("separation", "multi_frame_filter", {"frames": 3, "microphones": microphones}, of)
    heard = 4 if microphones == "all" else 1
    chosen = 2 if microphones == "all" else 0
    with torch.no_grad():
        head.filter.linear.weight.zero_()
        bias = torch.zeros(2, 2, 3, heard)  # slot, real and imaginary, frames ago, microphone
        bias[0, 0, 2, chosen] = 1.0
        bias[1, 1, 0, 0] = 1.0
        head.filter.linear.bias.copy_(bias.flatten())
        features, observation, logits = seen(of, 1, 7)
        (estimate,) = head(features, observation, logits)
    x = observation.spectrum
    torch.testing.assert_close(estimate[:, 0, :, 2:], x[:, chosen, :, :-2])
    assert not estimate[:, 0, :, :2].any()
    torch.testing.assert_close(estimate[:, 1], 1j * x[:, 0])


def test_constant_map_has_the_level_of_the_recording_and_the_phase_of_the_reference() -> None:
    of = sizes()
    head: Any = build("separation", "complex_mapping", {}, of)
    with torch.no_grad():
        head.map.linear.weight.zero_()
        head.map.linear.bias.copy_(torch.tensor([1.0, 0.0, 0.0, 2.0]))
        (estimate,) = head(*seen(of, 1, 7))
    reference = seen(of, 1, 7)[1].spectrum[:, 0]
    level = reference.abs().square().mean().sqrt()
    torch.testing.assert_close(estimate[:, 0], level * reference / reference.abs())
    torch.testing.assert_close(estimate[:, 1], 2j * estimate[:, 0])


@pytest.mark.parametrize("causal", [False, True])
def test_mvdr_by_oracle_masks_beats_the_mixture(dev_set: SceneSet, causal: bool) -> None:
    """The head is given the masks as features: its layer passes them on."""
    stft = Stft(256)
    geometry = ArrayGeometry(dev_set.array, stft.freqs, RATE, 72)
    head: Any = build_head("separation", "masked_mvdr", {"causal": causal}, HeadSizes(geometry, 2, 2)).eval()
    with torch.no_grad():
        head.share.linear.weight.copy_(torch.eye(2))
        head.share.linear.bias.zero_()
        for scene in dev_set.scenes:
            mixture = torch.from_numpy(dev_set.mixture(scene))[None]
            references = torch.from_numpy(dev_set.references(scene))[None]
            spectrum = stft(mixture)
            masks = power_masks(stft(references), spectrum[:, dev_set.array.reference])
            masks = masks / (masks.sum(1, keepdim=True) + 0.01)
            noise = 1.0 - masks.sum(1, keepdim=True)
            features = (masks / noise).clamp_min(1e-8).log().permute(0, 2, 3, 1)
            torch.testing.assert_close(head.masks(features), masks, atol=1e-4, rtol=1e-3)
            (estimate,) = head(features, FrontEndOutput(spectrum, features, None), torch.zeros(1, 2, 72))
            voices = stft.inverse(estimate, mixture.shape[-1])
            before = si_sdr_db(mixture[:, :1].expand_as(references), references)
            assert (si_sdr_db(voices, references) - before).min() > (1.0 if causal else 2.5)


def test_beam_of_the_frames_so_far_ends_as_that_of_the_whole_recording() -> None:
    of = sizes()
    _, observation, _ = seen(of, 2, 12)
    masks = torch.rand(2, 3, FREQS, 12, generator=torch.Generator().manual_seed(0))
    causal, whole = (masked_mvdr(observation.spectrum, masks, 1, causal=c) for c in (True, False))
    torch.testing.assert_close(causal[..., -1], whole[..., -1], atol=1e-4, rtol=1e-4)
    first = masked_mvdr(observation.spectrum[..., :5], masks[..., :5], 1)
    torch.testing.assert_close(causal[..., 4], first[..., -1], atol=1e-4, rtol=1e-4)


def test_power_masks_are_shares() -> None:
    mixture = torch.tensor([[[4.0 + 0j, 1j]]])
    estimates = torch.tensor([[[[4.0 + 0j, 0.0]], [[3.0 + 0j, 0.5j]]]])
    masks = power_masks(estimates, mixture)
    torch.testing.assert_close(masks, torch.tensor([[[[1.0, 0.0]], [[0.9, 0.5]]]]))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("multi_frame_filter", {"frames": 0}, "frames is 0, expected at least 1"),
        ("multi_frame_filter", {"microphones": "al"}, "microphones 'al'; did you mean 'all'"),
        ("masked_mvdr", {"loading": 0.0}, "loading is 0.0, expected above 0"),
        ("masked_mvdr", {"frames": 0}, "frames is 0, expected at least 1"),
        ("steered_beam", {"second": "wienr"}, "second pass 'wienr'; did you mean 'wiener'"),
        ("steered_beam", {"second": "mvdr", "filter_taps": 2}, "mvdr has none"),
        ("steered_beam", {"filter_taps": -3}, "filter_taps is -3, expected 0 or more"),
        ("steered_beam", {"frames": 1.5}, "option 'frames' is 1.5, expected a whole number$"),
        ("steered_beam", {"passes": 0}, "passes is 0, expected at least 1"),
        ("complex_maping", {}, "did you mean 'complex_mapping'"),
    ],
)
def test_wrong_options_are_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(MsdetError, match=message):
        build_head("separation", name, options, sizes())


@pytest.mark.slow
def test_compiled_model_gives_the_same() -> None:
    config = ModelConfig(window_s=0.016, encoder_options={"hidden": 4, "group": 8})
    torch.manual_seed(0)
    model = JointModel(config, load_array("circular4_5cm"), RATE).eval()
    mixture = torch.randn(1, 4, 1000)
    torch.compiler.reset()
    with torch.no_grad():
        expected = model(mixture)
        found = torch.compile(model, backend="aot_eager")(mixture)
    torch.testing.assert_close(found.waveforms, expected.waveforms, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.doa_logits, expected.doa_logits, atol=1e-5, rtol=1e-4)
