"""The only module that opens audio files: soundfile reads and writes, torchaudio resamples.

Arrays are ``(channel, time)`` float32, full scale 1.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from msdet.conventions import Array
from msdet.errors import MsdetError
from msdet.files import atomic_path

AUDIO_SUFFIXES = frozenset({".wav", ".flac"})

_CLIP_RATES = (16_000, 22_050, 24_000, 32_000, 44_100, 48_000)  # MP3 at 8 kHz is an extension not all play
_CLIP_COMPRESSION = 0.2  # about 70 kbit/s for speech, errors 40 dB below it


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
    """Read a file's header.

    Raises:
        MsdetError: the file is missing or not audio.
    """
    try:
        header = soundfile.info(str(path))
    except (OSError, RuntimeError) as error:
        raise _unreadable(path, error) from error
    return AudioInfo(header.samplerate, header.channels, header.frames)


def read(path: Path, start: int = 0, frames: int = -1) -> tuple[Array, int]:
    """Read ``(channel, time)`` float32 and the sample rate, from frame `start` on (all by default).

    Raises:
        MsdetError: the file is missing, not audio, empty, or holds NaN or infinite samples.
    """
    try:
        samples, sample_rate = soundfile.read(
            str(path), frames=frames, start=start, dtype="float32", always_2d=True
        )
    except (OSError, RuntimeError) as error:
        raise _unreadable(path, error) from error
    if len(samples) == 0:
        raise MsdetError(f"{path}: has no samples")
    if not np.isfinite(samples).all():
        raise MsdetError(f"{path}: holds NaN or infinite samples")
    return np.ascontiguousarray(samples.T), int(sample_rate)


def read_mono(path: Path, sample_rate: int) -> Array:
    """Read a single-channel file as ``(time,)`` at `sample_rate`.

    Raises:
        MsdetError: as `read`, or the file has several channels.
    """
    samples, rate = read(path)
    if len(samples) != 1:
        raise MsdetError(f"{path}: has {len(samples)} channels, expected 1 (clean speech)")
    return resample(samples[0], rate, sample_rate)


def write(path: Path, samples: Array, sample_rate: int, subtype: str = "PCM_16") -> None:
    """Write ``(channel, time)`` or ``(time,)`` atomically; the suffix of `path` chooses the container.

    Raises:
        MsdetError: samples beyond full scale for an integer subtype, or not finite; an unwritable file.
    """
    data = np.atleast_2d(samples).T
    if not np.isfinite(data).all():
        raise MsdetError(f"{path}: refused to write NaN or infinite samples")
    if subtype.startswith("PCM") and np.abs(data).max(initial=0.0) > 1.0:
        raise MsdetError(f"{path}: refused to write clipped samples (peak {np.abs(data).max():.2f})")
    encoded = io.BytesIO()  # libsndfile does not say that a disk is full
    try:
        soundfile.write(encoded, data, sample_rate, format=path.suffix[1:].upper(), subtype=subtype)
    except (RuntimeError, ValueError) as error:
        raise MsdetError(f"{path}: cannot be written ({error})") from error
    with atomic_path(path) as temporary:
        temporary.write_bytes(encoded.getbuffer())


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
    resampled: Array = torchaudio_resample(waveform, from_rate, to_rate).numpy()
    return resampled


def _unreadable(path: Path, error: Exception) -> MsdetError:
    if not path.exists():
        return MsdetError(f"{path}: no such file")
    if _is_shorten(path):
        return MsdetError(
            f"{path}: is compressed with shorten (NIST SPHERE), which cannot be read; convert such files to "
            "WAV, for example with 'sph2pipe -f wav in.wv1 out.wav' or ffmpeg, keeping folders and names"
        )
    return MsdetError(f"{path}: not readable as audio ({str(error).rstrip('.')})")


def _is_shorten(path: Path) -> bool:
    """Whether the header of a NIST SPHERE file, 1024 ASCII characters, says that shorten compressed it."""
    try:
        with path.open("rb") as file:
            header = file.read(1024)
    except OSError:
        return False
    return header.startswith(b"NIST_1A") and b"shorten" in header
