"""Diffuse noise has the coherence of theory; excerpts keep to their split, lie apart and have no seams."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter, welch

from msdet.arrays import load_array
from msdet.conventions import SPEED_OF_SOUND
from msdet.corpora import SPLITS
from msdet.errors import MsdetError, UnknownNameError
from msdet.io import audio
from msdet.scenes.noise import (
    LOOP_FADE,
    MIN_SHIFT_S,
    Field,
    NoiseExcerpt,
    NoiseRecording,
    babble,
    diffuse,
    draw_excerpts,
    load_excerpt,
    read_noise_folder,
    theoretical_coherence,
)

Array = npt.NDArray[Any]
RATE = 8000
RING = load_array("circular6_10cm").positions
FIELDS = get_args(Field)


def white(signals: int, seconds: float, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((signals, round(seconds * RATE)), dtype=np.float32)


def coherence(noise: Array) -> tuple[Array, Array]:
    """Frequencies, and the complex coherence ``(freq, mic, mic)``: Welch with 256 samples."""
    frames = np.lib.stride_tricks.sliding_window_view(noise, 256, axis=-1)[:, ::128]
    spectra = np.fft.rfft(frames * np.hanning(256).astype(np.float32)).transpose(2, 0, 1)
    cross = spectra @ spectra.conj().transpose(0, 2, 1)
    scale = np.sqrt(np.einsum("faa->fa", cross).real)
    return np.fft.rfftfreq(256, 1 / RATE), cross / scale[:, None] / scale[..., None]


def coherence_error(noise: Array, microphones_m: Array, field: Field) -> float:
    """Largest over pairs of the mean over frequency of |measured - theory|; complex."""
    f, measured = coherence(noise)
    return float(np.abs(measured - theoretical_coherence(microphones_m, f, field)).mean(axis=0).max())


# --- fields


@pytest.mark.parametrize("field", FIELDS)
def test_theory_is_the_average_over_plane_waves(field: Field) -> None:
    points = np.array([[0.0, 0.0, 0.0], [0.1, 0.05, 0.08], [-0.07, 0.02, -0.03]])
    n = np.arange(20_000)
    z = 1 - (2 * n + 1) / len(n) if field == "spherical" else 0.0 * n
    angle_rad = n * np.pi * (3 - 5**0.5) if field == "spherical" else 2 * np.pi * n / len(n)
    waves = np.stack([np.sqrt(1 - z**2) * np.cos(angle_rad), np.sqrt(1 - z**2) * np.sin(angle_rad), z])
    f = np.array([0.0, 150.0, 1000.0, 3900.0])
    phases = np.exp(2j * np.pi * f[:, None, None] * (points @ waves) / 340.0)
    expected = phases @ phases.conj().transpose(0, 2, 1) / len(n)
    assert theoretical_coherence(points, f, field, 340.0) == pytest.approx(expected, abs=1e-3)


def test_only_horizontal_distance_counts_in_a_cylindrical_field() -> None:
    pole = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.3]])
    assert theoretical_coherence(pole, np.array([2000.0]), "cylindrical")[0, 0, 1] == 1.0
    assert abs(theoretical_coherence(pole, np.array([2000.0]), "spherical")[0, 0, 1]) < 0.2


def test_an_unknown_field_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="noise field 'spheric'; did you mean 'spherical'"):
        diffuse(white(6, 0.1), RING, RATE, "spheric")  # type: ignore[arg-type]


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("microphones_m", [RING, RING[:2], 4 * RING[:3]], ids=["ring", "pair", "wide"])
def test_diffuse_noise_has_the_coherence_of_theory(field: Field, microphones_m: Array) -> None:
    noise = diffuse(white(len(microphones_m), 30), microphones_m, RATE, field)
    assert noise.dtype == np.float32
    assert coherence_error(noise, microphones_m, field) < 0.03


def test_speed_of_sound_counts() -> None:
    noise = diffuse(white(2, 30), RING[[0, 3]], RATE, "spherical", 2 * SPEED_OF_SOUND)
    assert coherence_error(noise, RING[[0, 3]] / 2, "spherical") < 0.03
    assert coherence_error(noise, RING[[0, 3]], "spherical") > 0.1


@pytest.mark.parametrize("field", FIELDS)
def test_signals_of_unlike_spectra_and_levels_give_microphones_their_mean_spectrum(field: Field) -> None:
    signals = white(6, 30)
    for n, zero in enumerate([-0.9, -0.5, 0.0, 0.3, 0.6, 0.9]):
        signals[n] = 10.0**-n * lfilter([1.0, zero], [1.0], signals[n])
    power = np.mean(signals**2, axis=-1)
    equal = signals * np.sqrt(power.mean() / power)[:, None]
    noise = diffuse(signals, RING, RATE, field)
    assert coherence_error(noise, RING, field) < 0.03
    expected = welch(equal, RATE, nperseg=128)[1].mean(axis=0)
    difference_db = 10 * np.log10(welch(noise, RATE, nperseg=128)[1] / expected)
    assert np.abs(difference_db).max() < 0.7
    assert np.mean(noise**2, axis=-1) == pytest.approx(np.full(6, power.mean()), rel=0.03)


def test_noise_does_not_fade_at_its_ends() -> None:
    signals = [lfilter([1.0], [1.0, -0.95], white(6, 0.15, seed))[:, 400:] for seed in range(200)]
    noise = [diffuse(signal, 4 * RING, RATE, "spherical") for signal in signals]
    kept = np.mean(np.square(noise), axis=(0, 1)) / np.mean(np.square(signals), axis=(0, 1))
    for edge in (kept[:4], kept[-4:]):
        assert 0.98 < edge.mean() / kept[200:600].mean() < 1.25


def test_what_happens_in_one_signal_is_heard_at_every_microphone() -> None:
    signals = 0.03 * white(6, 2)
    signals[2, 8000:9000] += white(1, 2, seed=1)[0, 8000:9000]
    signals *= 1 / signals.std(axis=-1, keepdims=True)
    during = np.mean(diffuse(signals, RING, RATE, "spherical")[:, 8000:9000] ** 2, axis=-1)
    assert during.max() < 4 * during.min()


@pytest.mark.parametrize("samples", [1, 5, 300, 8001])
def test_length_is_kept_and_the_same_signals_give_the_same_bytes(samples: int) -> None:
    signals = white(6, 2)[:, :samples]
    noise = diffuse(signals, RING, RATE, "cylindrical")
    assert noise.shape == (6, samples)
    assert np.isfinite(noise).all()
    assert noise.tobytes() == diffuse(signals, RING, RATE, "cylindrical").tobytes()


def test_noise_at_one_microphone_is_its_signal() -> None:
    assert diffuse(white(1, 1), RING[:1], RATE, "spherical") == pytest.approx(white(1, 1), abs=1e-4)


def test_signals_that_do_not_fit_the_microphones_are_refused() -> None:
    with pytest.raises(MsdetError, match=r"shape \(5, 800\), expected \(6, time\)"):
        diffuse(white(5, 0.1), RING, RATE, "spherical")
    silent = white(6, 0.1)
    silent[3] = 0.0
    with pytest.raises(MsdetError, match="signal 4 is silent"):
        diffuse(silent, RING, RATE, "spherical")


# --- recordings


def write_noise(root: Path, names: list[str], seconds: float = 6.0, sample_rate: int = RATE) -> Path:
    for number, name in enumerate(names):
        samples = np.random.default_rng(number).uniform(-0.5, 0.5, round(seconds * sample_rate))
        audio.write(root / name, samples, sample_rate)
    return root


def test_few_files_are_cut_in_time_and_splits_share_nothing(tmp_path: Path) -> None:
    write_noise(tmp_path, ["fan.wav", "deep/er/street.flac", ".trash/gone.wav"], 20.0)
    (tmp_path / "README.md").write_text("not noise")
    recordings = read_noise_folder(tmp_path)
    assert {r.path for r in recordings} == {"fan.wav", "deep/er/street.flac"}
    for path in ("fan.wav", "deep/er/street.flac"):
        parts = [r for r in recordings if r.path == path]
        assert [r.split for r in parts] == list(SPLITS)
        assert [r.start_s for r in parts] == pytest.approx([0.0, 16.0, 18.0])
        assert [r.seconds for r in parts] == pytest.approx([16.0, 2.0, 2.0])


def test_many_files_are_dealt_out_whole_by_name(tmp_path: Path) -> None:
    names = [f"{n:02}.wav" for n in range(30)]
    recordings = read_noise_folder(write_noise(tmp_path, names, 0.5))
    assert [(r.path, r.start_s, r.seconds) for r in recordings] == [(name, 0.0, 0.5) for name in names]
    counts = [sum(r.split == split for r in recordings) for split in SPLITS]
    assert counts[0] >= 15
    assert min(counts) >= 2


def test_what_is_wrong_with_a_noise_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(MsdetError, match="none: noise folder does not exist"):
        read_noise_folder(tmp_path / "none")
    with pytest.raises(MsdetError, match="no audio found"):
        read_noise_folder(tmp_path)
    write_noise(tmp_path, ["a.wav", "b.wav"], 4.0)
    with pytest.raises(MsdetError, match="long enough for split 'dev', expected 5 s or more"):
        read_noise_folder(tmp_path)
    audio.write(tmp_path / "c.wav", white(2, 1.0) / 10, RATE)
    with pytest.raises(MsdetError, match=r"c\.wav: has 2 channels, expected 1"):
        read_noise_folder(tmp_path)


def recording(name: str, seconds: float, start_s: float = 0.0) -> NoiseRecording:
    return NoiseRecording(name, start_s, seconds, "train")


@settings(max_examples=200, deadline=None)
@given(
    lengths=st.lists(st.floats(0.5, 60.0), min_size=1, max_size=8),
    count=st.integers(1, 12),
    seconds=st.floats(0.5, 20.0),
    seed=st.integers(0, 1000),
)
def test_excerpts_do_not_overlap_where_there_is_enough(
    lengths: list[float], count: int, seconds: float, seed: int
) -> None:
    recordings = [recording(str(n), length, 3.0) for n, length in enumerate(lengths)]
    enough = sum(max(1, int(length / seconds)) for length in lengths) >= count
    try:
        excerpts = draw_excerpts(recordings, count, seconds, np.random.default_rng(seed))
    except MsdetError:
        assert not enough
        return
    assert len(excerpts) == count
    for excerpt in excerpts:
        assert (excerpt.start_s, excerpt.end_s) == (3.0, 3.0 + lengths[int(excerpt.path)])
        assert excerpt.start_s <= excerpt.offset_s < excerpt.end_s
    for one, other in itertools.combinations(excerpts, 2):
        if one.path == other.path:
            apart_s = abs(one.offset_s - other.offset_s)
            around_s = one.end_s - one.start_s - apart_s
            assert apart_s >= (seconds if enough else MIN_SHIFT_S) - 1e-9
            assert enough or around_s >= MIN_SHIFT_S - 1e-9
            if enough:  # then neither goes round
                assert max(one.offset_s, other.offset_s) + seconds <= one.end_s + 1e-9


def test_a_recording_that_holds_all_excerpts_gives_all() -> None:
    recordings = [recording(name, 60.0) for name in "abcdef"]
    drawn = [{e.path for e in draw_excerpts(recordings, 6, 4.0, np.random.default_rng(n))} for n in range(40)]
    assert all(len(paths) == 1 for paths in drawn)
    assert set.union(*drawn) == set("abcdef")


def test_drawing_is_reproducible_and_refuses_too_little() -> None:
    recordings = [recording("a", 9.0), recording("b", 2.0)]
    first, again, other = (draw_excerpts(recordings, 6, 4.0, np.random.default_rng(s)) for s in (1, 1, 2))
    assert first == again != other
    with pytest.raises(MsdetError, match="no noise recordings"):
        draw_excerpts([], 1, 4.0, np.random.default_rng(0))
    with pytest.raises(MsdetError, match=r"a: 1\.00 s of noise are too little for 6 .* at least 1\.50 s"):
        draw_excerpts([recording("a", 1.0)], 6, 4.0, np.random.default_rng(0))


def test_an_excerpt_is_the_piece_of_the_file(tmp_path: Path) -> None:
    write_noise(tmp_path, ["a.flac"])
    whole = audio.read(tmp_path / "a.flac")[0][0]
    piece = load_excerpt(tmp_path, NoiseExcerpt("a.flac", 1.25, 0.0, 6.0), 2.0, RATE)
    assert np.array_equal(piece, whole[10_000:26_000])
    last = load_excerpt(tmp_path, NoiseExcerpt("a.flac", 4.00007, 0.0, 6.0), 2.0, RATE)
    assert np.array_equal(last, whole[-16_000:])


@pytest.mark.parametrize("seconds", [0.5, 3.0, 1.00003])
def test_an_excerpt_is_resampled_to_its_length(tmp_path: Path, seconds: float) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 500 * np.arange(44100) / 44100)
    audio.write(tmp_path / "tone.wav", tone, 44100)
    piece = load_excerpt(tmp_path, NoiseExcerpt("tone.wav", 0.3, 0.0, 1.0), seconds, RATE)
    assert piece.shape == (round(seconds * RATE),)
    assert piece.dtype == np.float32
    spectrum = np.abs(np.fft.rfft(piece))
    assert np.argmax(spectrum) * RATE / len(piece) == pytest.approx(500, abs=3)


def test_a_loop_stays_in_its_part_of_the_file(tmp_path: Path) -> None:
    audio.write(tmp_path / "a.wav", np.repeat([0.1, 0.2, 0.5], [16_000, 8000, 8000]), RATE)
    dev = load_excerpt(tmp_path, NoiseExcerpt("a.wav", 2.7, 2.0, 3.0), 5.0, RATE)
    assert dev.shape == (40_000,)
    assert dev.min() > 0.19
    assert dev.max() < 0.29  # an equal-power fade of two equal samples is 3 dB up


def test_a_loop_has_no_seam_and_no_dip(tmp_path: Path) -> None:
    audio.write(tmp_path / "ramp.wav", np.linspace(-0.6, 0.6, 8000), RATE)
    ramp = load_excerpt(tmp_path, NoiseExcerpt("ramp.wav", 0.5, 0.0, 1.0), 3.0, RATE)
    assert np.abs(np.diff(ramp)).max() < 0.01
    write_noise(tmp_path, ["noise.wav"], 1.0)
    noise = load_excerpt(tmp_path, NoiseExcerpt("noise.wav", 0.5, 0.0, 1.0), 1.0, RATE)
    fade = noise[4000 - LOOP_FADE : 4000]
    assert fade.std() == pytest.approx(noise.std(), rel=0.1)


def test_excerpts_of_too_short_a_recording_are_still_incoherent(tmp_path: Path) -> None:
    write_noise(tmp_path, ["a.wav"], 6.0)
    excerpts = draw_excerpts([recording("a.wav", 6.0)], 6, 6.0, np.random.default_rng(0))
    signals = np.stack([load_excerpt(tmp_path, e, 6.0, RATE) for e in excerpts])
    assert np.abs(coherence(signals)[1][:, *np.triu_indices(6, 1)]).mean(axis=0).max() < 0.1
    assert coherence_error(diffuse(signals, RING, RATE, "spherical"), RING, "spherical") < 0.1


def test_silence_and_files_that_changed_are_refused(tmp_path: Path) -> None:
    audio.write(tmp_path / "a.wav", np.repeat([0.0, 0.1], [16_000, 8000]), RATE)
    with pytest.raises(MsdetError, match=r"a\.wav: is silent for 1\.00 s from 0\.50 s on"):
        load_excerpt(tmp_path, NoiseExcerpt("a.wav", 0.5, 0.0, 3.0), 1.0, RATE)
    with pytest.raises(MsdetError, match=r"a\.wav: has 3\.00 s, expected at least 4\.00 s"):
        load_excerpt(tmp_path, NoiseExcerpt("a.wav", 0.5, 0.0, 4.0), 1.0, RATE)


# --- babble


@pytest.fixture(scope="module")
def utterances(speech: Path) -> list[Array]:
    return [audio.read_mono(path, RATE) for path in sorted(speech.rglob("*.wav"))]


def test_babble_streams_are_independent_and_equally_loud(utterances: list[Array]) -> None:
    streams = babble(utterances, 6, 10 * RATE, np.random.default_rng(0))
    assert streams.shape == (6, 10 * RATE)
    assert streams.dtype == np.float32
    assert streams.std(axis=-1) == pytest.approx(np.ones(6), abs=0.2)
    assert np.abs(np.corrcoef(streams) - np.eye(6)).max() < 0.1


def test_babble_is_reproducible_and_does_not_depend_on_levels(utterances: list[Array]) -> None:
    plain = babble(utterances, 3, RATE, np.random.default_rng(4))
    assert plain.tobytes() == babble(utterances, 3, RATE, np.random.default_rng(4)).tobytes()
    uneven = [u * 4.0 ** (n % 3) for n, u in enumerate(utterances)]
    assert babble(uneven, 3, RATE, np.random.default_rng(4)) == pytest.approx(plain, abs=1e-4)
    assert not np.array_equal(plain, babble(utterances, 3, RATE, np.random.default_rng(5)))


def test_every_talker_speaks_once_where_there_are_enough() -> None:
    tones = [np.sin(2 * np.pi * 100 * (n + 1) * np.arange(RATE) / RATE) for n in range(8)]
    heard = np.abs(np.fft.rfft(babble(tones, 2, RATE, np.random.default_rng(0))))[:, 100:801:100] > RATE / 10
    assert heard.sum(axis=0).tolist() == [1] * 8
    assert heard.sum(axis=1).tolist() == [4, 4]


def test_babble_of_no_silent_or_too_little_speech_is_refused() -> None:
    rng = np.random.default_rng(0)
    for speech, message in (
        ([], "no speech"),
        ([np.zeros(80_000)], "utterance 1 is silent"),
        ([np.ones(9000)], "utterance 1 has 9000 samples, expected at least 48000 for 24 voices"),
    ):
        with pytest.raises(MsdetError, match=message):
            babble(speech, 6, RATE, rng)
