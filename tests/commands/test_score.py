"""`msdet score`, `compare`, `wer-lists` and `wer`: exit codes, what is told, and formats to paste."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from msdet import cli
from msdet.data.scene_set import SceneSet
from msdet.io import audio
from msdet.io.files import read_json, read_jsonl, write_jsonl

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command: exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = cli.main([str(a) for a in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err + captured.out
        return code, captured.out, captured.err

    return run


@pytest.fixture
def estimates(dev_set: SceneSet, tmp_path: Path) -> Path:
    """Noisy references of every scene, and azimuths one degree off."""
    folder, rng = tmp_path / "estimates", np.random.default_rng(0)
    rows = []
    for scene in dev_set.scenes:
        for n, reference in enumerate(dev_set.references(scene), start=1):
            estimate = reference + 0.2 * reference.std() * rng.standard_normal(reference.size)
            audio.write(folder / scene.id / f"talker{n}.wav", estimate, scene.sample_rate, "FLOAT")
        directions = {"azimuth_deg": (scene.azimuths_deg + 1.0).tolist(), "confidence": [0.9, 0.8]}
        rows.append({"id": scene.id, **directions})
    write_jsonl(folder / "doa.jsonl", rows)
    return folder


def arguments(dev_set: SceneSet, estimates: Path, out: Path, *more: object) -> list[object]:
    where = ["--data", dev_set.root, "--estimates", estimates, "--out", out]
    return ["score", *where, "--name", "mine", "--jobs", 1, *more]


def test_everything_scored_is_exit_code_0(dev_set: SceneSet, estimates: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "out"
    metrics = ("--metrics", "si_sdr,snr,estoi", "--by", "distance,gender*t60")
    code, text, _ = run(*arguments(dev_set, estimates, out, *metrics))
    assert code == 0
    assert "not scored" not in text
    for expected in ("SNR (dB)", "ESTOI", "Talker's distance", "Talkers' genders by T60", "randomization test"):
        assert expected in text
    assert max(map(len, text.splitlines())) <= 110
    rows = read_jsonl(out / "mine" / "scores.jsonl")
    assert "sdr_db" not in rows[0]
    assert rows[0]["doa_error_deg"] == pytest.approx([1.0, 1.0])
    summary = read_json(out / "summary.json")
    assert summary["systems"]["mine"]["accuracy_5deg"]["value"] == 1.0
    assert summary["paired_differences"]["mine"]["unprocessed"]["snr_db"]["value"] > 0
    curves = read_json(out / "mine" / "curves.json")
    assert curves["calibration"]["n"] == 6
    assert curves["posterior"] is None
    assert "mine: confidence and share within 10 deg differ by" in text
    assert "confidence and share" in (out / "summary.md").read_text(encoding="utf-8")


def test_a_scene_that_was_not_scored_is_told_and_exit_code_1(
    dev_set: SceneSet, estimates: Path, tmp_path: Path, run: Run
) -> None:
    missing, silent, _ = (scene.id for scene in dev_set.scenes)
    shutil.rmtree(estimates / missing)
    rows = read_jsonl(estimates / "doa.jsonl")
    write_jsonl(estimates / "doa.jsonl", [rows[0], rows[1] | {"azimuth_deg": "north"}, rows[2]])
    samples, rate = audio.read(estimates / silent / "talker1.wav")
    audio.write(estimates / silent / "talker1.wav", 0.0 * samples, rate)
    shutil.copytree(estimates / silent, estimates / "other")
    code, text, _ = run(*arguments(dev_set, estimates, tmp_path / "out", "--metrics", "si_sdr"))
    assert code == 1
    found = f"{estimates / missing}: found no talker files"
    assert f"not scored: {missing}: SI-SDR, DoA error, assignment accuracy, confidence: {found}" in text
    assert f"not scored: {silent}: SI-SDR: estimate is silent; directions: doa.jsonl: azimuth_deg is" in text
    page = " ".join((tmp_path / "out" / "summary.md").read_text(encoding="utf-8").split())
    found = found.replace(f"/{missing}:", "/SCENE:")
    north = "doa.jsonl: azimuth_deg is north, expected a list of degrees"
    for what, why in (
        ("SI-SDR, DoA error, assignment accuracy", found),
        ("SI-SDR", "estimate is silent)."),
        ("directions", f"{north})."),
    ):
        assert f"mine: {what} not scored in 1 of 3 scenes ({why}" in page
    assert page.count("not scored in") == 3
    summary = read_json(tmp_path / "out" / "summary.json")["systems"]["mine"]
    assert [summary[key]["n"] for key in ("si_sdr_db", "doa_mae_deg", "doa_recall")] == [1, 1, 2]
    assert "estimates of 1 scenes that the set has not (other)" in page


def test_nothing_scored_is_exit_code_2(dev_set: SceneSet, estimates: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "out"
    for path in estimates.glob("*/talker1.wav"):
        path.unlink()
    code, text, _ = run(*arguments(dev_set, estimates, out, "--metrics", "si_sdr"))
    assert code == 1  # the talkers are found all the same
    assert "found talker2.wav" in text and "DoA MAE, optimal (deg)" in text
    (estimates / "doa.jsonl").unlink()
    code, _, err = run(*arguments(dev_set, estimates, out, "--metrics", "si_sdr"))
    assert code == 2
    assert err.splitlines()[-1].startswith("error: nothing could be scored; why not, scene by scene, is in")
    assert all("found talker2.wav" in row["error"] for row in read_jsonl(out / "mine" / "scores.jsonl"))
    shutil.rmtree(estimates)
    estimates.mkdir()
    code, _, err = run(*arguments(dev_set, estimates, out))
    assert code == 2
    assert "holds neither <scene id>/talker1.wav of any scene nor doa.jsonl" in err


def test_azimuths_that_tie_are_counted_and_no_failure(
    dev_set: SceneSet, estimates: Path, tmp_path: Path, run: Run
) -> None:
    rows = read_jsonl(estimates / "doa.jsonl")
    write_jsonl(estimates / "doa.jsonl", [rows[0] | {"azimuth_deg": [40.0, 40.0]}, *rows[1:]])
    code, _, _ = run(*arguments(dev_set, estimates, tmp_path / "out", "--metrics", "si_sdr"))
    assert code == 0
    page = " ".join((tmp_path / "out" / "summary.md").read_text(encoding="utf-8").split())
    assert "mine: assignment accuracy not scored in 1 of 3 scenes (azimuths tie" in page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--metrics", "si_sdr,pesk"), "unknown metric 'pesk'; did you mean 'pesq'?"),
        (("--by", "t60*distanc"), "unknown breakdown 'distanc'; did you mean 'distance'?"),
        (("--format", "html"), "html"),
        (("--compare", "nowhere"), "holds no <system>/scores.jsonl"),
        (("--jobs", "-1"), "jobs is -1, expected 0 (one a core) or more"),
    ],
)
def test_bad_options_are_one_line_before_anything_is_scored(
    dev_set: SceneSet, estimates: Path, tmp_path: Path, run: Run, options: tuple[str, ...], message: str
) -> None:
    code, text, err = run(*arguments(dev_set, estimates, tmp_path / "out", *options))
    assert (code, text, len(err.splitlines())) == (2, "", 1)
    assert message in err
    assert not (tmp_path / "out").exists()


def test_formats_to_paste_have_nothing_else_on_stdout(
    dev_set: SceneSet, estimates: Path, tmp_path: Path, run: Run
) -> None:
    (estimates / dev_set.scenes[0].id / "talker1.wav").unlink()
    texts = {}
    for form in ("md", "latex", "csv", "json"):
        code, texts[form], err = run(
            *arguments(dev_set, estimates, tmp_path / form, "--metrics", "si_sdr", "--format", form)
        )
        assert code == 1
        assert "not scored: " in err
    assert texts["md"] == (tmp_path / "md" / "summary.md").read_text(encoding="utf-8")
    assert texts["md"].startswith("### Separation\n")
    assert texts["latex"] == (tmp_path / "latex" / "summary.tex").read_text(encoding="utf-8")
    assert texts["latex"].startswith("% needs")
    metrics = {line["metric"] for line in csv.DictReader(io.StringIO(texts["csv"]))}
    assert {"si_sdr_db", "doa_mae_deg"} <= metrics
    assert json.loads(texts["json"])["systems"]["mine"]["si_sdr_db"]["n"] == 2


@pytest.fixture
def scored(dev_set: SceneSet, estimates: Path, tmp_path: Path, run: Run) -> Path:
    """An evaluation of two systems: the estimates, and the same with less noise on one talker."""
    out = tmp_path / "scored"
    run(*arguments(dev_set, estimates, out, "--metrics", "si_sdr"))
    for scene in dev_set.scenes:
        audio.write(estimates / scene.id / "talker1.wav", dev_set.references(scene)[0], scene.sample_rate, "FLOAT")
    better = ["--data", dev_set.root, "--estimates", estimates, "--out", out, "--name", "better"]
    assert run("score", *better, "--metrics", "si_sdr", "--jobs", 1)[0] == 0
    return out


def test_compare(scored: Path, tmp_path: Path, run: Run) -> None:
    code, text, _ = run("compare", scored / "better", scored / "mine", "--by", "talkers")
    assert code == 0
    assert "better less mine" in text and "Talkers: better less mine" in text
    code, _, _ = run(
        "compare", scored / "better", scored / "mine", "--by", "", "--metrics", "si_sdr_db",
        "--format", "json", "--out", tmp_path / "difference.json",
    )  # fmt: skip
    value = read_json(tmp_path / "difference.json")
    assert code == 0 and list(value["overall"]) == ["si_sdr_db"] and value["breakdowns"] == {}
    assert value["overall"]["si_sdr_db"]["low"] > 0


def test_systems_of_one_name_are_named_with_their_evaluations(scored: Path, tmp_path: Path, run: Run) -> None:
    shutil.copytree(scored / "mine", tmp_path / "again" / "mine")
    code, text, _ = run("compare", scored / "mine", tmp_path / "again" / "mine" / "scores.jsonl", "--by", "")
    assert code == 0 and "scored/mine less again/mine" in text


def test_a_model_is_compared_with_every_system_of_another_evaluation(scored: Path, tmp_path: Path, run: Run) -> None:
    shutil.copytree(scored / "mine", tmp_path / "evaluation" / "model")
    shutil.copytree(scored / "better", tmp_path / "evaluation" / "srp_beam")
    code, text, _ = run("compare", tmp_path / "evaluation", scored, "--by", "")
    assert code == 0 and "model less better" in text and "model less mine" in text
    assert "srp_beam" not in text and text.count("randomization test") == 1
    code, text, _ = run("compare", tmp_path / "evaluation", scored, "--by", "", "--format", "csv")
    lines = list(csv.DictReader(io.StringIO(text)))
    assert code == 0 and {(x["system"], x["against"]) for x in lines} == {("model", "better"), ("model", "mine")}


def test_a_systems_own_folder_is_no_evaluation(
    scored: Path, dev_set: SceneSet, estimates: Path, tmp_path: Path, run: Run
) -> None:
    options = ("--metrics", "si_sdr", "--compare", scored / "mine")
    code, _, err = run(*arguments(dev_set, estimates, tmp_path / "out", *options))
    assert code == 2 and f"it is a system's own folder, did you mean {scored}?" in err


def test_no_methods_are_refused_before_anything_is_scored(dev_set: SceneSet, tmp_path: Path, run: Run) -> None:
    code, text, err = run("evaluate", "--data", dev_set.root, "--out", tmp_path / "out", "--methods", "")
    assert (code, text) == (2, "") and "methods has '', expected names of baselines" in err
    assert not (tmp_path / "out").exists()


def test_compare_tells_what_it_was_given(scored: Path, tmp_path: Path, run: Run) -> None:
    shutil.copytree(scored / "mine", tmp_path / "broken")
    (tmp_path / "broken" / "scores.jsonl").write_text("[1]\n", encoding="utf-8")
    for systems, message in (
        ((scored / "mine",), "takes two folders of scores, found 1"),
        ((scored / "mine", scored / "mine"), "expected two"),
        ((scored, scored / "mine"), "holds several systems (better, mine), expected one to compare"),
        ((scored / "mine", tmp_path / "broken"), "line 1: not a row of scores, 'id' is missing"),
        ((scored / "mine", tmp_path / "nowhere"), "no such file"),
    ):
        code, text, err = run("compare", *systems)
        assert (code, text) == (2, "")
        assert message in err


def test_word_errors_from_lists_to_summaries(
    scored: Path, dev_set: SceneSet, estimates: Path, speech: Path, tmp_path: Path, run: Run
) -> None:
    said = "".join(f"{p.parent.name}/{p.stem} one two three\n" for p in sorted(speech.glob("*/*.wav")))
    (tmp_path / "said").write_text(said, encoding="utf-8")
    lists = ["--data", dev_set.root, "--estimates", estimates, "--scores", scored / "mine"]
    lists += ["--text", tmp_path / "said", "--out", tmp_path / "lists"]
    code, _, err = run("wer-lists", *lists, "--speech", speech)
    assert code == 2  # the scenes hold 1.5 s of utterances of 2.5 s and more
    assert "6 x only a part of the utterance is in the scene" in err
    whole = tmp_path / "whole"
    for path in speech.glob("*/*.wav"):
        audio.write(whole / path.parent.name / path.name, np.ones(12_000), 8000)
    rows = read_jsonl(dev_set.root / "scenes.jsonl")
    for row in rows[:2]:
        for source in row["sources"]:
            source["offset_s"] = 0.0
    shutil.copytree(dev_set.root, tmp_path / "set")
    write_jsonl(tmp_path / "set" / "scenes.jsonl", rows)
    code, text, _ = run("wer-lists", "--data", tmp_path / "set", *lists[2:], "--speech", whole)
    assert code == 0
    assert "4 of 6 talkers" in text and "left out: 2 x only a part" in text
    first = (tmp_path / "lists" / "wav.scp").read_text(encoding="utf-8").splitlines()[0].split()
    assert first == [f"{rows[0]['id']}-talker1", str((estimates / rows[0]["id"] / "talker1.wav").resolve())]


def test_word_errors_are_counted_and_added(scored: Path, dev_set: SceneSet, tmp_path: Path, run: Run) -> None:
    names = [f"{scene.id}-talker{n}" for scene in dev_set.scenes for n in (1, 2)]
    (tmp_path / "lists").mkdir()
    for place, words in (("lists/text", "one two three"), ("heard", "one too three")):
        (tmp_path / place).write_text("".join(f"{n} {words}\n" for n in names), encoding="utf-8")
    wer = ["wer", "--lists", tmp_path / "lists", "--hypotheses", tmp_path / "heard"]
    code, text, _ = run(*wer, "--scores", scored / "mine", "--out", tmp_path / "wer.json")
    assert code == 0 and text.startswith("WER 33.33 % (6 errors in 18 words, 6 utterances)")
    assert read_json(tmp_path / "wer.json")["wer"] == pytest.approx(1 / 3, abs=1e-6)
    assert "cpWER 33.33 % (6 errors in 18 words)" in text
    (tmp_path / "heard").write_text("".join(f"{n} one two three\n" for n in names[1:]), encoding="utf-8")
    code, text, _ = run(*wer, "--scores", scored / "better")
    assert code == 1 and f"no hypothesis: {names[0]}" in text
    code, text, _ = run("compare", scored / "better", scored / "mine", "--metrics", "wer", "--by", "")
    assert code == 0 and "-33.3 [-33.3, -33.3]" in text
    before = (scored / "mine" / "scores.jsonl").read_bytes()
    (tmp_path / "lists" / "text").write_text("other-talker1 one\n", encoding="utf-8")
    code, _, err = run(*wer, "--scores", scored / "mine")
    assert code == 2 and "'other-talker1' and all others are of no scene of the scores" in err
    assert (scored / "mine" / "scores.jsonl").read_bytes() == before
    (tmp_path / "lists" / "text").write_text(f"{names[0]} one\n", encoding="utf-8")
    (tmp_path / "lists" / "data.json").write_text('{"hash": "other"}', encoding="utf-8")
    code, _, err = run(*wer, "--scores", scored / "mine")
    assert code == 2 and "is of a data set with hash other, the scores of one with" in err
    (tmp_path / "lists" / "text").write_text("".join(f"{n} one two\n" for n in names), encoding="utf-8")
    (tmp_path / "heard").write_text("nobody one\n", encoding="utf-8")
    code, _, err = run(*wer)
    assert code == 2 and "unknown utterance 'nobody'" in err


def test_compared_rows_that_are_no_scores_are_refused(
    dev_set: SceneSet, estimates: Path, tmp_path: Path, run: Run
) -> None:
    (tmp_path / "other" / "x").mkdir(parents=True)
    (tmp_path / "other" / "x" / "scores.jsonl").write_text('{"a": 1}\n', encoding="utf-8")
    options = ("--metrics", "si_sdr", "--compare", tmp_path / "other")
    code, _, err = run(*arguments(dev_set, estimates, tmp_path / "out", *map(str, options)))
    assert code == 2
    assert "scores.jsonl, line 1: not a row of scores, 'id' is missing" in err
