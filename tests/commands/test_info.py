"""`msdet info` of an array: everything a person needs to find a swapped channel or a wrong unit."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from msdet.arrays import array_names, load_array
from msdet.cli import main
from msdet.commands.array import draw_points
from msdet.conventions import direction_vector


def printed(capsys: pytest.CaptureFixture[str], what: str | Path) -> str:
    assert main(["info", str(what)]) == 0
    return capsys.readouterr().out


def own(tmp_path: Path, positions: list[list[float]], **more: object) -> Path:
    path = tmp_path / "mine.toml"
    lines = [f"{key} = {value!r}" for key, value in more.items()]
    path.write_text("\n".join(['name = "mine"', f"positions_m = {positions}", *lines]), encoding="utf-8")
    return path


def test_an_array_is_described_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "sms_wsj")
    unwrapped = re.sub(r"\s+", " ", text)
    array = load_array("sms_wsj")
    for part in (
        "array sms_wsj: 6 microphones, reference is channel 0",
        array.description,
        f"source: {array.source}",
        "planar; aperture 20.0 cm",
        "closest pair: channels 0 and 1, 10.0 cm; aliasing from 1715 Hz",
        f"tells apart: {array.resolvable_domain.words}",
        "centroid 0.0 cm from the origin",
        "0° = +x, counter-clockwise",
        "channel 0: +0.0866 -0.0500 +0.0000 m azimuth 330.0° elevation +0.0°",
        "channel 5: +0.0000 -0.1000 +0.0000 m azimuth 270.0° elevation +0.0°",
    ):
        assert part in unwrapped
    assert "caution" not in text
    assert "refuse" not in text


@pytest.mark.parametrize("name", array_names())
def test_every_shipped_array_is_drawn_with_all_its_channels(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, name)
    assert max(map(len, text.splitlines())) <= 110
    array = load_array(name)
    flat = not array.positions[:, 2].any()
    views = re.split(r"\n\n  from .*\n\n", text)[1:]
    assert len(views) == (1 if flat else 2)
    for view in views:
        channels = [int(number) for number in re.findall(r"\d+", view)]
        assert sorted(channels) == list(range(array.microphones))


def test_the_drawing_is_the_array_seen_from_above(capsys: pytest.CaptureFixture[str]) -> None:
    view = printed(capsys, "respeaker_4mic_square").split("cm high\n\n")[1].splitlines()
    place = {mark: (row, line.index(mark)) for row, line in enumerate(view) for mark in "0123+" if mark in line}
    (origin_row, origin_column), (rows, columns) = place["+"], (6, 12)
    assert place == {
        "0": (origin_row, origin_column - columns),  # on -x
        "1": (origin_row - rows, origin_column),  # on +y
        "2": (origin_row, origin_column + columns),
        "3": (origin_row + rows, origin_column),
        "+": (origin_row, origin_column),
    }


def test_the_drawing_shows_swapped_channels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    square = [list(p) for p in load_array("circular4_5cm").positions_m]
    right = printed(capsys, own(tmp_path, square)).split("from above")[-1]
    swapped = printed(capsys, own(tmp_path, [square[n] for n in (0, 2, 1, 3)])).split("from above")[-1]
    assert right != swapped
    assert swapped.translate(str.maketrans("12", "21")) == right


def test_an_upright_array_is_also_seen_from_the_front(capsys: pytest.CaptureFixture[str]) -> None:
    """The tablet as the person in front of it sees it: 0 1 2 above 3 4 5."""
    view = printed(capsys, "chime_tablet").split("from the front (from +x), y right, z up")[1]
    rows = [re.findall(r"\d+", line) for line in view.splitlines()[1:] if re.search(r"\d", line)]
    assert rows == [["0", "1", "2"], ["3", "4", "5"]]


def test_what_looks_wrong_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = own(tmp_path, [[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [0.2, 0.0, 0.0]], reference=1)
    text = re.sub(r"\s+", " ", printed(capsys, path))
    assert "reference is channel 1" in text
    assert "centroid 10.0 cm from the origin" in text
    assert "caution: the microphones' centroid is 10.0 cm from the origin" in text
    assert "subtract [0.1000, 0.0000, 0.0000] from every position" in text
    assert "refuse it; methods and universal_16k give the angle to its line" in text
    assert "mirror image behind the line" in text


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("sms_wjs", "sms_wjs: no model, data set, RIR bank or array; did you mean 'sms_wsj'?"),
        ("eigenmike", "did you mean 'eigenmike32'?"),
        ("nowhere.toml", "nowhere.toml: no such file"),
    ],
)
def test_an_unknown_array_offers_the_nearest(what: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", what]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1


def test_a_wrong_file_prints_one_line_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = own(tmp_path, [[0.0, 0.0, 0.0], [40.0, 0.0, 0.0]])
    assert main(["info", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: {path}: positions_m: span 40 m, expected at most 5 m")
    assert len(captured.err.splitlines()) == 1


def test_a_circle_looks_round_and_crowded_labels_do_not_touch() -> None:
    circle = 0.3 * direction_vector(np.arange(24) * 15.0)[:, :2]
    lines, row_m = draw_points(circle)
    height_m = (len(lines) - 1) * row_m
    starts = [len(line) - len(line.lstrip()) for line in lines if line.strip()]
    width_m = (max(map(len, lines)) - 1 - min(starts)) * row_m / 2
    assert height_m == pytest.approx(0.6, rel=0.05)
    assert width_m == pytest.approx(0.6, rel=0.05)
    found = [mark for line in lines for mark in line.split()]
    assert sorted(found) == sorted([*map(str, range(24)), "+"])


def test_labels_without_room_move_aside() -> None:
    near = np.array([[0.0, 0.0], [0.001, 0.0], [0.002, 0.0], [1.0, 0.0], [-1.0, -1.0]])
    lines, _ = draw_points(near + [1e-4, 0.0])
    assert sorted(re.findall(r"\d", "".join(lines))) == ["0", "1", "2", "3", "4"]
    assert any(line.split() == ["0,1,2", "3"] for line in lines)


def test_an_origin_far_away_does_not_shrink_the_drawing() -> None:
    square = np.array([[0.0, 0.0], [0.1, 0.0], [0.1, 0.1], [0.0, 0.1]])
    lines, row_m = draw_points(square + [5.0, 3.0])
    assert not any("+" in line for line in lines)
    assert (len(lines) - 1) * row_m == pytest.approx(0.1)
