"""`msdet describe`: the numbers it prints are those of the scenes, and its page needs nothing else."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from msdet.cli import main
from msdet.conventions import Array
from msdet.data.description import Quantity, describe_bank, describe_set
from msdet.data.scene_set import SceneSet
from msdet.data.simulate import simulate
from msdet.data.validation import validate_set
from msdet.plots.histograms import bin_edges, histograms
from msdet.plots.theme import DARK, LIGHT
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.rir.bank import RirBank, make_bank


class Links(HTMLParser):
    """What a page points to, and its elements that were not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.targets += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.targets += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory, speech: Path, small_room: SceneDistribution) -> SceneSet:
    """Scenes of one to three talkers at different heights, half of whom move, with a noise source."""
    distribution = dataclasses.replace(
        small_room,
        talkers={1: 1.0, 2: 1.0, 3: 1.0},
        t60_s=(0.0, 0.0),
        talker_height_m=(1.2, 1.7),
        moving=0.5,
        speed_m_s=(0.3, 0.5),
        point_noises=1,
        overlap=(0.2, 0.6),
    )
    out = tmp_path_factory.mktemp("varied")
    made = simulate(out, speech, "folder", "train", distribution, 6, seed=3, jobs=1)
    assert made is not None
    return made


def table(text: str) -> dict[str, list[str]]:
    """Printed rows by quantity: what is counted, n, min, median, max."""
    rows = (re.split(r" {2,}", line.strip()) for line in text.splitlines())
    return {row[0]: row[1:] for row in rows if len(row) == 6}


def values_of(data: SceneSet, name: str) -> Array:
    return next(q.values for q in describe_set(data).quantities if q.name == name)


def test_the_numbers_are_those_of_the_scenes(dev_set: SceneSet, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", str(dev_set.root)]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"data set {dev_set.root.name}\n  3 scenes, 0.1 min at 8 kHz, 4 microphones")
    assert "references: direct" in text
    assert "6 talkers, 2 speakers (2 of unknown gender); 0 move" in text
    assert "noise: sensor\n" in text
    found = table(text)
    azimuths = [a for scene in dev_set.scenes for a in scene.azimuths_deg]
    assert found["Azimuth (°)"] == ["talkers", "6", f"{min(azimuths):.1f}", "–", f"{max(azimuths):.1f}"]
    gaps = sorted(scene.azimuth_gap_deg for scene in dev_set.scenes)
    assert found["Azimuth gap, smallest (°)"] == ["scenes", "3", *(f"{gap:.1f}" for gap in gaps)]
    ratios = sorted(s.t60_measured_s / s.t60_target_s for s in dev_set.scenes)  # type: ignore[operator]
    assert found["T60 measured / asked for"] == ["scenes", "3", *(f"{ratio:.2f}" for ratio in ratios)]
    assert found["Talkers a scene"] == ["scenes", "3", "2", "2", "2"]
    assert found["Scenes a speaker"] == ["speakers", "2", "3", "3", "3"]
    assert found["Overlap ratio"] == ["scenes", "3", "1", "1", "1"]
    assert "Elevation (°)" not in found  # all talkers are at the array's height
    assert "Azimuth passed (°)" not in found


def test_what_only_some_sets_have_is_told(varied: SceneSet, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", str(varied.root)]) == 0
    text = capsys.readouterr().out
    sources = [source for scene in varied.scenes for source in scene.sources]
    moving = [source for source in sources if source.track]
    assert 0 < len(moving) < len(sources)
    assert f"; {len(moving)} move\n" in text
    assert "noise: point (babble) + sensor\n" in text
    found = table(text)
    assert found["Talkers a scene"][2::2] == ["1", "3"]
    assert found["Elevation (°)"][1] == str(len(sources))
    assert "T60 measured / asked for" not in found  # anechoic
    several = [scene for scene in varied.scenes if len(scene.sources) > 1]
    assert found["Overlap ratio"][:2] == ["scenes", str(len(several))]
    np.testing.assert_allclose(
        values_of(varied, "SNR of point noise (dB)"), [scene.noises[1].snr_db for scene in varied.scenes]
    )


def test_azimuth_passed_adds_up_across_zero(varied: SceneSet) -> None:
    passed = values_of(varied, "Azimuth passed (°)")
    tracks = [
        np.unwrap([d.azimuth_deg for d in source.track], period=360.0)
        for scene in varied.scenes
        for source in scene.sources
        if source.track
    ]
    np.testing.assert_allclose(passed, [np.abs(np.diff(track)).sum() for track in tracks])
    assert (passed < 360.0).all()


def test_a_set_of_which_little_is_known_is_described(dev_set: SceneSet) -> None:
    scenes = tuple(
        dataclasses.replace(
            scene,
            room_m=None,
            t60_target_s=None,
            t60_measured_s=None,
            noises=(),
            sources=tuple(dataclasses.replace(source, speaker="", path="") for source in scene.sources),
        )
        for scene in dev_set.scenes
    )
    description = describe_set(dataclasses.replace(dev_set, scenes=scenes))
    assert "6 talkers, speakers unknown; 0 move" in description.facts
    assert "noise: none" in description.facts
    names = {quantity.name for quantity in description.quantities}
    assert not {name for name in names if name.startswith(("T60", "SNR", "Scenes"))}
    assert {"Azimuth (°)", "Distance (m)"} <= names


def test_a_bank_is_described(bank: RirBank, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["describe", str(bank.root), "--out", str(tmp_path / "bank.html")]) == 0
    text = capsys.readouterr().out
    assert "4 rooms x 3 positions at 8 kHz, 4 microphones (circular4_5cm)" in text
    found = table(text)
    distances = sorted(d for room in bank.table for d in room.distances_m)
    assert found["Distance (m)"][:2] == ["positions", "12"]
    assert found["Distance (m)"][2::2] == [f"{distances[0]:.2f}", f"{distances[-1]:.2f}"]
    assert found["T60 measured (s)"][:2] == ["rooms", "4"]
    assert (tmp_path / "bank.html").is_file()
    measured = dataclasses.replace(bank.table[0], room_m=None, t60_target_s=None)
    unknown = describe_bank(dataclasses.replace(bank, table=(measured,)))
    assert not {q.name for q in unknown.quantities} & {"Volume (m³)", "T60 measured / asked for"}


def test_the_page_is_whole_and_needs_nothing_else(varied: SceneSet, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    assert main(["describe", str(varied.root), f"--out={out}"]) == 0
    text = out.read_text(encoding="utf-8")
    page = Links(text)
    assert page.open == []
    assert all(target.startswith(("#", "data:")) for target in page.targets)
    assert "<script" not in text
    assert f"--blue: {LIGHT['blue']}" in text
    assert f"--blue: {DARK['blue']}" in text
    for quantity in describe_set(varied).quantities:
        count = 1 if quantity.constant else 2  # its histogram's label, too
        assert text.count(f">{quantity.name}<") >= count, quantity.name
    assert varied.identity in text


def test_every_value_is_in_its_histogram(varied: SceneSet) -> None:
    quantities = [q for q in describe_set(varied).quantities if not q.constant]
    figure = histograms(quantities)
    for axes, quantity in zip(figure.axes, quantities, strict=False):
        assert axes.get_title(loc="left") == quantity.name
        heights = [bar.get_height() for bar in axes.patches]  # type: ignore[attr-defined]
        assert sum(heights) == quantity.values.size, quantity.name


@pytest.mark.parametrize("values", [[1.0, 1.0], [-3.0, 0.0, 3.0], [0.1, 0.2, 0.3], list(range(1000))])
def test_bins_hold_all_values(values: list[float]) -> None:
    edges = bin_edges(np.array(values, dtype=np.float64))
    assert edges[0] <= min(values)
    assert edges[-1] > max(values)
    assert len(edges) < 60


def test_whole_numbers_are_written_whole() -> None:
    assert Quantity("n", "scenes", np.array([1.0, 2.0])).numbers() == ("2", "1", "1.5", "2")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: not a data set, dataset.json is missing"),
        (["nowhere", "--out=page.htm"], "page.htm: the page's name must end in .html"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"error: {message}\n"


def test_rule_of_the_t60_is_said_and_comes_with_scenes_and_banks(
    speech: Path, small_room: SceneDistribution, dev_set: SceneSet, tmp_path: Path
) -> None:
    assert dev_set.scenes[0].t60_rule == "measured" and "t60_rule" not in dev_set.scenes[0].to_dict()
    assert "t60_rule" not in (dev_set.root / "dataset.json").read_text(), "sets of before keep their hash"
    assert "T60 asked for is what is measured" in describe_set(dev_set).facts
    room = dataclasses.replace(small_room, t60_rule="sabine", t60_s=(0.3, 0.3))
    default = dataclasses.replace(room, t60_rule="measured")
    rooms = make_bank(tmp_path / "bank", room, rooms=1, positions=2, seed=11, jobs=1)
    made = simulate(tmp_path / "own", speech, "folder", "dev", room, 1, seed=5, jobs=1)
    drawn = simulate(tmp_path / "drawn", speech, "folder", "dev", default, 1, seed=5, jobs=1, bank=rooms.root)
    assert [made.scenes[0].t60_rule, drawn.scenes[0].t60_rule] == ["sabine", "sabine"]
    for described in (describe_bank(rooms), describe_set(made), describe_set(drawn)):
        (fact,) = (fact for fact in described.facts if "T60" in fact)
        assert fact.startswith("T60 asked for is by Sabine's formula, as in SMS-WSJ")
    assert validate_set(made.root) == []
