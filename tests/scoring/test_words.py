"""Word errors: lists under the permutation, what is left out, and counting."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from msdet.errors import MsdetError
from msdet.io import audio
from msdet.scoring.score import score_set
from msdet.scoring.summary import summarize
from msdet.scoring.words import (
    add_word_errors,
    check_lists,
    count_cp_errors,
    count_word_errors,
    read_table,
    write_lists,
)


@pytest.fixture
def spoken(tmp_path, make_set, write_estimates):
    """A scored set of two scenes, and its corpus: s0.wav is whole, s1.wav is longer than the scenes."""
    scene_set = make_set([[10.0, 100.0], [80.0, 200.0]], 0.1)
    estimates = write_estimates(scene_set)  # in reversed order
    for name, seconds in (("s0", 0.1), ("s1", 0.5)):
        audio.write(
            tmp_path / "speech" / f"{name}.wav",
            0.1 * scene_set.references(scene_set.scenes[0])[0].repeat(round(10 * seconds)),
            8000,
        )
    rows = score_set(scene_set, estimates, tmp_path / "scores.jsonl")
    (tmp_path / "said").write_text("s0 The CAT sat\ns1 on the mat\n", encoding="utf-8")
    return scene_set, rows, estimates


def write(tmp_path, spoken, **changes):
    scene_set, rows, estimates = spoken
    values = {"transcripts": tmp_path / "said", "speech": tmp_path / "speech", "out": tmp_path / "lists"}
    return write_lists(scene_set, rows, estimates, **(values | changes))


def test_lists_are_in_the_talkers_order_and_leave_out_what_is_cut(tmp_path, spoken):
    left_out = write(tmp_path, spoken)
    assert left_out == {"only a part of the utterance is in the scene": 2}
    files = read_table(tmp_path / "lists" / "wav.scp")
    assert list(files) == ["scene0-talker1", "scene1-talker1"]
    assert Path(files["scene0-talker1"]) == (spoken[2] / "scene0" / "talker2.wav").resolve()
    assert read_table(tmp_path / "lists" / "text") == dict.fromkeys(files, "The CAT sat")
    assert read_table(tmp_path / "lists" / "utt2spk") == dict.fromkeys(files, "s0")


def test_talkers_without_transcript_or_scores_are_counted(tmp_path, spoken):
    scene_set, rows, estimates = spoken
    audio.write(tmp_path / "speech" / "s1.wav", audio.read(tmp_path / "speech" / "s0.wav")[0], 8000)
    (tmp_path / "said").write_text("s0 the cat sat\n", encoding="utf-8")
    unscored = [rows[0] | {"permutation_from": None}, rows[1]]
    left_out = write(tmp_path, (scene_set, unscored, estimates))
    assert left_out == {"its estimate was not scored": 2, "no transcript in said": 1}
    with pytest.raises(MsdetError, match="no talker has a scored estimate and a transcript"):
        write(tmp_path, (scene_set, [], estimates))
    (tmp_path / "speech" / "s0.wav").unlink()
    with pytest.raises(MsdetError, match="no such file"):
        write(tmp_path, spoken)


def test_an_utterance_may_be_named_by_its_path(tmp_path, spoken):
    scene_set, rows, estimates = spoken
    (tmp_path / "speech" / "s0.wav").rename(tmp_path / "speech" / "a.wav")
    scenes = tuple(
        dataclasses.replace(s, sources=tuple(dataclasses.replace(x, path="a.wav") for x in s.sources))
        for s in scene_set.scenes
    )
    (tmp_path / "said").write_text("a hello\n", encoding="utf-8")
    assert write(tmp_path, (dataclasses.replace(scene_set, scenes=scenes), rows, estimates)) == {}


@pytest.mark.parametrize(
    ("heard", "errors"),
    [("the cat sat", 0), ("THE Cat  sat", 0), ("the hat sat", 1), ("cat sat down", 2), ("", 3), ("a b c d e", 5)],
)
def test_word_errors(heard, errors):
    assert count_word_errors({"u": "the CAT sat"}, {"u": heard}) == {"u": (errors, 3)}


def test_hypotheses_that_are_missing_or_of_nobody():
    assert count_word_errors({"u": "a", "v": "b"}, {"v": "b"}) == {"u": None, "v": (0, 1)}
    with pytest.raises(MsdetError, match="unknown utterance 'scene0-talker'; did you mean 'scene0-talker1'"):
        count_word_errors({"scene0-talker1": "a"}, {"scene0-talker": "a"})


def test_cpwer_takes_the_permutation_of_a_scene_with_the_fewest_errors():
    references = {"a-talker1": "one TWO", "a-talker2": "three four five", "b-talker1": "six", "b-talker2": "x"}
    swapped = {"a-talker1": "three four", "a-talker2": "one two", "b-talker1": "six"}
    assert count_cp_errors(references, swapped) == (1, 5)  # talker 2 of scene b has no hypothesis
    assert count_cp_errors(references, {}).rate is None


def test_word_errors_need_meeteval(monkeypatch):
    monkeypatch.setitem(sys.modules, "meeteval.wer", None)
    with pytest.raises(MsdetError, match=r"pip install msdet\[wer\]"):
        count_word_errors({"u": "a"}, {"u": "a"})


def test_rows_with_word_errors_have_a_rate_over_all_words(spoken):
    _, rows, _ = spoken
    said = {f"{row['id']}-talker{n}": "a b" if n == 1 else "a b c d" for row in rows for n in (1, 2)}
    counted = count_word_errors(said, dict.fromkeys(said, "a b"))
    add_word_errors(rows, counted)
    assert rows[0]["word_errors"] == [0, 2] and rows[0]["words"] == [2, 4]
    assert summarize({"a": rows}).scores["a"]["wer"].interval.value == pytest.approx(4 / 12)
    add_word_errors(rows, counted | {"scene0-talker2": None})
    assert rows[0]["undefined"]["word_errors"] == "no hypothesis"
    score = summarize({"a": rows}).scores["a"]["wer"]
    assert (score.interval.value, score.reasons) == (pytest.approx(2 / 6), {"no hypothesis": 1})
    add_word_errors(rows, {})  # of other scenes: nothing is lost
    assert rows[0]["word_errors"] == [0, None] and rows[1]["word_errors"] == [0, 2]
    assert rows[0]["undefined"]["word_errors"] == "no hypothesis"
    fresh = {"id": "scene0", "azimuth_deg": [10.0, 100.0]}
    add_word_errors([fresh], {})
    assert fresh["word_errors"] == [None, None] and fresh["undefined"] == {"word_errors": "not in the lists"}


def test_lists_of_other_scenes_are_refused(tmp_path, spoken):
    scene_set, rows, _ = spoken
    write(tmp_path, spoken)
    lists = tmp_path / "lists"
    said = read_table(lists / "text")
    for data in (scene_set.identity, None):
        check_lists(rows, lists, said, data)
    with pytest.raises(MsdetError, match="is of a data set with hash x, the scores of one with other"):
        check_lists(rows, lists, said, "other")
    (lists / "data.json").unlink()
    check_lists(rows, lists, said, "other")  # nobody knows
    elsewhere = [row | {"id": f"test-{row['id']}"} for row in rows]
    with pytest.raises(MsdetError, match=r"'scene0-talker1' and all others are of no scene of"):
        check_lists(elsewhere, lists, said, None)


def test_tables_may_have_tabs(tmp_path):
    (tmp_path / "table").write_text("u\ta  b\nv\n\n w \t c\n", encoding="utf-8")
    assert read_table(tmp_path / "table") == {"u": "a  b", "v": "", "w": "c"}


@pytest.mark.parametrize(
    ("content", "reason"), [("", "is empty"), ("u a\nu b\n", "line 2: 'u' was"), (b"\xff", "cannot be read")]
)
def test_malformed_tables_say_so(tmp_path, content, reason):
    path = tmp_path / "table"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(MsdetError, match=reason):
        read_table(path)


def test_a_table_that_is_not_there_or_a_folder_is_told_in_words(tmp_path):
    (tmp_path / "folder").mkdir()
    for name, reason in (("nowhere", "no such file"), ("folder", "cannot be read")):
        with pytest.raises(MsdetError, match=reason) as refused:
            read_table(tmp_path / name)
        assert "Errno" not in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("number", [1, 2])
def test_a_scene_of_which_an_estimate_is_gone_is_left_out(tmp_path, spoken, number):
    (spoken[2] / "scene0" / f"talker{number}.wav").unlink()
    left_out = write(tmp_path, spoken)
    assert left_out["an estimate of its scene is gone"] == 2
    assert list(read_table(tmp_path / "lists" / "wav.scp")) == ["scene1-talker1"]


def test_an_estimate_that_is_a_link_to_itself_is_no_traceback(tmp_path, spoken):
    path = spoken[2] / "scene0" / "talker2.wav"
    path.unlink()
    path.symlink_to("talker2.wav")
    write(tmp_path, spoken)
    assert "scene1-talker1" in read_table(tmp_path / "lists" / "wav.scp")


def test_lists_of_estimates_that_are_not_there_are_refused(tmp_path, spoken):
    scene_set, rows, _ = spoken
    with pytest.raises(MsdetError, match="nowhere: no such folder of estimates"):
        write(tmp_path, (scene_set, rows, tmp_path / "nowhere"))
