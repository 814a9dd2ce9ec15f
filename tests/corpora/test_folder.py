"""Reading a tree of speaker folders: splits, durations, and what is wrong with a broken tree."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from msdet.corpora import SPLITS, Corpus, load_corpus
from msdet.corpora.folder import read_folder
from msdet.errors import MsdetError


def write_tone(path: Path, frames: int = 800, channels: int = 1, sample_rate: int = 8000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tone = 0.1 * np.sin(2 * np.pi * 440 * np.arange(frames) / sample_rate)
    soundfile.write(path, np.tile(tone[:, None], (1, channels)), sample_rate, subtype="PCM_16")


def make_tree(root: Path, speakers: int) -> Path:
    for number in range(speakers):
        write_tone(root / f"talker{number}" / "a.wav", frames=800)
        write_tone(root / f"talker{number}" / "b.flac", frames=1600)
    return root


def split_of(corpus: Corpus) -> dict[str, str]:
    return {utterance.speaker: utterance.split for utterance in corpus.utterances}


def test_reads_every_wav_and_flac_with_its_duration(tmp_path: Path) -> None:
    corpus = load_corpus("folder", make_tree(tmp_path, 6))
    assert len(corpus.utterances) == 12
    assert [(u.speaker, u.path, u.seconds) for u in corpus.utterances[:2]] == [
        ("talker0", "talker0/a.wav", 0.1),
        ("talker0", "talker0/b.flac", 0.2),
    ]
    assert all((corpus.root / utterance.path).is_file() for utterance in corpus.utterances)


def test_ignores_hidden_files_and_files_that_are_not_audio(tmp_path: Path) -> None:
    make_tree(tmp_path, 6)
    (tmp_path / "talker0" / ".part-x.flac").write_bytes(b"")
    (tmp_path / "talker0" / "notes.txt").write_text("not speech")
    (tmp_path / "README.md").write_text("not a speaker")
    write_tone(tmp_path / ".trash" / "a.wav")
    assert len(read_folder(tmp_path).utterances) == 12


@pytest.mark.parametrize("speakers", [6, 7, 40])
def test_without_a_table_each_split_gets_at_least_two_talkers(tmp_path: Path, speakers: int) -> None:
    corpus = read_folder(make_tree(tmp_path, speakers))
    counts = {split: len(corpus.by_speaker(split)) for split in SPLITS}
    assert sum(counts.values()) == speakers
    assert min(counts.values()) >= 2
    assert counts["train"] >= 0.6 * speakers or speakers < 10


def test_the_hashed_split_follows_the_name_not_the_other_talkers(tmp_path: Path) -> None:
    before = split_of(read_folder(make_tree(tmp_path, 40)))
    assert split_of(read_folder(tmp_path)) == before
    write_tone(tmp_path / "zoe" / "a.wav")
    after = split_of(read_folder(tmp_path))
    assert sum(after[speaker] != split for speaker, split in before.items()) == 0


def test_five_talkers_cannot_be_split_without_a_table(tmp_path: Path) -> None:
    make_tree(tmp_path, 5)
    with pytest.raises(MsdetError, match=r"has 5 speaker\(s\), expected at least 6"):
        read_folder(tmp_path)


def test_the_table_decides_and_leaves_out_talkers_it_does_not_list(tmp_path: Path) -> None:
    make_tree(tmp_path, 4)
    (tmp_path / "speakers.tsv").write_text(
        "gender\tspeaker\tsplit\nF\ttalker2\ttest\nM\ttalker0\ttrain\nM\tabsent\tdev\n\nF\ttalker2\ttest\n"
    )
    assert split_of(read_folder(tmp_path)) == {"talker2": "test", "talker0": "train"}


def test_the_table_may_tell_genders(tmp_path: Path) -> None:
    make_tree(tmp_path, 4)
    assert {u.gender for u in load_corpus("folder", make_tree(tmp_path / "plain", 6)).utterances} == {""}
    rows = ["talker0\ttrain\tF", "talker1\ttrain\tmale", "talker2\tdev\t?", "talker3\ttest\t"]
    (tmp_path / "speakers.tsv").write_text("\n".join(["speaker\tsplit\tgender", *rows]))
    genders = {u.speaker: u.gender for u in read_folder(tmp_path).utterances}
    assert genders == {"talker0": "f", "talker1": "m", "talker2": "", "talker3": ""}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("speaker\tsplit\ntalker0\ttrian\n", r"speakers\.tsv, line 2: unknown split 'trian'.*'train'"),
        ("speaker\tsplit\ntalker0\ttrain\ntalker0\tdev\n", "line 3: speaker 'talker0' is in 'train' and in 'd"),
        ("speaker\tslpit\ntalker0\ttrain\n", "no column 'split'.*did you mean 'slpit'"),
        ("speaker\tsplit\ntalker0\n", "line 2: 1 columns, expected 2"),
        ("speaker\tsplit\nnobody\ttrain\n", "lists none of the 6 speaker folders"),
        ("", "no column 'speaker'"),
    ],
)
def test_a_faulty_table_is_named_with_its_line(tmp_path: Path, table: str, message: str) -> None:
    make_tree(tmp_path, 6)
    (tmp_path / "speakers.tsv").write_text(table)
    with pytest.raises(MsdetError, match=message):
        read_folder(tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "talker0").mkdir()
    with pytest.raises(MsdetError, match="no audio found"):
        read_folder(tmp_path)


def test_unusable_files_are_named(tmp_path: Path) -> None:
    make_tree(tmp_path / "noise", 6)
    shutil.copytree(tmp_path / "noise", tmp_path / "stereo")
    shutil.copytree(tmp_path / "noise", tmp_path / "empty")
    (tmp_path / "noise" / "talker3" / "bad.wav").write_bytes(b"this is not audio")
    with pytest.raises(MsdetError, match=r"talker3/bad\.wav: not readable as audio"):
        read_folder(tmp_path / "noise")
    write_tone(tmp_path / "stereo" / "talker3" / "bad.wav", channels=2)
    with pytest.raises(MsdetError, match=r"talker3/bad\.wav: has 2 channels, expected 1"):
        read_folder(tmp_path / "stereo")
    write_tone(tmp_path / "empty" / "talker3" / "bad.wav", frames=0)
    with pytest.raises(MsdetError, match=r"talker3/bad\.wav: has no samples"):
        read_folder(tmp_path / "empty")
