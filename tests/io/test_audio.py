"""Compressed clips: near to the signal, at rates that browsers play."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly

from msdet.errors import MsdetError
from msdet.io import audio


def speech_like(seconds: float, rate: int) -> np.ndarray:
    """Harmonics below 3 kHz in syllables ``(time,)``; peak 0.9."""
    t = np.arange(round(seconds * rate)) / rate
    voiced = sum(np.sin(2 * np.pi * 150.0 * h * t + h**2) / h for h in range(1, 20))
    signal = voiced * (0.1 + np.sin(2 * np.pi * 1.5 * t) ** 2)
    return 0.9 * signal / np.abs(signal).max()


@pytest.mark.parametrize(("rate", "played"), [(8000, 16000), (16000, 16000), (44100, 44100), (96000, 48000)])
def test_a_clip_is_near_to_the_signal(rate: int, played: int) -> None:
    signal = speech_like(1.0, rate)
    content, kind = audio.clip(signal, rate)
    assert kind == "audio/mpeg"
    decoded, found = soundfile.read(io.BytesIO(content))
    assert found == played
    expected = resample_poly(signal, played, rate)
    error = decoded[: expected.size] - expected[: decoded.size]
    assert np.mean(error**2) < 10**-2.5 * np.mean(expected**2)  # 25 dB
    assert len(content) < 12_000


def test_what_is_beyond_full_scale_is_limited() -> None:
    decoded, _ = soundfile.read(io.BytesIO(audio.clip(3.0 * speech_like(0.5, 16000), 16000)[0]))
    assert np.abs(decoded).max() < 1.2  # the edges ring


def test_without_mp3_a_clip_is_flac(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundfile, "available_formats", lambda: {"FLAC": "", "WAV": ""})
    signal = speech_like(0.5, 16000)
    content, kind = audio.clip(signal, 16000)
    assert kind == "audio/flac"
    assert content.startswith(b"fLaC")
    assert np.allclose(soundfile.read(io.BytesIO(content))[0], signal, atol=1e-4)


@pytest.mark.parametrize("rate", [7, 100, 2**21])
def test_rate_that_no_recording_has_is_refused(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, np.zeros((200, 2)), rate)
    for read in (audio.info, audio.read):
        with pytest.raises(MsdetError, match=f"sample rate is {rate} Hz, expected 1000 to 1000000 Hz"):
            read(path)
