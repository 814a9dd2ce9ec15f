"""Recordings as they come, good and bad: what is refused, what is told, what is put right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from msdet.arrays import MicrophoneArray
from msdet.errors import MsdetError
from msdet.inference.sources import FileSource, MemorySource, prepared, scan
from msdet.io import audio

RATE = 8000
Array = npt.NDArray[Any]


@pytest.fixture
def mixture() -> Array:
    """Noise in bursts on four channels, 6 s; RMS about 0.05."""
    rng = np.random.default_rng(3)
    bursts = np.clip(np.sin(np.arange(6 * RATE) / 3000), 0.02, 1)
    return (0.1 * bursts * rng.standard_normal((4, 6 * RATE))).astype(np.float32)


def read(source: FileSource | MemorySource, array: MicrophoneArray, rate: int = RATE) -> Array:
    return np.concatenate(list(prepared(source, scan(source, array, rate), rate)), axis=-1)


@pytest.mark.parametrize(
    ("name", "subtype", "error"),
    [
        ("a.wav", "PCM_U8", 1 / 100), ("a.wav", "PCM_24", 1e-6), ("a.wav", "FLOAT", 0.0),
        ("a.flac", "PCM_16", 1e-4), ("a.w64", "DOUBLE", 0.0), ("a.aiff", "PCM_16", 1e-4),
        ("a.ogg", "VORBIS", 0.2), ("a.caf", "PCM_32", 1e-6),
    ],
)  # fmt: skip
def test_any_container_and_sample_format_is_read(
    name: str, subtype: str, error: float, mixture: Array, array: MicrophoneArray, tmp_path: Path
) -> None:
    soundfile.write(str(tmp_path / name), mixture.T, RATE, subtype)
    source = FileSource(tmp_path / name)
    assert scan(source, array, RATE).samples == mixture.shape[1]
    assert np.abs(read(source, array)[:, : mixture.shape[1]] - mixture).max() <= error


@pytest.mark.parametrize("rate", [16_000, 44_100, 4000])
def test_any_rate_is_resampled_as_in_one_piece(
    rate: int, mixture: Array, array: MicrophoneArray, tmp_path: Path
) -> None:
    there = audio.resample(mixture, RATE, rate)
    soundfile.write(str(tmp_path / "a.wav"), there.T, rate, "FLOAT")
    source = FileSource(tmp_path / "a.wav")
    np.testing.assert_allclose(read(source, array), audio.resample(there, rate, RATE), atol=1e-6)
    warned = " ".join(scan(source, array, RATE).warnings)
    assert ("below the model's 8000 Hz" in warned) == (rate < RATE)


def test_pieces_of_any_length_are_resampled_alike(mixture: Array) -> None:
    rng = np.random.default_rng(0)
    for to_rate in (8000 * 441 // 80, 3000, 16_000):
        resampler, given, at = audio.StreamResampler(RATE, to_rate), [], 0
        while at < mixture.shape[1]:
            step = int(rng.choice([1, 7, 160, 5000]))
            given.append(resampler.push(mixture[:, at : at + step]))
            at += step
        rest = resampler.finish()
        assert rest is not None
        joined = np.concatenate([*given, rest], axis=-1)
        np.testing.assert_allclose(joined, audio.resample(mixture, RATE, to_rate), atol=1e-6)


def test_an_offset_is_removed_and_told(mixture: Array, array: MicrophoneArray) -> None:
    offset = np.array([0.0, 0.1, 0.0, -0.02], dtype=np.float32)[:, None]
    source = MemorySource(mixture + offset, RATE)
    (warning,) = scan(source, array, RATE).warnings
    assert warning == "mixture: channels 1, 3 are offset by up to 0.1; removed"
    assert np.abs(read(source, array).mean(axis=1)).max() < 1e-3
    np.testing.assert_array_equal(read(MemorySource(mixture, RATE), array), mixture)  # else untouched


def test_a_slight_offset_is_removed_without_a_word(mixture: Array, array: MicrophoneArray) -> None:
    quiet = 0.005 * mixture
    quiet[1] += 1 / 32768
    source = MemorySource(quiet, RATE)
    assert scan(source, array, RATE).warnings == ()
    assert abs(read(source, array)[1].mean()) < 1e-6


def test_chosen_channels_are_called_by_their_numbers_in_the_file(
    mixture: Array, array: MicrophoneArray, tmp_path: Path
) -> None:
    mixture[2] += 0.1
    soundfile.write(str(tmp_path / "a.wav"), np.concatenate([0 * mixture[:2], mixture]).T, RATE, "FLOAT")
    source = FileSource(tmp_path / "a.wav").taking([2, 3, 4, 5])
    (warning,) = scan(source, array, RATE).warnings
    assert "channel 4 is offset" in warning
    np.testing.assert_allclose(read(source, array)[:2], mixture[:2])
    other = scan(FileSource(tmp_path / "a.wav").taking([0, 3, 4, 5]), array, RATE)
    assert (other.dead, other.reference) == ((0,), 1)
    assert "channel 0 is dead" in other.warnings[0]


def test_pieces_of_many_channels_are_short() -> None:
    many = MemorySource(np.zeros((256, 2 * RATE), dtype=np.float32), RATE)
    assert {piece.size <= 1 << 22 for piece in many.pieces()} == {True}
    assert len(list(many.pieces())) == 1 and sum(piece.shape[1] for piece in many.pieces()) == 2 * RATE


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_clipping_is_told_also_below_full_scale(
    scale: float, subtype: str, mixture: Array, array: MicrophoneArray, tmp_path: Path
) -> None:
    clipped = mixture.copy()
    clipped[2] = scale * np.clip(np.convolve(8 * clipped[2], np.ones(8) / 8, "same"), -0.3, 0.3) / 0.3
    soundfile.write(str(tmp_path / "a.wav"), clipped.T, RATE, subtype)
    (warning,) = scan(FileSource(tmp_path / "a.wav"), array, RATE).warnings
    assert "channel 2 is clipped" in warning


@pytest.mark.parametrize("residue", [0.0, 1e-6])
def test_a_dead_channel_is_told_by_its_number(residue: float, mixture: Array, array: MicrophoneArray) -> None:
    mixture[3] *= residue
    found = scan(MemorySource(mixture, RATE), array, RATE)
    assert found.dead == (3,)
    assert "channel 3 is dead" in found.warnings[0]


def spoil(kind: str, mixture: Array) -> Array:
    spoiled = mixture.copy()
    if kind == "nan":
        spoiled[1, 100] = np.nan
    elif kind == "silent":
        spoiled[:] = 0.0
    elif kind == "huge":
        spoiled *= 1e25
    elif kind == "constant":
        spoiled[:] = 0.25
    elif kind == "one left":
        spoiled[1:] = 0.0
    return {"mono": spoiled[:1], "five": spoiled[[0, 1, 2, 3, 3]], "short": spoiled[:, :720],
            "empty": spoiled[:, :0]}.get(kind, spoiled)  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("mono", "has 1 channel, the array 'circular4_5cm' has 4: one microphone has no directions"),
        ("five", "has 5 channels, the array 'circular4_5cm' has 4"),
        ("nan", "holds NaN or infinite samples"),
        ("huge", "has samples up to 4.4e+24, expected full scale 1"),
        ("silent", "is silent"),
        ("constant", "is silent"),
        ("one left", "1 of 4 channels has a signal, expected at least 2"),
        ("short", "is 0.090 s long, expected at least 0.1 s"),
        ("empty", "has no samples"),
    ],
)
def test_what_cannot_be_used_is_refused(
    kind: str, message: str, mixture: Array, array: MicrophoneArray, tmp_path: Path
) -> None:
    path = tmp_path / "bad.wav"
    soundfile.write(str(path), spoil(kind, mixture).T, RATE, "FLOAT")
    for source in (FileSource(path), MemorySource(spoil(kind, mixture), RATE, str(path))):
        with pytest.raises(MsdetError) as caught:
            scan(source, array, RATE)
        assert str(caught.value) == f"{path}: {message}"


def cut_short(content: bytes) -> bytes:
    return content[: len(content) // 2]


def endless(content: bytes) -> bytes:
    """As from a program that writes to a pipe and does not know how long."""
    at = content.index(b"data") + 4
    return content[:at] + b"\xff\xff\xff\xff" + content[at + 4 :]


@pytest.mark.parametrize("suffix", ["wav", "flac", "aiff", "au", "rf64", "w64"])
def test_a_truncated_file_is_refused(suffix: str, mixture: Array, array: MicrophoneArray, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(str(path), mixture.T, RATE)
    path.write_bytes(cut_short(path.read_bytes()))
    with pytest.raises(MsdetError, match=r"is truncated|not readable as audio") as caught:
        scan(FileSource(path), array, RATE)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_wav_file_of_unknown_length_is_read_to_its_end(
    mixture: Array, array: MicrophoneArray, tmp_path: Path
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(str(path), mixture.T, RATE)
    path.write_bytes(endless(path.read_bytes()))
    assert scan(FileSource(path), array, RATE).samples == mixture.shape[1]


def test_an_au_file_of_unknown_length_is_read_to_its_end(
    mixture: Array, array: MicrophoneArray, tmp_path: Path
) -> None:
    path = tmp_path / "a.au"
    soundfile.write(str(path), mixture.T, RATE)
    content = path.read_bytes()
    path.write_bytes(content[:8] + b"\xff\xff\xff\xff" + content[12:])
    assert scan(FileSource(path), array, RATE).samples == mixture.shape[1]


@pytest.mark.parametrize("to_rate", [44_101, 7999])
def test_rates_with_nothing_in_common_are_refused(to_rate: int, mixture: Array, array: MicrophoneArray) -> None:
    """The filter would have hundreds of millions of entries."""
    with pytest.raises(MsdetError) as caught:
        scan(MemorySource(mixture, to_rate, "in.wav"), array, RATE)
    assert str(caught.value).startswith(f"in.wav: cannot be resampled from {to_rate} Hz to 8000 Hz")


def test_a_folder_is_no_recording(tmp_path: Path) -> None:
    with pytest.raises(MsdetError, match="is a folder, expected an audio file"):
        FileSource(tmp_path)


def full_disk(limit: int, write: Callable[[], None]) -> str:
    """The error of writing where no file may grow beyond a limit."""
    import resource
    import signal

    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(MsdetError) as caught:
            write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    return str(caught.value)


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_a_disk_that_fills_leaves_no_half_written_file(subtype: str, tmp_path: Path) -> None:
    path = tmp_path / "voice.wav"

    def write() -> None:
        with audio.writer(path, RATE, 100_000, subtype) as append:
            for _ in range(100):
                append(np.zeros(1000, dtype=np.float32))

    assert full_disk(50_000, write).startswith(f"{path}: cannot be written (")
    assert list(tmp_path.iterdir()) == []
    write()
    assert audio.info(path).frames == 100_000


def test_a_file_that_is_being_replaced_stays_whole_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "voice.wav"
    audio.write(path, np.full(100, 0.5, dtype=np.float32), RATE)
    with pytest.raises(KeyboardInterrupt), audio.writer(path, RATE, 1000) as append:
        append(np.zeros(500, dtype=np.float32))
        raise KeyboardInterrupt
    assert audio.info(path).frames == 100
    assert [p.name for p in tmp_path.iterdir()] == ["voice.wav"]


def test_beyond_4_gb_a_file_says_how_long_it_is(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    with audio.writer(path, 48_000, 48_000 * 36_000, "FLOAT") as append:  # ten hours, told beforehand
        append(np.full(10, 0.5, dtype=np.float32))
    assert path.read_bytes()[:4] == b"RF64"
    assert audio.read(path)[0].tolist() == [[0.5] * 10]
