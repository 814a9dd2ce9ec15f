"""Responses by the image source method are pyroomacoustics', and rooms have the T60 asked for."""

from __future__ import annotations

import numpy as np
import pyroomacoustics as pra
import pytest

from msdet.errors import MsdetError
from msdet.scenes.rir.image_method import image_responses, image_sources
from msdet.scenes.rir.reverberation import (
    absorption_for_t60,
    audible_path_m,
    highpass,
    longest_t60_s,
    measured_t60_s,
    predicted_t60_s,
    shortest_t60_s,
)
from msdet.scenes.rir.room_response import RoomResponse, room_response

RATE = 8000
ROOM_M = (5.2, 4.1, 2.7)
MICROPHONES_M = np.array([[2.5, 2.0, 1.3], [2.6, 2.05, 1.35], [2.45, 1.9, 1.2]])
SOURCES_M = np.array([[1.1, 3.2, 1.6], [4.4, 0.8, 1.1]])


def energy_db(part: np.ndarray, whole: np.ndarray) -> float:
    return float(10 * np.log10(np.sum(part.astype(float) ** 2) / np.sum(whole.astype(float) ** 2)))


def plain_responses(absorption: float, order: int) -> list[list[np.ndarray]]:
    """pyroomacoustics' own responses, without its high-pass filter and its delay."""
    enabled = pra.constants.get("rir_hpf_enable")
    pra.constants.set("rir_hpf_enable", False)
    try:
        room = pra.ShoeBox(ROOM_M, fs=RATE, materials=pra.Material(absorption), max_order=order)
        room.set_sound_speed(343.0)
        for position in SOURCES_M:
            room.add_source(position)
        room.add_microphone_array(MICROPHONES_M.T)
        room.compute_rir()
    finally:
        pra.constants.set("rir_hpf_enable", enabled)
    delay = pra.constants.get("frac_delay_length") // 2
    return [[response[delay:] for response in row] for row in room.rir]


def test_responses_are_those_of_pyroomacoustics() -> None:
    absorption, longest_m = 0.35, 40.0
    order = 30  # its octahedron of images holds the sphere of 40 m
    ours = image_responses(ROOM_M, absorption, longest_m, MICROPHONES_M, SOURCES_M, RATE)
    end = int((longest_m - 1.0) / 343.0 * RATE)
    for m, row in enumerate(plain_responses(absorption, order)):
        for s, plain in enumerate(row):
            assert energy_db(plain[:end] - ours[s, m, :end], plain) < -60


def test_what_is_left_out_is_60_db_down() -> None:
    t60_s = 0.3
    absorption = absorption_for_t60(ROOM_M, t60_s)
    audible_m = audible_path_m(ROOM_M, absorption)
    heard = image_responses(ROOM_M, absorption, audible_m, MICROPHONES_M, SOURCES_M, RATE)
    all_of_it = highpass(image_responses(ROOM_M, absorption, 2 * audible_m, MICROPHONES_M, SOURCES_M, RATE), RATE)
    assert energy_db(all_of_it[..., heard.shape[-1] :], all_of_it) < -58
    assert audible_m < 1.3 * t60_s * 343.0, "and no more is made than needed"


def test_images_are_mirror_images() -> None:
    source = np.array([1.0, 2.0, 0.5])
    images = image_sources((4.0, 3.0, 2.5), source, source, 5.0)
    found = {
        tuple(np.round([axis[n] for axis, n in zip(images.axes_m, place, strict=True)], 9)): order
        for *place, order in zip(*images.place, images.order, strict=True)
    }
    assert found[(1.0, 2.0, 0.5)] == 0
    assert found[(-1.0, 2.0, 0.5)] == 1  # by the wall x = 0
    assert found[(1.0, 4.0, 0.5)] == 1  # by the wall y = 3
    assert found[(1.0, 2.0, -0.5)] == 1  # by the floor
    assert found[(1.0, 2.0, 5.5)] == 2  # floor, then ceiling
    assert found[(-1.0, 2.0, -0.5)] == 2
    distances = np.linalg.norm(np.array(list(found)) - source, axis=1)
    assert distances.max() <= 5.0
    np.testing.assert_allclose(sorted(images.paths_m(source)), sorted(distances), atol=1e-12)


def test_source_is_heard_even_beyond_the_longest_path() -> None:
    direct = image_responses((30.0, 5.0, 3.0), 1.0, 0.0, np.array([[1.0, 2, 1]]), np.array([[29.0, 2, 1]]), RATE)
    assert np.abs(direct[0, 0]).argmax() == pytest.approx(28.0 / 343.0 * RATE, abs=1)


@pytest.mark.parametrize(("room_m", "t60_s"), [((8.0, 6.0, 3.0), 0.25), ((3.5, 3.2, 2.5), 0.4), (ROOM_M, 0.6)])
def test_measured_t60_is_the_one_asked_for(room_m: tuple[float, float, float], t60_s: float) -> None:
    rng = np.random.default_rng(1)
    places = rng.uniform(0.6, np.array(room_m) - 0.6, size=(5, 3))
    response = room_response(room_m, t60_s, places[:3], places[3:], RATE)
    measured = np.mean([measured_t60_s(h[None], RATE) for row in response.rirs for h in row])
    assert measured == pytest.approx(t60_s, rel=0.08)
    sabine = image_responses(
        room_m, pra.inverse_sabine(t60_s, room_m)[0], 1.3 * t60_s * 343, places[:3], places[3:], RATE
    )
    missed = np.mean([measured_t60_s(highpass(h, RATE)[None], RATE) for row in sabine for h in row])
    assert abs(measured - t60_s) < abs(missed - t60_s)


def test_t60_scales_with_the_speed_of_sound() -> None:
    assert predicted_t60_s(ROOM_M, 0.3, 2 * 343.0) == pytest.approx(predicted_t60_s(ROOM_M, 0.3) / 2)


@pytest.mark.parametrize("t60_s", [0.01, 600.0])
def test_impossible_t60_is_refused_with_what_is_possible(t60_s: float) -> None:
    with pytest.raises(MsdetError, match=rf"a T60 of {t60_s} s is impossible in a room of 5.20 x 4.10 x 2.70 m"):
        absorption_for_t60(ROOM_M, t60_s)
    with pytest.raises(MsdetError, match=r"a T60 of 5\.0 s needs too many image sources"):
        room_response(ROOM_M, 5.0, MICROPHONES_M, SOURCES_M, RATE)
    assert absorption_for_t60(ROOM_M, 5.0) > 0, "which rays can be traced with"
    assert shortest_t60_s(ROOM_M) < 0.15 < 0.8 < longest_t60_s(ROOM_M)


def test_ray_tracing_takes_over_beyond_an_order_and_is_seeded() -> None:
    def traced(seed: int) -> RoomResponse:
        return room_response(ROOM_M, 0.3, MICROPHONES_M[:1], SOURCES_M[:1], RATE, image_order=3, seed=seed)

    first, again, other = traced(1), traced(1), traced(2)
    np.testing.assert_array_equal(first.rirs, again.rirs)
    assert not np.array_equal(first.rirs, other.rirs)
    np.testing.assert_array_equal(first.direct, other.direct)
    assert first.t60_measured_s == pytest.approx(0.3, rel=0.1)
    arrival = np.linalg.norm(MICROPHONES_M[0] - SOURCES_M[0]) / 343.0 * RATE
    assert np.abs(first.rirs[0, 0]).argmax() == pytest.approx(arrival, abs=1)
