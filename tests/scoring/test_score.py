"""Scoring of folders: the permutation, missing and misfitting files, workers, the unprocessed mixture."""

from __future__ import annotations

import dataclasses
import json
import logging

import numpy as np
import pytest

from msdet.arrays import load_array
from msdet.errors import MsdetError
from msdet.io.files import read_jsonl, write_jsonl
from msdet.scoring.breakdowns import straddles_zero
from msdet.scoring.doa_scores import DOA_FIELDS
from msdet.scoring.metrics import SEPARATION_METRICS, separation_fields
from msdet.scoring.score import ScoringOptions, score, score_scene, score_set, score_unprocessed
from msdet.scoring.separation_metrics import bss_eval, estoi, pesq, sdr, si_sdr, snr, stoi
from msdet.scoring.submission import DoaEstimates, unknown_scenes

RATE = 8000
SEPARATION_FIELDS = separation_fields()
SHORT = 0.05  # seconds; too short for SDR and STOI, which saves their time where they do not matter
FIELDS = SEPARATION_FIELDS + DOA_FIELDS
CIRCLE = dataclasses.replace(load_array("circular4_5cm"), reference=1)


def mixed(references):
    """Two microphones, of which the second one hears the talkers."""
    return np.stack([np.zeros_like(references[0]), references.sum(0)])


@pytest.fixture
def rows_of(tmp_path):
    """Scores an estimates folder and reads the file back."""

    def rows_of(scene_set, estimates, **options):
        rows = score_set(scene_set, estimates, tmp_path / "scores.jsonl", **options)
        assert read_jsonl(tmp_path / "scores.jsonl") == rows
        return rows

    return rows_of


def test_one_permutation_serves_every_metric(make_scene, speech):
    scene = make_scene("a", [10.0, 100.0, 350.0])
    references = speech(3)
    mixture = mixed(references)
    noise = 0.02 * np.random.default_rng(0).standard_normal(references.shape)
    order = [2, 0, 1]  # estimate k is talker order[k]
    found = DoaEstimates(np.array([349.0, 12.0, 103.0]))
    row = score_scene(scene, CIRCLE, mixture, references, (references + noise)[order], found)
    assert (row["permutation"], row["permutation_from"], row["undefined"]) == ([1, 2, 0], "si_sdr", {})
    assert row["doa_error_deg"] == row["doa_error_own_deg"] == [2.0, 3.0, 1.0]
    for n, (reference, estimate) in enumerate(zip(references, references + noise, strict=True)):
        assert row["si_sdr_db"][n] == pytest.approx(float(si_sdr(reference, estimate)), abs=1e-4)
        gain = float(sdr(reference, estimate) - sdr(reference, mixture[1]))
        assert row["sdr_improvement_db"][n] == pytest.approx(gain, abs=1e-4)
        gain = stoi(reference, estimate, RATE) - stoi(reference, mixture[1], RATE)
        assert row["stoi_improvement"][n] == pytest.approx(gain, abs=1e-4)


def test_doa_follows_the_audio_even_where_its_own_assignment_is_better(make_scene, speech):
    scene, references = make_scene("a", [0.0, 90.0]), speech(2)
    swapped = references[::-1] + 0.1 * references
    row = score_scene(scene, CIRCLE, mixed(references), references, swapped, DoaEstimates(np.array([1.0, 92.0])))
    assert row["permutation"] == [1, 0]
    assert row["doa_error_deg"] == [92.0, 89.0]
    assert row["doa_error_own_deg"] == [1.0, 2.0]


def test_azimuths_alone_use_their_own_assignment_and_say_so(make_scene, speech):
    scene, references = make_scene("a", [0.0, 90.0]), speech(2)
    row = score_scene(scene, CIRCLE, mixed(references), references, None, DoaEstimates(np.array([92.0, 1.0])))
    assert (row["permutation"], row["permutation_from"]) == ([1, 0], "doa")
    assert row["doa_error_deg"] == row["doa_error_own_deg"] == [1.0, 2.0]
    assert row["si_sdr_db"] is None and row["undefined"]["si_sdr_db"] == "no audio estimates"


def test_an_undefined_value_is_null_with_its_reason(make_scene, speech):
    scene, references = make_scene("a", [0.0, 90.0]), speech(2)
    estimates = np.stack([np.zeros_like(references[0]), references[0]])
    row = score_scene(scene, CIRCLE, mixed(references), references, estimates, None)
    assert row["permutation"] == [1, 0]
    for field in SEPARATION_FIELDS:
        assert row[field][0] is not None and row[field][1] is None
        assert row["undefined"][field] == "estimate is silent"
    assert row["doa_error_deg"] is None and row["undefined"]["doa_error_deg"] == "no DoA estimates"
    silent = references * [[1.0], [0.0]]
    row = score_scene(scene, CIRCLE, np.zeros((2, silent.shape[1])), silent, references, None)
    assert row["undefined"]["si_sdr_db"] == "reference is silent"
    assert row["undefined"]["si_sdr_improvement_db"] == "mixture is silent; reference is silent"
    json.dumps(row, allow_nan=False)


def test_scores_of_a_set(make_set, write_estimates, rows_of):
    scene_set = make_set([[10.0, 340.0], [80.0, 200.0]])
    seen = []
    rows = rows_of(scene_set, write_estimates(scene_set), progress=lambda *done: seen.append(done))
    assert [row["id"] for row in rows] == ["scene0", "scene1"]
    assert seen == [(0, 2), (1, 2), (2, 2)]
    for row in rows:
        assert (row["error"], row["undefined"], row["permutation"]) == (None, {}, [1, 0])
        assert row["doa_error_deg"] == [3.0, 3.0]
        assert min(row["si_sdr_db"]) > 9.0 and min(row["si_sdr_improvement_db"]) > 5.0
        assert row["t60_s"] == 0.3
        assert row["doa_assigned"] == [1, 1]
    assert rows[0]["azimuth_deg"] == [10.0, 340.0]
    assert [row["azimuth_gap_deg"] for row in rows] == [30.0, 120.0]
    assert [row["straddles"] for row in rows] == [True, False]


def test_a_folder_is_scored_into_a_table(make_set, write_estimates, rows_of):
    scene_set = make_set([[10.0, 340.0], [80.0, 200.0]], SHORT)
    estimates = write_estimates(scene_set)
    table = score(str(scene_set.root), str(estimates), metrics=["si_sdr"], by=["talkers"], name="mine")
    mixtures = score_unprocessed(scene_set, metrics=["si_sdr"])
    assert table.rows["mine"] == rows_of(scene_set, estimates, metrics=["si_sdr"], unprocessed=mixtures)
    assert table.summary.scores["mine"]["doa_mae_deg"].interval.value == 3.0
    assert table.to_json()["paired_differences"]["mine"]["unprocessed"]["si_sdr_improvement_db"]["n"] == 2
    assert "| mine        |" in table.to_markdown() and "SI-SDRi (dB)" in str(table)
    for options, reason in (({"by": ["talker"]}, "unknown breakdown"), ({"name": "unprocessed"}, "mixture's")):
        with pytest.raises(MsdetError, match=reason):
            score(scene_set.root, estimates, **options)


def test_measured_t60_and_a_single_talker(make_set, write_estimates, rows_of):
    scene_set = make_set([[10.0]], t60_measured_s=0.42)
    (row,) = rows_of(scene_set, write_estimates(scene_set, suffix=".flac"))
    assert (row["error"], row["t60_s"], row["azimuth_gap_deg"], row["straddles"]) == (None, 0.42, None, False)


def test_rows_do_not_depend_on_the_number_of_workers(make_set, write_estimates, rows_of):
    scene_set = make_set([[10.0, 350.0], [80.0, 200.0], [5.0, 6.0]], seconds=1.0)
    estimates = write_estimates(scene_set)
    (estimates / "scene1" / "talker1.wav").unlink()
    alone = rows_of(scene_set, estimates)
    assert rows_of(scene_set, estimates, jobs=2) == alone
    assert [row["si_sdr_db"] is None for row in alone] == [False, True, False]
    assert [row["doa_matched"] for row in alone] == [2, 2, 2]


def test_a_scene_without_files_or_azimuths_says_so(make_set, write_estimates, rows_of):
    scene_set = make_set([[10.0, 350.0], [80.0, 200.0]], SHORT)
    estimates = write_estimates(dataclasses.replace(scene_set, scenes=scene_set.scenes[:1]))
    assert "found no talker files" in rows_of(scene_set, estimates)[1]["error"]
    for path in estimates.glob("scene*/*"):
        path.unlink()
    rows = rows_of(scene_set, estimates)
    assert rows[0]["error"] is None and rows[1]["error"] == "doa.jsonl: has no azimuth_deg of this scene"


def test_audio_or_azimuths_may_be_absent_as_a_whole(make_set, write_estimates, rows_of):
    scene_set = make_set([[10.0, 170.0]], SHORT)
    estimates = write_estimates(scene_set, with_doa=False)
    (row,) = rows_of(scene_set, estimates)
    assert row["error"] is None and row["doa_error_deg"] is None and row["si_sdr_db"] is not None
    for path in (estimates / "scene0").iterdir():
        path.unlink()
    with pytest.raises(MsdetError, match="holds neither"):
        rows_of(scene_set, estimates)
    write_jsonl(estimates / "doa.jsonl", [{"id": "scene0", "azimuth_deg": [171, 8]}])
    (row,) = rows_of(scene_set, estimates)
    assert (row["permutation_from"], row["doa_error_deg"]) == ("doa", [2.0, 1.0])
    assert set(row["undefined"]) == {*SEPARATION_FIELDS, "doa_assigned"}


def test_unusable_folders_are_an_error(make_set, write_estimates, rows_of, tmp_path):
    scene_set = make_set([[10.0, 350.0]], SHORT)
    with pytest.raises(MsdetError, match="no such folder"):
        rows_of(scene_set, tmp_path / "nowhere")
    estimates = write_estimates(scene_set)
    with pytest.raises(MsdetError, match="jobs is 0"):
        rows_of(scene_set, estimates, jobs=0)
    row = {"id": "scene0", "azimuth_deg": [1.0, 2.0]}
    for rows, reason in (([row, row], "line 2: scene 'scene0' was in an earlier line"), ([[1]], "line 1")):
        write_jsonl(estimates / "doa.jsonl", rows)
        with pytest.raises(MsdetError, match=reason):
            rows_of(scene_set, estimates)


def test_estimates_of_other_scenes_are_told(make_set, write_estimates, rows_of, caplog):
    scene_set = make_set([[10.0, 350.0], [80.0, 200.0]], SHORT)
    estimates = write_estimates(scene_set)
    (estimates / "figures").mkdir()
    smaller = dataclasses.replace(scene_set, scenes=scene_set.scenes[1:])
    assert unknown_scenes(scene_set, estimates) == []
    assert unknown_scenes(smaller, estimates) == ["scene0"]
    with caplog.at_level(logging.WARNING):
        assert [row["id"] for row in rows_of(smaller, estimates)] == ["scene1"]
    assert "1 scenes that are not in the set are left out (scene0)" in caplog.text


def test_the_unprocessed_mixture_gains_nothing(make_set, tmp_path):
    scene_set = make_set([[10.0, 350.0]])
    (row,) = score_unprocessed(scene_set, tmp_path / "unprocessed.jsonl")
    assert read_jsonl(tmp_path / "unprocessed.jsonl") == [row]
    mixture, references = scene_set.mixture(scene_set.scenes[0])[1], scene_set.references(scene_set.scenes[0])
    expected = [float(si_sdr(reference, mixture)) for reference in references]
    assert row["si_sdr_db"] == pytest.approx(expected, abs=1e-4)
    assert row["si_sdr_improvement_db"] == row["stoi_improvement"] == [0.0, 0.0]
    assert row["permutation"] == [0, 1] and row["doa_error_deg"] is None


def test_a_damaged_set_is_told_per_scene(make_set, tmp_path):
    scene_set = make_set([[10.0, 350.0], [80.0, 200.0]], SHORT)
    (scene_set.root / "audio" / "scene0" / "talker1.wav").unlink()
    rows = score_unprocessed(scene_set, tmp_path / "unprocessed.jsonl")
    assert "no such file" in rows[0]["error"] and rows[1]["error"] is None


@pytest.mark.parametrize(
    ("azimuths", "expected"),
    [
        ([350.0, 10.0], True),
        ([10.0, 350.0], True),
        ([0.0, 350.0], False),  # an end of the arc is not inside
        ([0.0, 10.0], False),
        ([10.0, 170.0], False),
        ([10.0, 190.0], False),  # opposite: neither arc is the shorter one
        ([350.0, 20.0, 25.0], False),  # the closest pair is 20 and 25
        ([350.0, 100.0, 3.0], True),
        ([10.0], False),
    ],
)
def test_straddling(azimuths, expected):
    assert straddles_zero(np.array(azimuths)) is expected


def test_every_metric_is_scored_as_by_its_function(make_scene, speech):
    scene, references = make_scene("a", [0.0, 90.0]), speech(2)
    noise = 0.02 * np.random.default_rng(0).standard_normal(references.shape)
    estimates = 0.5 * (references + 0.1 * references[::-1] + noise)
    mixture = mixed(references) + noise
    asked = ScoringOptions(tuple(name for name, m in SEPARATION_METRICS.items() if m.needs_reference))
    row = score_scene(scene, CIRCLE, mixture, references, estimates[::-1], None, asked)
    ratios_db = bss_eval(references, np.concatenate([estimates, mixture[[1]]]))
    for n, (reference, estimate) in enumerate(zip(references, estimates, strict=True)):
        pairs = [(reference, signal) for signal in (estimate, mixture[1])]
        expected = {
            "si_sdr_db": [si_sdr(*pair) for pair in pairs],
            "sdr_db": [sdr(*pair) for pair in pairs],
            "sir_db": ratios_db.sir[n, [n, 2]],
            "sar_db": ratios_db.sar[n, [n, 2]],
            "snr_db": [snr(*pair) for pair in pairs],
            **{m.__name__: [m(*pair, RATE) for pair in pairs] for m in (stoi, estoi, pesq)},
        }
        for metric in map(SEPARATION_METRICS.__getitem__, asked.metrics):
            value, before = expected[metric.field]
            assert row[metric.field][n] == pytest.approx(float(value), abs=1e-4), metric
            assert row[metric.improvement_field][n] == pytest.approx(float(value - before), abs=1e-4), metric
    assert set(row["undefined"]) == set(DOA_FIELDS)


def test_interference_needs_every_reference_and_artifacts_no_other_estimate(make_scene, speech):
    scene, references = make_scene("a", [0.0, 90.0]), speech(2, seconds=0.2)
    asked = ScoringOptions(("sir", "sar", "sdr"))
    estimates = references + 0.1 * references[::-1]
    silent_estimate = estimates * [[1.0], [0.0]]
    row = score_scene(scene, CIRCLE, mixed(references), references, silent_estimate, None, asked)
    assert [v is None for v in row["sir_db"]] == [False, True]
    assert row["undefined"]["sir_db"] == "estimate is silent"
    silent = references * [[1.0], [0.0]]
    row = score_scene(scene, CIRCLE, mixed(references), silent, estimates, None, asked)
    assert row["sir_db"] == row["sar_db"] == [None, None] and row["sdr_db"][0] is not None
    assert row["undefined"]["sir_db"] == "reference is silent"


@pytest.mark.parametrize("level_db", [-60.0, 0.0])
def test_float32_levels_do_not_change_scores(make_scene, speech, level_db):
    scene, references = make_scene("a", [0.0, 90.0]), speech(2) / 0.5
    estimates = references + 0.3 * references[::-1]

    def row(gain_db):
        gain = 10 ** (gain_db / 20)
        mixture, *others = (
            (gain * x / np.abs(x).max()).astype(np.float32) for x in (mixed(references), references, estimates)
        )
        return score_scene(scene, CIRCLE, mixture, *others, None)

    loud, other = row(-20.0), row(level_db)
    for field in SEPARATION_FIELDS:
        np.testing.assert_allclose(other[field], loud[field], atol=1e-4)


def test_the_mixtures_rows_spare_scoring_them_again(make_set, write_estimates, rows_of, tmp_path):
    scene_set = make_set([[10.0, 350.0], [80.0, 200.0]])
    estimates = write_estimates(scene_set)
    alone = rows_of(scene_set, estimates)
    mixtures = score_unprocessed(scene_set, tmp_path / "mixtures.jsonl")
    for row, expected in zip(rows_of(scene_set, estimates, unprocessed=mixtures), alone, strict=True):
        for field in FIELDS:
            assert row[field] == pytest.approx(expected[field], abs=1.01e-4), field
    marked = [row | {"stoi": [0.0, 0.0]} for row in mixtures]  # to see that they are used
    rows = rows_of(scene_set, estimates, unprocessed=marked)
    assert all(row["stoi_improvement"] == row["stoi"] for row in rows)
    for useless in (marked[:0], [{k: v for k, v in row.items() if k != "stoi"} for row in marked]):
        assert rows_of(scene_set, estimates, unprocessed=useless) == alone


def test_another_number_of_azimuths_leaves_the_audio_scored(make_set, write_estimates, rows_of):
    scene_set = make_set([[10.0, 100.0], [80.0, 200.0]], SHORT)
    estimates = write_estimates(scene_set)
    rows = read_jsonl(estimates / "doa.jsonl")
    rows[0]["azimuth_deg"] = [101.0]
    write_jsonl(estimates / "doa.jsonl", rows)
    fewer, right = rows_of(scene_set, estimates)
    assert fewer["error"] is None and fewer["si_sdr_db"] is not None
    assert (fewer["doa_matched"], fewer["doa_missed"], fewer["doa_false"]) == (1, 1, 0)
    assert fewer["undefined"]["doa_error_deg"] == "1 azimuths estimated, expected 2"
    assert (right["doa_matched"], right["doa_count_error"]) == (2, 0)
