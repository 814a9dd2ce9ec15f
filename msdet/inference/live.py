"""A live stream: from a microphone array, or a file in place of one, to the files that are written of it.

`Microphone` and `FileInput` give chunks; `Session` resamples, separates and stores them, and judges every
second who speaks when, from the levels of the stream so far (`msdet.inference.activity`), unless the model
has the task ``activity``.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from msdet.arrays import MicrophoneArray
from msdet.arrays.recorded import ChannelCountError, choose
from msdet.conventions import Array
from msdet.dsp.filters import Highpass, SpeechBand
from msdet.errors import MsdetError, UnknownNameError
from msdet.inference.activity import Levels, active_frames
from msdet.inference.blocks import FRAME_S, check_highpass
from msdet.inference.results import Scratch
from msdet.inference.sources import FileSource, in_chunks
from msdet.inference.streaming import Streamer, StreamResult
from msdet.inference.tracking import FAINT_S, FrameLog, SlotDirections, talkers_by_azimuth
from msdet.inference.training_range import TrainingRange, at_temperature
from msdet.io.audio import StreamResampler
from msdet.methods.base import Separation

BUFFER_S = 2.0  # what may wait to be computed; beyond it, samples are lost
JUDGED_S = 1.0  # activity is judged for so long at once


class Session:
    """Takes what a device gives at a sample rate, and keeps the voices in it.

    `active` is bool ``(slot,)``: who spoke in the last frame that was judged.
    """

    def __init__(
        self,
        streamer: Streamer,
        sample_rate: int,
        kept: Scratch,
        highpass_hz: float = 0.0,
        training: TrainingRange | None = None,
    ) -> None:
        check_highpass(highpass_hz)
        streamer.reset()
        self._streamer = streamer
        self._resampler = StreamResampler(sample_rate, streamer.model.sample_rate)
        self._highpass = Highpass(highpass_hz, streamer.model.sample_rate)
        self._scratch, self._training = kept, training
        slots = streamer.model.config.talkers
        self._frame = round(FRAME_S * streamer.model.sample_rate)
        self._levels, self._band = Levels(), SpeechBand(streamer.model.sample_rate)
        self._reference: Array = np.zeros((1, 0), dtype=np.float32)
        self._voices: Array = np.zeros((slots, 0), dtype=np.float32)
        self._found: Array = np.zeros((4, slots, 0))  # azimuth, confidence, occupancy, activity
        self._times: Array = np.zeros(0)
        self._judged = 0  # frames of 0.1 s
        self._directions = SlotDirections(slots)
        self._filled = np.zeros(slots, dtype=bool)
        self._frames = FrameLog(4, slots)
        self.active = np.zeros(slots, dtype=bool)

    @property
    def latency_s(self) -> float:
        """Algorithmic latency, that of resampling and of the high-pass included."""
        return self._streamer.latency_s + self._resampler.delay_s + self._highpass.delay_s

    def push(self, chunk: Array) -> StreamResult | None:
        """Take the next samples ``(mic, time)``; what the model gives, None if it was given nothing yet."""
        samples = self._highpass.push(self._resampler.push(chunk))
        return self._process(samples) if samples.shape[1] else None

    def finish(self) -> None:
        """Take the end of the stream."""
        rest = self._resampler.finish()
        if rest is not None and rest.shape[1]:
            rest = self._highpass.push(rest)
        for samples in (rest, self._highpass.finish()):
            if samples is not None and samples.shape[1]:
                self._process(samples)
        self._store(self._streamer.finish())
        self._judge(self._voices.shape[1])

    def talkers(self) -> tuple[Array, Separation]:
        """After `finish`: slots ``(talker,)`` ascending in azimuth, and the talkers in that order."""
        frame_s = self._frame / self._streamer.model.sample_rate
        slots, found = talkers_by_azimuth(self._directions, self._filled, self._frames, frame_s)
        return slots, at_temperature(found, self.strangeness()[1])

    def strangeness(self) -> tuple[tuple[str, ...], float]:
        """How far from the model's training all this was (`TrainingRange.compare`)."""
        return ((), 1.0) if self._training is None else self._training.compare(self._streamer.model.array, self._levels)

    def _process(self, samples: Array) -> StreamResult:
        reference = self._streamer.model.array.reference
        self._reference = np.concatenate([self._reference, samples[[reference]]], axis=1)
        result = self._streamer.push(samples)
        self._store(result)
        while self._voices.shape[1] >= (step := round(JUDGED_S / FRAME_S) * self._frame):
            self._judge(step)
        return result

    def _store(self, result: StreamResult) -> None:
        self._scratch.append(result.estimates)
        self._voices = np.concatenate([self._voices, result.estimates], axis=1)
        activity = np.zeros_like(result.confidence) if result.activity is None else result.activity
        found = np.stack([result.azimuth_deg, result.confidence, result.occupancy, activity])
        self._found = np.concatenate([self._found, found], axis=-1)
        self._times = np.concatenate([self._times, result.time_s])
        self._has_activity = result.activity is not None

    def _judge(self, samples: int) -> None:
        """Tell who speaks in so many samples, and where they are, in frames of 0.1 s."""
        if not samples:
            return
        voices, reference = self._voices[:, :samples], self._reference[0, :samples]
        frames = -(-samples // self._frame)
        centers = (self._judged + np.arange(frames) + 0.5) * (self._frame / self._streamer.model.sample_rate)
        place = np.clip(np.searchsorted(self._times, centers), 0, len(self._times) - 1)
        azimuth_deg, confidence, occupancy, activity = self._found[..., place]
        self._levels.add(self._band(reference[None])[0], self._frame)
        if not self._has_activity:
            activity = active_frames(
                voices, reference, len(voices), self._levels, self._streamer.model.sample_rate, self._frame
            ).astype(np.float64)
        there = occupancy > 0.5
        there[occupancy.argmax(axis=0), np.arange(frames)] = True  # never none
        activity = activity * there
        self._filled |= there.any(axis=1)
        for slot, active_s in enumerate(FRAME_S * (activity >= 0.5).sum(axis=1)):
            if there[slot, -1]:
                weight = max(float(active_s), FAINT_S)
                self._directions.add(slot, weight, float(azimuth_deg[slot, -1]), float(confidence[slot, -1]))
        known = np.where(there, (azimuth_deg, confidence, np.full_like(confidence, np.nan)), np.nan)
        self._frames.append(np.concatenate([known, activity[None]]))
        self.active = activity[:, -1] >= 0.5
        self._judged += frames
        self._voices, self._reference = self._voices[:, samples:].copy(), self._reference[:, samples:].copy()
        later = max(0, int(place[-1]) - 1)
        self._found, self._times = self._found[..., later:].copy(), self._times[later:].copy()


class FileInput:
    """A file in place of a microphone; `fast`, it does not wait for the time to pass.

    Its channels are chosen by `msdet.arrays.recorded.choose`.
    """

    def __init__(
        self, path: Path, chunk_s: float, fast: bool, array: MicrophoneArray, channels: Sequence[int] | None = None
    ) -> None:
        self._source = FileSource(path)
        self.name = path.name
        self.sample_rate = self._source.sample_rate
        self.overruns = 0
        self._chunk = max(1, round(chunk_s * self.sample_rate))
        self._fast = fast
        chosen = choose(str(path), self._source.channels, array, channels)
        self._source, self.taken = self._source.taking(chosen.numbers), chosen.words

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
        """The chosen channels; where the file ends early, what there is of it, then the error."""
        failure: MsdetError | None = None

        def readable() -> Iterator[Array]:
            nonlocal failure
            try:
                yield from self._source.pieces()
            except MsdetError as error:
                failure = error

        yield from in_chunks(readable(), self._chunk)
        if failure:
            raise failure


class Microphone:
    """An input device of this computer, by number or part of its name; the system's default if not given.

    The channels given are taken, counted from 0, or those that are known of the array's device, or else the first ones.
    Samples that wait too long are dropped and counted.
    """

    def __init__(
        self,
        device: str | None,
        chunk_s: float,
        array: MicrophoneArray,
        channels: Sequence[int] | None = None,
        rate: int | None = None,
    ) -> None:
        self._sounddevice = sounddevice()
        found = _find(device)
        self.name = f"{found['index']}: {found['name']}"
        self.sample_rate = round(rate or found["default_samplerate"])
        self.overruns = 0
        name, there = f"device {self.name}", int(found["max_input_channels"])
        try:
            chosen = choose(name, there, array, channels)
        except ChannelCountError:
            chosen = choose(name, there, array, range(array.microphones))
        self._channels, self.taken = list(chosen.numbers), chosen.words
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


Input = FileInput | Microphone
"""Where chunks come from, called by its name; overruns are the times that the computer was too slow for it, `taken`
are its channels in words if not all."""


def sounddevice() -> Any:
    """The package that reads devices; an `MsdetError` if it, or PortAudio, which it needs, is not installed."""
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
    """Devices with inputs, as sounddevice describes them."""
    return [device for device in sounddevice().query_devices() if device["max_input_channels"] > 0]


def _find(device: str | None) -> dict[str, Any]:
    """An input device by number or part of its name; the default one if not given."""
    devices = input_devices()
    if device is None:
        default = sounddevice().default.device[0]
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
