"""Shipped arrays are as documented; a user's own is checked, and described for what it can tell apart."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msdet.arrays import MicrophoneArray, array_names, load_array
from msdet.conventions import Array, angular_distance_deg, azimuth_elevation_deg, direction_vector
from msdet.errors import MsdetError

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted(path.stem for path in (ROOT / "msdet" / "arrays" / "presets").glob("*.toml"))
SQUARE = [[0.04, 0.0, 0.0], [0.0, 0.04, 0.0], [-0.04, 0.0, 0.0], [0.0, -0.04, 0.0]]


def made(rows: Any, **more: Any) -> MicrophoneArray:
    return MicrophoneArray.from_dict({"name": "mine", "positions_m": rows, **more}, "mine.toml")


def pair_distances(array: MicrophoneArray) -> list[float]:
    return sorted(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(array.positions, 2))


def test_the_list_of_arrays_is_that_of_the_files() -> None:
    assert array_names() == SHIPPED
    assert len(SHIPPED) >= 11


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_array_is_named_centered_sourced_and_plausible(name: str) -> None:
    array = load_array(name)
    assert array.name == name
    assert len(array.source) > 20
    assert len(array.description) > 20
    assert array.cautions == ()
    assert np.linalg.norm(array.centroid_m) < 0.001 * array.aperture_m
    assert 0.05 < array.aperture_m < 0.5
    assert array.reference == 0


@pytest.mark.parametrize("name", SHIPPED)
def test_hardware_that_nobody_ran_is_said_to_be_untested(name: str) -> None:
    virtual = name.startswith(("circular", "linear", "sms_wsj"))
    assert ("Untested on hardware" in load_array(name).description) != virtual


@pytest.mark.parametrize(
    ("name", "microphones", "radius_m", "azimuth_0_deg", "step_deg"),
    [
        ("circular4_5cm", 4, 0.05, 0, 90),
        ("circular6_10cm", 6, 0.1, 0, 60),
        ("circular8_10cm", 8, 0.1, 0, 45),
        ("sms_wsj", 6, 0.1, 330, 60),
        ("respeaker_4mic_square", 4, 0.0405, 180, -90),
        ("respeaker_usb_4mic_square", 4, 0.032, 180, 90),
        ("respeaker_6mic_ring", 6, 0.0463, 120, 60),
    ],
)
def test_rings_are_as_documented(
    name: str, microphones: int, radius_m: float, azimuth_0_deg: float, step_deg: float
) -> None:
    array = load_array(name)
    assert array.microphones == microphones
    np.testing.assert_allclose(np.linalg.norm(array.positions, axis=1), radius_m, atol=5e-5)
    azimuth_deg, elevation_deg = azimuth_elevation_deg(array.positions)
    expected = azimuth_0_deg + step_deg * np.arange(microphones)
    assert angular_distance_deg(azimuth_deg, expected).max() < 0.1
    assert not elevation_deg.any()
    side_m = 2 * radius_m * np.sin(np.pi / microphones)
    assert array.closest_distance_m == pytest.approx(side_m, abs=1e-4)
    assert array.aperture_m == pytest.approx(2 * radius_m, abs=1e-4)
    assert array.aliasing_frequency_hz == pytest.approx(343 / (2 * side_m), rel=0.002)


@pytest.mark.parametrize(("name", "microphones", "spacing_m"), [("linear4_5cm", 4, 0.05), ("linear8_3cm", 8, 0.03)])
def test_lines_are_uniform_along_x(name: str, microphones: int, spacing_m: float) -> None:
    positions = load_array(name).positions
    assert positions.shape == (microphones, 3)
    np.testing.assert_allclose(np.diff(positions, axis=0), [[spacing_m, 0, 0]] * (microphones - 1), atol=1e-9)


def test_the_tablet_has_the_distances_of_the_challenge() -> None:
    """10 cm between neighbors and 19 cm between rows; CH2 is 2 cm behind the others."""
    array = load_array("chime_tablet")
    front = MicrophoneArray("front", tuple(p for n, p in enumerate(array.positions_m) if n != 1))
    assert front.geometry == "planar"
    hypotenuse = np.hypot
    expected = [0.1, 0.1, 0.19, 0.19, 0.2, 0.2, *[hypotenuse(0.1, 0.19)] * 2, *[hypotenuse(0.2, 0.19)] * 2]
    np.testing.assert_allclose(pair_distances(front), sorted(expected), atol=1e-6)
    corner, back, below = array.positions[[0, 1, 4]]
    assert np.linalg.norm(corner - back) == pytest.approx(hypotenuse(0.1, 0.02))
    assert np.linalg.norm(below - back) == pytest.approx(hypotenuse(0.19, 0.02))
    assert back[0] - corner[0] == pytest.approx(-0.02)  # away from the person, who is at azimuth 0


def test_the_eigenmike_is_a_sphere_that_reads_the_same_upside_down() -> None:
    array = load_array("eigenmike32")
    assert array.microphones == 32
    np.testing.assert_allclose(np.linalg.norm(array.positions, axis=1), 0.042, atol=1e-6)
    azimuth_deg, elevation_deg = azimuth_elevation_deg(array.positions)
    np.testing.assert_allclose(azimuth_deg[:4], [0, 32, 0, 328], atol=1e-3)
    np.testing.assert_allclose(elevation_deg[:4], [21, 0, -21, 0], atol=1e-3)
    # the faces and corners of an icosahedron come in opposite pairs; the table is rounded to a degree
    opposite = np.linalg.norm(array.positions[:, None] + array.positions[None], axis=-1).min(axis=1)
    assert opposite.max() < 0.042 * np.deg2rad(1.5)
    assert array.closest_distance_m > 0.025


BAD: list[tuple[dict[str, Any], str]] = [
    ({"positions_m": [[1.0, 0, 0]]}, "positions_m: has 1 microphone, expected at least 2"),
    ({"positions_m": []}, "positions_m: has 0 microphones, expected at least 2"),
    ({"positions_m": "circular"}, "positions_m is 'circular', expected a list of [x, y, z] in meters"),
    ({"positions_m": [*SQUARE, [0.1, 0.2]]}, "channel 4: is [0.1, 0.2], expected [x, y, z] in meters"),
    ({"positions_m": [0.1, 0.2]}, "positions_m, channel 0: is 0.1, expected [x, y, z] in meters"),
    ({"positions_m": [*SQUARE, ["0.1", 0, 0]]}, "channel 4: is ['0.1', 0, 0], expected three numbers"),
    ({"positions_m": [*SQUARE, [True, 0, 0]]}, "channel 4: is [True, 0, 0], expected three numbers"),
    ({"positions_m": [*SQUARE, [0, float("nan"), 0]]}, "channel 4: is [0, nan, 0], expected finite numbers"),
    ({"positions_m": [*SQUARE, SQUARE[1]]}, "channels 1 and 4 are both at [0.0, 0.04, 0.0], expected apart"),
    ({"positions_m": [[0, 0, 0], [0, 0, 0]]}, "channels 0 and 1 are both at [0, 0, 0], expected apart"),
    (
        {"positions_m": (1000 * np.array(SQUARE)).tolist()},
        "positions_m: span 80 m, expected at most 5 m; divide by 1000 if in millimeters (8 cm wide)",
    ),
    (
        {"positions_m": (100 * np.array(SQUARE)).tolist()},
        "positions_m: span 8 m, expected at most 5 m; divide by 1000 if in millimeters (0.8 cm wide), "
        "by 100 if in centimeters (8 cm wide)",
    ),
    (
        {"positions_m": (np.array(SQUARE) / 1000).tolist()},
        "positions_m: span 0.08 mm, expected at least 5 mm; were meters divided by 1000? multiply by 1000 (8 cm wide)",
    ),
    ({"reference": 4}, "reference is 4, expected a channel from 0 to 3"),
    ({"reference": -1}, "reference is -1, expected a channel from 0 to 3"),
    ({"reference": 1.0}, "reference is 1.0, expected a channel from 0 to 3"),
    ({"reference": True}, "reference is True, expected a channel from 0 to 3"),
    ({"position_m": SQUARE}, "unknown key 'position_m'; did you mean 'positions_m'?"),
    ({"sorce": "x"}, "unknown key 'sorce'; did you mean 'source'?"),
    ({"name": 3}, "name is 3, expected text"),
    ({"name": ""}, "name is '', expected a plain name"),
    ({"description": ["a"]}, "description is ['a'], expected text"),
]


@pytest.mark.parametrize(("change", "message"), BAD, ids=range(len(BAD)))
def test_a_wrong_file_is_told_in_one_line(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    table = {"name": "mine", "positions_m": SQUARE, **change}
    spelled = {key: json.dumps(value).replace("NaN", "nan") for key, value in table.items()}
    path.write_text("\n".join(f"{key} = {value}" for key, value in spelled.items()), encoding="utf-8")
    with pytest.raises(MsdetError) as raised:
        load_array(str(path))
    assert str(raised.value).startswith(f"{path}: ")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'name = "mine"', "key 'positions_m' is missing"),
        (b"positions_m = [[0.0, 0.0, 0.0]]", "key 'name' is missing"),
        (b"name = mine", "not valid TOML"),
        (b'name = "\xff"', "cannot be read (is not UTF-8 text)"),
    ],
)
def test_a_file_that_is_no_array_is_told_in_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(MsdetError) as raised:
        load_array(str(path))
    assert str(raised.value).startswith(f"{path}: ")
    assert message in str(raised.value)


def test_arrays_made_in_code_are_checked_too() -> None:
    with pytest.raises(MsdetError, match=r"array 'pair': reference is 2, expected a channel from 0 to 1"):
        MicrophoneArray("pair", ((0.0, 0.0, 0.0), (0.1, 0.0, 0.0)), reference=2)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_stored_form_reads_back_the_same_without_the_description(name: str) -> None:
    array = load_array(name)
    stored = array.to_dict()
    assert "description" not in stored  # or its wording would decide whether two data sets are the same
    assert MicrophoneArray.from_dict(json.loads(json.dumps(stored))) == array


def test_wide_and_off_center_arrays_are_allowed_but_told() -> None:
    wide = made((20 * np.array(SQUARE)).tolist())
    (caution,) = wide.cautions
    assert "is 1.60 m wide; if it is not, its coordinates are not in meters" in caution
    assert made((np.array(SQUARE) + [0.007, 0, 0]).tolist()).cautions == ()
    moved = np.array(SQUARE) + [0.0, -0.009, 0.0]
    (caution,) = made(moved.tolist()).cautions
    assert "0.9 cm from the origin" in caution
    assert "subtract [0.0000, -0.0090, 0.0000] from every position" in caution
    assert made((moved - [0.0, -0.009, 0.0]).tolist()).cautions == ()


def turned(rows: Any, about: str, angle_deg: float) -> list[list[float]]:
    c, s = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    turn = {"x": [[1, 0, 0], [0, c, -s], [0, s, c]], "y": [[c, 0, s], [0, 1, 0], [-s, 0, c]]}[about]
    result: list[list[float]] = (np.array(rows) @ np.array(turn).T).tolist()
    return result


LINE = [[0.0, 0.0, 0.0], [0.03, 0.04, 0.0], [0.06, 0.08, 0.0]]
PYRAMID = [*SQUARE, [0.0, 0.0, 0.05]]
SHAPES: list[tuple[Any, str, int, str]] = [
    (LINE, "linear", 180, "the angle to its line alone, 0 to 180 degrees from azimuth 53; a talker"),
    (turned(LINE, "x", 45), "linear", 180, "from azimuth 43, elevation 34; a talker"),
    ([[0, 0, 0], [0, 0, 0.1]], "linear", 0, "elevation -90 to 90 degrees alone; all azimuths look alike"),
    (SQUARE, "planar", 360, "azimuth 0 to 360 degrees, and the size of the elevation but not whether up"),
    (turned(SQUARE, "y", 90), "planar", 180, "azimuth over half the circle, from 270 to 90 degrees"),
    (turned(SQUARE, "x", 90), "planar", 180, "azimuth over half the circle, from 0 to 180 degrees"),
    (turned(SQUARE, "x", 40), "planar", 360, "its mirror image in the tilted plane"),
    (PYRAMID, "spatial", 360, "azimuth 0 to 360 degrees and elevation -90 to 90 degrees"),
    ([*SQUARE, [0.0, 0.0, 0.01]], "spatial", 360, "the two sides of its flat shape by its depth of 1.0 cm"),
    ([*SQUARE, [0.0, 0.0, 0.0005]], "planar", 360, "not whether up or down"),
    ([[0, 0, 0], [0.1, 0.0005, 0], [0.2, 0, 0]], "linear", 180, "0 to 180 degrees from azimuth 0; a talker"),
]


@pytest.mark.parametrize(("rows", "geometry", "span_deg", "words"), SHAPES, ids=range(len(SHAPES)))
def test_shape_and_words(rows: Any, geometry: str, span_deg: int, words: str) -> None:
    array = made(rows)
    assert array.geometry == geometry
    assert array.is_linear == (geometry == "linear")
    assert array.resolvable_domain.azimuth_span_deg == span_deg
    assert words in array.resolvable_domain.words


def delays(array: MicrophoneArray, direction: Array) -> Array:
    """Of a far source, in meters, relative to the first microphone: ``(..., mic)``."""
    relative: Array = direction @ (array.positions - array.positions[0]).T
    return relative


@pytest.mark.parametrize("rows", [shape[0] for shape in SHAPES[:8]], ids=range(8))
def test_the_span_of_azimuths_is_what_the_delays_tell_apart(rows: Any) -> None:
    """By brute force: which of 72 azimuths share their delays with one at least 10 degrees away."""
    array = made(rows)
    domain = array.resolvable_domain
    symmetry_deg = azimuth_elevation_deg(domain.axis or (1.0, 0.0, 0.0))[0]
    azimuth_deg = symmetry_deg + np.arange(0.0, 360.0, 5.0)
    seen = delays(array, direction_vector(azimuth_deg))
    same = np.abs(seen[:, None] - seen[None]).max(axis=-1) < 1e-5
    twins = (same & (angular_distance_deg(azimuth_deg[:, None], azimuth_deg[None]) >= 10)).sum(axis=1)
    if domain.azimuth_span_deg == 180:  # all but the two azimuths that are their own mirror images
        assert sorted(twins) == [0] * 2 + [1] * 70
    else:
        assert set(twins) == {{360: 0, 0: 69}[domain.azimuth_span_deg]}


def test_mirroring_in_the_axis_of_a_plane_changes_no_delay() -> None:
    array = made(turned(turned(SQUARE, "x", 40), "y", 25))
    normal = np.array(array.resolvable_domain.axis)
    assert np.linalg.norm(normal) == pytest.approx(1.0, abs=1e-5)
    source = direction_vector(250.0, 35.0)
    mirrored = source - 2 * (source @ normal) * normal
    np.testing.assert_allclose(delays(array, source), delays(array, mirrored), atol=1e-6)
    assert np.linalg.norm(source - mirrored) > 0.5
    assert np.abs(delays(array, source) - delays(array, -source)).max() > 0.01


def test_turning_about_the_axis_of_a_line_changes_no_delay() -> None:
    array = made(turned(LINE, "x", 45))
    line = np.array(array.resolvable_domain.axis)
    source = direction_vector(110.0, -20.0)
    along = (source @ line) * line
    half_turn = 2 * along - source
    quarter_turn = along + np.cross(line, source)
    for turned_source in (half_turn, quarter_turn):
        np.testing.assert_allclose(delays(array, source), delays(array, turned_source), atol=1e-6)
    assert made(PYRAMID).resolvable_domain.axis is None


def test_the_closest_pair_is_the_first_of_equals() -> None:
    assert made(SQUARE).closest_pair == (0, 1)
    close = made([*SQUARE, [0.0, 0.03, 0.0]])
    assert close.closest_pair == (1, 4)
    assert close.closest_distance_m == pytest.approx(0.01)
    assert close.aliasing_frequency_hz == pytest.approx(343 / 0.02)
