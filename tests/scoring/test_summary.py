"""Summaries: hand-computed means, which scenes are compared, the bootstrap, and the tables."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from msdet.errors import MsdetError
from msdet.scoring.breakdowns import BREAKDOWNS
from msdet.scoring.comparison import differences
from msdet.scoring.doa_scores import TIED
from msdet.scoring.metrics import METRICS, check_row
from msdet.scoring.summary import summarize, summary_tables, to_csv, to_json
from msdet.scoring.tables import latex, markdown, print_tables

SEPARATION = ("si_sdr_db", "si_sdr_improvement_db", "sdr_db", "stoi")


def make_row(n, db=0.0, doa=(1.0, 1.0), **changes):
    """A row of scene n whose two talkers have the SI-SDR db - 1 and db + 1."""
    row = {
        "id": f"scene{n}",
        "error": None,
        "azimuth_deg": [0.0, 30.0],
        "azimuth_gap_deg": 30.0,
        "t60_s": 0.3,
        "straddles": False,
        "permutation_from": "si_sdr",
        "doa_error_deg": None if doa is None else list(doa),
        "undefined": {} if doa is not None else {"doa_error_deg": "no DoA estimates"},
    }
    return row | {field: [db - 1.0, db + 1.0] for field in SEPARATION} | changes


def failed(n, reason="estimate is silent"):
    undefined = dict.fromkeys(SEPARATION, reason)
    return make_row(n, undefined=undefined) | {field: [1.0, None] for field in SEPARATION}


def test_means_over_talkers_then_scenes():
    rows = [make_row(0, 2.0, (0.0, 8.0)), make_row(1, 5.0, (4.0, 12.0, 6.0, 30.0)), make_row(2, 11.0, (5.0,))]
    scores = summarize({"a": rows}).scores["a"]
    scores = {key: score for key, score in scores.items() if score.interval}
    value = {key: score.interval.value for key, score in scores.items()}
    assert value["si_sdr_db"] == pytest.approx(6.0)
    assert value["doa_mae_deg"] == pytest.approx((4.0 + 13.0 + 5.0) / 3)
    assert value["doa_median_deg"] == 6.0  # of 0, 4, 5, 6, 8, 12, 30
    assert value["accuracy_5deg"] == pytest.approx((0.5 + 0.25 + 1.0) / 3)
    assert value["accuracy_10deg"] == pytest.approx((1.0 + 0.5 + 1.0) / 3)
    assert all(score.interval.n == score.scored == 3 and score.not_scored == 0 for score in scores.values())


def test_only_scenes_that_every_system_scores_are_compared():
    a = [make_row(0, 1.0), make_row(1, 2.0), failed(2)]
    b = [failed(0, "reference is silent"), make_row(2, 50.0), make_row(1, 4.0)]
    summary = summarize({"a": a, "b": b})
    assert summary.compared["si_sdr_db"] == 1 and summary.compared["doa_mae_deg"] == 3
    assert summary.scores["a"]["si_sdr_db"].interval == (2.0, None, None, 1)
    assert summary.scores["b"]["si_sdr_db"].interval == (4.0, None, None, 1)
    score = summary.scores["b"]["si_sdr_db"]
    assert (score.scored, score.not_scored, score.reasons) == (2, 1, {"reference is silent": 1})


def test_a_system_without_a_metric_does_not_empty_it():
    a = [make_row(n, n) for n in range(4)]
    unprocessed = [make_row(n, n, None) for n in range(4)]
    summary = summarize({"unprocessed": unprocessed, "a": a})
    assert summary.compared["doa_mae_deg"] == 4
    score = summary.scores["unprocessed"]["doa_mae_deg"]
    assert (score.interval, score.not_scored, score.reasons) == (None, 4, {"no DoA estimates": 4})


def test_equal_errors_count_together():
    null = dict.fromkeys((*SEPARATION, "doa_error_deg"))
    rows = [make_row(n, error=f"est/scene{n}: found none (but scene{n}/s1.wav)") | null for n in range(3)]
    score = summarize({"a": [*rows, make_row(3)]}).scores["a"]["stoi"]
    assert score.reasons == {"est/SCENE: found none (but SCENE/s1.wav)": 3}


def test_systems_on_other_scenes_are_refused():
    rows = [make_row(0), make_row(1)]
    with pytest.raises(MsdetError, match="same scenes"):
        summarize({"a": rows, "b": rows[:1]})
    with pytest.raises(MsdetError, match="same scenes"):
        summarize({"a": rows, "b": [rows[0], make_row(1, azimuth_deg=[1.0, 2.0])]})
    with pytest.raises(MsdetError, match="twice"):
        summarize({"a": [rows[0], rows[0]]})
    for nothing in ({}, {"a": []}):
        with pytest.raises(MsdetError, match="nothing to summarize"):
            summarize(nothing)


def test_intervals_are_deterministic_and_those_of_a_plain_bootstrap():
    rng = np.random.default_rng(1)
    scenes = 60
    doa = rng.exponential(5.0, (scenes, 2))
    rows = [make_row(n, v, doa[n]) for n, v in enumerate(rng.normal(10.0, 3.0, scenes))]
    first = summarize({"a": rows}, seed=3)
    assert first == summarize({"a": rows}, seed=3)
    assert first != summarize({"a": rows}, seed=4)
    drawn = np.random.default_rng(9).integers(scenes, size=(2000, scenes))
    si_sdr_db = np.array([np.mean(row["si_sdr_db"]) for row in rows])
    plain = {
        "si_sdr_db": si_sdr_db[drawn].mean(1),
        "doa_median_deg": np.median(doa[drawn].reshape(2000, -1), axis=1),
        "accuracy_5deg": (doa <= 5.0).mean(1)[drawn].mean(1),
    }
    for key, resampled in plain.items():
        interval = first.scores["a"][key].interval
        assert interval.low <= interval.value <= interval.high
        expected = np.quantile(resampled, [0.025, 0.975])
        np.testing.assert_allclose([interval.low, interval.high], expected, atol=0.15 * np.ptp(expected))


def difference(rows_a, rows_b, metric):
    return differences(rows_a, rows_b, [metric])[metric]


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(100):
        rows = [make_row(n, v) for n, v in enumerate(rng.normal(0.0, 1.0, 40))]
        interval = difference(rows, [make_row(n) for n in range(40)], "si_sdr_db")
        covered.append(interval.low <= 0.0 <= interval.high)
    assert 0.87 <= np.mean(covered) <= 1.0


def test_paired_difference_is_narrow_where_systems_move_together():
    rng = np.random.default_rng(0)
    level = rng.normal(0.0, 10.0, 50)
    a = [make_row(n, v + 1.0 + 0.1 * rng.standard_normal()) for n, v in enumerate(level)]
    b = [make_row(n, v) for n, v in enumerate(level)]
    found = difference(a, [*b[:49], failed(49)], "si_sdr_db")
    assert found.n == 49 and 0.9 < found.low < found.value < found.high < 1.1
    assert difference(b, b, "doa_median_deg")[2:] == (0.0, 0.0, 0.0, 1.0, 50)
    with pytest.raises(MsdetError, match="did you mean 'si_sdr_db'"):
        differences(a, b, ["si_sdr"])
    assert differences([failed(0)], [make_row(0)], ["stoi"]) == {}


def test_breakdowns_put_edges_in_the_upper_bin():
    gaps = [10.0, 15.0, 20.0, 45.0, 90.0, None]
    rows = [make_row(n, n, azimuth_gap_deg=gap, t60_s=0.25 + 0.05 * n, straddles=n < 2) for n, gap in enumerate(gaps)]
    breakdowns = summarize({"a": rows}).breakdowns
    counts = {
        name: [found["a"]["si_sdr_db"].n if found["a"] else 0 for found in bins.values()]
        for name, bins in breakdowns.items()
    }
    assert counts == {"Azimuth gap": [1, 2, 1, 1, 3], "T60": [1, 2, 3], "Closest talkers straddle 0 deg": [2, 4]}
    assert breakdowns["Azimuth gap"]["15 to 45 deg"]["a"]["si_sdr_db"].value == 1.5


@pytest.fixture
def summary():
    rng = np.random.default_rng(0)
    n = 30
    return summarize(
        {
            "[unprocessed|mixture]": [make_row(i, rng.normal(-3.0, 9.0), None) for i in range(n)],
            "separator": [
                failed(0) | {"doa_error_deg": [2.0, 9.0]},
                *(make_row(i, rng.normal(12.0, 9.0), (2.0, 9.0)) for i in range(1, n)),
            ],
            "localizer": [make_row(i, permutation_from="doa") | dict.fromkeys(SEPARATION) for i in range(n)],
        }
    )


def test_json_has_no_nan_and_all_metrics(summary):
    value = json.loads(json.dumps(to_json(summary), allow_nan=False))
    assert set(value["systems"]["separator"]) == set(METRICS)
    cell = value["systems"]["separator"]["stoi"]
    assert cell["n"] == cell["scored"] == 29 and cell["reasons"] == {"estimate is silent": 1}
    assert cell["low"] < cell["value"] < cell["high"]
    assert value["systems"]["separator"]["accuracy_5deg"]["value"] == 0.5
    assert value["breakdowns"]["T60"]["0.3 to 0.4 s"]["localizer"]["doa_mae_deg"]["n"] == 30
    assert value["breakdowns"]["T60"]["< 0.3 s"]["localizer"] == {}


def test_markdown_is_aligned_and_says_what_was_not_scored(summary):
    text = markdown(*summary_tables(summary))
    first = text.split("\n\n")[1].splitlines()
    assert len({len(line) for line in first}) == 1 and len(first) == 5
    assert "SI-SDR (dB), n = 29" in first[0] and "[unprocessed\\|mixture]" in first[2]
    assert " 50.0 [ 50.0,  50.0] | " in text and "100.0 [100.0, 100.0] | " in text
    assert "separator: SI-SDR, SDR, STOI not scored in 1 of 30 scenes (estimate is silent)." in text
    assert "localizer: without audio" in text


def test_printed_tables_fit_110_columns(summary):
    stream = io.StringIO()
    print_tables(*summary_tables(summary), Console(file=stream, width=110))
    text = stream.getvalue()
    assert max(map(len, text.splitlines())) <= 110
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    for expected in ("[unprocessed|mixture]", "n = 29", "SI-SDRi (dB)", "within 10 deg (%)", ">= 20 deg"):
        assert expected in text


def test_rms_and_ratios_over_scenes():
    counts = [(2, 0, 0), (1, 1, 2), (0, 2, 1)]
    rows = [
        make_row(n, 0.0, (3.0, 4.0 + n), doa_matched=m, doa_missed=miss, doa_false=f, doa_count_error=f)
        for n, (m, miss, f) in enumerate(counts)
    ]
    scores = summarize({"a": rows}).scores["a"]
    value = {key: score.interval.value for key, score in scores.items() if score.interval}
    assert value["doa_rmse_deg"] == pytest.approx(np.sqrt(np.mean([9, 16, 9, 25, 9, 36])))
    assert value["doa_recall"] == 3 / 6 and value["doa_precision"] == 3 / 6
    assert value["doa_f1"] == 6 / 12
    assert value["doa_miss_rate"] == 3 / 6 and value["doa_false_alarm_rate"] == 3 / 6
    assert value["count_accuracy"] == pytest.approx(1 / 3)
    interval = scores["doa_recall"].interval
    assert 0.0 <= interval.low < 0.5 < interval.high <= 1.0 and interval.n == 3


def test_a_ratio_of_nothing_is_no_number():
    rows = [make_row(n, doa_matched=0, doa_missed=2, doa_false=0, doa_count_error=2) for n in range(3)]
    summary = summarize({"a": rows})
    assert summary.scores["a"]["doa_precision"].interval is None
    assert summary.scores["a"]["doa_recall"].interval.value == 0.0
    json.dumps(to_json(summary), allow_nan=False)
    assert differences(rows, rows, ["doa_precision"]) == {}


def labeled(n, **changes):
    labels = {
        "talkers": 2,
        "distance_m": [0.5 + n, 1.2],
        "noise_snr_db": 5.0 * n,
        "overlap_ratio": 0.25 * n,
        "gender": ["f", "f"] if n == 0 else ["m", "f"] if n == 1 else None,
    }
    return make_row(n, float(n), (1.0, 9.0)) | labels | changes


def counts_by(rows, name, metric="si_sdr_db"):
    (cells,) = summarize({"a": rows}, by=[name]).breakdowns.values()
    return {cell: found["a"][metric].n for cell, found in cells.items() if metric in found["a"]}


def test_every_breakdown_counts_scenes_or_talkers():
    rows = [labeled(n) for n in range(4)]
    assert counts_by(rows, "snr") == {"0 to 10 dB": 2, "10 to 20 dB": 2}
    assert counts_by(rows, "overlap") == {"< 25 %": 1, "25 to 50 %": 1, "50 to 75 %": 1, ">= 75 %": 1}
    assert counts_by(rows, "gender") == {"all female": 1, "both": 1}
    assert counts_by(rows, "talkers") == {"2": 4}
    assert counts_by(rows, "sector") == {"0 to 45 deg": 4}
    # talkers at 0.5, 1.5, 2.5 and 3.5 m, and the others at 1.2 m
    assert counts_by(rows, "distance") == {
        "< 1 m": 1, "1 to 1.5 m": 4, "1.5 to 2 m": 1, "2 to 3 m": 1, ">= 3 m": 1
    }  # fmt: skip
    (cells,) = summarize({"a": rows}, by=["distance"]).breakdowns.values()
    assert cells["1 to 1.5 m"]["a"]["doa_mae_deg"].value == 9.0  # of the talkers at 1.2 m alone
    assert cells["1.5 to 2 m"]["a"]["doa_mae_deg"].value == 1.0
    assert list(summarize({"a": rows}, by=["all"]).breakdowns) == [title for title, _ in BREAKDOWNS.values()]


def test_two_breakdowns_cross():
    rows = [labeled(n) for n in range(4)]
    assert counts_by(rows, "gender*overlap") == {"all female, < 25 %": 1, "both, 25 to 50 %": 1}
    assert counts_by(rows, "distance*snr") == {
        "< 1 m, 0 to 10 dB": 1, "1 to 1.5 m, 0 to 10 dB": 2, "1 to 1.5 m, 10 to 20 dB": 2,
        "1.5 to 2 m, 0 to 10 dB": 1, "2 to 3 m, 10 to 20 dB": 1, ">= 3 m, 10 to 20 dB": 1,
    }  # fmt: skip
    for name, reason in (("t61", "did you mean 't60'"), ("t60*snr*gender", "at most two")):
        with pytest.raises(MsdetError, match=reason):
            summarize({"a": rows}, by=[name])


def test_csv_has_a_line_for_each_number(summary):
    lines = list(csv.DictReader(io.StringIO(to_csv(summary))))
    (stoi,) = [x for x in lines if (x["system"], x["metric"], x["cell"]) == ("separator", "stoi", "")]
    interval = summary.scores["separator"]["stoi"].interval
    assert [float(stoi[k]) for k in ("value", "low", "high", "n")] == pytest.approx(list(interval))
    assert {x["breakdown"] for x in lines} == {"", *summary.breakdowns}


def test_latex_escapes_names_and_balances_its_environments(summary):
    text = latex(*summary_tables(summary))
    assert text.count("\\begin{tabular}") == text.count("\\end{tabular}") == text.count("\\midrule") >= 6
    assert "{}[unprocessed|mixture] & $-$" in text  # a bracket after a line's end would be its argument
    assert "{\\scriptsize [" in text and "within 5 deg (\\%), n = 30" in text and "$\\geq$ 20 deg" in text
    for line in text.splitlines():
        if line.endswith(r"\\"):
            assert line.count("&") in (3, 4, 5, 6), line
        assert "%" not in line.removeprefix("%").replace("\\%", "") or line.startswith("%")


def test_what_looks_wrong_is_counted():
    doubt = "no estimate resembles its reference (SI-SDR below -20 dB)"
    rows = [make_row(n, doubts=[doubt, f"the estimates fit another scene's references (scene{n})"]) for n in range(3)]
    summary = summarize({"a": [*rows, make_row(3, doubts=[])]})
    assert summary.doubts["a"] == {
        "no estimate resembles its reference": 3,
        "the estimates fit another scene's references": 3,
    }
    assert "a: in 3 of 4 scenes no estimate resembles its reference." in markdown(*summary_tables(summary))


def notes_of(systems):
    return [note for note in summary_tables(summarize(systems))[1] if "scored" in note or "not in" in note]


def test_notes_name_what_was_asked_for_alone_and_once():
    fields = ("si_sdr_db", "si_sdr_improvement_db", "doa_error_deg", "doa_error_own_deg", "doa_matched")
    rows = [
        {key: value for key, value in make_row(n).items() if key not in SEPARATION[2:]}
        | {"si_sdr_db": [1.0, 2.0], "doa_error_own_deg": [1.0, 1.0], "doa_matched": 2, "doa_missed": 0}
        | {"doa_false": 0, "doa_count_error": 0, "doa_assigned": [1, 1]}
        for n in range(5)
    ]
    null = dict.fromkeys((*fields, "doa_missed", "doa_false", "doa_count_error", "doa_assigned"))
    for n in (0, 1):
        rows[n] |= null | {"error": f"est/scene{n}: found no talker files"}
    rows[2] |= {field: [1.0, None] for field in fields[:2]}
    rows[2]["undefined"] = dict.fromkeys(fields[:2], "estimate is silent")
    assert notes_of({"a": rows}) == [
        "a: SI-SDR, directions not scored in 2 of 5 scenes (est/SCENE: found no talker files).",
        "a: SI-SDR not scored in 1 of 5 scenes (estimate is silent).",
    ]
    many = [make_row(n, undefined={"stoi": f"reason {n}"}) | {"stoi": None} for n in range(9)]
    notes = notes_of({"a": many})
    assert notes[0] == "a: STOI not scored in 1 of 9 scenes (reason 0)." and len(notes) == 7
    assert notes[6] == "a: not scored for 3 more reasons, see summary.json."


def test_notes_tell_a_part_that_was_not_scored_by_its_reason():
    row = make_row(0, doa_assigned=[1, 1], doa_error_own_deg=[1.0, 1.0])
    why = "est/scene1/talker1.wav: 3 channels"
    undefined = dict.fromkeys((*SEPARATION, "doa_error_deg", "doa_assigned"), why)
    part = row | dict.fromkeys(undefined) | {"id": "scene1", "undefined": undefined}
    tie = row | {"id": "scene2", "doa_assigned": [None, None], "undefined": {"doa_assigned": TIED}}
    both = "SI-SDR, SDR, STOI, DoA error, assignment accuracy"
    assert notes_of({"a": [row, part, tie]}) == [
        f"a: {both} not scored in 1 of 3 scenes (est/SCENE/talker1.wav: 3 channels).",
        f"a: assignment accuracy not scored in 1 of 3 scenes ({TIED}).",
    ]


def test_notes_tell_what_another_system_was_scored_by():
    rows = [make_row(n, doa_error_own_deg=[1.0, 1.0]) for n in range(2)]
    fewer = [{k: v for k, v in row.items() if k not in ("sdr_db", "doa_error_deg")} for row in rows]
    for row in fewer:
        row["doa_error_own_deg"], row["undefined"] = None, {"doa_error_own_deg": "no DoA estimates"}
    assert notes_of({"a": rows, "b": fewer}) == ["b: SDR not in the scores."]


def test_false_alarms_are_said_to_be_per_talker():
    counts = {"doa_matched": 2, "doa_missed": 0, "doa_false": 1, "doa_count_error": 1}
    tables, notes = summary_tables(summarize({"a": [make_row(n, **counts) for n in range(2)]}))
    assert any("false alarms per talker (%)" in name for table in tables for name in table.header)
    assert "False alarms: false estimates over true talkers, not per second." in notes
    _, notes = summary_tables(summarize({"a": [make_row(n) for n in range(2)]}))
    assert not any("False alarms" in note for note in notes)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([], "'id' is missing"),
        ({"id": "a", "azimuth_deg": [0.0], "stoi": ["\x1b[31mred"]}, "stoi is .*, expected numbers"),
        ({"id": "a", "azimuth_deg": "left"}, "azimuth_deg is 'left', expected numbers"),
    ],
)
def test_what_is_no_row_of_scores_is_refused(row: Any, message: str) -> None:
    with pytest.raises(MsdetError, match=f"scores.jsonl, line 1: .*{message}"):
        check_row(row, ("id", "azimuth_deg"), "scores.jsonl, line 1")
