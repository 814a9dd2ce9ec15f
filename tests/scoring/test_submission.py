"""Folders of estimates that are not as they should be: other names, other scenes, other files."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from msdet.cli import main
from msdet.errors import MsdetError
from msdet.io import audio
from msdet.io.files import read_jsonl, write_json
from msdet.scoring.alignment import find_delay, shifted
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
        ("talker2.mp3", "scene0/talker2.mp3: convert such files, for example with 'ffmpeg -i talker2.mp3 talker2.wav'"),
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


# ---- as other toolkits write them


def changed(estimates, change):
    for path in sorted(estimates.rglob("talker*.wav")):
        samples, rate = audio.read(path)
        audio.write(path, change(samples), rate, "FLOAT")


@pytest.mark.parametrize("more", [1, -1, 300, -300])
def test_estimates_of_another_length_are_cut_or_padded_and_told(make_set, write_estimates, rows_of, more):
    scene_set = make_set([[10.0, 350.0]], 0.5)
    estimates = write_estimates(scene_set)
    (before,) = rows_of(scene_set, estimates, metrics=["si_sdr"])
    changed(estimates, lambda x: np.pad(x, ((0, 0), (0, more))) if more > 0 else x[:, :more])
    (row,) = rows_of(scene_set, estimates, metrics=["si_sdr"])
    (doubt,) = row["doubts"]
    each = f"talker1.wav has {more:+d} samples, talker2.wav has {more:+d} samples"
    assert doubt == f"estimates are longer or shorter than the mixture, and cut or padded ({each})"
    if more > 0:
        assert row | {"doubts": []} == before
    assert np.subtract(before["si_sdr_db"], row["si_sdr_db"]).max() < (0.1 if abs(more) == 1 else 25.0)


@pytest.mark.parametrize(("late", "word"), [(128, "late"), (1, "late"), (-40, "early")])
def test_a_constant_delay_is_told_and_taken_out_if_asked_for(make_set, write_estimates, rows_of, late, word):
    scene_set = make_set([[10.0, 350.0], [80.0, 200.0]], 0.5)
    estimates = write_estimates(scene_set)
    before = rows_of(scene_set, estimates, metrics=["si_sdr"])
    assert all(row["doubts"] == [] for row in before)
    changed(estimates, lambda x: shifted(x, -late))
    size = f"({abs(late)} samples, {abs(late) / 8:.1f} ms)"
    for row in rows_of(scene_set, estimates, metrics=["si_sdr"]):
        assert f"estimates are {word}, which --align takes out {size}" in row["doubts"]
        assert abs(late) == 1 or max(row["si_sdr_db"]) < 0.0
    for row, whole in zip(rows_of(scene_set, estimates, metrics=["si_sdr"], align=True), before, strict=True):
        assert row["doubts"] == [f"estimates were {word} and are aligned {size}"]
        assert min(np.subtract(row["si_sdr_db"], whole["si_sdr_db"])) > -8.0, "zeros are all that is lost"


def test_no_delay_is_found_where_there_is_none(talker_signals):
    references = talker_signals(3, 0.5)
    noise = np.random.default_rng(0).standard_normal(references.shape)
    for estimates in (references, references[::-1] + 0.3 * noise, noise, 0 * noise, np.full_like(noise, np.nan)):
        assert find_delay(references, estimates, 8000) == 0
    late = shifted(references, -9)
    late[1] = np.nan
    assert find_delay(references, late[[2, 1, 0]] + 0.3 * noise, 8000) == 9
    assert find_delay(np.zeros_like(late), late, 8000) == 0


def test_estimates_of_another_rate_are_resampled_if_asked_for(make_set, write_estimates, rows_of):
    scene_set = make_set([[10.0, 350.0]], 0.5)
    estimates = write_estimates(scene_set, suffix=".flac")
    (before,) = rows_of(scene_set, estimates, metrics=["si_sdr"])
    for path in estimates.rglob("*.flac"):
        audio.write(path, audio.resample(audio.read(path)[0], 8000, 16000), 16000)
    (row,) = rows_of(scene_set, estimates, metrics=["si_sdr"])
    assert (
        "8000 samples at 16000 Hz, expected 1 x 4000 at 8000 Hz; --resample resamples" in row["undefined"]["si_sdr_db"]
    )
    (row,) = rows_of(scene_set, estimates, metrics=["si_sdr"], resample=True)
    assert row["doubts"] == [] and row["si_sdr_db"] == pytest.approx(before["si_sdr_db"], abs=1.0)


def test_estimates_may_be_listed_as_kaldi_does(make_set, write_estimates, rows_of, tmp_path, capsys):
    scene_set = make_set([[10.0, 350.0], [80.0, 200.0]], 0.5)
    estimates = write_estimates(scene_set)
    before = rows_of(scene_set, estimates)
    shutil.move(estimates / "scene0", tmp_path / "elsewhere")
    shutil.move(estimates / "scene1", estimates / "wavs")
    for n in (1, 2):
        lines = f"scene0 {tmp_path}/elsewhere/talker{n}.wav\nscene1 wavs/talker{n}.wav\nscene9 gone.wav\n"
        (estimates / f"spk{n}.scp").write_text(lines)
    assert rows_of(scene_set, estimates) == before
    options = [f"--data={scene_set.root}", f"--out={tmp_path / 'out'}", "--metrics=si_sdr", "--jobs=1", "--align"]
    assert main(["score", f"--estimates={estimates}", *options]) == 0
    assert "estimates of 1 scenes that the set has not (scene9)" in capsys.readouterr().out
    assert main(["score", f"--estimates={estimates / 'spk1.scp'}", *options]) == 2
    assert f"no such folder of estimates; give the folder, {estimates}" in capsys.readouterr().err
    (estimates / "spk2.scp").write_text(f"scene0 {tmp_path}/elsewhere/none.wav\n")
    first, second = rows_of(scene_set, estimates)
    assert "elsewhere/none.wav: no such file" in first["undefined"]["si_sdr_db"]
    assert "found talker1.wav, expected one file for each of 2 talkers" in second["undefined"]["si_sdr_db"]
    (estimates / "spk2.scp").write_text("scene0 touch ran |\n")
    with pytest.raises(MsdetError, match=r"spk2.scp, scene0: is a command \('touch ran \|'\), expected a file; run it"):
        rows_of(scene_set, estimates)
