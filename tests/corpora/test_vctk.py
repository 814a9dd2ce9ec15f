"""Reading VCTK 0.92 and 0.80: one microphone, hashed splits, genders, and what is wrong with a tree."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from msdet.corpora import SPLITS, Corpus, load_corpus
from msdet.corpora.reading import split_by_name
from msdet.corpora.vctk import read_vctk
from msdet.errors import MsdetError
from msdet.io import audio
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.sampling import Material, sample_scene

RATE = 48000
TALKERS = ("p225", "p226", "p227", "p228", "p280", "p315", "s5")
TABLE = """\
ID  AGE  GENDER  ACCENTS  REGION COMMENTS
p225  23  F    English    Southern  England
p226  22  M    English    Surrey
p228  22  F    English    Southern  England
p280  25  F    Unknown    France (mic2 files unavailable)
p315  18  M    American   New England (Text unavailable)
"""

# All 110 of version 0.92 but s5.
NUMBERS = [
    *(n for n in range(225, 289) if n not in (235, 242, 289)),
    *(n for n in range(292, 319) if n not in (296, 309)),
    *(323, 326, 329, 330, 333, 334, 335, 336, 339, 340, 341, 343, 345, 347, 351, 360, 361, 362, 363, 364),
    *(374, 376),
]


def write_noise(path: Path, seconds: float = 0.05, channels: int = 1) -> None:
    samples = 0.1 * np.random.default_rng(0).uniform(-1, 1, (channels, round(seconds * RATE)))
    audio.write(path, samples, RATE)


def make_tree(home: Path) -> Path:
    """Version 0.92: three sentences each, of which p280 lacks all and p225 one of the second microphone."""
    for talker in TALKERS:
        for number in (1, 2, 3):
            for microphone in ("mic1", "mic2"):
                missing = talker == "p280" or (talker, number) == ("p225", 3)
                if microphone == "mic1" or not missing:
                    name = f"{talker}_{number:03d}_{microphone}.flac"
                    write_noise(home / "wav48_silence_trimmed" / talker / name, 0.05 * number)
    (home / "wav48_silence_trimmed" / "log.txt").write_text("which files were trimmed")
    (home / "txt" / "p225").mkdir(parents=True)
    (home / "speaker-info.txt").write_text(TABLE)
    return home


def make_old_tree(home: Path) -> Path:
    """Version 0.80: one microphone, WAV, and no ``p`` in the table of talkers."""
    for talker in TALKERS[:-1]:
        for number in (1, 2):
            write_noise(home / "wav48" / talker / f"{talker}_{number:03d}.wav")
    (home / "speaker-info.txt").write_text(TABLE.replace("\np", "\n"))
    return home


def paths_of(corpus: Corpus, talker: str) -> list[str]:
    return [u.path.split("/")[-1] for u in corpus.utterances if u.speaker == talker]


def test_reads_one_microphone_of_the_new_version(tmp_path: Path) -> None:
    corpus = load_corpus("vctk", make_tree(tmp_path))
    assert len(corpus.utterances) == 3 * len(TALKERS)
    assert all(u.path.endswith("_mic1.flac") for u in corpus.utterances)
    first = corpus.utterances[0]
    assert (first.speaker, first.path) == ("p225", "wav48_silence_trimmed/p225/p225_001_mic1.flac")
    assert first.seconds == pytest.approx(0.05)
    genders = {u.speaker: u.gender for u in corpus.utterances}
    assert genders == {"p225": "f", "p226": "m", "p227": "", "p228": "f", "p280": "f", "p315": "m", "s5": ""}


def test_sentences_that_the_other_microphone_lacks_are_left_out(tmp_path: Path) -> None:
    corpus = read_vctk(make_tree(tmp_path), microphone="mic2")
    assert paths_of(corpus, "p225") == ["p225_001_mic2.flac", "p225_002_mic2.flac"]
    assert paths_of(corpus, "p280") == []
    assert len(corpus.utterances) == 3 * len(TALKERS) - 4


def test_an_unknown_microphone_is_named(tmp_path: Path) -> None:
    with pytest.raises(MsdetError, match="unknown microphone 'mic3'; did you mean 'mic"):
        read_vctk(make_tree(tmp_path), microphone="mic3")


def test_reads_the_old_version(tmp_path: Path) -> None:
    corpus = read_vctk(make_old_tree(tmp_path))
    assert len(corpus.utterances) == 12
    assert paths_of(corpus, "p226") == ["p226_001.wav", "p226_002.wav"]
    assert {u.gender for u in corpus.utterances if u.speaker in ("p226", "p315")} == {"m"}


def test_the_folder_above_reads_too_and_the_new_version_is_preferred(tmp_path: Path) -> None:
    home = make_tree(tmp_path / "VCTK-Corpus-0.92")
    corpus = read_vctk(tmp_path)
    assert corpus.utterances[0].path.startswith("VCTK-Corpus-0.92/wav48_silence_trimmed/")
    assert (tmp_path / corpus.utterances[0].path).is_file()
    make_old_tree(home)
    assert [u.path for u in read_vctk(tmp_path).utterances] == [u.path for u in corpus.utterances]
    make_old_tree(tmp_path / "VCTK-Corpus")
    with pytest.raises(MsdetError, match=r"several corpora of kind 'vctk' \(VCTK-Corpus, VCTK-Corpus-0\.92"):
        read_vctk(tmp_path)


def test_a_copy_in_another_format_is_not_read_twice(tmp_path: Path) -> None:
    make_tree(tmp_path)
    write_noise(tmp_path / "wav48_silence_trimmed" / "p225" / "p225_001_mic1.wav")
    assert paths_of(read_vctk(tmp_path), "p225")[0] == "p225_001_mic1.flac"
    assert len(paths_of(read_vctk(tmp_path), "p225")) == 3


def test_every_split_has_talkers_and_none_is_in_two(tmp_path: Path) -> None:
    corpus = read_vctk(make_tree(tmp_path))
    talkers = [talker for split in SPLITS for talker in corpus.by_speaker(split)]
    assert sorted(talkers) == sorted(TALKERS)


def test_splits_of_the_whole_corpus_are_as_documented() -> None:
    old = [f"p{number}" for number in NUMBERS]
    split_of = split_by_name(Path("VCTK"), [*old, "s5"])
    assert Counter(split_of.values()) == {"train": 86, "dev": 10, "test": 14}
    assert split_by_name(Path("VCTK"), old) == {talker: split_of[talker] for talker in old}
    assert [split_of[talker] for talker in ("p225", "p226", "p245")] == ["test", "train", "dev"]


def test_five_talkers_cannot_be_split(tmp_path: Path) -> None:
    for talker in TALKERS[:5]:
        write_noise(tmp_path / "wav48" / talker / f"{talker}_001.wav")
    with pytest.raises(MsdetError, match=r"has 5 speaker\(s\), expected at least 6 .* train, dev, test$"):
        read_vctk(tmp_path)


def test_unusable_files_are_named(tmp_path: Path) -> None:
    bad = make_tree(tmp_path) / "wav48_silence_trimmed" / "p225" / "p225_004_mic1.flac"
    bad.write_bytes(b"half a download")
    with pytest.raises(MsdetError, match=r"p225/p225_004_mic1\.flac: not readable as audio"):
        read_vctk(tmp_path)
    write_noise(bad, channels=2)
    with pytest.raises(MsdetError, match=r"p225/p225_004_mic1\.flac: has 2 channels, expected 1"):
        read_vctk(tmp_path)
    bad.unlink()
    write_noise(bad.with_suffix(".wav"), seconds=0.0)
    with pytest.raises(MsdetError, match=r"p225/p225_004_mic1\.wav: has no samples"):
        read_vctk(tmp_path)


def test_an_empty_root_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(MsdetError, match=r"'vctk': expected a folder wav48_silence_trimmed.*an empty folder$"):
        read_vctk(tmp_path)


def test_the_folder_of_speech_as_root_leads_to_the_folder_above(tmp_path: Path) -> None:
    make_tree(tmp_path / "VCTK")
    with pytest.raises(MsdetError, match=r"did you mean the folder above, .*/VCTK\?$"):
        read_vctk(tmp_path / "VCTK" / "wav48_silence_trimmed")


def test_another_kind_of_corpus_is_offered(tmp_path: Path) -> None:
    write_noise(tmp_path / "LibriSpeech" / "dev-clean" / "84" / "1" / "84-1-0000.flac")
    with pytest.raises(MsdetError, match=r"found LibriSpeech; it looks like a corpus of kind 'librispeech'$"):
        read_vctk(tmp_path)


def test_a_folder_of_speech_without_audio_is_refused(tmp_path: Path) -> None:
    write_noise(tmp_path / "wav48" / "p225" / "p225_001_mic2.flac")
    with pytest.raises(MsdetError, match=r"wav48: no audio of mic1, expected files like p225/p225_001_mic1"):
        read_vctk(tmp_path)


def test_scenes_are_drawn_from_it(tmp_path: Path) -> None:
    corpus = read_vctk(make_tree(tmp_path))
    material = Material(speech=corpus.by_speaker("train"), microphones=6)
    scene = sample_scene("train-000000", SceneDistribution(), material, set_seed=1)
    assert {source.speaker for source in scene.sources} <= set(corpus.by_speaker("train"))
    assert all((corpus.root / source.path).is_file() for source in scene.sources)
