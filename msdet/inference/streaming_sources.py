"""What a stream comes from: a microphone array on this computer, or a file that stands in for one."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from msdet.conventions import Array
from msdet.errors import MsdetError, UnknownNameError
from msdet.inference.sources import FileSource

BUFFER_S = 2.0
"""What may wait to be computed; beyond it, samples are lost."""


class Input(Protocol):
    """Where chunks come from.

    Attributes:
        name: for people.
        sample_rate: hertz.
        overruns: times that the computer was too slow, by which samples of a device are lost.
    """

    name: str
    sample_rate: int
    overruns: int

    def chunks(self) -> Iterator[Array]:
        """Chunks ``(mic, time)`` float32, until the input ends; one without samples where none come."""
        ...


class FileInput:
    """A file in place of a microphone.

    Args:
        path: a recording.
        chunk_s: length of a chunk.
        fast: do not wait for the time to pass.
        count: channels that it must have if `channels` is not given.
        channels: those to take.

    Raises:
        MsdetError: the file cannot be read, has another number of channels, or no such channel.
    """

    def __init__(self, path: Path, chunk_s: float, fast: bool, count: int, channels: list[int] | None = None) -> None:
        self._source = FileSource(path)
        self.name = path.name
        self.sample_rate = self._source.sample_rate
        self.overruns = 0
        self._chunk = max(1, round(chunk_s * self.sample_rate))
        self._fast = fast
        there = self._source.channels
        if channels is None and there != count:
            choose = f"; choose the array's, for example --channels {','.join(map(str, range(count)))}"
            raise MsdetError(
                f"{path}: has {there} channel{'s' * (there != 1)}, the array has {count} microphones"
                f"{choose if there > count else ''}"
            )
        self._channels = chosen(list(range(count)) if channels is None else channels, there, str(path))

    def chunks(self) -> Iterator[Array]:
        """Chunks ``(mic, time)``, each as soon as it had been recorded."""
        start_s = time.monotonic()
        done = 0
        late = False
        for chunk in self._pieces():
            done += chunk.shape[1]
            early_s = start_s + done / self.sample_rate - time.monotonic()
            if not self._fast and early_s > 0:
                time.sleep(early_s)
            was, late = late, not self._fast and early_s < -BUFFER_S
            self.overruns += late and not was
            yield chunk

    def _pieces(self) -> Iterator[Array]:
        rest: Array = np.zeros((len(self._channels), 0), dtype=np.float32)
        failure: MsdetError | None = None
        try:
            for piece in self._source.pieces():
                rest = np.concatenate([rest, piece[self._channels]], axis=1)
                whole = rest.shape[1] // self._chunk * self._chunk
                for start in range(0, whole, self._chunk):
                    yield rest[:, start : start + self._chunk]
                rest = rest[:, whole:]
        except MsdetError as error:
            failure = error
        if rest.shape[1]:
            yield rest
        if failure:
            raise failure


class Microphone:
    """An input device of this computer; samples that wait too long are dropped and counted.

    Args:
        device: number or part of a name; the system's default if not given.
        chunk_s: length of a chunk.
        count: channels to take if `channels` is not given: the first.
        channels: those to take, counted from 0.
        sample_rate: hertz; the device's own if not given.

    Raises:
        MsdetError: no such device or channel, or it cannot be opened.
    """

    def __init__(
        self,
        device: str | None,
        chunk_s: float,
        count: int,
        channels: list[int] | None = None,
        sample_rate: int | None = None,
    ) -> None:
        self._sounddevice = sounddevice()
        found = _find(self._sounddevice, device)
        self.name = f"{found['index']}: {found['name']}"
        self.sample_rate = round(sample_rate or found["default_samplerate"])
        self.overruns = 0
        wanted = list(range(count)) if channels is None else channels
        self._channels = chosen(wanted, int(found["max_input_channels"]), f"device {self.name}")
        self._index = found["index"]
        self._chunk = max(1, round(chunk_s * self.sample_rate))
        self._waiting: queue.Queue[Array] = queue.Queue(max(1, round(BUFFER_S / chunk_s)))

    def chunks(self) -> Iterator[Array]:
        """Chunks ``(mic, time)`` from now on, one without samples twice a second if none come; no end."""
        try:
            with self._sounddevice.InputStream(
                device=self._index,
                channels=max(self._channels) + 1,
                samplerate=self.sample_rate,
                blocksize=self._chunk,
                dtype="float32",
                callback=self._take,
            ) as stream:
                while stream.active or not self._waiting.empty():
                    try:
                        yield self._waiting.get(timeout=0.5)
                    except queue.Empty:
                        yield np.zeros((len(self._channels), 0), dtype=np.float32)
        except self._sounddevice.PortAudioError as error:
            reason = " ".join(str(error).split())
            raise MsdetError(f"device {self.name} cannot be used at {self.sample_rate} Hz ({reason})") from error
        raise MsdetError(f"device {self.name} stopped")

    def _take(self, samples: Array, frames: int, times: object, status: Any) -> None:
        """Called by PortAudio, in a thread of its own, with ``(time, channel)``."""
        if status.input_overflow:
            self.overruns += 1
        try:
            self._waiting.put_nowait(np.ascontiguousarray(samples[:, self._channels].T))
        except queue.Full:
            self.overruns += 1


def sounddevice() -> Any:
    """The package that reads devices.

    Raises:
        MsdetError: it is not installed, or PortAudio, which it needs, is not.
    """
    try:
        import sounddevice as found
    except ModuleNotFoundError as error:
        raise MsdetError("msdet live needs sounddevice: pip install 'msdet[live]'") from error
    except OSError as error:
        raise MsdetError(
            f"msdet live needs PortAudio ({error}): install it, for example by 'apt install libportaudio2',"
            " or give --file"
        ) from error
    return found


def input_devices() -> list[dict[str, Any]]:
    """Devices with inputs, as sounddevice describes them.

    Raises:
        MsdetError: sounddevice or PortAudio is not installed.
    """
    return _inputs(sounddevice())


def chosen(channels: list[int], there: int, name: str) -> list[int]:
    """Channels to take.

    Raises:
        MsdetError: one that is not there.
    """
    for channel in channels:
        if not 0 <= channel < there:
            raise MsdetError(f"{name} has no channel {channel}: it has {there}, counted from 0")
    return channels


def _inputs(package: Any) -> list[dict[str, Any]]:
    return [device for device in package.query_devices() if device["max_input_channels"] > 0]


def _find(package: Any, device: str | None) -> dict[str, Any]:
    """An input device by number or part of its name; the default one if not given."""
    devices = _inputs(package)
    if device is None:
        default = package.default.device[0]
        matching = [found for found in devices if found["index"] == default] or devices[:1]
    elif device.isdecimal():
        matching = [found for found in devices if found["index"] == int(device)]
    else:
        matching = [found for found in devices if device.lower() in found["name"].lower()]
    if not devices or (device is None and not matching):
        raise MsdetError("no input device is connected; --file stands in for one")
    if len(matching) > 1:
        numbers = ", ".join(f"{found['index']}: {found['name']}" for found in matching)
        raise MsdetError(f"device '{device}' is one of several: {numbers}; give its number")
    if not matching:
        raise UnknownNameError("input device", device or "", [found["name"] for found in devices])
    return matching[0]
