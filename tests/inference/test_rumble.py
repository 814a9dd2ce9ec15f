"""Rumble and hum below voices: taken away, and never taken for speech."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from msdet.cli import main
from msdet.dsp.filters import Highpass, SpeechBand
from msdet.errors import MsdetError
from msdet.inference.blocks import BlockOptions
from msdet.io import audio
from msdet.methods.base import Separation

RATE = 8000
Array = npt.NDArray[Any]


def joined(signal: Array, piece: int, cutoff_hz: float = 60.0) -> Array:
    filtering = Highpass(cutoff_hz, RATE)
    given = [filtering.push(signal[:, n : n + piece]) for n in range(0, signal.shape[1], piece)]
    rest = filtering.finish()
    return np.concatenate([*given, *([] if rest is None else [rest])], axis=1)


def tone(frequency_hz: float, seconds: float = 2.0) -> Array:
    return np.sin(2 * np.pi * frequency_hz * np.arange(round(seconds * RATE)) / RATE)[None].astype(np.float32)


@pytest.mark.parametrize("piece", [1, 700, 100_000])
@pytest.mark.parametrize("samples", [1, 200, 661, 2500])
def test_pieces_of_any_length_are_filtered_alike_and_as_long(piece: int, samples: int) -> None:
    signal = np.random.default_rng(0).standard_normal((2, samples), dtype=np.float32)
    filtered = joined(signal, piece)
    assert filtered.shape == signal.shape
    np.testing.assert_allclose(filtered, joined(signal, samples), atol=1e-5)


def test_what_is_below_goes_and_voices_keep_level_and_phase() -> None:
    inside = slice(RATE // 2, -RATE // 2)
    assert np.abs(joined(tone(35.0), 1000)[:, inside]).max() < 0.01
    np.testing.assert_allclose(joined(tone(100.0), 1000)[:, inside], tone(100.0)[:, inside], atol=0.01)
    np.testing.assert_array_equal(joined(tone(35.0), 1000, 0.0), tone(35.0))


def test_the_band_of_speech_does_not_depend_on_pieces() -> None:
    signal = 3.0 + np.random.default_rng(0).standard_normal((1, 4000))
    whole, band = SpeechBand(RATE)(signal), SpeechBand(RATE)
    np.testing.assert_allclose(np.hstack([band(signal[:, :7]), band(signal[:, 7:])]), whole, atol=1e-12)
    hum, voice = SpeechBand(RATE)(tone(50.0)), SpeechBand(RATE)(tone(800.0))
    assert 20 * np.log10(hum.std() / voice.std()) < -45


def stationary(mixture: Array) -> Separation:
    return Separation(0.5 * mixture[1:3], np.array([40.0, 200.0]), np.array([0.9, 0.8]))


@pytest.mark.parametrize("highpass_hz", [0.0, 60.0])
@pytest.mark.parametrize("above_db", [6.0, 24.0])
def test_hum_and_rumble_hide_nobody_and_are_nobody(
    above_db: float, highpass_hz: float, run: Any, say: Callable[..., Array], mixture_of: Callable[[Array], Array]
) -> None:
    mixture = mixture_of(say([(0, 0.0, 8.0), (1, 9.0, 18.0)], 18.0))
    hum = tone(50.0, 18.0) + 0.3 * tone(30.0, 18.0)
    loud = mixture + np.float32(mixture[0].std() / hum.std() * 10 ** (above_db / 20)) * hum
    clean, found = (run(stationary, m, highpass_hz=highpass_hz)[1] for m in (mixture, loud))
    assert clean.activity.mean(axis=1) == pytest.approx([0.44, 0.5], abs=0.03)
    assert (np.abs(found.activity - clean.activity) > 0.5).mean() < 0.02
    np.testing.assert_allclose(found.azimuth_deg, clean.azimuth_deg)


def test_a_stream_and_a_file_are_cleaned_alike(causal_model: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    speech = tone(200.0, 3.0) * np.repeat([0.1, 0.0, 0.1], RATE) + 0.01 * rng.standard_normal((4, 3 * RATE))
    audio.write(tmp_path / "in.wav", (speech + 0.7 * tone(30.0, 3.0)).astype(np.float32), RATE, "FLOAT")
    options = ["--model", str(causal_model), "--subtype", "FLOAT"]
    live = ["live", *options, "--file", str(tmp_path / "in.wav"), "--fast", "--out", str(tmp_path / "live")]
    assert main(live) == 0
    assert main(["separate", str(tmp_path / "in.wav"), *options, "--out", str(tmp_path / "whole")]) == 0
    told = [json.loads((tmp_path / name / "doa.json").read_text()) for name in ("live", "whole")]
    voices = [
        np.concatenate([audio.read(tmp_path / name / f"talker{k}.wav")[0] for k in (1, 2)])
        for name in ("live", "whole")
    ]
    best = min(float(np.abs(voices[0][order] - voices[1]).max()) for order in ([0, 1], [1, 0]))
    assert best <= 1e-4 * np.abs(voices[1]).max()
    assert np.abs(voices[0]).max() < 0.2  # nothing of the rumble
    assert told[0]["latency_s"] == pytest.approx(0.032 + 0.041, abs=0.001)


@pytest.mark.parametrize("highpass_hz", [-1.0, 5.0, 400.0, float("nan")])
def test_a_cutoff_that_is_none_is_refused(highpass_hz: float) -> None:
    with pytest.raises(MsdetError, match=r"highpass_hz is .*, expected 10 to 300, or 0 for none"):
        BlockOptions(highpass_hz=highpass_hz)
