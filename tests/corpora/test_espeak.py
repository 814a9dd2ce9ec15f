"""The synthetic corpus: speech as promised, the same bytes every time, and safe to stop and go on."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from msdet.conventions import Array
from msdet.corpora import SPLITS, espeak, load_corpus
from msdet.errors import MsdetError
from msdet.io import audio

pytest.importorskip("espeakng_loader")

SPEAKERS, UTTERANCES, SAMPLE_RATE, SEED = 6, 2, 8000, 3
VOICE = espeak.EspeakVoice("f1", "en-us", 50, 50, 160, 1.0, 0.0)
TEXT = "the old sailor carries a heavy basket."


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def synthesize(
    root: Path, speakers: int = SPEAKERS, utterances: int = UTTERANCES, sample_rate: int = SAMPLE_RATE, seed: int = SEED
) -> None:
    espeak.synthesize(root, speakers, utterances, sample_rate, seed)


@pytest.fixture(scope="module")
def corpus_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("speech") / "corpus"
    synthesize(root)
    return root


def test_corpus_is_complete_and_split_by_talker(corpus_root: Path) -> None:
    corpus = load_corpus("espeak", corpus_root)
    assert len(corpus.utterances) == SPEAKERS * UTTERANCES
    assert {split: len(corpus.by_speaker(split)) for split in SPLITS} == {"train": 2, "dev": 2, "test": 2}
    assert all(u.gender == "fm"[int(u.speaker[-1]) % 2] for u in corpus.utterances)
    header = (corpus_root / "speakers.tsv").read_text(encoding="utf-8").splitlines()[0]
    assert header.split("\t") == ["speaker", "gender", "source", "seconds", "utterances", "split"]


def test_every_utterance_is_speech_of_normal_level_and_length(corpus_root: Path) -> None:
    seen = set()
    for utterance in load_corpus("espeak", corpus_root).utterances:
        samples, sample_rate = audio.read(corpus_root / utterance.path)
        assert sample_rate == SAMPLE_RATE
        assert len(samples) == 1
        seconds = samples.shape[1] / sample_rate
        assert 2.5 <= seconds <= 8.0
        assert utterance.seconds == pytest.approx(seconds)
        magnitude = np.abs(samples[0])
        assert magnitude.max() < 0.95
        assert 10 * np.log10(np.mean(samples**2)) == pytest.approx(-26.0, abs=0.1)
        assert np.flatnonzero(magnitude > 0.05 * magnitude.max())[0] < 0.2 * sample_rate
        seen.add(samples.tobytes())
    assert len(seen) == SPEAKERS * UTTERANCES


def test_no_family_of_voices_is_in_two_splits() -> None:
    families = [family.split() for part in espeak._FAMILIES.values() for family in part.split("|")]
    for seed in range(5):
        talkers = espeak.draw_talkers(150, seed)
        assert {s: sum(t.split == s for t in talkers) for s in SPLITS} == {"train": 120, "dev": 15, "test": 15}
        for family in families:
            assert len({talker.split for talker in talkers if talker.voice.variant in family}) <= 1
        assert len({talker.voice for talker in talkers}) == 150


def test_every_variant_and_language_renders() -> None:
    variants = [v for part in espeak._FAMILIES.values() for v in part.replace("|", " ").split()]
    languages = espeak._LANGUAGES.split()
    assert len(variants) == len(set(variants)) >= 70
    with espeak.Synthesizer() as synthesizer:
        rendered = [
            synthesizer.render(replace(VOICE, variant=v, language=languages[i % len(languages)]), "banana", 0)
            for i, v in enumerate(variants)
        ]
    assert all(0.02 < np.abs(samples).max() < 0.99 for samples in rendered)
    assert len({samples.tobytes() for samples in rendered}) == len(variants)


def test_a_voice_does_not_depend_on_what_was_said_before() -> None:
    shaky = replace(VOICE, variant="grandma")  # flutters most
    with espeak.Synthesizer() as synthesizer:
        first = synthesizer.render(shaky, TEXT, seed=1)
        synthesizer.render(replace(VOICE, variant="klatt4", language="de"), "etwas anderes", seed=2)
        np.testing.assert_array_equal(synthesizer.render(shaky, TEXT, seed=1), first)


def test_another_process_writes_the_same_bytes(corpus_root: Path, tmp_path: Path) -> None:
    arguments = ["--speakers", SPEAKERS, "--utterances", UTTERANCES, "--sample-rate", SAMPLE_RATE, "--seed", SEED]
    tool = Path(__file__).parents[2] / "tools" / "synthesize_speech.py"
    command = [sys.executable, str(tool), "--out", str(tmp_path / "corpus"), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(tool.parents[1])}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    assert "12 utterances" in result.stdout
    assert contents(tmp_path / "corpus") == contents(corpus_root)


def test_a_stopped_run_goes_on_and_ends_with_the_same_bytes(corpus_root: Path, tmp_path: Path) -> None:
    class Stop(BaseException):
        """Ends a run as Ctrl-C does."""

    def stop(done: int, total: int) -> None:
        assert total == SPEAKERS * UTTERANCES
        if done == 5:
            raise Stop

    root = tmp_path / "corpus"
    with pytest.raises(Stop):
        espeak.synthesize(root, SPEAKERS, UTTERANCES, SAMPLE_RATE, SEED, progress=stop)
    with pytest.raises(MsdetError, match=r"corpus\.json is missing"):
        espeak.read_espeak(root)
    with pytest.raises(MsdetError, match="seed is 3, asked for 4"):
        synthesize(root, seed=SEED + 1)
    (root / "espeak0002" / ".part-half.flac").write_bytes(b"half a file")
    synthesize(root)
    assert contents(root) == contents(corpus_root)


def test_a_finished_corpus_is_left_alone(corpus_root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in corpus_root.rglob("*")}
    synthesize(corpus_root)
    with pytest.raises(MsdetError, match="sample_rate is 8000, asked for 16000"):
        synthesize(corpus_root, sample_rate=16000)
    assert {path: path.stat().st_mtime_ns for path in corpus_root.rglob("*")} == before


def test_a_folder_with_other_things_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(MsdetError, match="not one of msdet"):
        synthesize(tmp_path)
    with pytest.raises(MsdetError, match=r"thesis\.tex"):
        synthesize(tmp_path / "thesis.tex")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("change", [{"speakers": 5}, {"utterances": 0}, {"sample_rate": 4000}])
def test_arguments_out_of_range_are_named(tmp_path: Path, change: dict[str, int]) -> None:
    (name,) = change
    with pytest.raises(MsdetError, match=rf"{name} is {change[name]}, expected"):
        synthesize(tmp_path / "corpus", **change)
    assert not (tmp_path / "corpus").exists()


def high_to_low_db(samples: Array) -> float:
    power = np.abs(np.fft.rfft(samples)) ** 2
    hertz = np.fft.rfftfreq(len(samples), 1 / 22050)
    high, low = power[(hertz > 2000) & (hertz < 4000)].sum(), power[hertz < 1000].sum()
    return float(10 * np.log10(high / low))


def test_voice_parameters_reach_the_speech() -> None:
    with espeak.Synthesizer() as synthesizer:
        plain = synthesizer.render(VOICE, TEXT, 0)
        bright = synthesizer.render(replace(VOICE, tilt_db_per_octave=2.0), TEXT, 0)
        dull = synthesizer.render(replace(VOICE, tilt_db_per_octave=-2.0), TEXT, 0)
        fast = synthesizer.render(replace(VOICE, rate_wpm=195), TEXT, 0)
    assert high_to_low_db(bright) > high_to_low_db(plain) + 1 > high_to_low_db(dull) + 2
    assert len(fast) < 0.9 * len(plain)


def test_unknown_variant_and_language_are_errors() -> None:
    with espeak.Synthesizer() as synthesizer:
        with pytest.raises(MsdetError, match="no voice variant 'nobody'"):
            synthesizer.render(replace(VOICE, variant="nobody"), TEXT, 0)
        with pytest.raises(MsdetError, match="no language 'zz'"):
            synthesizer.render(replace(VOICE, language="zz"), TEXT, 0)


def test_missing_espeak_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)  # what an absent package looks like
    with pytest.raises(MsdetError, match=r"pip install 'msdet\[demo\]'"):
        synthesize(tmp_path / "corpus")


def test_echo_of_a_variant_is_dropped_and_formants_are_scaled() -> None:
    base = "name x\nlanguage variant\necho 130 15 // ms\nformant 0 90 90 90\nformant 2 100 80 160 -20\n"
    lines = replace(VOICE, formant_scale=1.05).variant_definition(base).splitlines()
    assert not [line for line in lines if line.startswith("echo")]
    assert "formant 2 105 80 160 -20" in lines
    assert "formant 0 90 90 90" in lines
    assert "tone 600 170 1200 135 2000 110 3000 110" in lines
