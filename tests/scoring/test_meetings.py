"""Meetings: DER, cpWER and tcpWER are those of meeteval's own command line; what is malformed is one line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from msdet import cli
from msdet.errors import MsdetError
from msdet.scoring.meetings import MD_EVAL, diarization_errors, read_segments

pytest.importorskip("meeteval")
import meeteval.der

with_md_eval = pytest.mark.skipif(
    shutil.which("perl") is None
    or (shutil.which(MD_EVAL) is None and not Path(meeteval.der.__file__).with_name(MD_EVAL).is_file()),
    reason=f"perl or {MD_EVAL} is not on the PATH",
)

# reference and hypothesis as (recording, speaker, start, end, words); DER with this collar, cpWER, tcpWER by meeteval
CASES: dict[str, dict[str, Any]] = {
    "confused": {
        "reference": [
            ("m.1", "a", 0, 5, "a cat sat"),
            ("m.1", "b", 4, 9, "on the mat"),
            ("m.1", "a", 10, 12, "and slept"),
        ],
        "hypothesis": [("m.1", "x", 0.2, 9, "a cat sat on the"), ("m.1", "y", 9.5, 12.5, "mat and slept")],
        "collar_s": 0.0,
        "der": (12.0, 1.2, 1.0, 3.8),
        "words": (5, 8),
        "timed_words": (5, 8),
    },
    "late": {
        "reference": [("m", "a", 1, 4.5, "one two three"), ("m", "b", 20, 26, "four five six seven")],
        "hypothesis": [("m", "q", 0.5, 4.25, "one two three"), ("m", "r", 40, 44, "four five six seven")],
        "collar_s": 0.25,
        "der": (8.5, 5.5, 4.25, 0.0),
        "words": (0, 7),
        "timed_words": (8, 7),
    },
    "two recordings": {
        "reference": [("m", "a", 1, 3, "one"), ("n", "a", 2, 6, "two three"), ("n", "b", 3, 7, "four")],
        "hypothesis": [("m", "q", 1, 3, "one"), ("n", "q", 2, 7, "two four three"), ("n", "r", 3.5, 6.5, "")],
        "collar_s": 0.0,
        "der": (10.0, 0.5, 0.5, 0.5),
        "words": (2, 4),
        "timed_words": (2, 4),
    },
}


def write_case(folder: Path, name: str, end: str) -> tuple[Path, Path]:
    paths = []
    for side in ("reference", "hypothesis"):
        lines = [
            f"SPEAKER {recording} 1 {start} {end_s - start} <NA> <NA> {speaker} <NA> <NA>\n"
            if end == "rttm"
            else f"{recording} 1 {speaker} {start} {end_s} {words}\n"
            for recording, speaker, start, end_s, words in CASES[name][side]
        ]
        paths.append(folder / f"{side}.{end}")
        paths[-1].write_text("".join(lines), encoding="utf-8")
    return paths[0], paths[1]


class Loader(yaml.SafeLoader):
    """Reads the decimals and tuples that meeteval writes as lists."""


Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, tag, node: loader.construct_sequence(node))


def by_meeteval(tool: str, metric: str, files: tuple[Path, Path], *options: str) -> dict[str, Any]:
    """What meeteval's command line says, of all recordings together."""
    out = files[0].with_name(f"{metric}.yaml")
    command = (str(Path(sys.executable).with_name(tool)), metric, "-r", str(files[0]), "-h", str(files[1]), *options)
    per_recording = out.with_name("each.yaml")
    subprocess.run(
        [*command, "--average-out", str(out), "--per-reco-out", str(per_recording)], check=True, capture_output=True
    )
    found: dict[str, Any] = yaml.load(out.read_text(), Loader)
    return found


def score(files: tuple[Path, Path], *options: str) -> dict[str, Any]:
    out = files[0].with_name("out.json")
    arguments = ["score-meeting", str(files[0]), "--hypothesis", str(files[1]), "--out", str(out), *options]
    assert cli.main(arguments) == 0
    found: dict[str, Any] = json.loads(out.read_text())
    return found


@with_md_eval
@pytest.mark.parametrize("name", CASES)
def test_der_is_that_of_meetevals_command_line(tmp_path: Path, name: str) -> None:
    files, case = write_case(tmp_path, name, "rttm"), CASES[name]
    found = score(files, "--collar_s", str(case["collar_s"]))["der"]
    theirs = by_meeteval("meeteval-der", "dscore", files, "--collar", str(case["collar_s"]))
    keys = {
        "scored_s": "scored_speaker_time",
        "missed_s": "missed_speaker_time",
        "false_alarm_s": "falarm_speaker_time",
        "confusion_s": "speaker_error_time",
    }
    assert {key: found[key] for key in keys} == {key: float(theirs[their][0]) for key, their in keys.items()}
    assert found["rate"] == pytest.approx(float(theirs["error_rate"][0]), abs=1e-4)
    assert tuple(found[key] for key in keys) == pytest.approx(case["der"])


@pytest.mark.parametrize("name", CASES)
def test_word_errors_are_those_of_meetevals_command_line(tmp_path: Path, name: str) -> None:
    files, case = write_case(tmp_path, name, "stm"), CASES[name]
    found = score(files)
    for metric, options, held in (("cpwer", (), "words"), ("tcpwer", ("--collar", "5"), "timed_words")):
        theirs = by_meeteval("meeteval-wer", metric, files, *options)
        assert (found[metric]["errors"], found[metric]["words"]) == (theirs["errors"], theirs["length"]) == case[held]


@with_md_eval
def test_all_of_a_recording_that_nothing_was_found_in_is_missed() -> None:
    turns = [{"session_id": r, "speaker": "a", "start_time": 1, "end_time": 3} for r in ("../m", "n")]
    found = diarization_errors(turns, turns[1:])
    assert [tuple(e) for e in found.values()] == [(2.0, 2.0, 0.0, 0.0), (2.0, 0.0, 0.0, 0.0)]
    assert list(found) == ["../m", "n"]
    with pytest.raises(MsdetError, match="recording 'n': a collar of 1 s leaves no speech to score"):
        diarization_errors(turns[1:], turns[1:], 1.0)


def test_turns_of_a_data_set_are_a_reference(make_set: Any) -> None:
    scene_set = make_set([[10.0, 100.0], [80.0, 200.0]], 0.1)
    segments = read_segments([scene_set.root])
    assert [(s["session_id"], s["speaker"]) for s in segments][:3] == [
        ("scene0", "talker1"),
        ("scene0", "talker2"),
        ("scene1", "talker1"),
    ]
    source = scene_set.scenes[0].sources[0]
    assert float(segments[0]["end_time"]) == pytest.approx(source.onset_s + source.duration_s)


def test_der_says_what_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    turns = [{"session_id": "m", "speaker": "a", "start_time": 1, "end_time": 3}]
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(MsdetError, match="perl is not installed"):
        diarization_errors(turns, turns)
    monkeypatch.setattr(shutil, "which", lambda name: None if name == MD_EVAL else name)
    monkeypatch.setattr(meeteval.der, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(MsdetError, match=f"{MD_EVAL}.*is not on the PATH; get it from https"):
        diarization_errors(turns, turns)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.rttm", "SPEAKER m 1 0 1\n", "a.rttm, line 1: found 'SPEAKER m 1 0 1', expected 'SPEAKER <recording>"),
        ("a.rttm", ";; of m\n\nSPEAKER m 1 nan 1 <NA> <NA> a <NA>\n", "a.rttm, line 3: found"),
        ("a.stm", "m 1 a 3 2 hello\n", "a.stm, line 1: found 'm 1 a 3 2 hello', expected '<recording> <channel>"),
        ("a.json", '[{"session_id": "m", "speaker": "a"}]', "a.json: segment 1 is no segment of SegLST"),
        ("a.json", "{}", "a.json: segment 1 is no segment of SegLST"),
        ("a.txt", "m hello\n", "a.txt: expected .rttm, .stm, .json"),
        ("a.stm", "n 1 a 1 2 hello\n", "unknown recording of the hypothesis 'n'; expected one of: m"),
    ],
)
def test_what_is_malformed_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "reference.stm").write_text("\ufeffm 1 a 1 2 hello\r\n", encoding="utf-8")
    assert cli.main(["score-meeting", str(tmp_path / "reference.stm"), "--hypothesis", str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_transcripts_without_times_have_no_tcpwer(tmp_path: Path) -> None:
    for name, words in (("reference", "Hello, you"), ("hypothesis", "hello you")):
        segments = [{"session_id": "m", "speaker": name, "words": words}]
        (tmp_path / f"{name}.json").write_text(json.dumps(segments), encoding="utf-8")
    files = (tmp_path / "reference.json", tmp_path / "hypothesis.json")
    assert {name: of["errors"] for name, of in score(files).items()} == {"cpwer": 1}
    assert score(files, "--normalizer", "lower,rm(.?!,)")["cpwer"]["errors"] == 0
    with pytest.raises(MsdetError, match="neither words"):
        diarization_errors(read_segments(files[:1]), [])
