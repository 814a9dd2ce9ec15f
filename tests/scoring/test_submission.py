"""Folders of estimates that are not as they should be: other names, other scenes, other files."""

from __future__ import annotations

import shutil

import pytest

from msdet.errors import MsdetError
from msdet.io.files import read_jsonl, write_json
from msdet.scoring.score import score_set

SHORT = 0.05  # seconds; too short for SDR and STOI, which saves their time


@pytest.fixture
def rows_of(tmp_path):
    def rows_of(scene_set, estimates, **options):
        return score_set(scene_set, estimates, tmp_path / "scores.jsonl", **options)

    return rows_of


def test_a_folder_made_for_another_set_is_refused(make_set, write_estimates, rows_of, tmp_path):
    scene_set = make_set([[10.0, 350.0]], SHORT)
    estimates = write_estimates(scene_set)
    write_json(estimates / "data.json", {"hash": scene_set.identity})
    assert rows_of(scene_set, estimates)[0]["error"] is None
    for header, reason in (({"hash": "other"}, "with hash other"), ([1], "has no 'hash'")):
        write_json(estimates / "data.json", header)
        with pytest.raises(MsdetError, match=reason):
            rows_of(scene_set, estimates)
    with pytest.raises(MsdetError, match="no such folder"):
        rows_of(scene_set, tmp_path / "nowhere")
    assert len(read_jsonl(tmp_path / "scores.jsonl")) == 1  # what was there is left alone


def test_estimates_under_another_scenes_name_are_told(make_set, write_estimates, rows_of):
    scene_set = make_set([[10.0, 350.0], [80.0, 200.0], [5.0, 60.0]], 0.5)
    estimates = write_estimates(scene_set)
    assert all(row["doubts"] == [] for row in rows_of(scene_set, estimates))
    (estimates / "scene0").rename(estimates / "aside")
    (estimates / "scene2").rename(estimates / "scene0")
    (estimates / "aside").rename(estimates / "scene2")
    first, whole, last = rows_of(scene_set, estimates)
    assert whole["doubts"] == []
    for row, other in ((first, "scene2"), (last, "scene0")):
        unlike, fits = row["doubts"]
        assert unlike == "no estimate resembles its reference (SI-SDR below -20 dB)"
        assert fits == f"the estimates fit another scene's references ({other})"
        assert row["error"] is None and max(row["si_sdr_db"]) < -20.0


def test_files_that_are_no_talkers_are_told(make_set, write_estimates, rows_of):
    scene_set = make_set([[10.0, 350.0]], SHORT)
    estimates = write_estimates(scene_set)
    shutil.copy(estimates / "scene0" / "talker1.wav", estimates / "scene0" / "mixture.wav")
    (row,) = rows_of(scene_set, estimates)
    assert row["doubts"] == ["files that are no talker's are left out (mixture.wav)"]


@pytest.mark.parametrize(
    ("place", "hint"),
    [
        ("scene0/s{n}.wav", "scene0/s1.wav, scene0/s2.wav"),
        ("talker{n}/scene0.wav", "talker1/scene0.wav, talker2/scene0.wav"),
        ("scene0_talker{n}.wav", "scene0_talker1.wav, scene0_talker2.wav"),
    ],
)
def test_files_by_other_names_are_found_and_the_right_ones_named(make_set, write_estimates, rows_of, place, hint):
    scene_set = make_set([[10.0, 350.0]], SHORT)
    estimates = write_estimates(scene_set)
    for n in (1, 2):
        path = estimates / place.format(n=n)
        path.parent.mkdir(exist_ok=True)
        (estimates / "scene0" / f"talker{n}.wav").rename(path)
    message = f"(but {hint}: names are scene0/talker1.wav, ...)"
    (row,) = rows_of(scene_set, estimates)
    assert row["error"] is None and row["doa_error_own_deg"] == [3.0, 3.0]
    for field in ("si_sdr_db", "doa_error_deg"):
        assert row[field] is None and message in row["undefined"][field]
    (estimates / "doa.jsonl").unlink()
    with pytest.raises(MsdetError, match="holds neither") as refused:
        rows_of(scene_set, estimates)
    assert message in str(refused.value)


def test_an_unknown_metric_offers_the_nearest(make_set, write_estimates, rows_of):
    scene_set = make_set([[10.0, 350.0]], SHORT)
    with pytest.raises(MsdetError, match="unknown metric 'pesk'; did you mean 'pesq'"):
        rows_of(scene_set, write_estimates(scene_set), metrics=["pesk"])


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Talker2.WAV", "scene0/Talker2.WAV: names are scene0/talker1.wav, ..."),
        ("TALKER2.Flac", "scene0/TALKER2.Flac: names are scene0/talker1.wav, ..."),
        ("talker2.mp3", "scene0/talker2.mp3: names are scene0/talker1.wav, ..."),
        ("talker0.wav", "scene0/talker0.wav: names are scene0/talker1.wav, ..."),
        ("talker2.txt", None),
        ("mixture.wav", None),
    ],
)
def test_a_misspelt_name_is_told_beside_the_right_one(make_set, write_estimates, rows_of, name, hint):
    scene_set = make_set([[10.0, 100.0]], SHORT)
    estimates = write_estimates(scene_set, with_doa=False)
    folder = estimates / "scene0"
    (folder / "talker2.wav").rename(folder / name)
    (row,) = rows_of(scene_set, estimates)
    offered = f" (but {hint})" if hint else ""
    assert row["error"] == f"{folder}: found talker1.wav{offered}, expected one file for each of 2 talkers"
    (folder / "talker1.wav").unlink()
    with pytest.raises(MsdetError, match="holds neither") as refused:
        rows_of(scene_set, estimates)
    assert (hint or "expected") in str(refused.value) or hint is None


def test_voices_that_are_all_misspelt_fail_the_audio_of_every_scene(make_set, write_estimates, rows_of):
    scene_set = make_set([[10.0, 100.0], [80.0, 200.0]], SHORT)
    estimates = write_estimates(scene_set)
    for scene in scene_set.scenes:
        for n in (1, 2):
            (estimates / scene.id / f"talker{n}.wav").rename(estimates / scene.id / f"Talker{n}.WAV")
    for row in rows_of(scene_set, estimates):
        assert row["doubts"] == ["files that are no talker's are left out (Talker1.WAV, Talker2.WAV)"]
        assert row["error"] is None and row["doa_error_own_deg"] == [3.0, 3.0]
        for field in ("si_sdr_db", "doa_error_deg", "doa_assigned"):
            why = row["undefined"][field]
            assert row[field] is None and "Talker1.WAV, " in why and "Talker2.WAV: names are" in why


def test_a_mixture_alone_makes_no_system_of_voices(make_set, write_estimates, rows_of):
    scene_set = make_set([[10.0, 100.0]], SHORT)
    estimates = write_estimates(scene_set, with_audio=False)
    (estimates / "scene0").mkdir()
    shutil.copy(scene_set.root / "audio" / "scene0" / "talker1.wav", estimates / "scene0" / "mixture.wav")
    (row,) = rows_of(scene_set, estimates)
    assert row["undefined"]["si_sdr_db"] == "no audio estimates" and row["doa_error_deg"] == [3.0, 3.0]
