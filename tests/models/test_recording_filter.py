"""Filters predicted from a recording's statistics: what they start as, follow, and can learn."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from msdet.arrays import load_array
from msdet.dsp.beamforming import apply_beam, steered_beam_weights
from msdet.dsp.spatial import decode_azimuth, von_mises_logits
from msdet.errors import MsdetError
from msdet.models.frontends import ArrayGeometry, FrontEndOutput
from msdet.models.heads import HeadSizes, build_head
from msdet.models.heads.recording_filter import RecordingFilterHead
from msdet.models.heads.statistics import RecordingStatistics, delayed, in_turn

FREQS, CLASSES, FRAMES = 17, 24, 40
GEOMETRY = ArrayGeometry(load_array("circular4_5cm"), FREQS, 8000, CLASSES)
SMALL = {"taps": 2, "hidden": (16, 8), "blocks": (1, 1), "refiner_options": {"hidden": 4}}
LOGITS = von_mises_logits(torch.tensor([[40.0, 205.0], [310.0, 100.0]]), CLASSES)
AZIMUTHS = decode_azimuth(LOGITS)[0]


def head(**options: object) -> RecordingFilterHead:
    torch.manual_seed(0)
    built = build_head("separation", "recording_filter", {**SMALL, **options}, HeadSizes(GEOMETRY, 6, 2))
    assert isinstance(built, RecordingFilterHead)
    return built


def random_spectrum(seed: int = 1) -> Tensor:
    return torch.randn(2, 4, FREQS, FRAMES, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


def estimates(model: RecordingFilterHead, spectrum: Tensor) -> tuple[Tensor, ...]:
    features = torch.zeros(2, FREQS, FRAMES, 6)
    return model(features, FrontEndOutput(spectrum, features, None), LOGITS)


def beams(spectrum: Tensor) -> tuple[Tensor, Tensor]:
    posterior = von_mises_logits(AZIMUTHS, CLASSES).softmax(-1)
    weights = steered_beam_weights(posterior, GEOMETRY.steering, GEOMETRY.coherence)
    return weights, apply_beam(weights, spectrum)


def test_untrained_it_gives_the_beams() -> None:
    spectrum = random_spectrum()
    for estimate in estimates(head().eval(), spectrum):
        torch.testing.assert_close(estimate, beams(spectrum)[1], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("bandwidth_hz", [1000.0, 4000.0, 9000.0])
def test_fixed_filters_end_at_the_bandwidth(bandwidth_hz: float) -> None:
    model = head(bandwidth_hz=bandwidth_hz).eval()
    with torch.no_grad():
        model.predict.leave.bias += 0.3
    spectrum = random_spectrum()
    changed = (estimates(model, spectrum)[0] - beams(spectrum)[1]).abs().amax((0, 1, 3)) > 1e-3
    assert changed.tolist() == [k < bandwidth_hz / 250.0 for k in range(FREQS)]


def test_a_beam_that_is_a_filtered_voice_is_undone() -> None:
    """A beam holds its voice and an echo of either sign a frame later: only statistics tell which."""
    torch.manual_seed(0)
    model = head(taps=3, bandwidth_hz=9000.0)
    optimizer = torch.optim.Adam(model.predict.parameters(), 3e-3)
    errors = []
    for _ in range(150):
        voice = torch.randn(8, 2, FREQS, 60, dtype=torch.complex64)
        sign = torch.randint(0, 2, (8, 2, 1, 1)) * 2.0 - 1.0
        beam = voice + 0.7 * sign * delayed(voice, 1)
        inputs = in_turn(beam, 3)
        azimuth_deg = AZIMUTHS[:1].expand(8, -1)
        weights = beams(random_spectrum())[0][:1].expand(8, -1, -1, -1)
        found = model.statistics(
            torch.zeros(8, 4, FREQS, 60, dtype=torch.complex64), beam, inputs, azimuth_deg, weights
        )
        error = (model.predict(found, inputs) - voice).abs().square().mean() / voice.abs().square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(float(error.detach()))
    assert errors[0] == pytest.approx(0.49, abs=0.05)
    assert sum(errors[-10:]) / 10 < 0.25  # ideal for 3 frames is 0.06, the best that ignores the sign 0.49


def test_statistics_do_not_depend_on_a_phase_that_a_bin_has_throughout() -> None:
    statistics = RecordingStatistics(GEOMETRY, 2, 4, FREQS)
    spectrum = random_spectrum()
    turned = spectrum * torch.polar(torch.ones(FREQS, 1), torch.linspace(0.0, 6.0, FREQS)[:, None])
    found = []
    for x in (spectrum, turned):
        weights, beam = beams(x)
        found.append(statistics(x, beam, in_turn(beam, 2), AZIMUTHS, weights))
    torch.testing.assert_close(*found, atol=1e-3, rtol=1e-3)
    assert found[0].shape == (2, 2, FREQS, statistics.features_out)


def test_in_turn_puts_the_own_signal_first_and_older_frames_behind() -> None:
    signals = torch.arange(1.0, 7.0).reshape(1, 2, 1, 3)
    turns = in_turn(signals, 2)[0, :, 0]
    assert turns[0].tolist() == [[1, 2, 3], [4, 5, 6], [0, 1, 2], [0, 4, 5]]
    assert turns[1].tolist() == [[4, 5, 6], [1, 2, 3], [0, 4, 5], [0, 1, 2]]


@pytest.mark.parametrize(("name", "value"), [("taps", 0), ("bandwidth_hz", 0.0), ("frames", 0)])
def test_impossible_options_are_refused(name: str, value: float) -> None:
    with pytest.raises(MsdetError, match=name):
        head(**{name: value})
