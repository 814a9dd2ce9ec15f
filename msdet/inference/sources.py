"""Recordings as they come: looked through once before anything is separated, then read in pieces.

The first pass costs a reading of the file and finds what a user should know: channels that are dead, clipped
or offset, a file that is cut short or holds NaN, and how loud speech and noise are. The second pass gives the
mixture at the rate that a system works at, its offset and rumble removed.
"""

from __future__ import annotations

import copy
import dataclasses
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array
from msdet.dsp.filters import Highpass, SpeechBand
from msdet.errors import MsdetError
from msdet.inference.activity import Levels
from msdet.inference.blocks import FRAME_S
from msdet.inference.channel_faults import ChannelFault, ChannelWatch, name_channels
from msdet.io import audio

MIN_S = 0.1
DEAD_DB = -60.0  # a channel this far below the median channel is dead
OFFSET_DB = -30.0  # a mean this strong relative to a channel's level is an offset, and removed
OFFSET_TOLD = 1e-3  # of full scale, 33 steps of 16 bits: from here on an offset is worth a word
MAX_SAMPLE = 1e10  # full scale is 1, or that of 32-bit integers; beyond this, squares of spectra would overflow
CLIPPED_SHARE = 1e-4  # of a channel's samples that repeat its peak; from here on it is clipped
_MIN_CLIPPED = 10
AMBISONIC = "directions are found from the delays between microphones apart: record those themselves (A-format)"
_PIECE_S = 4.0
_PIECE_SAMPLES = 1 << 22  # of all channels of a piece: some 16 MB, and what is computed of it a few times that


def _piece_frames(sample_rate: int, channels: int) -> int:
    """Frames of the pieces that a recording is read in, shorter ones of very many channels."""
    return max(1, min(round(_PIECE_S * sample_rate), _PIECE_SAMPLES // channels))


class FileSource:
    """A recording in a file of any format that soundfile reads, called by its path in messages if not by a name.

    `numbers` are those of its channels in the file.
    """

    def __init__(self, path: Path, name: str = "") -> None:
        self._path = path
        self.name = name or str(path)
        if path.is_dir():
            raise MsdetError(f"{self.name}: is a folder, expected an audio file")
        with self._named():
            header = audio.info(path)
        if audio.is_b_format(path):
            raise MsdetError(f"{self.name}: is ambisonic B-format, not of microphones; {AMBISONIC}")
        self.sample_rate = header.sample_rate
        self._there, self._most = header.channels, sys.maxsize
        self.numbers = tuple(range(header.channels))

    @property
    def channels(self) -> int:
        """How many."""
        return len(self.numbers)

    def taking(self, numbers: Sequence[int]) -> FileSource:
        """The same of some of the file's channels, in the order given."""
        source = copy.copy(self)
        source.numbers = tuple(numbers)
        return source

    def beginning(self, seconds: float) -> FileSource:
        """The same, but only so much from its start."""
        source = copy.copy(self)
        source._most = round(seconds * self.sample_rate)
        return source

    def pieces(self) -> Iterator[Array]:
        """The recording from its start, ``(mic, time)`` float32."""
        whole = self.numbers == tuple(range(self._there))
        with self._named():
            left = self._most
            for piece in audio.pieces(self._path, _piece_frames(self.sample_rate, self._there)):
                yield (piece if whole else piece[list(self.numbers)])[:, :left]
                left -= piece.shape[-1]
                if left <= 0:
                    return

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Errors that call the recording by its name."""
        try:
            yield
        except MsdetError as error:
            raise MsdetError(str(error).replace(str(self._path), self.name)) from error


@dataclass(frozen=True)
class MemorySource:
    """A recording in memory, ``(mic, time)`` float32, and what it is called in messages."""

    mixture: Array
    sample_rate: int
    name: str = "mixture"

    @property
    def channels(self) -> int:
        """How many."""
        return len(self.mixture)

    @property
    def numbers(self) -> tuple[int, ...]:
        """Of its channels."""
        return tuple(range(len(self.mixture)))

    def taking(self, numbers: Sequence[int]) -> MemorySource:
        """The same of some of its channels, in the order given."""
        return MemorySource(self.mixture[list(numbers)], self.sample_rate, self.name)

    def beginning(self, seconds: float) -> MemorySource:
        """The same, but only so much from its start."""
        return MemorySource(self.mixture[:, : round(seconds * self.sample_rate)], self.sample_rate, self.name)

    def pieces(self) -> Iterator[Array]:
        """The recording, ``(mic, time)`` float32, in pieces."""
        if not np.isfinite(self.mixture).all():
            raise MsdetError(f"{self.name}: holds NaN or infinite samples")
        step = _piece_frames(self.sample_rate, max(1, len(self.mixture)))
        for start in range(0, self.mixture.shape[-1], step):
            yield self.mixture[:, start : start + step]


RecordingSource = FileSource | MemorySource
"""A recording that can be read more than once."""


@dataclass(frozen=True)
class Scan:
    """What the first pass finds."""

    samples: int
    sample_rate: int
    offset: Array  # mean (mic,) to remove; zero where it is slight
    dead: tuple[int, ...]  # channels without a signal
    faults: tuple[ChannelFault, ...]  # of channels over time
    reference: int  # the array's reference microphone, or the nearest one that is as it should be
    levels: Levels  # there, at the rate to work at
    warnings: tuple[str, ...]  # what a user should know, one line each

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.samples / self.sample_rate

    @property
    def left_out(self) -> tuple[int, ...]:
        """Channels that spoil the others, ascending."""
        return tuple(sorted({*self.dead, *(channel for fault in self.faults for channel in fault.channels)}))


@dataclass
class ChannelSums:
    """What is summed up over the pieces of a recording, by channel ``(mic,)``."""

    samples: int = 0
    sum: Array | float = 0.0
    square: Array | float = 0.0
    peak: Array | float = 0.0
    flat: Array | float = 0.0
    """Samples that repeat the one before at the peak: a clipped signal stays there."""

    def add(self, piece: Array) -> None:
        """Add the next piece ``(mic, time)``."""
        self.samples += piece.shape[-1]
        self.sum = self.sum + piece.sum(axis=1, dtype=np.float64)
        self.square = self.square + np.square(piece, dtype=np.float64).sum(axis=1)
        size = np.abs(piece)
        peak = np.maximum(self.peak, size.max(axis=1))
        at_peak = (size[:, 1:] >= 0.999 * peak[:, None]) & (piece[:, 1:] == piece[:, :-1])
        grown = peak > 1.001 * np.asarray(self.peak)
        self.flat = np.where(grown, 0, self.flat) + at_peak.sum(axis=1)
        self.peak = peak

    @property
    def mean(self) -> Array:
        """Mean."""
        return np.asarray(self.sum / self.samples)

    @property
    def power(self) -> Array:
        """Mean square without the mean; 0 of a constant."""
        power: Array = np.maximum(np.asarray(self.square) / self.samples - self.mean**2, 0.0)
        power[power < 1e-12 * self.mean**2] = 0.0  # a constant, but for rounding
        return power

    @property
    def dead(self) -> tuple[int, ...]:
        """Channels far weaker than the median."""
        limit = np.median(self.power) * 10 ** (DEAD_DB / 10)
        return tuple(int(c) for c in np.flatnonzero(self.power <= limit))

    @property
    def offset(self) -> Array:
        """Mean that stands out from the signal; 0 where it is slight."""
        with np.errstate(divide="ignore"):
            offset_db = 10 * np.log10(self.mean**2 / np.maximum(self.power, 1e-20))
        stands_out = (offset_db > OFFSET_DB) & (np.abs(self.mean) > 1e-5)
        return np.where(stands_out, self.mean, 0.0).astype(np.float32)

    @property
    def offset_told(self) -> Array:
        """The same where it is large enough to say that something is wrong with an input."""
        return np.where(np.abs(self.offset) >= OFFSET_TOLD, self.offset, 0.0)

    @property
    def clipped_share(self) -> Array:
        """Share of the samples that repeat the peak; 0 where they are too few to be clipping."""
        share = np.asarray(self.flat) / self.samples
        clipped = (share > CLIPPED_SHARE) & (np.asarray(self.flat) >= _MIN_CLIPPED) & (self.power > 0)
        return np.where(clipped, share, 0.0)


def check_channels(source: RecordingSource, array: MicrophoneArray) -> None:
    """Refuse a recording that has not a channel for each microphone of an array."""
    if source.channels != array.microphones:
        channels = f"{source.channels} channel{'s' * (source.channels != 1)}"
        mono = ": one microphone has no directions" if source.channels == 1 else ""
        raise MsdetError(f"{source.name}: has {channels}, the array '{array.name}' has {array.microphones}{mono}")


def check_length(source: RecordingSource, samples: int) -> None:
    """Refuse a recording that is empty, or shorter than `MIN_S`, too short to say anything of it."""
    seconds = samples / source.sample_rate
    if not samples:
        raise MsdetError(f"{source.name}: has no samples")
    if seconds < MIN_S:
        raise MsdetError(f"{source.name}: is {seconds:.3f} s long, expected at least {MIN_S:g} s")


def scan(source: RecordingSource, array: MicrophoneArray, sample_rate: int) -> Scan:
    """Look through a recording that should be of an array, to be worked on at a sample rate.

    Refuses a recording that is not of this array, too short, silent, or at a rate that has nothing to do with
    `sample_rate`; and samples far beyond full scale.
    """
    check_channels(source, array)
    try:
        audio.StreamResampler(source.sample_rate, sample_rate)
    except MsdetError as error:
        raise MsdetError(f"{source.name}: {error}") from error
    sums, watch = ChannelSums(), ChannelWatch(array, source.sample_rate, source.numbers)

    def watched() -> Iterator[Array]:
        for piece in source.pieces():
            sums.add(piece)
            watch.add(piece)
            yield piece

    levels = _levels(watched(), array.reference, source.sample_rate, sample_rate)
    check_length(source, sums.samples)
    found = _judged(source, array, sample_rate, sums, watch.faults(), levels)
    if found.reference != array.reference:
        again = _levels(source.pieces(), found.reference, source.sample_rate, sample_rate)
        found = dataclasses.replace(found, levels=again)
    return found


def _levels(pieces: Iterable[Array], channel: int, from_rate: int, to_rate: int) -> Levels:
    """How loud a channel of pieces ``(mic, time)`` is, once it is at the rate to work at."""
    levels, frame, band = Levels(), round(FRAME_S * to_rate), SpeechBand(to_rate)
    for chunk in in_chunks(resampled((piece[[channel]] for piece in pieces), from_rate, to_rate), 40 * frame):
        levels.add(band(chunk)[0], frame)
    return levels


def _judged(
    source: RecordingSource,
    array: MicrophoneArray,
    sample_rate: int,
    sums: ChannelSums,
    faults: tuple[ChannelFault, ...],
    levels: Levels,
) -> Scan:
    if (largest := float(np.max(sums.peak))) > MAX_SAMPLE:
        raise MsdetError(f"{source.name}: has samples up to {largest:.2g}, expected full scale 1")
    numbers = np.array(source.numbers)
    if not sums.power.any():
        raise MsdetError(f"{source.name}: is silent")
    dead, offset, told, clipped = sums.dead, sums.offset, sums.offset_told, sums.clipped_share
    if len(dead) > source.channels - 2:
        raise MsdetError(
            f"{source.name}: {source.channels - len(dead)} of {source.channels} channels has a signal, "
            "expected at least 2"
        )
    warnings = []
    if dead:
        warnings.append(f"{name_channels(numbers[list(dead)])} dead")
    warnings += [fault.text for fault in faults]
    if clipped.any():
        channels = name_channels(numbers[clipped > 0])
        warnings.append(f"{channels} clipped (up to {100 * clipped.max():.2g} % of the samples)")
    if told.any():
        largest = float(np.abs(told).max())
        warnings.append(f"{name_channels(numbers[told != 0])} offset by up to {largest:.2g}; removed")
    if source.sample_rate < sample_rate:
        warnings.append(
            f"at {source.sample_rate} Hz, below the model's {sample_rate} Hz: it hears nothing above "
            f"{source.sample_rate // 2} Hz, and may do worse"
        )
    named = tuple(f"{source.name}: {warning}" for warning in warnings)
    found = Scan(sums.samples, source.sample_rate, offset, dead, faults, array.reference, levels, named)
    alive = [m for m in range(array.microphones) if m not in found.left_out]
    if len(alive) < 2 or array.reference in alive:
        return found
    return dataclasses.replace(found, reference=min(alive, key=lambda m: array.distances_m[array.reference, m]))


def prepared(source: RecordingSource, found: Scan, sample_rate: int, highpass_hz: float = 0.0) -> Iterator[Array]:
    """The mixture ``(mic, time)`` in pieces at the rate to work at, without its offset and what is below a cutoff."""
    offset = found.offset[:, None] if found.offset.any() else None
    pieces = source.pieces() if offset is None else (piece - offset for piece in source.pieces())
    return _through(Highpass(highpass_hz, sample_rate), resampled(pieces, source.sample_rate, sample_rate))


def resampled(pieces: Iterable[Array], from_rate: int, to_rate: int) -> Iterator[Array]:
    """Pieces ``(channel, time)`` at another rate."""
    return _through(audio.StreamResampler(from_rate, to_rate), pieces)


def _through(filtering: audio.StreamResampler | Highpass, pieces: Iterable[Array]) -> Iterator[Array]:
    """Pieces ``(channel, time)`` through what takes and gives pieces."""
    for piece in pieces:
        given = filtering.push(piece)
        if given.shape[-1]:
            yield given
    rest = filtering.finish()
    if rest is not None and rest.shape[-1]:
        yield rest


def in_chunks(pieces: Iterable[Array], size: int) -> Iterator[Array]:
    """A signal that comes in pieces ``(channel, time)`` in chunks of so many samples, the last of what is left."""
    waiting: list[Array] = []
    count = 0
    for piece in pieces:
        waiting.append(piece)
        count += piece.shape[-1]
        if count >= size:
            joined = np.concatenate(waiting, axis=-1)
            whole = count // size * size
            for start in range(0, whole, size):
                yield joined[:, start : start + size]
            waiting, count = [joined[:, whole:]], count - whole
    if count:
        yield np.concatenate(waiting, axis=-1)
