"""Identities that hold in any room: geometry against sound, sound against labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.signal import fftconvolve
from torch.nn.functional import one_hot

from msdet.arrays import MicrophoneArray, load_array
from msdet.conventions import SPEED_OF_SOUND, azimuth_to_class, direction_vector
from msdet.data.scene_set import SceneSet
from msdet.dsp.beamforming import apply_beam, steered_beam_weights
from msdet.dsp.spatial import pick_peaks, srp_phat, steering_vectors, von_mises_logits
from msdet.dsp.stft import Stft
from msdet.errors import MsdetError
from msdet.models.frontends import ArrayGeometry
from msdet.scenes.dry_sounds import Sounds
from msdet.scenes.rendering import render, scene_response
from msdet.scenes.rir.reverberation import absorption_for_t60
from msdet.scenes.rir.room_response import room_response
from msdet.scenes.room_geometry import RoomGeometry

RATE = 8000
HALL_M = (20.0, 20.0, 5.0)
CENTER_M = (10.0, 10.0, 2.5)
ARRAY = load_array("circular6_10cm")
AZIMUTHS_DEG = (0.0, 37.0, 90.0, 181.5, 270.0, 359.0)


def anechoic_images(
    array: MicrophoneArray, rotation_deg: float, room_azimuths_deg: list[float]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """White noise from far sources, each heard alone ``(source, mic, time)``, and their labels in degrees."""
    sources = np.asarray(CENTER_M) + 6.0 * direction_vector(room_azimuths_deg)
    geometry = RoomGeometry(HALL_M, 0.0, CENTER_M, (rotation_deg, 0.0, 0.0), tuple(map(tuple, sources)))
    response = room_response(HALL_M, 0.0, geometry.microphones_m(array.positions), sources, RATE)
    noise = np.random.default_rng(3).standard_normal((len(sources), RATE))
    return fftconvolve(noise[:, None], response.rirs, axes=-1)[..., :RATE], geometry.from_array()[0]


def spectrum(waveform: npt.NDArray[Any]) -> torch.Tensor:
    return Stft(256)(torch.tensor(waveform, dtype=torch.float32))


def geometry_of(array: MicrophoneArray, classes: int = 72) -> ArrayGeometry:
    return ArrayGeometry(array, 129, RATE, classes)


@pytest.mark.parametrize("speed_of_sound", [343.0, 330.0])
def test_direct_path_arrives_after_distance_over_speed_of_sound(speed_of_sound: float) -> None:
    microphones = ARRAY.positions + [4.0, 3.0, 1.5]
    sources = np.array([[5.3, 3.2, 1.5], [2.6, 4.1, 1.7]])
    response = room_response((8.0, 6.0, 3.0), 0.25, microphones, sources, RATE, speed_of_sound)
    for source, reverberant, direct in zip(sources, response.rirs, response.direct, strict=True):
        arrival = np.linalg.norm(microphones - source, axis=-1) / speed_of_sound * RATE
        distance = np.linalg.norm(microphones - source, axis=1)
        np.testing.assert_allclose(arrival, distance / speed_of_sound * RATE)
        np.testing.assert_allclose(np.abs(direct).argmax(-1), arrival, atol=1.0)
        np.testing.assert_allclose(np.abs(reverberant).argmax(-1), arrival, atol=1.0)


def test_rendered_scene_reaches_every_microphone_at_its_label(dev_set: SceneSet) -> None:
    for scene in dev_set.scenes:
        direct = scene_response(scene, dev_set.array)[0].direct
        for source, at_mics in zip(scene.sources, direct, strict=True):
            towards = source.distance_m * direction_vector(source.azimuth_deg, source.elevation_deg)
            distance = np.linalg.norm(dev_set.array.positions - towards, axis=1)
            np.testing.assert_allclose(np.abs(at_mics).argmax(-1), distance / scene.speed_of_sound * RATE, atol=1.0)


def test_nearer_microphone_is_louder_by_the_ratio_of_distances() -> None:
    microphones = np.array([[3.0, 3.0, 1.5], [5.0, 3.0, 1.5]])
    source = np.array([[2.0, 3.0, 1.5]])
    direct = room_response((8.0, 6.0, 3.0), 0.0, microphones, source, RATE).direct[0]
    near, far = np.sqrt((direct.astype(float) ** 2).sum(-1))
    assert near / far == pytest.approx(3.0, rel=0.05)


def test_mixture_is_the_sum_of_images_and_noise(dev_set: SceneSet, speech: Path) -> None:
    mixed = render(dev_set.scenes[0], dev_set.array, Sounds(speech, RATE))[0]
    error = mixed.mixture - (mixed.images.sum(0) + mixed.noise)
    assert np.abs(error).max() <= 1e-6 * np.abs(mixed.mixture).max()
    assert np.abs(mixed.noise).max() > 0


def test_rendered_levels_and_noise_are_those_of_the_scene(dev_set: SceneSet, speech: Path) -> None:
    scene = dev_set.scenes[0]
    mixed = render(scene, dev_set.array, Sounds(speech, RATE))[0]
    power = (mixed.images[:, dev_set.array.reference].astype(float) ** 2).mean(-1)
    asked_db = scene.sources[0].level_db - scene.sources[1].level_db
    assert 10 * np.log10(power[0] / power[1]) == pytest.approx(asked_db, abs=1e-3)
    clean = mixed.images.sum(0)[dev_set.array.reference].astype(float)
    snr_db = 10 * np.log10((clean**2).mean() / (mixed.noise.astype(float) ** 2).mean())
    assert snr_db == pytest.approx(scene.snr_db, abs=0.2)


def test_written_audio_is_the_rendered_audio(dev_set: SceneSet, speech: Path) -> None:
    scene = dev_set.scenes[1]
    mixed = render(scene, dev_set.array, Sounds(speech, RATE))[0]
    step = 2.0**-15
    np.testing.assert_allclose(dev_set.mixture(scene), mixed.mixture, atol=step)
    np.testing.assert_allclose(dev_set.references(scene), mixed.references, atol=step)


@pytest.mark.parametrize("reference", [0, 2])
@pytest.mark.parametrize("azimuth_deg", AZIMUTHS_DEG)
def test_plane_wave_has_the_phase_of_its_steering_vector(azimuth_deg: float, reference: int) -> None:
    samples, bins = 512, np.arange(1, 200)
    frequency_hz = bins * RATE / samples
    source = np.fft.rfft(np.random.default_rng(0).standard_normal(samples))
    # the wave front passes p at the time -p.u/c, relative to the origin
    angle_rad = np.deg2rad(azimuth_deg)
    delay_s = -(ARRAY.positions[:, :2] @ [np.cos(angle_rad), np.sin(angle_rad)]) / SPEED_OF_SOUND
    shift = np.exp(-2j * np.pi * np.arange(len(source)) * RATE / samples * delay_s[:, None])
    observed = np.fft.rfft(np.fft.irfft(source * shift, samples))[:, bins]
    steering = steering_vectors(
        torch.tensor(ARRAY.positions), torch.tensor([azimuth_deg]), torch.tensor(frequency_hz), reference
    )[0].numpy()
    ratio = (observed / observed[reference]).T
    np.testing.assert_allclose(steering, ratio, atol=1e-5)
    np.testing.assert_array_equal(steering[:, reference], 1.0)


@pytest.mark.parametrize("reference", range(2))
def test_microphone_nearer_to_the_source_leads_in_phase(reference: int) -> None:
    pair = torch.tensor([[0.05, 0.0, 0.0], [-0.05, 0.0, 0.0]])
    towards_x = steering_vectors(pair, torch.tensor([0.0]), torch.tensor([500.0]), reference)[0, 0]
    lead_rad = float(torch.angle(towards_x[0] * towards_x[1].conj()))
    assert lead_rad == pytest.approx(2 * np.pi * 500.0 * 0.1 / SPEED_OF_SOUND, rel=1e-5)


def test_azimuth_grows_counter_clockwise_in_steering_vectors() -> None:
    along_y = torch.tensor([[0.0, 0.05, 0.0], [0.0, -0.05, 0.0]])
    at_90, at_270 = steering_vectors(along_y, torch.tensor([90.0, 270.0]), torch.tensor([500.0]), 1)
    assert float(at_90[0, 0].angle()) > 0 > float(at_270[0, 0].angle())


@pytest.mark.parametrize("rotation_deg", [0.0, 30.0])
@pytest.mark.parametrize("room_azimuth_deg", [12.0, 123.0, 289.0])
def test_srp_phat_peaks_at_the_label_of_a_far_source(room_azimuth_deg: float, rotation_deg: float) -> None:
    images, labels_deg = anechoic_images(ARRAY, rotation_deg, [room_azimuth_deg])
    assert labels_deg[0] == pytest.approx((room_azimuth_deg - rotation_deg) % 360.0)
    found = pick_peaks(srp_phat(spectrum(images), geometry_of(ARRAY, 360).steering), 1)
    assert abs((float(found[0, 0]) - labels_deg[0] + 180.0) % 360.0 - 180.0) <= 2.0


def test_srp_phat_of_two_talkers_finds_both_on_the_class_grid() -> None:
    images, labels_deg = anechoic_images(ARRAY, 75.0, [100.0, 200.0])
    found = pick_peaks(srp_phat(spectrum(images.sum(0)[None]), geometry_of(ARRAY).steering), 2)[0]
    np.testing.assert_allclose(found, np.sort(labels_deg), atol=2.0)


@pytest.mark.parametrize("pair_deg", [(45.0, 125.0), (0.0, 60.0), (100.0, 280.0)])
def test_beam_passes_its_talker_and_nulls_the_other(pair_deg: tuple[float, float]) -> None:
    images, labels_deg = anechoic_images(ARRAY, 0.0, list(pair_deg))
    geometry = geometry_of(ARRAY)
    posterior = one_hot(torch.tensor(azimuth_to_class(labels_deg)), 72).float()[None]
    weights = steered_beam_weights(posterior, geometry.steering, geometry.coherence)
    alone = spectrum(images)[..., 10:, :]  # above 300 Hz, where 20 cm tell directions apart
    power = apply_beam(weights[:, :, 10:].expand(2, -1, -1, -1), alone).abs().square().sum((-1, -2))
    gain_db = 10 * torch.log10(power / alone[:, :1].abs().square().sum((-1, -2)))
    assert (gain_db.diagonal().abs() <= 0.5).all(), gain_db
    assert gain_db[0, 1] <= -20.0 and gain_db[1, 0] <= -20.0, gain_db


def test_null_is_soft_but_deeper_than_the_beam_without_it() -> None:
    images, labels_deg = anechoic_images(ARRAY, 0.0, [30.0, 150.0])
    geometry = geometry_of(ARRAY)
    posterior = von_mises_logits(torch.tensor(labels_deg)[None], 72).softmax(-1).float()
    with_null = steered_beam_weights(posterior, geometry.steering, geometry.coherence)
    without = steered_beam_weights(posterior[:, :1], geometry.steering, geometry.coherence)
    other = spectrum(images[1:])
    leaked = [apply_beam(w[:, :1], other).abs().square().sum().log10() * 10 for w in (with_null, without)]
    assert leaked[0] <= leaked[1] - 3.0


def test_beams_of_talkers_in_one_direction_do_not_null_themselves() -> None:
    geometry = geometry_of(ARRAY)
    posterior = von_mises_logits(torch.tensor([[40.0, 40.0]]), 72).softmax(-1)
    alone = steered_beam_weights(posterior[:, :1], geometry.steering, geometry.coherence)
    together = steered_beam_weights(posterior, geometry.steering, geometry.coherence)
    torch.testing.assert_close(together, alone.expand_as(together), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("room_m", "t60_s"),
    [((8.0, 6.0, 3.0), 0.3), ((5.0, 4.0, 2.6), 0.25), ((9.0, 7.0, 2.4), 0.4)],
    ids=["medium", "small", "flat"],
)
def test_measured_t60_is_the_one_asked_for(room_m: tuple[float, float, float], t60_s: float) -> None:
    center = np.asarray(room_m) / 2
    sources = center + 1.5 * direction_vector([10.0, 100.0, 215.0])
    response = room_response(room_m, t60_s, ARRAY.positions[:2] + center, sources, RATE)
    assert response.t60_measured_s == pytest.approx(t60_s, rel=0.15)


def test_sabines_rule_is_the_one_of_sms_wsj() -> None:
    """Absorption as its generator has it, 24 ln(10) V / (c S T60); 0.54 s of 0.45 s are measured there."""
    room_m = (8.0, 6.0, 3.0)
    expected = 24 * np.log(10) * 144 / (343 * 180 * 0.45)
    assert absorption_for_t60(room_m, 0.45, rule="sabine") == pytest.approx(expected, rel=1e-6)
    center = np.asarray(room_m) / 2
    sources = center + 1.5 * direction_vector([10.0, 100.0, 215.0])
    response = room_response(room_m, 0.45, ARRAY.positions[:2] + center, sources, RATE, rule="sabine")
    assert response.t60_measured_s == pytest.approx(0.54, abs=0.03)
    with pytest.raises(MsdetError, match=r"T60 of 0\.1 s is impossible .* has by Sabine's formula at least 0\.130 s"):
        absorption_for_t60(room_m, 0.1, rule="sabine")


def test_more_absorption_is_needed_for_a_shorter_t60() -> None:
    room_m = (8.0, 6.0, 3.0)
    assert absorption_for_t60(room_m, 0.25) > absorption_for_t60(room_m, 0.5)


def test_anechoic_room_has_the_direct_path_alone() -> None:
    microphones = ARRAY.positions + [4.0, 3.0, 1.5]
    response = room_response((8.0, 6.0, 3.0), 0.0, microphones, np.array([[5.3, 3.2, 1.5]]), RATE)
    np.testing.assert_array_equal(response.rirs, response.direct)
    assert response.t60_measured_s == 0.0


def test_impossible_t60_is_refused() -> None:
    with pytest.raises(MsdetError, match=r"T60 of 0\.01 s is impossible in a room of 8\.00 x 6\.00 x 3\.00"):
        absorption_for_t60((8.0, 6.0, 3.0), 0.01)


def test_targets_are_nested_parts_of_the_response() -> None:
    microphones = ARRAY.positions + [4.0, 3.0, 1.5]
    response = room_response((8.0, 6.0, 3.0), 0.3, microphones, np.array([[5.3, 3.2, 1.5]]), RATE)
    image = response.target("image", 1, RATE)[0]
    early = response.target("early", 1, RATE)[0]
    direct = response.target("direct", 1, RATE)[0]
    np.testing.assert_array_equal(image, response.rirs[0, 1])
    end = int(np.abs(direct).argmax()) + RATE // 20
    np.testing.assert_array_equal(early[:end], image[:end])
    assert not early[end:].any()
    assert image[end:].any()
    energy = [float((h.astype(float) ** 2).sum()) for h in (direct, early, image)]
    assert energy[0] < energy[1] < energy[2]


def test_microphone_outside_the_room_is_refused() -> None:
    microphones = np.array([[2.0, 2.0, 1.5], [2.0, 2.0, 3.4]])
    with pytest.raises(MsdetError, match=r"microphone 1 at \[2.0, 2.0, 3.4\] is outside the room"):
        room_response((4.0, 4.0, 3.0), 0.3, microphones, np.array([[1.0, 1.0, 1.5]]), RATE)
