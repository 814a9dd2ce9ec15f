"""`msdet array show` lists, describes and draws arrays."""

from __future__ import annotations

from pathlib import Path

import pytest

from msdet.arrays import MicrophoneArray, array_names, load_array
from msdet.cli import main
from msdet.plots.geometry import array_sheet


def test_without_an_array_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["array", "show"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == array_names()
    assert "6 microphones" in next(line for line in lines if "sms_wsj" in line)


def test_neighbors_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["array", "show", "linear4_5cm"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  channel")]
    assert lines[0].endswith("nearest: 1, 5.0 cm")
    assert lines[3].endswith("nearest: 2, 5.0 cm")


@pytest.mark.parametrize(("name", "views"), [("circular6_10cm", 1), ("chime_tablet", 3)])
def test_the_drawing_shows_channels_and_the_sense_of_azimuth(name: str, views: int, tmp_path: Path) -> None:
    out = tmp_path / "array.svg"
    assert main(["array", "show", name, "--out", str(out)]) == 0
    text = out.read_text(encoding="utf-8")
    assert text.count("From") == views
    for part in ("0° = +x", "azimuth", "reference: 0", f"{name}: 6 microphones"):
        assert part in text
    for channel in range(6):
        assert f">{channel}<" in text or f">{channel}," in text or f",{channel}<" in text


def test_the_drawing_is_of_the_array_wherever_its_origin_is() -> None:
    """A table's array measured from a corner of the room, on the floor."""
    square = load_array("circular4_5cm")
    moved = tuple((x + 1.0, y - 2.0, z + 1.2) for x, y, z in square.positions_m)
    for figure in (array_sheet(square), array_sheet(MicrophoneArray("moved", moved))):
        (axes,) = figure.axes
        (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
        assert right - left == pytest.approx(16.0)
        labels = {text.get_text(): text for text in axes.texts}
        assert {"0", "1", "2", "3", "0° = +x", "azimuth"} <= labels.keys()
        for text in axes.texts:
            x, y = text.xy
            assert left <= x <= right and low <= y <= high


def test_a_picture_is_a_png_too(tmp_path: Path) -> None:
    assert main(["array", "show", "eigenmike32", "--out", str(tmp_path / "a.png")]) == 0
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["circular6_10"], "unknown array 'circular6_10'; did you mean 'circular6_10cm'?"),
        (["circular6_10cm", "--out", "a.jpg"], "a.jpg: the picture's name must end in .png or .svg"),
        (["--out", "a.png"], "out needs an array to draw"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["array", "show", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err and len(captured.err.splitlines()) == 1
