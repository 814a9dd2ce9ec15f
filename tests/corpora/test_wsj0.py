"""Reading WSJ0 from discs and converted trees: sets, genders, shorten, and what is wrong with a tree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from msdet.corpora import SPLITS, Corpus, load_corpus
from msdet.corpora.wsj0 import read_wsj0
from msdet.errors import MsdetError
from msdet.io import audio
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.sampling import Material, sample_scene

RATE = 16000
SETS = {"si_tr_s": ("011", "01t"), "si_dt_05": ("050", "22g"), "si_et_05": ("440", "441")}
SPEAKER_TABLE = """\
; speakers of the training part
ID    Sex  Dialect
---   ---  -------
011   M    mid-atlantic
01T   F    unknown
440   M    ?
"""
SHORTEN_HEADER = """\
NIST_1A
   1024
database_id -s4 WSJ0
sample_count -i 16000
sample_n_bytes -i 2
channel_count -i 1
sample_byte_format -s2 01
sample_rate -i 16000
sample_coding -s26 pcm,embedded-shorten-v2.00
end_head
"""


def write_speech(path: Path, seconds: float = 0.1, channels: int = 1) -> None:
    """Noise as NIST SPHERE for ``.wv1`` and ``.wv2``, otherwise as the suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.1 * np.random.default_rng(0).uniform(-1, 1, (round(seconds * RATE), channels))
    container = "NIST" if path.suffix.lower() in (".wv1", ".wv2") else path.suffix[1:].upper()
    soundfile.write(path, samples, RATE, format=container, subtype="PCM_16")


def make_tree(wsj0: Path, suffix: str = ".wv1", sets: tuple[str, ...] = tuple(SETS)) -> Path:
    for name in sets:
        for talker in SETS[name]:
            for number in (1, 2):
                write_speech(wsj0 / name / talker / f"{talker}c02{number:02d}{suffix}", 0.1 * number)
    return wsj0


def rows_of(corpus: Corpus) -> list[tuple[str, str, float]]:
    return [(u.speaker, u.split, u.seconds) for u in corpus.utterances]


EXPECTED = [
    (talker, split, 0.1 * number)
    for split, talkers in zip(SPLITS, SETS.values(), strict=True)
    for talker in talkers
    for number in (1, 2)
]


@pytest.mark.parametrize("suffix", [".wv1", ".wav", ".flac"])
def test_reads_three_sets_in_any_format(tmp_path: Path, suffix: str) -> None:
    make_tree(tmp_path / "wsj0", suffix)
    write_speech(tmp_path / "wsj0" / "si_dt_20" / "4k0" / f"4k0c0201{suffix}")
    write_speech(tmp_path / "wsj0" / "sd_tr_s" / "001" / f"001c0201{suffix}")
    corpus = load_corpus("wsj0", tmp_path)
    assert sorted(rows_of(corpus)) == sorted(EXPECTED)
    assert corpus.utterances[0].path == f"wsj0/si_tr_s/011/011c0201{suffix}"
    samples, rate = audio.read(tmp_path / corpus.utterances[0].path)
    assert (samples.shape, rate) == ((1, 1600), RATE)


def test_reads_discs_and_leaves_out_the_second_microphone(tmp_path: Path) -> None:
    make_tree(tmp_path / "11-1.1" / "wsj0", sets=("si_tr_s",))
    make_tree(tmp_path / "11-2.1" / "wsj0", sets=("si_tr_s",))  # a disc copied twice
    make_tree(tmp_path / "11-6.1" / "wsj0", sets=("si_dt_05", "si_et_05"))
    make_tree(tmp_path / "13-1.1" / "wsj1", sets=("si_tr_s",))
    write_speech(tmp_path / "13-1.1" / "wsj1" / "si_tr_s" / "460" / "460c0201.wv1")
    write_speech(tmp_path / "11-1.1" / "wsj0" / "si_tr_s" / "011" / "011c0203.wv2")
    write_speech(tmp_path / "11-1.1" / "wsj0" / "si_tr_s" / "011" / "011c0204.wv2.wav")
    corpus = read_wsj0(tmp_path)
    assert sorted(rows_of(corpus)) == sorted(EXPECTED)
    assert {u.path.split("/")[0] for u in corpus.utterances} == {"11-1.1", "11-6.1"}


def test_reads_upper_case_names(tmp_path: Path) -> None:
    for talker in ("01A", "01B"):
        write_speech(tmp_path / "WSJ0" / "SI_TR_S" / talker / f"{talker}C0201.WV1")
    (tmp_path / "WSJ0" / "DOC").mkdir()
    (tmp_path / "WSJ0" / "DOC" / "SPKRINFO.TXT").write_text("01A  F\n01B  M\n")
    assert [(u.speaker, u.path, u.gender) for u in read_wsj0(tmp_path).utterances] == [
        ("01a", "WSJ0/SI_TR_S/01A/01AC0201.WV1", "f"),
        ("01b", "WSJ0/SI_TR_S/01B/01BC0201.WV1", "m"),
    ]


def test_genders_come_from_every_table_of_speakers(tmp_path: Path) -> None:
    make_tree(tmp_path / "11-1.1" / "wsj0")
    (tmp_path / "11-13.1" / "wsj0" / "doc").mkdir(parents=True)
    (tmp_path / "11-13.1" / "wsj0" / "doc" / "spkrinfo.txt").write_text("050   F  ?\n22g   M  ?\n")
    (tmp_path / "wsj0-train-spkrinfo.txt").write_text(SPEAKER_TABLE)
    genders = {u.speaker: u.gender for u in read_wsj0(tmp_path).utterances}
    assert genders == {"011": "m", "01t": "f", "050": "f", "22g": "m", "440": "m", "441": ""}


def test_files_converted_in_place_are_preferred(tmp_path: Path) -> None:
    make_tree(tmp_path, ".wav")
    for path in list(tmp_path.glob("*/*/*.wav")):
        path.with_suffix(".wv1").write_bytes(SHORTEN_HEADER.encode().ljust(1024) + b"ajkg\x02")
    corpus = read_wsj0(tmp_path)
    assert sorted(rows_of(corpus)) == sorted(EXPECTED)
    assert {u.path[-4:] for u in corpus.utterances} == {".wav"}


@pytest.mark.parametrize("name", ["01tc0202.wv1", "01tc0202.wav"])
def test_shorten_is_named_with_what_to_do(tmp_path: Path, name: str) -> None:
    bad = make_tree(tmp_path, name[-4:]) / "si_tr_s" / "01t" / name
    bad.write_bytes(SHORTEN_HEADER.encode().ljust(1024) + b"ajkg\x02" + bytes(100))
    with pytest.raises(MsdetError) as caught:
        read_wsj0(tmp_path)
    assert str(caught.value) == (
        f"{bad}: is compressed with shorten (NIST SPHERE), which cannot be read; convert such files to "
        "WAV, for example with 'sph2pipe -f wav in.wv1 out.wav' or ffmpeg, keeping folders and names"
    )
    with pytest.raises(MsdetError, match="compressed with shorten"):
        audio.read(bad)


def test_unusable_files_are_named(tmp_path: Path) -> None:
    bad = make_tree(tmp_path) / "si_tr_s" / "01t" / "01tc0203.wv1"
    bad.write_bytes(b"NIST_1A\n   1024\nend_head\n".ljust(1024))
    with pytest.raises(MsdetError, match=r"01t/01tc0203\.wv1: not readable as audio"):
        read_wsj0(tmp_path)
    write_speech(bad, channels=2)
    with pytest.raises(MsdetError, match=r"01t/01tc0203\.wv1: has 2 channels, expected 1"):
        read_wsj0(tmp_path)
    write_speech(bad, seconds=0.0)
    with pytest.raises(MsdetError, match=r"01t/01tc0203\.wv1: has no samples"):
        read_wsj0(tmp_path)


def test_a_talker_in_two_sets_is_refused(tmp_path: Path) -> None:
    write_speech(make_tree(tmp_path) / "si_et_05" / "011" / "011c0203.wv1")
    with pytest.raises(MsdetError, match="talker '011' is in the splits 'train' and 'test'"):
        read_wsj0(tmp_path)


def test_an_empty_root_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(MsdetError, match=r"'wsj0': expected folders si_tr_s, si_dt_05.*; found an empty fold"):
        read_wsj0(tmp_path)


def test_a_set_as_root_leads_to_the_folder_above(tmp_path: Path) -> None:
    make_tree(tmp_path / "wsj0")
    with pytest.raises(MsdetError, match=r"found 011, 01t; did you mean the folder above, .*/wsj0\?$"):
        read_wsj0(tmp_path / "wsj0" / "si_tr_s")


def test_another_kind_of_corpus_is_offered(tmp_path: Path) -> None:
    write_speech(tmp_path / "wav48" / "p225" / "p225_001.wav")
    with pytest.raises(MsdetError, match=r"found wav48; it looks like a corpus of kind 'vctk'$"):
        read_wsj0(tmp_path)


def test_sets_without_speech_are_refused(tmp_path: Path) -> None:
    write_speech(tmp_path / "si_tr_s" / "011" / "011c0201.wv2")
    with pytest.raises(MsdetError, match=r"si_tr_s: no speech, expected files like 011/011a0101\.wv1"):
        read_wsj0(tmp_path)


def test_scenes_are_drawn_from_it(tmp_path: Path) -> None:
    corpus = read_wsj0(make_tree(tmp_path))
    material = Material(speech=corpus.by_speaker("dev"), microphones=6)
    scene = sample_scene("dev-000000", SceneDistribution(), material, set_seed=1)
    assert {source.speaker for source in scene.sources} == {"050", "22g"}
    assert all((corpus.root / source.path).is_file() for source in scene.sources)
