"""The only module that opens audio files: soundfile reads and writes, torchaudio resamples.

Arrays are ``(channel, time)`` float32, full scale 1. Long files are read (`pieces`), resampled
(`StreamResampler`) and written (`writer`) in pieces, so that memory does not grow with their length.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import numpy as np
import soundfile

from msdet.conventions import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, Array
from msdet.errors import MsdetError, UnknownNameError
from msdet.io.files import atomic_path, write_bytes
from msdet.io.unreadable import unreadable

if TYPE_CHECKING:
    from torch import Tensor

AUDIO_SUFFIXES = frozenset({".wav", ".flac"})

T = TypeVar("T")
Append = Callable[[Array], None]
"""Takes the next piece ``(time,)`` of a file."""

_CLIP_RATES = (16_000, 22_050, 24_000, 32_000, 44_100, 48_000)  # MP3 at 8 kHz is an extension not all play
_CLIP_COMPRESSION = 0.2  # about 70 kbit/s for speech, errors 40 dB below it
_SINC_WIDTH, _ROLLOFF = 6, 0.99  # torchaudio's defaults
_ENDLESS_BYTES = 0x7FFF0000  # programs that write WAV to a pipe announce this length, or more, or none
_MAX_KERNEL = 10_000_000  # entries of a resampling filter; 44.1 kHz to 8 kHz has 40 thousand
_SET_ADD_PEAK_CHUNK = 0x1050  # of libsndfile
_CUT_SHORT = re.compile(r": (\d+) \(should be (\d+)\)")  # in libsndfile's log: bytes announced, and there
_UNREADABLE = (OSError, RuntimeError, TypeError)  # the last for names of headerless files
_B_FORMAT = bytes.fromhex("2107d3118644c8c1ca000000")  # end of the sub-format in the header of .amb files
_MAX_WAV_BYTES = 4_000_000_000  # beyond, RIFF cannot say how long it is; RF64 can


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says."""

    sample_rate: int
    channels: int
    frames: int

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.frames / self.sample_rate


def info(path: Path) -> AudioInfo:
    """Read a file's header; an `MsdetError` if the file is missing or not audio."""
    try:
        header = soundfile.info(str(path))
    except _UNREADABLE as error:
        raise unreadable(path, error) from error
    return AudioInfo(_checked_rate(header.samplerate, path), header.channels, header.frames)


def _checked_rate(sample_rate: int, path: Path | str) -> int:
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise MsdetError(f"{path}: sample rate is {sample_rate} Hz, expected {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz")
    return sample_rate


def read(path: Path, start: int = 0, frames: int = -1) -> tuple[Array, int]:
    """Read ``(channel, time)`` float32 and the sample rate, from frame `start` on (all by default).

    Refuses a file that is missing, not audio, empty, or holds NaN or infinite samples.
    """
    try:
        samples, sample_rate = soundfile.read(str(path), frames=frames, start=start, dtype="float32", always_2d=True)
    except _UNREADABLE as error:
        raise unreadable(path, error) from error
    return _checked(samples, sample_rate, path)


def decode(content: bytes, origin: str) -> tuple[Array, int]:
    """What `read` gives, of a file in memory; `origin` begins the message of an `MsdetError`."""
    try:
        samples, sample_rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    except _UNREADABLE as error:
        raise MsdetError(f"{origin}: not readable as audio ({str(error).rstrip('.')})") from error
    return _checked(samples, sample_rate, origin)


def _checked(samples: Array, sample_rate: int, origin: Path | str) -> tuple[Array, int]:
    """Samples ``(time, channel)`` as ``(channel, time)``, if they can be used."""
    _checked_rate(sample_rate, origin)
    if len(samples) == 0:
        raise MsdetError(f"{origin}: has no samples")
    if not np.isfinite(samples).all():
        raise MsdetError(f"{origin}: holds NaN or infinite samples")
    return np.ascontiguousarray(samples.T), int(sample_rate)


def pieces(path: Path, frames: int) -> Iterator[Array]:
    """Read a file from start to end as ``(channel, time)`` pieces of so many frames, the last one shorter.

    Refuses what `read` does, and a file that ends before its header says: tells after how many seconds.
    """
    found, rate = 0, 0
    declared = _declared_frames(path)
    try:
        with soundfile.SoundFile(str(path)) as file:
            declared, rate = file.frames if declared is None else declared, file.samplerate
            cut_short = file.format != "WAV" and _is_cut_short(file.extra_info)
            while len(samples := file.read(frames, dtype="float32", always_2d=True)):
                if not np.isfinite(samples).all():
                    raise MsdetError(f"{path}: holds NaN or infinite samples")
                found += len(samples)
                yield np.ascontiguousarray(samples.T)
    except _UNREADABLE as error:
        if found:
            reason = f"is truncated or damaged after {found / rate:.2f} s ({str(error).rstrip('.')})"
            raise MsdetError(f"{path}: {reason}") from error
        raise unreadable(path, error) from error
    if found < declared or cut_short:
        announced = f"{declared / rate:.2f} s" if found < declared else "later"
        raise MsdetError(f"{path}: is truncated: ends after {found / rate:.2f} s, its header says {announced}")
    if not found:
        raise MsdetError(f"{path}: has no samples")


def read_mono(path: Path, sample_rate: int) -> Array:
    """Read a single-channel file as ``(time,)`` at `sample_rate`; an `MsdetError` for several channels."""
    samples, rate = read(path)
    if len(samples) != 1:
        raise MsdetError(f"{path}: has {len(samples)} channels, expected 1 (clean speech)")
    return resample(samples[0], rate, sample_rate)


def write(path: Path, samples: Array, sample_rate: int, subtype: str = "PCM_16") -> None:
    """Write ``(channel, time)`` or ``(time,)`` atomically; the suffix of `path` chooses the container.

    Refuses samples beyond full scale for an integer subtype, or not finite.
    """
    data = np.atleast_2d(samples).T
    if not np.isfinite(data).all():
        raise MsdetError(f"{path}: refused to write NaN or infinite samples")
    if subtype.startswith("PCM") and np.abs(data).max(initial=0.0) > 1.0:
        raise MsdetError(f"{path}: refused to write clipped samples (peak {np.abs(data).max():.2f})")
    encoded = io.BytesIO()  # libsndfile does not say that a disk is full
    try:
        with _created(encoded, sample_rate, data.shape[1], subtype, path.suffix[1:].upper()) as sound:
            sound.write(data)
    except (RuntimeError, ValueError) as error:
        raise MsdetError(f"{path}: cannot be written ({error})") from error
    write_bytes(path, encoded.getbuffer())


def check_subtype(subtype: str) -> None:
    """Refuse, by an `UnknownNameError`, a sample format that WAV files cannot have."""
    known = soundfile.available_subtypes("WAV")
    if subtype not in known:
        raise UnknownNameError("subtype", subtype, known)


def limited_to_full_scale(subtype: str) -> bool:
    """Whether samples beyond full scale would be clipped in files of this sample format."""
    return subtype not in ("FLOAT", "DOUBLE")


@contextmanager
def writer(path: Path, sample_rate: int, frames: int, subtype: str = "PCM_16", channels: int = 1) -> Iterator[Append]:
    """Write a WAV file in pieces, ``(time,)`` or ``(channel, time)``; it takes its place when all went well.

    The number of frames to be written decides between WAV and RF64, which may pass 4 GB.
    """
    large = frames * channels * 8 > _MAX_WAV_BYTES
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        sink = _Sink(file)
        try:
            with _created(sink, sample_rate, channels, subtype, "RF64" if large else "WAV") as sound:

                def append(samples: Array) -> None:
                    try:
                        sound.write(samples.T)
                    finally:
                        sink.check()

                yield append
        except (RuntimeError, ValueError, AssertionError) as error:
            sink.check()
            raise MsdetError(f"{path}: cannot be written ({error})") from error
        sink.check()


def _created(file: Any, sample_rate: int, channels: int, subtype: str, container: str) -> soundfile.SoundFile:
    """A new sound file, without a PEAK chunk: it holds the time of writing, and same samples shall give same bytes."""
    sound = soundfile.SoundFile(file, "w", sample_rate, channels, subtype, format=container)
    soundfile._snd.sf_command(sound._file, _SET_ADD_PEAK_CHUNK, soundfile._ffi.NULL, 0)
    return sound


class _Sink:
    """A file for libsndfile to write to, which does not itself say that a disk is full."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._error: OSError | None = None

    def write(self, content: bytes) -> int:
        self._noting(self._file.write, content)
        return len(content)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._noting(self._file.seek, offset, whence) or 0

    def tell(self) -> int:
        return self._file.tell()

    def check(self) -> None:
        """Raise what went wrong, also with what waits to be written."""
        self._noting(self._file.flush)
        if self._error:
            raise self._error

    def _noting(self, operation: Callable[..., T], *arguments: Any) -> T | None:
        """What an operation gives; its error is kept, if it is the first."""
        try:
            return operation(*arguments)
        except OSError as error:
            self._error = self._error or error
            return None


def clip(samples: Array, sample_rate: int) -> tuple[bytes, str]:
    """A signal ``(time,)`` as a compressed file that browsers play, and its MIME type.

    MP3, or FLAC where libsndfile is built without it. Samples beyond full scale are limited to it.
    """
    rate = next((rate for rate in _CLIP_RATES if rate >= sample_rate), _CLIP_RATES[-1])
    limited = np.clip(resample(samples, sample_rate, rate), -1.0, 1.0)
    buffer = io.BytesIO()
    if "MP3" in soundfile.available_formats():
        soundfile.write(buffer, limited, rate, format="MP3", compression_level=_CLIP_COMPRESSION)
        return buffer.getvalue(), "audio/mpeg"
    soundfile.write(buffer, limited, rate, format="FLAC")
    return buffer.getvalue(), "audio/flac"


def resample(samples: Array, from_rate: int, to_rate: int) -> Array:
    """Resample along the last axis with torchaudio's windowed sinc; float32."""
    if from_rate == to_rate:
        return samples
    import torch
    from torchaudio.functional import resample as torchaudio_resample

    waveform = torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))
    return np.asarray(torchaudio_resample(waveform, from_rate, to_rate).numpy())


class StreamResampler:
    """Resamples pieces of a signal ``(channel, time)``: joined, they equal `resample` of the whole.

    The windowed sinc reaches a few samples to both sides; those are kept from one piece to the next. Refuses rates with
    too little in common, for which the filter would not fit into memory.
    """

    def __init__(self, from_rate: int, to_rate: int) -> None:
        common = math.gcd(from_rate, to_rate)
        self._rates = (from_rate, to_rate)
        self._step, self._step_out = from_rate // common, to_rate // common
        if self._step * self._step_out > _MAX_KERNEL:
            raise MsdetError(
                f"cannot be resampled from {from_rate} Hz to {to_rate} Hz (largest common divisor {common}); "
                f"convert it to {to_rate} Hz by another program first"
            )
        reach = math.ceil(_SINC_WIDTH * self._step / (min(self._step, self._step_out) * _ROLLOFF))
        self._margin = math.ceil(reach / self._step)  # in steps
        self._kept: Array | None = None
        self._before = 0  # steps of `_kept` that are given out already
        self._filter: Callable[[Tensor], Tensor] | None = None

    @property
    def delay_s(self) -> float:
        """No sample that is given has waited for longer, in seconds; 0 where nothing is resampled."""
        return 0.0 if self._step == self._step_out else (self._margin + 2) * self._step / self._rates[0]

    def push(self, samples: Array) -> Array:
        """What is certain after another piece; may have no samples."""
        if self._step == self._step_out:
            return samples
        joined = samples if self._kept is None else np.concatenate([self._kept, samples], axis=-1)
        ready = joined.shape[-1] // self._step - self._margin - 1
        if ready <= self._before:
            self._kept = joined
            return np.zeros((*joined.shape[:-1], 0), dtype=np.float32)
        given = self._resampled(joined)[..., self._before * self._step_out : ready * self._step_out]
        start = max(0, ready - self._margin)
        self._kept, self._before = joined[..., start * self._step :], ready - start
        return given

    def finish(self) -> Array | None:
        """What is left after the last piece; None without any."""
        if self._kept is None:
            return None
        return self._resampled(self._kept)[..., self._before * self._step_out :]

    def _resampled(self, samples: Array) -> Array:
        """`resample` with a filter that is made once: on short pieces, making it costs more than using it."""
        import torch

        if self._filter is None:
            from torchaudio.transforms import Resample

            self._filter = Resample(*self._rates, dtype=torch.float32)
        return self._filter(torch.from_numpy(np.array(samples, dtype=np.float32))).numpy()


def _declared_frames(path: Path) -> int | None:
    """Frames that the header of a WAV file announces; None of other files, and where it does not know.

    libsndfile takes what is there instead, and does not say when that is less.
    """
    try:
        with path.open("rb") as file:
            if file.read(4) != b"RIFF":
                return None
            frame_bytes = 0
            for name, size in _chunks(file):
                if name == b"fmt ":
                    frame_bytes = int.from_bytes(file.read(16)[12:14], "little")
                elif name == b"data":
                    known = frame_bytes and 0 < size < _ENDLESS_BYTES
                    return size // frame_bytes if known else None
    except OSError:
        pass  # soundfile says what is wrong
    return None


def _chunks(file: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Name and size of each chunk of a WAV file, which is then at the chunk's start."""
    file.seek(8)
    if file.read(4) != b"WAVE":
        return
    while len(head := file.read(8)) == 8:
        size, start = int.from_bytes(head[4:], "little"), file.tell()
        yield head[:4], size
        file.seek(start + size + size % 2)


def is_b_format(path: Path) -> bool:
    """Whether a file says that it is ambisonic B-format: spherical harmonics of the sound at one place."""
    try:
        with path.open("rb") as file:
            kind = next((file.read(40)[28:] for name, _ in _chunks(file) if name == b"fmt "), b"")
    except OSError:
        return False
    return path.suffix.lower() == ".amb" or kind == _B_FORMAT


def _is_cut_short(log: str) -> bool:
    """Whether libsndfile found less than a header announces; lengths that stand for none do not count."""
    sizes = (tuple(map(int, found)) for found in _CUT_SHORT.findall(log))
    return any(there < announced < _ENDLESS_BYTES for announced, there in sizes)
