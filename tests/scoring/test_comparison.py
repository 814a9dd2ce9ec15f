"""Paired differences: the test against enumeration, by bin, and the tables people paste."""

from __future__ import annotations

import csv
import io
import itertools
import json

import numpy as np
import pytest

from msdet.errors import MsdetError
from msdet.scoring.comparison import (
    all_differences,
    compare,
    comparison_csv,
    comparison_json,
    comparison_tables,
    differences_tables,
)
from msdet.scoring.statistics import SWAPS, randomization_test
from msdet.scoring.tables import latex, markdown, plain


def make_row(n, db, doa=(1.0, 1.0), **changes):
    return {
        "id": f"scene{n}",
        "azimuth_deg": [0.0, 30.0],
        "azimuth_gap_deg": 30.0 if n % 2 else 60.0,
        "t60_s": 0.3,
        "undefined": {},
        "si_sdr_improvement_db": [db - 1.0, db + 1.0],
        "doa_error_deg": list(doa),
    } | changes


def test_the_test_of_a_mean_is_that_of_flipping_signs():
    rng = np.random.default_rng(0)
    b = rng.normal(0.0, 3.0, 9)
    a = b + rng.normal(0.6, 1.0, 9)
    flips = np.array(list(itertools.product([-1.0, 1.0], repeat=9)))
    exact = np.mean(np.abs((flips * (a - b)).mean(1)) >= abs((a - b).mean()) - 1e-12)
    assert 0.02 < exact < 0.5
    as_values = [[np.array([x]) for x in values] for values in (a, b)]
    p = randomization_test(*as_values, "mean", seed=0)
    assert p == pytest.approx(exact, abs=4 * np.sqrt(exact / SWAPS))
    assert p == randomization_test(*reversed(as_values), "mean", seed=0)


def test_the_test_of_a_median_is_that_of_all_swaps():
    rng = np.random.default_rng(1)
    a, b = rng.normal(0.8, 1.0, (7, 2)), rng.normal(0.0, 1.0, (7, 2))
    drawn = []
    for swaps in itertools.product([False, True], repeat=7):
        swap = np.array(swaps)[:, None]
        drawn.append(np.median(np.where(swap, b, a)) - np.median(np.where(swap, a, b)))
    exact = np.mean(np.abs(drawn) >= abs(np.median(a) - np.median(b)) - 1e-12)
    p = randomization_test(list(a), list(b), "median", seed=0)
    assert p == pytest.approx(exact, abs=4 * np.sqrt(exact / SWAPS) + 1 / SWAPS)


def test_alike_systems_differ_by_chance_as_often_as_the_test_says():
    rng = np.random.default_rng(2)
    few = []
    for _ in range(120):
        a, b = rng.normal(size=(2, 20, 1))
        few.append(randomization_test(list(a), list(b), "mean", seed=3) < 0.1)
    assert 0.03 < np.mean(few) < 0.18
    same = list(rng.normal(size=(5, 2)))
    for statistic in ("mean", "median", "rms", "ratio"):
        assert randomization_test(same, same, statistic, seed=0) == 1.0


@pytest.fixture
def systems():
    """`a` gains 2 dB on `b` in even scenes (wide gap) and none in odd ones; one scene of `b` has no score."""
    rng = np.random.default_rng(0)
    level = rng.normal(5.0, 4.0, 30)
    gain = np.where(np.arange(30) % 2, 0.0, 2.0) + 0.1 * (-1.0) ** (np.arange(30) // 2)
    a = [make_row(n, v + g, (2.0, 4.0)) for n, (v, g) in enumerate(zip(level, gain, strict=True))]
    b = [make_row(n, v, (8.0, 30.0)) for n, v in enumerate(level)]
    b[4]["si_sdr_improvement_db"] = [1.0, None]
    return {"a": a, "b": b[::-1]}


def test_differences_overall_and_by_bin(systems):
    comparison = compare(systems, by=["azimuth_gap"])
    overall = comparison.overall
    assert list(overall) == [
        "si_sdr_improvement_db", "doa_mae_deg", "doa_median_deg", "accuracy_5deg", "accuracy_10deg"
    ]  # fmt: skip
    gain, mae = overall["si_sdr_improvement_db"], overall["doa_mae_deg"]
    assert gain.n == 29 and 0.5 < gain.low < gain.value < gain.high < 1.5 and gain.mark == "***"
    assert gain.value == pytest.approx(gain.first - gain.second)
    assert (mae.value, mae.n) == (-16.0, 30) and overall["accuracy_10deg"].value == 0.5
    cells = comparison.breakdowns["Azimuth gap"]
    assert cells["< 15 deg"] == {} and cells[">= 90 deg"] == {}
    wide, narrow = (cells[c]["si_sdr_improvement_db"] for c in ("45 to 90 deg", "15 to 45 deg"))
    assert wide.n == 14 and 1.9 < wide.low < wide.high < 2.1 and wide.p < 0.001
    assert narrow.n == 15 and narrow.low < 0.0 < narrow.high and narrow.p > 0.05 and narrow.mark == ""


def test_systems_whose_azimuths_are_assigned_by_themselves_are_told(systems):
    assert "smallest total error" not in plain(*comparison_tables(compare(systems)))
    for row in systems["a"]:
        row["permutation_from"] = "doa"
    for n, row in enumerate(systems["b"]):
        row["permutation_from"] = "doa" if n < 4 else "si_sdr"
    text = " ".join(plain(*comparison_tables(compare(systems))).split())
    note = "azimuths are assigned with the smallest total error."
    assert f"a: without audio or references, {note}" in text
    assert f"b: without audio or references (4 of 30 scenes), {note}" in text
    assert comparison_json(compare(systems))["own_assignment"] == ["a", "b"]


def test_one_scene_has_neither_interval_nor_test():
    rows = {"a": [make_row(0, 3.0)], "b": [make_row(0, 1.0)]}
    assert compare(rows).overall["si_sdr_improvement_db"] == (3.0, 1.0, 2.0, None, None, None, 1)
    assert "+2.00 [-, -]" in plain(*comparison_tables(compare(rows)))


def test_what_cannot_be_compared_is_told(systems):
    fewer = {"a": systems["a"], "c": systems["b"][:-1]}
    with pytest.raises(MsdetError, match=r"'a' and 'c' are not .* same scenes: 1 are in one alone, 'scene0'"):
        compare(fewer)
    with pytest.raises(MsdetError, match="no scene in which both 'a' and 'b' have a value of stoi"):
        compare(systems, metrics=["stoi"])
    with pytest.raises(MsdetError, match="did you mean 'doa_mae_deg'"):
        compare(systems, metrics=["doa_mae"])
    nothing = [{k: row[k] for k in ("id", "azimuth_deg")} for row in systems["a"]]
    with pytest.raises(MsdetError, match="no metric in common"):
        compare({"a": nothing, "b": nothing})


def test_tables_to_paste(systems):
    comparison = compare(systems, by=["azimuth_gap"])
    text = markdown(*comparison_tables(comparison))
    assert "### a less b" in text and "### Azimuth gap: a less b" in text
    assert "randomization test" in text and "not corrected" in text
    (line,) = [x for x in text.splitlines() if x.startswith("| DoA MAE")]
    assert [cell.strip() for cell in line.split("|")[2:4]] == ["3.0", "19.0"]
    assert "-16.0 [-16.0, -16.0] ***" in line
    assert max(map(len, plain(*comparison_tables(comparison)).splitlines())) <= 110
    assert "$^{***}$" in latex(*comparison_tables(comparison))
    lines = list(csv.DictReader(io.StringIO(comparison_csv([comparison]))))
    mae = next(x for x in lines if x["metric"] == "doa_mae_deg" and not x["cell"])
    assert (float(mae["value"]), mae["n"], mae["breakdown"]) == (-16.0, "30", "")
    value = json.loads(json.dumps(comparison_json(comparison), allow_nan=False))
    assert value["breakdowns"]["Azimuth gap"]["45 to 90 deg"]["si_sdr_improvement_db"]["n"] == 14


def test_differences_of_one_system_to_all_others(systems):
    found = all_differences({**systems, "c": systems["b"]}, "a")
    assert set(found) == {"b", "c"} and found["b"] == found["c"]
    text = markdown(*differences_tables(found, "a"))
    assert "Paired differences: a less another system" in text and "-16.0 [-16.0, -16.0] ***" in text
