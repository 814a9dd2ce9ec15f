"""Scenes of which only a part can be scored: damaged voices, damaged directions, no permutation, ties."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import soundfile

from msdet.arrays import load_array
from msdet.io import audio
from msdet.io.files import read_jsonl, write_jsonl
from msdet.scoring.doa_scores import DOA_FIELDS, TIED
from msdet.scoring.metrics import separation_fields
from msdet.scoring.permutations import AMBIGUOUS, MIN_RATIO_DB, SAME_SUM_DB, best_permutation
from msdet.scoring.score import score_scene, score_set
from msdet.scoring.separation_metrics import si_sdr
from msdet.scoring.separation_scores import score_estimates
from msdet.scoring.submission import DoaEstimates, read_estimates

RATE = 8000
SEPARATION_FIELDS = separation_fields()
SHORT = 0.05  # seconds; too short for SDR and STOI, which saves their time
FIELDS = SEPARATION_FIELDS + DOA_FIELDS
CIRCLE = dataclasses.replace(load_array("circular4_5cm"), reference=1)


@pytest.fixture
def rows_of(tmp_path):
    def rows_of(scene_set, estimates, **options):
        return score_set(scene_set, estimates, tmp_path / "scores.jsonl", **options)

    return rows_of


def _shorten(path):
    samples, rate = audio.read(path)
    audio.write(path, samples[:, :-100], rate)


def _resampled(path):
    audio.write(path, audio.read(path)[0], 2 * RATE)


def _stereo(path):
    audio.write(path, np.repeat(audio.read(path)[0], 2, axis=0), RATE)


def _not_finite(path):
    samples, rate = audio.read(path)
    soundfile.write(path, np.where(np.arange(samples.size) == 3, np.nan, samples[0]), rate, subtype="FLOAT")


FOLLOWS_VOICES = ("doa_error_deg", "doa_assigned")
OWN = ("doa_error_own_deg", "doa_matched", "doa_missed", "doa_false", "doa_count_error")

DAMAGES = pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda p: p.unlink(), "found talker1.wav, expected one file for each of 2 talkers"),
        (lambda p: p.with_name("talker3.wav").write_bytes(p.read_bytes()), "talker3.wav, expected"),
        (lambda p: p.with_suffix(".flac").write_bytes(p.read_bytes()), "talker2.flac, talker2.wav, expected"),
        (lambda p: p.write_text("no audio"), "not readable as audio"),
        (_shorten, "300 samples at 8000 Hz, expected 1 x 400 at 8000 Hz; up to 40 samples more or fewer are cut"),
        (_resampled, "at 16000 Hz, expected 1 x 400 at 8000 Hz; --resample resamples them"),
        (_stereo, "2 channels x 400 samples at 8000 Hz, expected 1 x 400 at 8000 Hz; keep one channel, for example"),
    ],
)


@DAMAGES
def test_damaged_audio_says_why_and_leaves_the_directions(make_set, write_estimates, rows_of, damage, reason):
    scene_set = make_set([[10.0, 100.0], [80.0, 200.0]], SHORT)
    estimates = write_estimates(scene_set)
    whole_before, other_before = rows_of(scene_set, estimates)
    damage(estimates / "scene0" / "talker2.wav")
    damaged, other = rows_of(scene_set, estimates)
    assert damaged["error"] is None and damaged["azimuth_deg"] == [10.0, 100.0]
    nulls = (*SEPARATION_FIELDS, *FOLLOWS_VOICES)
    assert all(damaged[field] is None for field in (*nulls, "permutation", "permutation_from"))
    assert set(damaged["undefined"]) == set(nulls)
    assert all(reason in why for why in damaged["undefined"].values())
    assert len(set(damaged["undefined"].values())) == 1
    assert [damaged[field] for field in OWN] == [[3.0, 3.0], 2, 0, 0, 0]
    assert [damaged[field] for field in OWN] == [whole_before[field] for field in OWN]
    assert other == other_before


@DAMAGES
def test_without_directions_damaged_audio_is_an_error_of_the_scene(make_set, write_estimates, rows_of, damage, reason):
    scene_set = make_set([[10.0, 100.0], [80.0, 200.0]], SHORT)
    estimates = write_estimates(scene_set, with_doa=False)
    damage(estimates / "scene0" / "talker2.wav")
    damaged, whole = rows_of(scene_set, estimates)
    assert reason in damaged["error"] and damaged["undefined"] == {}
    assert all(damaged[field] is None for field in (*FIELDS, "permutation", "permutation_from"))
    assert damaged["azimuth_deg"] == [10.0, 100.0]
    assert whole["error"] is None and whole["si_sdr_db"] is not None


def test_the_number_of_voices_does_not_choose_the_scenes_in_which_talkers_are_counted(
    make_set, write_estimates, rows_of
):
    scene_set = make_set([[10.0, 100.0], [80.0, 200.0]], SHORT)
    estimates = write_estimates(scene_set)
    (estimates / "scene0" / "talker2.wav").unlink()  # one voice and one direction of two talkers
    write_jsonl(
        estimates / "doa.jsonl",
        [{"id": "scene0", "azimuth_deg": [101.0]}, {"id": "scene1", "azimuth_deg": [80.0, 200.0, 300.0]}],
    )
    fewer, more = rows_of(scene_set, estimates)
    counts = ("doa_matched", "doa_missed", "doa_false", "doa_count_error")
    assert [fewer[field] for field in counts] == [1, 1, 0, 1]
    assert [more[field] for field in counts] == [2, 0, 1, 1]
    assert "found talker1.wav, expected" in fewer["undefined"]["si_sdr_db"]
    assert fewer["undefined"]["doa_error_deg"] == "1 azimuths estimated, expected 2"
    assert more["si_sdr_db"] is not None


def test_a_damaged_set_leaves_the_directions(make_set, write_estimates, rows_of):
    scene_set = make_set([[10.0, 100.0], [80.0, 200.0]], SHORT)
    estimates = write_estimates(scene_set)
    (scene_set.root / "audio" / "scene0" / "talker1.wav").unlink()
    damaged, _ = rows_of(scene_set, estimates)
    assert "no such file" in damaged["undefined"]["si_sdr_db"] and damaged["doa_error_deg"] is None
    assert damaged["doa_error_own_deg"] == [3.0, 3.0] and damaged["error"] is None


def test_nan_in_one_voice_leaves_the_other_talkers(make_set, write_estimates, rows_of):
    scene_set = make_set([[10.0, 100.0, 250.0]])
    estimates = write_estimates(scene_set)
    (whole,) = rows_of(scene_set, estimates)
    _not_finite(estimates / "scene0" / "talker1.wav")  # of the last talker: the order is reversed
    (row,) = rows_of(scene_set, estimates)
    assert row["error"] is None
    assert (row["permutation"], row["permutation_from"]) == ([2, 1, 0], "si_sdr")
    for field in SEPARATION_FIELDS:
        assert row[field] == [*whole[field][:2], None], field
        assert row["undefined"][field] == "estimate holds NaN or infinite samples"
    assert set(row["undefined"]) == set(SEPARATION_FIELDS)
    assert [row[field] for field in DOA_FIELDS] == [whole[field] for field in DOA_FIELDS]
    heard = read_estimates(estimates, scene_set.scenes[0])
    assert not heard[0].any() and np.isfinite(heard).all() and heard[1:].any(axis=1).all()


def test_nan_in_several_voices_leaves_their_talkers_without_a_permutation(make_set, write_estimates, rows_of):
    scene_set = make_set([[10.0, 100.0, 250.0]])
    estimates = write_estimates(scene_set)
    (whole,) = rows_of(scene_set, estimates)
    rows = read_jsonl(estimates / "doa.jsonl")
    write_jsonl(estimates / "doa.jsonl", [rows[0] | {"confidence": [0.2, 0.2, 0.8]}])
    for name in ("talker1.wav", "talker2.wav"):
        _not_finite(estimates / "scene0" / name)
    (row,) = rows_of(scene_set, estimates)
    for field in (*SEPARATION_FIELDS, *FOLLOWS_VOICES):
        assert row[field] == [whole[field][0], None, None], field
    assert all(row["undefined"][field] == AMBIGUOUS for field in FOLLOWS_VOICES)
    assert row["doa_confidence"] == [0.8, 0.2, 0.2]  # whichever is whose
    assert [row[field] for field in OWN] == [whole[field] for field in OWN]
    _not_finite(estimates / "scene0" / "talker3.wav")
    (row,) = rows_of(scene_set, estimates)
    assert (row["error"], row["permutation"], row["permutation_from"]) == (None, None, None)
    assert all(row[field] is None for field in FOLLOWS_VOICES)
    assert all(row["undefined"][field] == AMBIGUOUS for field in FOLLOWS_VOICES)
    assert row["si_sdr_db"] == [None] * 3
    assert [row[field] for field in OWN] == [whole[field] for field in OWN]


def test_voices_that_are_alike_do_not_say_whose_direction_is_whose(make_scene, speech):
    scene, references = make_scene("a", [0.0, 90.0]), speech(2)
    alike = np.stack([references.sum(0)] * 2)
    found = DoaEstimates(np.array([92.0, 1.0]))
    row = score_scene(scene, CIRCLE, references, references, alike, found)
    assert None not in row["si_sdr_db"]
    for field in FOLLOWS_VOICES:
        assert row[field] == [None, None] and row["undefined"][field] == AMBIGUOUS
    assert row["doa_error_own_deg"] == [1.0, 2.0]
    row = score_scene(scene, CIRCLE, references, references, alike, DoaEstimates(np.array([30.0, 30.0])))
    assert row["doa_error_deg"] == [30.0, 60.0]  # whichever is whose
    assert row["doa_assigned"] == [None, None]


@pytest.mark.parametrize("copied", ["16 bits", "noise"])
def test_a_voice_given_twice_is_scored_alike_in_both_orders(make_set, write_estimates, rows_of, copied):
    scene_set = make_set([[10.0, 100.0], [80.0, 200.0]])
    estimates = write_estimates(scene_set)
    both = []
    for turn in (1, -1):
        for scene in scene_set.scenes:
            voice = 0.7 * scene_set.references(scene).sum(0)
            noise = 1e-7 * np.random.default_rng(0).standard_normal(voice.size)
            pair = [voice, 0.5 * voice] if copied == "16 bits" else [voice, voice + noise]
            for name, samples in zip(("talker1.wav", "talker2.wav"), pair[::turn], strict=True):
                kind = "PCM_16" if copied == "16 bits" else "FLOAT"
                soundfile.write(estimates / scene.id / name, samples, RATE, subtype=kind)
        both.append(rows_of(scene_set, estimates, metrics=("si_sdr", "snr", "stoi")))
    for one, other in zip(*both, strict=True):
        for row in (one, other):
            for field in FOLLOWS_VOICES:
                assert row[field] == [None, None] and row["undefined"][field] == AMBIGUOUS
        for field in ("si_sdr_db", "stoi", "snr_db", "snr_improvement_db"):  # SNR: of either level
            np.testing.assert_allclose(one[field], other[field], atol=0.01)


def test_voices_that_tie_are_scored_by_their_mean(make_scene, speech):
    scene, references = make_scene("a", [0.0, 90.0, 200.0]), speech(3)
    both = (references[:2] / np.linalg.norm(references[:2], axis=1, keepdims=True)).sum(0)
    noise = np.random.default_rng(0).standard_normal(references.shape[1])
    noise -= references.T @ np.linalg.lstsq(references.T, noise, rcond=None)[0]
    noise *= np.linalg.norm(both) / np.linalg.norm(noise)
    voices = np.stack([both, references[2], both + 0.5 * noise])  # the second of them is worse for either
    rows = [score_scene(scene, CIRCLE, references, references, voices[list(order)], None)
            for order in itertools.permutations(range(3))]  # fmt: skip
    matrix = si_sdr(*np.broadcast_arrays(references[:, None], voices[None]))
    expected = [matrix[0, [0, 2]].mean(), matrix[1, [0, 2]].mean(), matrix[2, 1]]
    assert abs(matrix[0, 0] - matrix[0, 2]) > 0.5
    for row in rows:
        np.testing.assert_allclose(row["si_sdr_db"], expected, atol=1e-3)
        assert row["undefined"].keys() == set(DOA_FIELDS)


def test_scores_of_voices_that_tie_do_not_depend_on_their_order():
    rng = np.random.default_rng(1)
    basis = np.linalg.qr(rng.standard_normal((400, 6)))[0].T
    references, noises = basis[:3], basis[3:]
    tied = 0
    for _ in range(60):
        voices = rng.integers(0, 2, (3, 3)) @ references + rng.choice([0.0, 1.0, 10.0], (3, 1)) * noises
        voices += 1e-3 * noises  # none is silent
        matrix = si_sdr(*np.broadcast_arrays(references[:, None], voices[None]))
        best = matrix[range(3), best_permutation(matrix)]
        orders = list(itertools.permutations(range(3)))
        sums = np.array([np.maximum(matrix[range(3), order], MIN_RATIO_DB).sum() for order in orders])
        if np.sum(abs(np.maximum(best, MIN_RATIO_DB).sum() - sums) < SAME_SUM_DB) < 2:
            continue
        tied += 1
        scores = [score_estimates(references, voices[list(order)], voices.sum(0), RATE, ("si_sdr",))
                  for order in orders]  # fmt: skip
        values = np.maximum([found.fields["si_sdr_db"] for found in scores], MIN_RATIO_DB)
        np.testing.assert_allclose(values, values[:1].repeat(len(values), 0), atol=0.02)
        np.testing.assert_allclose(values.mean(1), np.maximum(best, MIN_RATIO_DB).mean(), atol=0.02)
    assert tied > 20


@pytest.mark.parametrize(
    ("azimuths", "reason"),
    [
        (None, "has no azimuth_deg"),
        ([1.0, None], "expected a list of degrees"),
        ([1.0, float("nan")], "expected a list of degrees"),
        ([1.0, 10**18], "expected a list of degrees"),
        ("north", "expected a list of degrees"),
    ],
)
def test_bad_azimuths_say_why_and_leave_the_voices(make_set, write_estimates, rows_of, azimuths, reason):
    scene_set = make_set([[10.0, 100.0], [80.0, 200.0]], SHORT)
    estimates = write_estimates(scene_set)
    before, other_before = rows_of(scene_set, estimates)
    rows = read_jsonl(estimates / "doa.jsonl")
    rows[0]["azimuth_deg"] = azimuths
    write_jsonl(estimates / "doa.jsonl", rows)
    damaged, other = rows_of(scene_set, estimates)
    assert damaged["error"] is None and other == other_before
    kept = (*SEPARATION_FIELDS, "permutation", "permutation_from")
    assert [damaged[field] for field in kept] == [before[field] for field in kept]
    for field in DOA_FIELDS:
        assert damaged[field] is None and reason in damaged["undefined"][field]
    for path in (estimates / "scene0").iterdir():
        path.unlink()
    both, _ = rows_of(scene_set, estimates)
    assert "found no talker files" in both["error"] and reason in both["error"]
    assert all(both[field] is None for field in FIELDS)
    for path in (estimates / "scene1").iterdir():
        path.unlink()
    alone, other = rows_of(scene_set, estimates)  # a system of azimuths
    assert reason in alone["error"] and "talker" not in alone["error"]
    assert other["doa_error_deg"] == [3.0, 3.0]


def test_a_bad_posterior_is_told_and_leaves_the_scores(make_set, write_estimates, rows_of):
    scene_set = make_set([[10.0, 100.0]], SHORT)
    estimates = write_estimates(scene_set)
    (before,) = rows_of(scene_set, estimates)
    rows = read_jsonl(estimates / "doa.jsonl")
    write_jsonl(estimates / "doa.jsonl", [rows[0] | {"posterior": [[0.5] * 8] * 3}])
    (row,) = rows_of(scene_set, estimates)
    (doubt,) = row["doubts"]
    assert doubt.startswith("posterior is left out (doa.jsonl: posterior is 3 x 8 numbers, expected 1 or 2")
    assert row == before | {"doubts": [doubt]}


def test_mirrored_talkers_of_a_linear_array_have_no_assignment(make_set, write_estimates, rows_of):
    scene_set = make_set([[10.0, 350.0], [10.0, 340.0]], SHORT)  # two microphones on the x axis
    mirrored, apart = rows_of(scene_set, write_estimates(scene_set))
    assert mirrored["doa_assigned"] == [None, None] and mirrored["undefined"]["doa_assigned"] == TIED
    assert mirrored["doa_error_own_deg"] is not None
    assert apart["doa_assigned"] == [1, 1] and "doa_assigned" not in apart["undefined"]
