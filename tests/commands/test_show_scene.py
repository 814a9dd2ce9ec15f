"""`msdet show-scene`: the picture is drawn for every kind of scene, and shows what the scene says."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread

from msdet.cli import main
from msdet.commands.show_scene import find_responses
from msdet.conventions import Array, wrap_deg
from msdet.data.scene_set import SceneSet
from msdet.data.simulate import simulate
from msdet.errors import MsdetError
from msdet.plots.geometry import ABOVE, side_view
from msdet.plots.scene import measure_decay, scene_sheet
from msdet.plots.theme import to_png
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.rir.bank import RirBank
from msdet.scenes.rir.reverberation import measured_t60_s
from msdet.scenes.scene import Scene

RATE = 8000


@pytest.fixture(scope="module")
def walking_set(tmp_path_factory: pytest.TempPathFactory, speech: Path, small_room: SceneDistribution) -> SceneSet:
    """A tilted array, two talkers who move and take turns, and a noise source, without reverberation."""
    distribution = dataclasses.replace(
        small_room,
        t60_s=(0.0, 0.0),
        moving=1.0,
        overlap=(0.3, 0.3),
        tilt_deg=(10.0, 20.0),
        talker_height_m=(1.2, 1.7),
        point_noises=1,
    )
    out = tmp_path_factory.mktemp("walking")
    made = simulate(out, speech, "folder", "train", distribution, 1, seed=2, jobs=1)
    assert made is not None
    return made


def sheet(data: SceneSet, scene: Scene, bank: RirBank | None = None) -> tuple[Figure, Array | None]:
    responses, _ = find_responses(data, scene, bank)
    return scene_sheet(scene, data.array, data.mixture(data.scenes[0])[0], responses), responses


def panel(figure: Figure, title: str) -> Axes:
    (found,) = (axes for axes in figure.axes if axes.get_title(loc="left").startswith(title))
    return found


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_the_picture_and_the_facts_are_written(
    dev_set: SceneSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scene.png"
    assert main(["show-scene", str(dev_set.root), f"--out={out}"]) == 0
    text = capsys.readouterr().out
    scene = dev_set.scenes[0]
    assert text.startswith("dev-000000\n  sound 1.5 s at 8 kHz, references direct\n")
    assert f"T60 target {scene.t60_target_s:.3f} s, measured {scene.t60_measured_s:.3f} s" in text
    rows = [line.split() for line in text.splitlines() if line.split()[0] in ("1", "2")]
    assert [row[1] for row in rows] == [source.speaker for source in scene.sources]
    assert [row[2] for row in rows] == [f"{source.azimuth_deg:.1f}°" for source in scene.sources]
    assert text.endswith(f"{out}\n")
    image = imread(out)
    assert image.shape[1] == 1440
    assert len(np.unique(image.reshape(-1, image.shape[-1]), axis=0)) > 100


def test_another_scene_is_chosen_by_its_id(
    dev_set: SceneSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["show-scene", str(dev_set.root), "--scene=dev-000002", f"--out={tmp_path / 'x.png'}"]
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith("dev-000002\n")


def test_rays_lead_to_the_talkers_and_keep_their_azimuths(dev_set: SceneSet) -> None:
    scene = dev_set.scenes[0]
    plan = panel(sheet(dev_set, scene)[0], "From above")
    for k, source in enumerate(scene.sources):
        ray = np.array(plan.lines[2 * k].get_xydata())
        np.testing.assert_allclose(ray[0], scene.array_center_m[:2])
        np.testing.assert_allclose(ray[1], source.position_m[:2])
        step = ray[1] - ray[0]
        azimuth_deg = np.rad2deg(np.arctan2(step[1], step[0])) - scene.array_rotation_deg[0]
        assert float(wrap_deg(azimuth_deg)) == pytest.approx(source.azimuth_deg)
        assert f"{source.azimuth_deg:.1f}°" in texts(plan)
        end = np.array(plan.lines[2 * k + 1].get_xydata())[1]
        assert scene.room_m is not None
        to_wall = [*end, *(np.array(scene.room_m[:2]) - end)]
        assert min(map(abs, to_wall)) == pytest.approx(0.0, abs=1e-9)


def test_responses_are_those_of_the_rendering(dev_set: SceneSet) -> None:
    """Rendered again, the scene has the T60 that was measured; the picture's lines have each talker's."""
    scene = dev_set.scenes[0]
    figure, responses = sheet(dev_set, scene)
    assert responses is not None
    t60s = [measure_decay(h, RATE).t60_s for h in responses]
    assert np.median([t or 0.0 for t in t60s]) == pytest.approx(scene.t60_measured_s, abs=2e-4)
    for k, (response, source) in enumerate(zip(responses, scene.sources, strict=True), start=1):
        microphone = scene.microphones_m(dev_set.array.positions)[dev_set.array.reference]
        due_s = np.linalg.norm(np.array(source.position_m) - microphone) / scene.speed_of_sound
        assert np.abs(response).argmax() / RATE == pytest.approx(due_s, abs=1 / RATE)
        assert panel(figure, f"Talker {k}: T60 {t60s[k - 1]:.3f} s")
        marked = panel(figure, f"Talker {k}: direct path at {1000 * due_s:.2f} ms").lines[0]
        assert float(np.asarray(marked.get_xdata())[0]) == pytest.approx(1000 * due_s)


@pytest.mark.parametrize("t60_s", [0.15, 0.4])
def test_the_line_of_the_t30_agrees_with_the_measure(t60_s: float) -> None:
    decay = np.exp(-6.91 * np.arange(RATE) / RATE / t60_s)
    response = np.random.default_rng(1).standard_normal(RATE) * decay
    found = measure_decay(response, RATE)
    assert found.t60_s == pytest.approx(measured_t60_s(response[None], RATE), rel=1e-3)
    assert found.t60_s == pytest.approx(t60_s, rel=0.1)


def test_a_decay_that_ends_too_early_has_no_t60() -> None:
    assert measure_decay(np.ones(100), RATE).t60_s is None


def test_moving_talkers_are_drawn_with_their_paths(walking_set: SceneSet) -> None:
    (scene,) = walking_set.scenes
    figure, _ = sheet(walking_set, scene)
    for title, view in (("From above", ABOVE), ("From the side", side_view(scene))):
        drawn = [np.array(line.get_xydata()) for line in panel(figure, title).lines]
        for source in scene.sources:
            corners = np.array([w.position_m for w in source.waypoints]) @ view.T
            assert any(line.shape == corners.shape and np.allclose(line, corners) for line in drawn)
        assert "noise" in texts(panel(figure, title))
    assert "+z" in texts(panel(figure, "From the side"))
    when = panel(figure, "Who talks when")
    for k, source in enumerate(scene.sources):
        shown = np.array(when.lines[3 * k + 1].get_xydata())
        assert shown[0, 0] == pytest.approx(source.onset_s, abs=0.01)
        assert shown[-1, 0] == pytest.approx(source.onset_s + source.duration_s, abs=0.01)
        known = {round(d.time_s, 6): d.azimuth_deg for d in source.track}
        middle = shown[len(shown) // 2]
        nearest = min(known, key=lambda t: abs(t - middle[0]))
        assert middle[1] == pytest.approx(known[nearest], abs=10.0)
    assert panel(figure, "Talker 1: anechoic")


def test_a_scene_from_a_bank_is_drawn_with_and_without_it(
    bank: RirBank, speech: Path, small_room: SceneDistribution, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = simulate(tmp_path / "set", speech, "folder", "dev", small_room, 1, seed=4, jobs=1, bank=bank.root)
    assert data is not None
    command = ["show-scene", str(data.root), f"--out={tmp_path / 'x.png'}"]
    assert main(command) == 0
    assert "no responses: the scene was made from an RIR bank; give it by --bank" in capsys.readouterr().out
    assert main([*command, f"--bank={bank.root}"]) == 0
    assert "no responses" not in capsys.readouterr().out
    (scene,) = data.scenes
    responses, _ = find_responses(data, scene, bank)
    stored = bank.room(scene.rir_room or 0, [source.rir or 0 for source in scene.sources])
    np.testing.assert_array_equal(responses, stored.rirs[:, data.array.reference])


def test_a_scene_in_an_unknown_room_is_drawn(dev_set: SceneSet) -> None:
    unknown = dataclasses.replace(dev_set.scenes[0], room_m=None, t60_target_s=None, t60_measured_s=None, noises=())
    figure, responses = sheet(dev_set, unknown)
    assert responses is None
    plan = panel(figure, "From above")
    (low_x, high_x), (low_y, high_y) = plan.get_xlim(), plan.get_ylim()
    for source in unknown.sources:
        x, y, _ = source.position_m
        assert low_x < x < high_x
        assert low_y < y < high_y
    assert to_png(figure).startswith(b"\x89PNG")


def test_many_talkers_get_rows_of_panels(dev_set: SceneSet) -> None:
    scene = dev_set.scenes[0]
    crowd = dataclasses.replace(scene, sources=tuple(scene.sources[n % 2] for n in range(6)))
    figure, responses = sheet(dev_set, crowd)
    assert responses is not None
    assert len(responses) == 6
    for k in range(1, 7):
        assert panel(figure, f"Talker {k}: T60")
        assert panel(figure, f"Talker {k}: direct")
    assert imread(io.BytesIO(to_png(figure))).shape[0] > 2000


def test_bad_input_is_one_line(
    dev_set: SceneSet, bank: RirBank, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = str(dev_set.root), f"--out={tmp_path / 'x.png'}"
    cases = {
        (root, f"--out={tmp_path / 'x.jpg'}"): "the picture's name must end in .png",
        (root, out, "--scene=dev-00001"): "unknown scene 'dev-00001'; did you mean 'dev-000001'?",
        (str(tmp_path), out): "not a data set, dataset.json is missing",
    }
    for arguments, message in cases.items():
        assert main(["show-scene", *arguments]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert message in captured.err
        assert len(captured.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_another_bank_is_refused(bank: RirBank, speech: Path, small_room: SceneDistribution, tmp_path: Path) -> None:
    data = simulate(tmp_path / "set", speech, "folder", "dev", small_room, 1, seed=4, jobs=1, bank=bank.root)
    assert data is not None
    other = dataclasses.replace(bank, identity="other")
    with pytest.raises(MsdetError, match=f"RIR bank is other, the set was made from {bank.identity}"):
        find_responses(data, data.scenes[0], other)
