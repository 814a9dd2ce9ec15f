"""The report's figures: every axis has a name and a unit, and shows what it says."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msdet.conventions import wrap_deg
from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError
from msdet.plots.breakdowns import breakdown_figure
from msdet.plots.confidence import (
    calibration_figure,
    confidence_curve,
    detection_figure,
    posterior_curve,
    wilson,
)
from msdet.plots.directions import doa_confusion, doa_polar
from msdet.plots.learning import learning_curves, read_curves
from msdet.plots.scene import MAX_SYSTEMS, example_scene
from msdet.plots.theme import DARK, HUES, LIGHT, styles, to_svg
from msdet.report.conditions import crossings, varying
from msdet.report.content import ScoredSystem, read_evaluation
from msdet.report.examples import read_example
from msdet.scenes.scene import Direction, Waypoint
from msdet.scoring.breakdowns import BREAKDOWNS
from msdet.scoring.calibration import calibration, posterior_curves
from msdet.scoring.summary import summarize


def system(confidence: list[float], errors_deg: list[float]) -> ScoredSystem:
    rows = {
        f"scene{n}": {"id": f"scene{n}", "doa_confidence": [c], "doa_error_deg": [e]}
        for n, (c, e) in enumerate(zip(confidence, errors_deg, strict=True))
    }
    return ScoredSystem("a", rows, None, {})


def test_every_axis_has_a_name(evaluation: Path, data: Path, run: Path) -> None:
    e = read_evaluation(evaluation, data)
    looks = styles(e.systems)
    conditions = varying(e.chosen.rows.values())
    rows = {name: list(s.rows.values()) for name, s in e.systems.items()}
    summary = summarize(rows, by=[condition.name for condition in conditions])
    errors = {"model": tuple(e.chosen.of_talkers("azimuth_deg", "doa_error_deg"))}
    curve, reliability = confidence_curve(e.chosen), calibration(rows["model"])
    assert curve is not None
    assert reliability is not None
    first = e.scene_set.scenes[0]
    drawn = {
        "learning": learning_curves(read_curves(run)),
        "breakdown": breakdown_figure(summary, conditions, "doa_mae_deg", {"model": looks["model"]}),
        "polar": doa_polar(errors, looks),
        "confusion": doa_confusion({"model": e.chosen.azimuth_pairs()}, looks),
        "detection": detection_figure({"model": curve}, looks, "confidence", "Right kept", "Wrong kept"),
        "calibration": calibration_figure({"model": reliability}, looks),
        "scene": example_scene(read_example(e, first, "First"), e.scene_set.array, looks),
    }
    for name, figure in drawn.items():
        for axes in figure.axes:
            if not axes.axison:
                continue
            place = axes.get_subplotspec()
            assert axes.get_xlabel(), name
            is_first = place is None or place.is_first_col()
            assert (
                axes.get_ylabel()
                or axes.get_label() == "<colorbar>"
                or (name == "breakdown" and not is_first)
            )
            assert axes.has_data() or name == "confusion"


def test_breakdowns_are_those_that_vary(evaluation: Path, data: Path) -> None:
    e = read_evaluation(evaluation, data)
    conditions = {condition.name: condition for condition in varying(e.chosen.rows.values())}
    assert list(conditions) == ["azimuth_gap", "straddling", "sector"]  # one T60, distance, noise level ...
    assert [b.name for b in conditions["azimuth_gap"].bins] == ["< 15 deg", "15 to 45 deg", ">= 90 deg"]
    assert [b.name for b in conditions["azimuth_gap"].overlapping] == [">= 20 deg"]
    assert set(conditions) < set(BREAKDOWNS)


def test_crossings_hold_the_means_of_both_bins(evaluation: Path, data: Path) -> None:
    e = read_evaluation(evaluation, data)
    conditions = varying(e.chosen.rows.values())
    text = crossings(e, conditions)
    assert text.count("data-crossing") == 2 * 3 * 2
    shown = text[text.index('data-crossing="doa_mae_deg azimuth_gap straddling"') :].split("</table>")[0]
    # straddling or not; 30°: scene 0; at least 90°: scene 1, and scene 3, which is 40° off, across 0°
    cells = [cell.split("<small>") for cell in shown.split("<span>")[1:]]
    assert [(value, n.split("<")[0]) for value, n in cells] == [
        ("3.0", "n = 1"), ("3.0", "n = 1"), ("40.0", "n = 1"), ("3.0", "n = 1"),
    ]  # fmt: skip


def test_bars_of_the_breakdown_are_where_the_summary_says(evaluation: Path, data: Path) -> None:
    e = read_evaluation(evaluation, data)
    conditions = varying(e.chosen.rows.values())[:1]
    summary = summarize({"model": list(e.chosen.rows.values())}, by=["azimuth_gap"])
    looks = {"model": styles(["model"])["model"]}
    axes = breakdown_figure(summary, conditions, "si_sdr_improvement_db", looks).axes[0]
    ticks = [label.get_text() for label in axes.get_xticklabels()]
    assert ticks == ["< 15°\nn = 1", "15–45°\nn = 1", "≥ 90°\nn = 2", "≥ 20°\nn = 3"]
    points = [line.get_xydata()[0] for line in axes.lines if line.get_marker() == "o"]
    cells = summary.breakdowns["Azimuth gap"]
    expected = [cells[name]["model"]["si_sdr_improvement_db"].value for name in ("< 15 deg", "15 to 45 deg")]
    assert [y for _, y in points[:2]] == pytest.approx(expected)
    assert [x for x, _ in points] == [0.0, 1.0, 2.0, 3.0]


def test_directions_are_counter_clockwise_from_x(evaluation: Path, data: Path) -> None:
    looks = styles(["model"])
    axes: Any = doa_polar({"model": (np.array([90.0, 350.0]), np.array([4.0, 16.0]))}, looks).axes[0]
    assert axes.get_theta_offset() == 0.0
    assert axes.get_theta_direction() == 1
    angle, radius = axes.collections[-1].get_offsets().T
    assert np.allclose(np.rad2deg(angle), [90.0, 350.0])
    assert np.allclose(radius**2, [4.0, 16.0])

    e = read_evaluation(evaluation, data)
    scene = e.scene_set.scenes[1]
    plan = example_scene(read_example(e, scene, ""), e.scene_set.array, looks | styles(e.systems)).axes[1]
    rays = [line for line in plan.lines if line.get_linestyle() == "--" and line.get_color() == LIGHT["blue"]]
    assert scene.room_m is not None
    for ray, azimuth_deg in zip(rays, scene.azimuths_deg + 3.0, strict=True):
        (x0, y0), (x1, y1) = ray.get_xydata()
        assert (x0, y0) == scene.array_center_m[:2]
        assert np.rad2deg(np.arctan2(y1 - y0, x1 - x0)) % 360 == pytest.approx((azimuth_deg + 30.0) % 360)
        assert 0 <= x1 <= scene.room_m[0]
        assert 0 <= y1 <= scene.room_m[1]


def test_the_confusion_counts_every_talker_once() -> None:
    truth_deg = np.array([5.0, 5.0, 5.0, 355.0, 95.0])
    estimate_deg = np.array([365.0, 4.0, 184.0, -5.0, 94.0])
    axes = doa_confusion({"a": (truth_deg, estimate_deg)}, styles(["a"])).axes[0]
    cells = {patch.get_xy(): patch.get_alpha() for patch in axes.patches}
    assert set(cells) == {(0, 0), (0, 180), (350, 350), (90, 90)}
    assert cells[0, 0] == 1.0
    assert cells[0, 180] == cells[90, 90] < 1.0
    assert axes.get_title(loc="left") == "a: 5 talkers"


def test_a_talker_who_moves_is_drawn_over_time(
    make_set: Callable[..., SceneSet], evaluation: Path, data: Path
) -> None:
    e = read_evaluation(evaluation, data)
    scene = e.scene_set.scenes[0]
    example = read_example(e, scene, "")
    track = tuple(Direction(0.5 * n, float(wrap_deg(350.0 + 10.0 * n)), 0.0, 1.0) for n in range(4))
    mover = replace(
        scene.sources[0],
        waypoints=(Waypoint(0.0, (1.0, 2.0, 1.5)), Waypoint(1.5, (1.0, 3.0, 1.5))),
        track=track,
    )
    moving = replace(example, scene=replace(scene, sources=(mover, scene.sources[1])))
    standing_axes = example_scene(example, e.scene_set.array, styles(e.systems)).axes
    figure = example_scene(moving, e.scene_set.array, styles(e.systems))
    assert len(figure.axes) == len(standing_axes) + 1
    axes = next(a for a in figure.axes if a.get_title(loc="left") == "Directions over time")
    line = axes.lines[0].get_xydata()
    assert line[:, 0].tolist() == [0.0, 0.5, 1.0, 1.5]
    assert line[:1, 1].tolist() == [350.0]
    assert np.isnan(line[1, 1])  # here it passes 0°
    assert line[2:, 1].tolist() == [10.0, 20.0]


def test_more_systems_than_fit_beside_each_other_wrap(evaluation: Path, data: Path) -> None:
    e = read_evaluation(evaluation, data)
    example = read_example(e, e.scene_set.scenes[0], "")
    many = {f"system{n}": example.outputs["model"] for n in range(9)}
    figure = example_scene(replace(example, outputs=many), e.scene_set.array, styles(many))
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert {f"system{n}, talker {t}" for n in range(MAX_SYSTEMS) for t in (1, 2)} < set(titles)
    assert "system7, talker 1" not in titles
    assert len({(look.color, look.marker) for look in styles(many).values()}) == len(many) + 1
    assert len(doa_polar(dict.fromkeys(many, (np.ones(3), np.ones(3))), styles(many)).axes) == 9


def test_the_curve_of_confidences_by_hand() -> None:
    # right, right, wrong, right, wrong
    curve = confidence_curve(system([0.9, 0.8, 0.8, 0.4, 0.1], [1.0, 2.0, 50.0, 9.0, 90.0]))
    assert curve is not None
    assert curve.false_rate.tolist() == [0.0, 0.0, 0.5, 0.5, 1.0]
    assert np.allclose(curve.true_rate, [0.0, 1 / 3, 2 / 3, 1.0, 1.0])
    # pairs of a right and a wrong one: 9 is sure of 3, ties count half, of 0.4 only the last is below
    assert curve.area == pytest.approx((2 + 1.5 + 1) / 6)
    assert np.allclose(curve.recall, [0.2, 0.4, 0.6, 0.6])
    assert np.allclose(curve.precision, [1.0, 2 / 3, 3 / 4, 3 / 5])
    assert confidence_curve(system([0.9, 0.8], [1.0, 2.0])) is None
    assert confidence_curve(system([], [])) is None


def test_the_curve_of_a_posterior_starts_at_nothing() -> None:
    found = posterior_curves(np.array([0.9, 0.5]), np.array([0.6, 0.1, 0.1]), np.array([0.6]))
    curve = posterior_curve(found)
    assert curve is not None
    assert curve.true_rate.tolist() == [0.0, 0.5, 0.5, 1.0, 1.0]
    assert np.allclose(curve.false_rate, [0.0, 0.0, 1 / 3, 1 / 3, 1.0])
    assert curve.recall.tolist() == [0.5, 0.5, 1.0, 1.0]
    assert posterior_curve(None) is None


def test_intervals_of_shares_are_wilsons() -> None:
    low, high = wilson(np.array([0.0, 0.5]), np.array([10.0, 10.0]))
    assert np.allclose(low, [0.0, 0.2366], atol=1e-4)  # tables of the Wilson score interval
    assert np.allclose(high, [0.2775, 0.7634], atol=1e-4)


def test_drawings_follow_the_color_scheme(run: Path) -> None:
    svg = to_svg(learning_curves(read_curves(run)), 'a "label"', "f1")
    assert LIGHT.keys() == DARK.keys()
    assert len(set(LIGHT.values())) == len(LIGHT)
    assert not any(color in svg for color in LIGHT.values())
    assert "var(--ink)" in svg
    assert "var(--blue)" in svg
    assert 'aria-label="a &quot;label&quot;"' in svg
    assert "#000000" not in svg


def test_ten_systems_differ_in_color_marker_and_dashes() -> None:
    found = styles([f"system{n}" for n in range(10)])
    for looks in zip(*found.values(), strict=True):
        assert len(set(looks)) == 11  # and the unprocessed mixture
    many = styles([f"system{n}" for n in range(40)])
    assert len(set(many.values())) == 41


def test_lines_of_ten_systems_are_dashed_each_in_its_own_way() -> None:
    names = [f"system{n}" for n in range(10)]
    curve = confidence_curve(system([0.9, 0.8, 0.8, 0.4, 0.1], [1.0, 2.0, 50.0, 9.0, 90.0]))
    assert curve is not None
    found = dict.fromkeys(names, curve)
    svg = to_svg(detection_figure(found, styles(names), "confidence", "Right", "Wrong"), "", "f1")
    lines = re.findall(r'style="fill: none; (?:stroke-dasharray: ([^;]+); )?[^"]*stroke: var\(--(\w+)\)', svg)
    drawn = {role: dashes for dashes, role in lines if role in HUES}
    assert set(drawn) == set(HUES)
    assert len(set(drawn.values())) == 10


def test_learning_curves_go_on_over_a_resumed_run_and_show_what_is_new(run: Path) -> None:
    log = run / "logs" / "metrics.csv"
    log.rename(log.with_name("metrics-1.csv"))
    log.write_text("step,epoch,dev/separation,train/weight_doa\n29,2,0.4,\n29,2,,0.7\n")
    found = read_curves(run)
    steps, values = found["dev/separation"]
    assert steps.tolist() == [9, 19, 29]
    assert values.tolist() == [0.9, 0.5, 0.4]
    assert "epoch" not in found
    titles = [axes.get_title(loc="left") for axes in learning_curves(found).axes]
    assert titles[:2] == ["Separation", "DoA"]
    assert "weight doa" in titles
    assert "All tasks together" not in titles  # not in this log


def test_learning_curves_of_stages_follow_each_other(tmp_path: Path) -> None:
    for stage, values in (("01-separation", (0.9, 0.5)), ("02-both", (0.4, 0.3))):
        log = tmp_path / "stages" / stage / "logs" / "metrics.csv"
        log.parent.mkdir(parents=True)
        log.write_text("step,dev/loss\n9,{}\n19,{}\n".format(*values))
    steps, losses = read_curves(tmp_path)["dev/loss"]
    assert steps.tolist() == [9, 19, 29, 39]
    assert losses.tolist() == [0.9, 0.5, 0.4, 0.3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "metrics.csv: no such file"),
        ("epoch,step\n0,9\n", "holds no curve"),
        ("step,train/doa\n9,x\n", "not readable as a training log"),
        ("epoch,train/doa\n0,1.0\n", "not readable as a training log"),
    ],
)
def test_faulty_logs(run: Path, text: str | None, message: str) -> None:
    path = run / "logs" / "metrics.csv"
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    with pytest.raises(MsdetError, match=message):
        read_curves(run)
