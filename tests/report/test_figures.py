"""The report's figures: every axis has a name and a unit, and shows what it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from msdet.conventions import wrap_deg
from msdet.data.scene_set import SceneSet
from msdet.plots.directions import doa_confusion, doa_polar
from msdet.plots.learning import learning_curves, read_curves
from msdet.plots.scene import estimates_figure
from msdet.plots.scores import breakdown_figure, calibration_figure, confidence_curve, detection_figure
from msdet.plots.theme import LIGHT, styles
from msdet.report.conditions import breakdown_panels, crossings, varying
from msdet.report.content import Evaluation, read_evaluation
from msdet.report.examples import SceneExample, read_example
from msdet.scenes.scene import Direction, Waypoint
from msdet.scoring.breakdowns import BREAKDOWNS
from msdet.scoring.confidence_calibration import calibration
from msdet.scoring.metrics import METRICS
from msdet.scoring.summary import summarize


def drawn(example: SceneExample, e: Evaluation) -> Figure:
    """The figure of an example, with all of its systems."""
    signals = {"Reference": example.references, **example.waveforms}
    directions = {name: out.directions for name, out in example.outputs.items() if out.directions}
    looks = styles(example.outputs)
    return estimates_figure(example.scene, e.scene_set.array, example.mixture, signals, directions, looks)


def test_every_axis_has_a_name(evaluation: Path, data: Path, run: Path) -> None:
    e = read_evaluation(evaluation, data)
    looks = styles(e.systems)
    conditions = varying(e.chosen.rows.values())
    rows = {name: list(s.rows.values()) for name, s in e.systems.items()}
    summary = summarize(rows, by=[condition.name for condition in conditions])
    errors = {"model": tuple(e.chosen.of_talkers("azimuth_deg", "doa_error_deg"))}
    curve, reliability = (
        confidence_curve(*e.chosen.of_talkers("doa_confidence", "doa_error_deg")),
        calibration(rows["model"]),
    )
    assert curve is not None
    assert reliability is not None
    first = e.scene_set.scenes[0]
    panels = breakdown_panels(summary, conditions, "doa_mae_deg", ["model"])
    figures = {
        "learning": learning_curves(read_curves(run)),
        "breakdown": breakdown_figure(panels, METRICS["doa_mae_deg"], {"model": looks["model"]}),
        "polar": doa_polar(errors, looks),
        "confusion": doa_confusion({"model": e.chosen.azimuth_pairs()}, looks),
        "detection": detection_figure({"model": curve}, looks, "confidence", "Right kept", "Wrong kept"),
        "calibration": calibration_figure({"model": reliability}, looks),
        "scene": drawn(read_example(e, first, "First"), e),
    }
    for name, figure in figures.items():
        for axes in figure.axes:
            if not axes.axison:
                continue
            place = axes.get_subplotspec()
            assert axes.get_xlabel(), name
            is_first = place is None or place.is_first_col()
            assert axes.get_ylabel() or axes.get_label() == "<colorbar>" or (name == "breakdown" and not is_first)
            assert axes.has_data() or name == "confusion"


def test_breakdowns_are_those_that_vary(evaluation: Path, data: Path) -> None:
    e = read_evaluation(evaluation, data)
    conditions = {condition.name: condition for condition in varying(e.chosen.rows.values())}
    assert list(conditions) == ["azimuth_gap", "straddling", "sector"]  # one T60, distance, noise level ...
    assert [b.name for b in conditions["azimuth_gap"].disjoint] == ["< 15 deg", "15 to 45 deg", ">= 90 deg"]
    assert [b.name for b in conditions["azimuth_gap"].overlapping] == [">= 20 deg"]
    assert set(conditions) < set(BREAKDOWNS)


def test_crossings_hold_the_means_of_both_bins(evaluation: Path, data: Path) -> None:
    e = read_evaluation(evaluation, data)
    tables = crossings(e.chosen, varying(e.chosen.rows.values()))
    assert len(tables) == 2 * 3 * 2
    shown = next(
        t for t in tables if (t.metric, t.down.name, t.across.name) == ("doa_mae_deg", "azimuth_gap", "straddling")
    )
    # straddling or not; 30°: scene 0; at least 90°: scene 1, and scene 3, which is 40° off, across 0°
    assert [b.name for b in shown.across.disjoint] == ["yes", "no"]
    cells = [
        [None if c is None else (round(c.value, 6), c.scenes, round(c.share, 6)) for c in row] for row in shown.cells
    ]
    assert cells == [[None, (3.0, 1, 0.0)], [(3.0, 1, 0.0), None], [(40.0, 1, 1.0), (3.0, 1, 0.0)]]


def test_panels_of_the_breakdown_hold_what_the_summary_says(evaluation: Path, data: Path) -> None:
    e = read_evaluation(evaluation, data)
    conditions = varying(e.chosen.rows.values())[:1]
    summary = summarize({"model": list(e.chosen.rows.values())}, by=["azimuth_gap"])
    (panel,) = breakdown_panels(summary, conditions, "si_sdr_improvement_db", ["model"])
    assert panel.bins == ["< 15°", "15–45°", "≥ 90°", "≥ 20°"]
    assert panel.disjoint == 3
    of = summary.breakdowns["Azimuth gap"]
    names = ("< 15 deg", "15 to 45 deg", ">= 90 deg", ">= 20 deg")
    assert panel.intervals["model"] == [of[name]["model"]["si_sdr_improvement_db"] for name in names]


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
    plan = drawn(read_example(e, scene, ""), e).axes[1]
    blue = [line for line in plan.lines if line.get_linestyle() == "--" and line.get_color() == LIGHT["blue"]]
    rays = [line for line in blue if len(line.get_xdata())]  # not what the legend shows
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


def test_a_talker_who_moves_is_drawn_over_time(make_set: Callable[..., SceneSet], evaluation: Path, data: Path) -> None:
    e = read_evaluation(evaluation, data)
    scene = e.scene_set.scenes[0]
    example = read_example(e, scene, "")
    track = tuple(Direction(0.5 * n, float(wrap_deg(350.0 + 10.0 * n)), 0.0, 1.0) for n in range(4))
    mover = replace(
        scene.sources[0], waypoints=(Waypoint(0.0, (1.0, 2.0, 1.5)), Waypoint(1.5, (1.0, 3.0, 1.5))), track=track
    )
    moving = replace(example, scene=replace(scene, sources=(mover, scene.sources[1])))
    standing_axes = drawn(example, e).axes
    figure = drawn(moving, e)
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
    titles = [axes.get_title(loc="left") for axes in drawn(replace(example, outputs=many), e).axes]
    assert {f"system{n}, talker {t}" for n in range(9) for t in (1, 2)} < set(titles)
    assert len(doa_polar(dict.fromkeys(many, (np.ones(3), np.ones(3))), styles(many)).axes) == 9
