"""The model for any array: maps of directions, slots from their peaks, and filters along a direction."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from msdet.arrays import MicrophoneArray, load_array
from msdet.dsp.spatial import decode_azimuth, steering_towards, steering_vectors
from msdet.dsp.stft import Stft
from msdet.errors import MsdetError
from msdet.models.config import ModelConfig
from msdet.models.encoders import build_encoder
from msdet.models.frontends import ArrayGeometry, FrontEndOutput, FrontEndSizes, build_front_end
from msdet.models.heads import HeadSizes, build_head, slot_occupancy
from msdet.models.heads.directional_filter import DirectionalFilterHead, sum_of_others
from msdet.models.heads.map_peaks import MapPeaksHead, among, folded_map
from msdet.models.joint import JointModel

RATE = 16_000
STFT = Stft(512)
ANY = ModelConfig(
    talkers=4,
    variable_num_speakers=True,
    window_s=0.032,
    front_end="srp_map",
    encoder="direction_cnn",
    encoder_options={"hidden": 8, "dilations": [1, 2]},
    doa_head="map_peaks",
    separation_head="directional_filter",
    separation_options={"hidden": [8, 8], "refiner_options": {"hidden": 8, "outputs": 8}},
)


def geometry(name: str) -> ArrayGeometry:
    return ArrayGeometry(load_array(name), STFT.freqs, RATE, 72, any_domain=True)


def plane_waves(g: ArrayGeometry, directions: list[tuple[float, float]], frames: int = 24) -> Tensor:
    """Noise ``(1, mic, freq, frame)`` from azimuths and elevations."""
    noise = torch.randn(len(directions), STFT.freqs, frames, 2, generator=torch.Generator().manual_seed(0))
    azimuth, elevation = torch.tensor(directions).T
    frequency_hz = torch.linspace(0, RATE / 2, STFT.freqs)
    steering = steering_towards(g.positions, azimuth, elevation, frequency_hz)
    return torch.einsum("sfm,sft->mft", steering, torch.view_as_complex(noise))[None]


def map_of(peaks: dict[float, float], classes: int = 72) -> Tensor:
    """Logits ``(1, class)`` with bumps at azimuths, of some heights, and -6 elsewhere."""
    grid = torch.arange(classes) * 360.0 / classes
    bumps = [
        -6 + (height + 6) * torch.exp(-(((grid - azimuth + 180) % 360 - 180) ** 2) / 100)
        for azimuth, height in peaks.items()
    ]
    return torch.stack(bumps).amax(0)[None]


def slots(
    logits: Tensor, g: ArrayGeometry, talkers: int = 4, pair: tuple[float, float, float] | None = None,
    told: int | None = None,
) -> tuple[list[float], list[float]]:  # fmt: skip
    """Azimuths and probabilities of the slots that have a talker; near each peak a second one, as `pair` says."""
    head = MapPeaksHead(HeadSizes(g, 7, talkers, variable_num_speakers=True))
    head.told = told
    features = torch.zeros(1, 72, 5, 7)
    features[..., -1] = logits[..., None]
    features[..., -5:-2] = torch.tensor(pair or (0.0, 0.0, -20.0))
    found = head(features, FrontEndOutput(torch.zeros(1), features, None))
    occupancy = slot_occupancy(found, 72)[0]
    azimuth, confidence = (x[0][occupancy > 0.5].tolist() for x in decode_azimuth(found[..., :72]))
    if told is None:
        assert confidence == pytest.approx(occupancy[occupancy > 0.5].tolist(), abs=0.06)
    return azimuth, occupancy[occupancy > 0.5].tolist()


def test_steering_towards_elevation_zero_is_that_of_azimuths() -> None:
    array = load_array("circular6_10cm")
    azimuth, frequency_hz = torch.tensor([10.0, 200.0]), torch.linspace(0, 8000, 9)
    positions = torch.tensor(array.positions)
    level = steering_towards(positions - positions[0], azimuth, torch.zeros(2), frequency_hz)
    torch.testing.assert_close(level, steering_vectors(positions, azimuth, frequency_hz, 0), atol=1e-5, rtol=1e-5)


def test_two_who_are_close_together_share_a_peak() -> None:
    g, peaks = geometry("circular6_10cm"), map_of({100.0: 4.0, 200.0: 3.0})
    azimuth, occupancy = slots(peaks, g, pair=(-3.0, 4.0, 2.0))
    assert azimuth == pytest.approx([97.0, 104.0, 197.0, 204.0], abs=1.0)
    assert occupancy == pytest.approx([0.98, 0.86, 0.95, 0.84], abs=0.02)
    assert slots(peaks, g, pair=(-3.0, 4.0, -1.0))[0] == pytest.approx([100.0, 200.0], abs=1.0)
    told = slots(map_of({358.0: 4.0, 200.0: -3.0}), g, pair=(-3.0, 4.0, -1.0), told=2)[0]
    assert told == pytest.approx([2.0 + 2.0, 357.0], abs=1.0)
    line = slots(map_of({60.0: 3.0, 300.0: 3.0}), geometry("linear4_5cm"), pair=(-3.0, 4.0, 2.0))[0]
    assert line == pytest.approx([57.0, 64.0], abs=1.0)


def test_told_candidates_are_as_probable_as_that_they_are_among_so_many() -> None:
    probability = torch.tensor([[0.9, 0.6, 0.3, 0.0], [0.2, 0.1, 0.0, 0.0]])
    for count in (1, 2, 3):
        found = among(probability, count)
        for scene, expected in zip(probability, found, strict=True):
            chances = torch.zeros(4)
            for truth in itertools.product((False, True), repeat=4):
                if sum(truth) == count:
                    there = torch.tensor(truth)
                    chances += there * torch.where(there, scene, 1.0 - scene).prod()
            total = chances.sum() / count
            torch.testing.assert_close(expected, chances / total if total > 0 else scene, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("array", "direction"),
    [("circular6_10cm", (100.0, 45.0)), ("circular4_5cm", (300.0, 30.0)), ("eigenmike32", (60.0, -40.0))],
)
def test_the_map_finds_a_plane_wave_and_its_elevation(array: str, direction: tuple[float, float]) -> None:
    g = geometry(array)
    front_end = build_front_end("srp_map", {}, FrontEndSizes(g, 2))
    seen = front_end(plane_waves(g, [direction]))
    response = seen.features[0, :, :, :12].mean((1, 2))
    peak = int(response.argmax())
    assert abs(5 * peak - direction[0]) <= 5
    assert abs(float(seen.elevation_deg[0, peak]) - direction[1]) <= 6


def test_the_map_turns_with_the_sound() -> None:
    g = geometry("circular6_10cm")  # is the same after a turn of 60 degrees, 12 classes
    array = load_array("circular6_10cm")
    turned = MicrophoneArray("turned", tuple(array.positions_m[(m + 1) % 6] for m in range(6)), 5)
    front_end = build_front_end("srp_map", {}, FrontEndSizes(g, 2))
    x = plane_waves(g, [(20.0, 0.0), (170.0, 10.0)])
    other = ArrayGeometry(turned, STFT.freqs, RATE, 72)
    same = build_front_end("srp_map", {}, FrontEndSizes(other, 2))(x[:, [1, 2, 3, 4, 5, 0]])
    torch.testing.assert_close(same.features, front_end(x).features, atol=1e-3, rtol=1e-3)


def test_large_arrays_are_seen_through_some_microphones() -> None:
    front_end = build_front_end("srp_map", {}, FrontEndSizes(geometry("eigenmike32"), 2))
    channels = front_end.grid.channels.tolist()
    assert len(channels) == 16 == len(set(channels))
    assert load_array("eigenmike32").reference in channels


def test_turned_features_give_turned_maps() -> None:
    torch.manual_seed(0)
    encoder = build_encoder("direction_cnn", {"hidden": 8}, 5).eval()
    features = torch.randn(1, 72, 6, 5)
    turned = encoder(features.roll(7, 1))
    torch.testing.assert_close(turned, encoder(features).roll(7, 1), atol=1e-5, rtol=1e-5)


def test_slots_are_peaks_in_ascending_order() -> None:
    azimuth, occupancy = slots(map_of({300.0: 3.0, 22.0: 2.0, 150.0: -2.0}), geometry("circular6_10cm"))
    assert azimuth == pytest.approx([22.0, 300.0], abs=1.0)
    assert occupancy == pytest.approx([0.88, 0.95], abs=0.05)


def test_no_more_slots_than_there_are() -> None:
    azimuth, _ = slots(map_of({10.0: 3.0, 100.0: 4.0, 200.0: 5.0}), geometry("circular6_10cm"), talkers=2)
    assert azimuth == pytest.approx([100.0, 200.0], abs=1.0)


def test_slots_of_a_linear_array_are_on_its_left() -> None:
    g = geometry("linear4_5cm")
    azimuth, _ = slots(map_of({60.0: 3.0, 300.0: 3.0, 240.0: 2.0, 120.0: 2.0}), g)
    assert azimuth == pytest.approx([60.0, 120.0], abs=1.0)
    folded = folded_map(map_of({60.0: 3.0, 300.0: 3.0}), g)
    assert (folded[0, 40:70] == -6.0).all()
    for side in (60.0, 300.0):  # what one side alone says counts half
        alone = folded_map(map_of({side: 3.0}), g)
        assert float(alone[0, 12]) == pytest.approx(-1.5, abs=0.1)


@pytest.mark.parametrize(
    ("array", "where", "told"),
    [
        ("linear4_5cm", (300.0, 0.0), (60.0, 0.0)),
        ("linear4_5cm", (0.0, 60.0), (60.0, 0.0)),
        ("circular6_10cm", (300.0, 20.0), (300.0, 20.0)),
        ("chime_tablet", (200.0, 20.0), (200.0, 20.0)),
    ],
)
def test_directions_as_an_array_can_tell_them(
    array: str, where: tuple[float, float], told: tuple[float, float]
) -> None:
    found = load_array(array).resolved(np.array(where[0]), np.array(where[1]))
    assert [float(x) for x in found] == pytest.approx(told)


def test_an_untrained_head_gives_beams_along_the_directions() -> None:
    g = geometry("circular6_10cm")
    head = DirectionalFilterHead(HeadSizes(g, 3, 2), hidden=(8, 8), refiner_options={"hidden": 8}).eval()
    x = plane_waves(g, [(20.0, 0.0), (140.0, 30.0)])
    alone = plane_waves(g, [(20.0, 0.0)])[:, 0]
    azimuth, elevation = torch.tensor([[20.0, 140.0]]), torch.tensor([[0.0, 30.0]])
    with torch.no_grad():
        estimates = head.towards(x, azimuth, elevation, torch.ones(1, 2, dtype=torch.bool))
    upper = slice(20, None)
    error = (estimates[-1][0, 0, upper] - alone[0, upper]).abs().square().mean()
    assert error < 0.02 * alone.abs().square().mean()
    torch.testing.assert_close(estimates[0], estimates[-1], atol=1e-4, rtol=1e-4)


def test_beams_follow_who_moves() -> None:
    g = geometry("circular6_10cm")
    head = DirectionalFilterHead(HeadSizes(g, 3, 2), hidden=(8, 8), refiner_options={"hidden": 8}).eval()
    places = [20.0, 60.0, 100.0, 140.0]
    pieces = [plane_waves(g, [(azimuth, 0.0), (270.0, 0.0)]) for azimuth in places]
    alone = torch.cat([plane_waves(g, [(azimuth, 0.0)])[:, 0] for azimuth in places], dim=-1)
    spectrum = torch.cat(pieces, dim=-1)
    track = torch.tensor(places).repeat_interleave(24)
    azimuth = torch.stack([track, torch.full_like(track, 270.0)])
    upper = slice(20, None)

    def error(azimuth: Tensor, window: int) -> float:
        with torch.no_grad():
            voices = head.along(spectrum, azimuth, torch.zeros_like(azimuth), window)
        assert voices.shape == (2, STFT.freqs, 96)
        return float((voices[0, upper] - alone[0, upper]).abs().square().mean() / alone.abs().square().mean())

    assert error(azimuth, 12) < 0.2
    assert error(azimuth.mean(-1, keepdim=True).expand(-1, 96), 12) > 0.5
    fixed = torch.tensor([[20.0], [270.0]]).expand(-1, 96)
    with torch.no_grad():
        whole = head.along(spectrum, fixed, torch.zeros_like(fixed), 400)
        once = head.towards(spectrum, fixed[None, :, 0], torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool))[-1]
    torch.testing.assert_close(whole[:, upper], once[0, :, upper], atol=1e-4, rtol=1e-4)


def test_talkers_do_not_depend_on_their_order_or_on_empty_slots() -> None:
    g = geometry("circular4_5cm")
    torch.manual_seed(0)
    head = DirectionalFilterHead(HeadSizes(g, 3, 4), hidden=(8, 8), refiner_options={"hidden": 8}).eval()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
        x = plane_waves(g, [(20.0, 0.0), (140.0, 0.0), (250.0, 10.0)])
        azimuth, elevation = torch.tensor([[20.0, 140.0, 250.0]]), torch.zeros(1, 3)
        there = torch.ones(1, 3, dtype=torch.bool)
        three = head.towards(x, azimuth, elevation, there)[-1]
        turned = head.towards(x, azimuth.roll(1, 1), elevation, there)[-1]
        torch.testing.assert_close(turned, three.roll(1, 1), atol=1e-3, rtol=1e-3)
        empty = torch.tensor([[True, True, True, False]])
        four = head.towards(x, torch.tensor([[20.0, 140.0, 250.0, 77.0]]), torch.zeros(1, 4), empty)[-1]
    torch.testing.assert_close(four[:, :3], three, atol=1e-3, rtol=1e-3)
    assert not four[:, 3].any()


def test_the_others_are_one_sum() -> None:
    signals = torch.randn(1, 3, 2, 4, dtype=torch.complex64)
    torch.testing.assert_close(sum_of_others(signals)[:, 1], signals[:, 0] + signals[:, 2])


@pytest.mark.parametrize("array", ["linear4_5cm", "circular4_5cm", "respeaker_usb_4mic_square"])
def test_gradients_of_separation_reach_the_filters_and_maps_those_of_directions(array: str) -> None:
    torch.manual_seed(0)
    model = JointModel(ANY, load_array(array), RATE)
    output = model(torch.randn(2, model.array.microphones, 8000))
    assert output.waveforms.shape == (2, 4, 8000)
    assert output.elevation_deg is not None and output.elevation_deg.shape == (2, 4)
    (output.waveforms.square().sum() + output.predictions["doa"].sum()).backward()
    assert model.separation_head.again.leave.weight.grad is not None
    assert model.sharing.encoder.maps.recording.weight.grad is not None


def test_an_array_that_tells_no_azimuths_is_refused() -> None:
    upright = MicrophoneArray("pole", ((0.0, 0.0, 0.0), (0.0, 0.0, 0.1)))
    with pytest.raises(MsdetError, match="array 'pole' is linear"):
        JointModel(ANY, upright, RATE)


@pytest.mark.parametrize(
    ("part", "name", "options", "message"),
    [
        ("separation", "directional_filter", {"taps": 0}, "taps is 0"),
        ("separation", "directional_filter", {"bandwidth_hz": 0.0}, "bandwidth_hz is 0.0"),
        ("doa", "map_peaks", {"gap_deg": 0.0}, "gap_deg is 0.0"),
    ],
)
def test_impossible_options_are_refused(part: str, name: str, options: dict[str, float], message: str) -> None:
    with pytest.raises(MsdetError, match=message):
        build_head(part, name, options, HeadSizes(geometry("circular4_5cm"), 3, 2))


def test_impossible_options_of_map_and_encoder_are_refused() -> None:
    sizes = FrontEndSizes(geometry("circular4_5cm"), 2)
    with pytest.raises(MsdetError, match="group is 0"):
        build_front_end("srp_map", {"group": 0}, sizes)
    with pytest.raises(MsdetError, match="dilations"):
        build_encoder("direction_cnn", {"dilations": []}, 5)
