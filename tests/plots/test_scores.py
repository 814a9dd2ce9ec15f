"""Figures of scores: curves by hand, intervals, bars where the intervals are."""

from __future__ import annotations

import re

import numpy as np
import pytest

from msdet.conventions import Array
from msdet.plots.scores import (
    BreakdownPanel,
    breakdown_figure,
    calibration_figure,
    confidence_curve,
    detection_figure,
    posterior_curve,
)
from msdet.plots.theme import HUES, styles, to_svg
from msdet.scoring.confidence_calibration import posterior_curves
from msdet.scoring.metrics import METRICS
from msdet.scoring.statistics import ConfidenceInterval

CONFIDENCE: Array = np.array([0.9, 0.8, 0.8, 0.4, 0.1])
ERRORS_DEG: Array = np.array([1.0, 2.0, 50.0, 9.0, 90.0])  # right, right, wrong, right, wrong


def test_points_of_the_breakdown_are_where_the_intervals_are() -> None:
    intervals = [ConfidenceInterval(0.5, 0.4, 0.6, 9), None, ConfidenceInterval(0.25, None, None, 1)]
    panel = BreakdownPanel("Gap", ("small", "none", "large"), 2, {"a": intervals})
    axes = breakdown_figure([panel], METRICS["accuracy_5deg"], {"a": styles(["a"])["a"]}).axes[0]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["small\nn = 9", "none\nn = 0", "large\nn = 1"]
    points = np.concatenate([line.get_xydata() for line in axes.lines if line.get_marker() == "o"])
    assert np.allclose(points, [(0.0, 50.0), (2.0, 25.0)])
    (span,) = axes.collections
    assert np.allclose(span.get_segments()[0], [(0.0, 40.0), (0.0, 60.0)])  # type: ignore[attr-defined]


def test_the_curve_of_confidences_by_hand() -> None:
    curve = confidence_curve(CONFIDENCE, ERRORS_DEG)
    assert curve is not None
    assert curve.false_rate.tolist() == [0.0, 0.0, 0.5, 0.5, 1.0]
    assert np.allclose(curve.true_rate, [0.0, 1 / 3, 2 / 3, 1.0, 1.0])
    # pairs of a right and a wrong one: 9 is sure of 3, ties count half, of 0.4 only the last is below
    assert curve.area == pytest.approx((2 + 1.5 + 1) / 6)
    assert np.allclose(curve.recall, [0.2, 0.4, 0.6, 0.6])
    assert np.allclose(curve.precision, [1.0, 2 / 3, 3 / 4, 3 / 5])
    assert confidence_curve(CONFIDENCE[:2], ERRORS_DEG[:2]) is None
    assert confidence_curve(np.zeros(0), np.zeros(0)) is None


def test_the_curve_of_a_posterior_starts_at_nothing() -> None:
    found = posterior_curves(np.array([0.9, 0.5]), np.array([0.6, 0.1, 0.1]), np.array([0.6]))
    curve = posterior_curve(found)
    assert curve is not None
    assert curve.true_rate.tolist() == [0.0, 0.5, 0.5, 1.0, 1.0]
    assert np.allclose(curve.false_rate, [0.0, 0.0, 1 / 3, 1 / 3, 1.0])
    assert curve.recall.tolist() == [0.5, 0.5, 1.0, 1.0]
    assert posterior_curve(None) is None


def test_intervals_of_shares_are_wilsons() -> None:
    bins = [{"low": 0.0, "high": 0.1, "confidence": 0.05, "accuracy": 0.0, "n": 10}]
    bins += [{"low": 0.5, "high": 0.6, "confidence": 0.55, "accuracy": 0.5, "n": 10}]
    reliability = {"a": {"bins": bins, "expected_calibration_error": 0.05}}
    axes = calibration_figure(reliability, styles(["a"])).axes[0]
    spans = np.array(axes.collections[0].get_segments())  # type: ignore[attr-defined]
    assert np.allclose(spans[:, :, 0], [[5.0, 5.0], [55.0, 55.0]])
    # tables of the Wilson score interval
    assert np.allclose(spans[:, :, 1], [[0.0, 27.75], [23.66, 76.34]], atol=1e-2)


def test_lines_of_ten_systems_are_dashed_each_in_its_own_way() -> None:
    names = [f"system{n}" for n in range(10)]
    curve = confidence_curve(CONFIDENCE, ERRORS_DEG)
    assert curve is not None
    found = dict.fromkeys(names, curve)
    svg = to_svg(detection_figure(found, styles(names), "confidence", "Right", "Wrong"), "", "f1")
    lines = re.findall(r'style="fill: none; (?:stroke-dasharray: ([^;]+); )?[^"]*stroke: var\(--(\w+)\)', svg)
    drawn = {role: dashes for dashes, role in lines if role in HUES}
    assert set(drawn) == set(HUES)
    assert len(set(drawn.values())) == 10
