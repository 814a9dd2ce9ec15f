"""Reading LibriSpeech as distributed: subsets, splits, genders, and what is wrong with a broken tree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from msdet.corpora import SPLITS, load_corpus
from msdet.corpora.librispeech import read_librispeech
from msdet.corpora.reading import seconds_of
from msdet.errors import MsdetError
from msdet.io import audio
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.sampling import Material, sample_scene

RATE = 16000
SUBSET_OF = {
    "19": "train-clean-100",
    "60": "train-other-500",
    "84": "dev-clean",
    "116": "dev-other",
    "61": "test-clean",
    "367": "test-other",
}
SPEAKERS_TXT = """\
; Some pieces of information about the readers
;ID  |SEX| SUBSET           |MINUTES| NAME
19   | F | train-clean-100  | 25.19 | Kara Shallenberg
60   | M | train-other-500  | 20.18 | |CBW|Simon
84   | F | dev-clean        | 8.02  | Christie Nowak
116  | M | dev-other        | 8.06  | Rapunzelina
61   | M | test-clean       | 8.08  | Paul-Gabriel Wiener
"""


def write_noise(path: Path, seconds: float = 0.1, channels: int = 1) -> None:
    samples = 0.1 * np.random.default_rng(0).uniform(-1, 1, (channels, round(seconds * RATE)))
    audio.write(path, samples, RATE)


def make_tree(home: Path) -> Path:
    for speaker, subset in SUBSET_OF.items():
        for number in range(2):
            chapter = home / subset / speaker / "198"
            write_noise(chapter / f"{speaker}-198-{number:04d}.flac", 0.1 * (number + 1))
        (chapter / f"{speaker}-198.trans.txt").write_text(f"{speaker}-198-0000 NORTHANGER ABBEY\n")
    (home / "SPEAKERS.TXT").write_text(SPEAKERS_TXT, encoding="utf-8")
    return home


def test_reads_all_subsets_with_splits_durations_and_genders(tmp_path: Path) -> None:
    corpus = load_corpus("librispeech", make_tree(tmp_path / "LibriSpeech"))
    assert corpus.root == tmp_path / "LibriSpeech"
    rows = {u.path: (u.speaker, u.seconds, u.split, u.gender) for u in corpus.utterances}
    assert len(rows) == len(corpus.utterances) == 12
    assert rows["train-clean-100/19/198/19-198-0001.flac"] == ("19", 0.2, "train", "f")
    assert rows["train-other-500/60/198/60-198-0000.flac"] == ("60", 0.1, "train", "m")
    assert rows["test-other/367/198/367-198-0000.flac"] == ("367", 0.1, "test", "")
    assert {split: list(corpus.by_speaker(split)) for split in SPLITS} == {
        "train": ["19", "60"],
        "dev": ["116", "84"],
        "test": ["367", "61"],
    }


def test_the_folder_above_reads_too(tmp_path: Path) -> None:
    make_tree(tmp_path / "LibriSpeech")
    (tmp_path / "thesis").mkdir()
    above, below = (read_librispeech(tmp_path).utterances, read_librispeech(tmp_path / "LibriSpeech").utterances)
    assert [u.path for u in above] == [f"LibriSpeech/{u.path}" for u in below]
    assert all((tmp_path / u.path).is_file() for u in above)


def test_subsets_may_be_missing_and_so_may_genders(tmp_path: Path) -> None:
    write_noise(tmp_path / "dev-clean" / "84" / "1" / "84-1-0000.wav")
    (utterance,) = read_librispeech(tmp_path).utterances
    assert (utterance.speaker, utterance.split, utterance.gender) == ("84", "dev", "")


def test_a_converted_copy_beside_a_file_and_hidden_files_are_not_read_twice(tmp_path: Path) -> None:
    make_tree(tmp_path)
    chapter = tmp_path / "dev-clean" / "84" / "198"
    write_noise(chapter / "84-198-0000.wav")
    (chapter / "._84-198-0000.flac").write_bytes(b"left by another system")
    paths = [u.path for u in read_librispeech(tmp_path).utterances]
    assert len(paths) == 12
    assert "dev-clean/84/198/84-198-0000.flac" in paths


def test_a_talker_in_two_splits_is_refused(tmp_path: Path) -> None:
    make_tree(tmp_path)
    write_noise(tmp_path / "test-clean" / "19" / "2" / "19-2-0000.flac")
    with pytest.raises(MsdetError, match="talker '19' is in the splits 'test' and 'train'"):
        read_librispeech(tmp_path)


@pytest.mark.parametrize(
    ("seconds", "channels", "message"), [(0.1, 2, "has 2 channels, expected 1"), (0.0, 1, "has no samples")]
)
def test_unusable_files_are_named(tmp_path: Path, seconds: float, channels: int, message: str) -> None:
    write_noise(make_tree(tmp_path) / "dev-clean" / "84" / "198" / "bad.wav", seconds, channels)
    with pytest.raises(MsdetError, match=rf"dev-clean/84/198/bad\.wav: {message}"):
        read_librispeech(tmp_path)


def test_files_that_are_not_audio_are_named(tmp_path: Path) -> None:
    (make_tree(tmp_path) / "dev-clean" / "84" / "198" / "bad.flac").write_bytes(b"half a download")
    with pytest.raises(MsdetError, match=r"198/bad\.flac: not readable as audio"):
        read_librispeech(tmp_path)


def test_an_empty_root_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(MsdetError, match=r"expected subsets train-\*.*0000\.flac; found an empty folder$"):
        read_librispeech(tmp_path)
    with pytest.raises(MsdetError, match="nowhere: cannot be listed"):
        read_librispeech(tmp_path / "nowhere")


def test_a_root_of_other_things_says_what_was_found(tmp_path: Path) -> None:
    for name in "abcdefg":
        (tmp_path / name).mkdir()
    with pytest.raises(MsdetError, match=r"'librispeech': .*; found a, b, c, d, e and 2 more$"):
        read_librispeech(tmp_path)


def test_a_subset_as_root_leads_to_the_folder_above(tmp_path: Path) -> None:
    make_tree(tmp_path / "LibriSpeech")
    with pytest.raises(MsdetError, match=r"; found 84; did you mean the folder above, .*/LibriSpeech\?$"):
        read_librispeech(tmp_path / "LibriSpeech" / "dev-clean")


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("ann/1.wav", "folder"),
        ("VCTK/wav48/p225/p225_001.wav", "vctk"),
        ("wav48_silence_trimmed/p225/p225_001_mic1.flac", "vctk"),
        ("11-1.1/wsj0/si_tr_s/011/011a0101.wav", "wsj0"),
        ("SI_TR_S/011/011A0101.wav", "wsj0"),
    ],
)
def test_another_kind_of_corpus_is_offered(tmp_path: Path, file: str, kind: str) -> None:
    write_noise(tmp_path / file)
    with pytest.raises(MsdetError, match=f"it looks like a corpus of kind '{kind}'$"):
        read_librispeech(tmp_path)


def test_subsets_without_audio_are_refused(tmp_path: Path) -> None:
    (tmp_path / "train-clean-100" / "19" / "198").mkdir(parents=True)
    with pytest.raises(MsdetError, match="no audio in its subsets, expected files like 19/198/19-198-0000"):
        read_librispeech(tmp_path)


def test_two_corpora_in_one_folder_are_told_apart(tmp_path: Path) -> None:
    make_tree(tmp_path / "LibriSpeech")
    make_tree(tmp_path / "LibriTTS")
    with pytest.raises(MsdetError, match=r"several corpora of kind 'librispeech' \(LibriSpeech, LibriTTS\)"):
        read_librispeech(tmp_path)


def test_many_headers_are_read_in_order_and_the_first_bad_one_is_named(tmp_path: Path) -> None:
    write_noise(tmp_path / "short.flac", 0.1)
    write_noise(tmp_path / "long.flac", 0.2)
    (tmp_path / "bad.flac").write_bytes(b"not audio")
    paths = [tmp_path / name for name in ("short.flac", "short.flac", "long.flac")] * 100
    assert seconds_of(paths) == [0.1, 0.1, 0.2] * 100
    with pytest.raises(MsdetError, match=r"bad\.flac: not readable"):
        seconds_of([*paths, tmp_path / "bad.flac", *paths, tmp_path / "gone.flac"])


def test_scenes_are_drawn_from_it(tmp_path: Path) -> None:
    corpus = read_librispeech(make_tree(tmp_path))
    material = Material(speech=corpus.by_speaker("test"), microphones=6)
    scene = sample_scene("test-000000", SceneDistribution(), material, set_seed=1)
    assert {source.speaker for source in scene.sources} == {"61", "367"}
    assert all((corpus.root / source.path).is_file() for source in scene.sources)
