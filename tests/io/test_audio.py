"""Compressed clips: near to the signal, at rates that browsers play."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly

from msdet.errors import MsdetError
from msdet.inference.sources import FileSource
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


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.m4a", b"\0\0\0\x20ftypM4A ", "is MPEG-4 .*'ffmpeg -i a.m4a out.wav'"),
        ("a.3gp", b"\0\0\0\x18ftyp3gp4", "is MPEG-4 .*'ffmpeg -i a.3gp out.wav'"),
        ("a.amr", b"#!AMR-WB\n", "is AMR"),
        ("a.wma", bytes.fromhex("3026b2758e66cf11"), "is Windows Media"),
        ("a.webm", bytes.fromhex("1a45dfa3"), "is Matroska or WebM"),
        ("a.wav", b"BW64\xff\xff\xff\xffWAVE", "is BW64"),
        ("a.raw", b"\1\2", "samples without a header, .*'sox -t raw -r 16000 -c 8 -e signed -b 32 a.raw out.wav'"),
        ("a.pcm", b"\1\2", "samples without a header"),
    ],
)
def test_files_that_cannot_be_read_say_how_to_convert_them(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content + bytes(range(256)) * 8)
    for read in (audio.info, audio.read, lambda path: list(audio.pieces(path, 100))):
        with pytest.raises(MsdetError, match=message) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: not readable as audio (")


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    """A WAV file of chunks by name."""
    body = b"".join(name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for name, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WAVE" + body


PLAIN, AMBISONIC = bytes.fromhex("0100000000001000800000aa00389b71"), bytes.fromhex("010000002107d3118644c8c1ca000000")


def extensible(kind: bytes) -> bytes:
    """The format of four channels of 16 bits at 8 kHz, as WAVE_FORMAT_EXTENSIBLE."""
    return struct.pack("<HHIIHHHHI", 0xFFFE, 4, 8000, 64_000, 8, 16, 22, 16, 0) + kind


@pytest.mark.parametrize(
    "before",
    [
        [(b"fmt ", extensible(PLAIN))],
        [(b"bext", b"\0" * 603), (b"fmt ", struct.pack("<HHIIHH", 1, 4, 8000, 64_000, 8, 16)), (b"iXML", b"<x/>")],
    ],
    ids=["extensible", "broadcast"],
)
def test_wav_files_of_recorders_are_read(before: list[tuple[bytes, bytes]], tmp_path: Path) -> None:
    samples = np.arange(400, dtype="<i2").reshape(100, 4)
    path = tmp_path / "a.wav"
    path.write_bytes(riff(*before, (b"data", samples.tobytes())))
    read = np.concatenate(list(audio.pieces(path, 30)), axis=-1)
    np.testing.assert_array_equal(read * 32768, samples.T)
    assert not audio.is_b_format(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(MsdetError, match="is truncated"):
        list(audio.pieces(path, 30))


def test_b_format_says_so_in_its_header(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(riff((b"fmt ", extensible(AMBISONIC)), (b"data", bytes(800))))
    assert audio.is_b_format(path)
    with pytest.raises(MsdetError, match=r"a.wav: is ambisonic B-format, .*\(A-format\)"):
        FileSource(path)
