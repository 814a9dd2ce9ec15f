"""``msdet live``."""

from __future__ import annotations

import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from msdet.commands._live_display import CLIPPED, Shown, display
from msdet.errors import MsdetError

if TYPE_CHECKING:
    from msdet.conventions import Array
    from msdet.inference.live import Input, Session
    from msdet.inference.results import Scratch
    from msdet.inference.streaming import Streamer, StreamResult
    from msdet.models.joint import JointModel

RECORDING_FILE = "input.wav"
SPARE_BYTES = 1_000_000  # left free on the disk, for tables, when a recording ends since it is full
_FAST_S = 0.5  # length of a chunk where nobody waits for it


def live(
    model: Path | None = None,
    out: Path | None = None,
    input: str | None = None,
    channels: str | None = None,
    rate: int | None = None,
    file: Path | None = None,
    fast: bool = False,
    seconds: float | None = None,
    record: bool = False,
    subtype: str = "PCM_16",
    highpass_hz: float = 60.0,
    array: str | None = None,
    device: str = "cpu",
    threads: int = 1,
    inputs: bool = False,
) -> None:
    """Separate and localize what a microphone array hears, as it hears it.

    The model must be causal in all its parts; `msdet train --config streaming` makes one, and `msdet info`
    says whether a model is. Shows level meters and directions in the terminal. Ctrl-C ends it, as do SIGTERM,
    a terminal that is closed, and a device that stops; then a WAV file a talker (ascending in azimuth),
    doa.json and talkers.rttm are complete, as `msdet separate` writes them. An earlier recording of a device
    is never overwritten.

    Args:
        model: checkpoint directory, package (.tar) or name of a shipped model; may come first, unnamed.
        out: folder for talker1.wav and so on.
        input: number or part of the name of an input device; the system's default if not given.
        channels: the array's microphones, from 0, as 1-4 or 0,2,5; else a shipped array's, a device's first, or all.
        rate: sample rate of the device in hertz; its default if not given. Resampled to the model's.
        file: a recording that stands in for the device.
        fast: with a file, do not wait for the time to pass.
        seconds: end after so long.
        record: also write what was heard, input.wav.
        subtype: sample format of files, for example PCM_16 or FLOAT.
        highpass_hz: take away what is below before anything is separated: rumble, wind, most of a mains hum;
            0 for nothing. Adds a latency of 41 ms, and less with a higher one.
        array: another array than the model was trained on, if its parts allow that.
        device: to compute on: cpu, cuda or, for one of several GPUs, cuda:1.
        threads: cores to compute on.
        inputs: only list the input devices.
    """
    from msdet.commands._inference import computing, load_on
    from msdet.inference.streaming import Streamer
    from msdet.models.packages import require_own_array

    if inputs:
        _list_inputs()
        return
    if model is None or out is None:
        raise MsdetError(f"give {'--model (a checkpoint directory)' if model is None else '--out (a folder)'}")
    _check_nothing_is_lost(out, record, of_device=file is None)
    joint = load_on(device, model, array, hint="; a microphone is chosen by --input")
    if array is None:
        require_own_array(joint.config.front_end, model)
    streamer = Streamer(joint)
    source = _source(streamer.model, input, channels, rate, file, fast)
    with computing(threads):
        _Live(streamer, source, str(model), seconds, record, subtype, highpass_hz).run(out)


def _list_inputs() -> None:
    from msdet.inference.live import input_devices

    for found in input_devices():
        size = f"{found['max_input_channels']} channels, {found['default_samplerate']:.0f} Hz"
        print(f"{found['index']}: {found['name']}, {size}")


def _check_nothing_is_lost(out: Path, record: bool, of_device: bool) -> None:
    """Refuse to write over what was recorded once and cannot be again."""
    from msdet.inference.results import DOA_FILE

    for name in [DOA_FILE] * of_device + [RECORDING_FILE] * (of_device or record):
        if (out / name).exists():
            raise MsdetError(f"{out}: holds {name} of an earlier recording; give another folder")


def _source(
    model: JointModel, input: str | None, channels: str | None, rate: int | None, file: Path | None, fast: bool
) -> Input:
    """The device, or the file that stands in for it."""
    from msdet.arrays.recorded import parse_channels
    from msdet.inference.live import FileInput, Microphone

    if file is not None and (input is not None or rate is not None):
        raise MsdetError(f"give either --file or --{'rate' if input is None else 'input'}")
    if file is None and fast:
        raise MsdetError("--fast is for --file: a device gives sound as the time passes")
    array, chunk_s = model.array, model.stft.hop / model.sample_rate
    wanted = None if channels is None else parse_channels(channels)
    if wanted is not None and len(wanted) != array.microphones:
        raise MsdetError(f"channels names {len(wanted)}, the array '{array.name}' has {array.microphones}")
    if file is None:
        return Microphone(input, chunk_s, array, wanted, rate)
    return FileInput(file, _FAST_S if fast else chunk_s, fast, array, wanted)


def _has_room(out: Path, *kept: Scratch | None) -> bool:
    """Whether the disk still holds files of all that was kept, with something to spare."""
    needed = sum(scratch.bytes for scratch in kept if scratch is not None)
    return shutil.disk_usage(out).free > needed + SPARE_BYTES


class _Live:
    """Runs a stream from a source into a folder, for so many seconds or to its end."""

    def __init__(
        self,
        streamer: Streamer,
        source: Input,
        name: str,
        seconds: float | None,
        record: bool,
        subtype: str,
        highpass_hz: float,
    ) -> None:
        from msdet.inference.channel_faults import ChannelWatch
        from msdet.inference.sources import ChannelSums
        from msdet.inference.training_range import TrainingRange
        from msdet.io import audio
        from msdet.models.checkpoint import read_description

        if seconds is not None and not seconds > 0:
            raise MsdetError(f"seconds is {seconds:g}, expected above 0")
        audio.check_subtype(subtype)
        self.streamer, self.source, self.name = streamer, source, name
        self.seconds, self.record, self.subtype, self.highpass_hz = seconds, record, subtype, highpass_hz
        self.training = TrainingRange.of(read_description(name))
        self.heard_s = self.busy_s = 0.0
        self.clipped = np.zeros(streamer.model.array.microphones, dtype=bool)
        self.sums, self.watch = ChannelSums(), ChannelWatch(streamer.model.array, source.sample_rate)
        self.failure = ""

    def run(self, out: Path) -> None:
        """Until the source ends or fails, the time is over, or Ctrl-C.

        Where the source fails, the error comes after all is written.
        """
        from msdet.inference.live import Session
        from msdet.inference.results import scratch

        with ExitStack() as stack:
            kept = stack.enter_context(scratch(out))
            session = Session(self.streamer, self.source.sample_rate, kept, self.highpass_hz, self.training)
            recording = stack.enter_context(scratch(out)) if self.record else None
            latency_ms = 1e3 * session.latency_s
            taken = f", {self.source.taken}" * bool(self.source.taken)
            array, rate = self.streamer.model.array.name, self.source.sample_rate
            print(f"{self.source.name}{taken}, taken as of the array '{array}'")
            print(f"{rate} Hz; algorithmic latency {latency_ms:.1f} ms")
            with _interruptible() as interrupted:
                self._listen(session, recording, interrupted, lambda: _has_room(out, kept, recording))
                if not self.heard_s:
                    raise MsdetError(f"{self.source.name}: nothing was heard")
                if interrupted():
                    print("writing; Ctrl-C again gives up what was heard", file=sys.stderr)
                session.finish()
                self._write(out, session, kept, recording)
        if self.failure:
            raise MsdetError(f"{self.failure}; {out} holds what was heard until then")

    def _chunks(self) -> Iterator[Array]:
        """Of the source; where it fails after something was heard, that is the end."""
        try:
            for chunk in self.source.chunks():
                if not np.isfinite(chunk).all():
                    raise MsdetError(f"{self.source.name}: gave NaN or infinite samples")
                yield chunk
        except MsdetError as error:
            if not self.heard_s:
                raise
            self.failure = str(error)

    def _listen(
        self, session: Session, recording: Scratch | None, interrupted: Callable[[], bool], has_room: Callable[[], bool]
    ) -> None:
        peak = np.zeros(len(self.clipped), dtype=np.float32)
        with display() as show:
            for chunk in self._chunks():
                if not has_room():
                    self.failure = "the disk is full"
                    return
                start_s = time.perf_counter()
                if chunk.shape[1]:
                    result = session.push(chunk)
                    if recording is not None:
                        recording.append(chunk)
                    self.sums.add(chunk)
                    self.watch.add(chunk)
                    now = np.abs(chunk).max(axis=1)
                    peak = np.maximum(0.9 * peak, now)  # meters fall slowly
                    self.clipped |= now >= CLIPPED
                    self.heard_s += chunk.shape[1] / self.source.sample_rate
                    self.busy_s += time.perf_counter() - start_s
                    if result is not None and len(result.time_s):
                        show(partial(self._shown, peak, result, session.active))
                over = self.seconds is not None and self.heard_s >= self.seconds
                if over or interrupted():
                    return

    def _shown(self, peak: Array, result: StreamResult, active: Array) -> Shown:
        return Shown(
            self.heard_s,
            peak,
            result.azimuth_deg[:, -1].tolist(),
            result.confidence[:, -1].tolist(),
            active.tolist(),
            self.source.overruns,
            self.busy_s / self.heard_s,
        )

    def _write(self, out: Path, session: Session, kept: Scratch, recording: Scratch | None) -> None:
        """Write all files, and say what is in them."""
        from msdet.inference import results
        from msdet.io import audio

        model = self.streamer.model
        slots, talkers = session.talkers()
        files, gain = results.write_voices(out, kept, slots, model.sample_rate, self.subtype)
        if recording is not None and recording.samples:
            size = (self.source.sample_rate, recording.samples, self.subtype, len(recording.peak))
            with audio.writer(out / RECORDING_FILE, *size) as append:
                for piece in recording.pieces():
                    append(piece)
        warnings = self._warnings(session.strangeness()[0])
        for warning in warnings:
            print(f"warning: {warning}", file=sys.stderr)
        notes = {
            "sample_rate": model.sample_rate,
            "gain": round(gain, 6),
            "recording": self.source.name,
            "separated_by": self.name,
            "latency_s": round(session.latency_s, 6),
            "overruns": self.source.overruns,
            "warnings": warnings,
        }
        described = results.description(talkers, model.array, notes, files)
        results.write_tables(out, described, talkers, Path(self.source.name).stem)
        for found in described["talkers"]:
            azimuth = "unknown" if found["azimuth_deg"] is None else f"{found['azimuth_deg']:5.1f}°"
            print(f"{out / found['file']}  azimuth {azimuth}  speaks {found['active_s']:.1f} s")
        busy = self.busy_s / max(self.heard_s, 1e-9)
        print(f"{self.heard_s:.1f} s, {self.source.overruns} overruns, real-time factor {busy:.2f}")

    def _warnings(self, far: tuple[str, ...]) -> list[str]:
        """What a user should know of what was heard."""
        from msdet.inference.channel_faults import name_channels
        from msdet.inference.live import FileInput

        sums, found = self.sums, []
        if dead := sums.dead:
            reference = self.streamer.model.array.reference
            worse = f", and channel {reference} is the reference microphone" if reference in dead else ""
            found.append(f"{name_channels(dead)} dead{worse}: expect much worse voices")
        found += [f"{fault.text}: expect worse voices" for fault in self.watch.faults()]
        if self.clipped.any():
            found.append(f"{name_channels(np.flatnonzero(self.clipped))} clipped")
        if sums.offset.any():
            largest = float(np.abs(sums.offset).max())
            found.append(f"{name_channels(np.flatnonzero(sums.offset))} offset by up to {largest:.2g}")
        if self.source.overruns:
            lost = "of a device, sound would be" if isinstance(self.source, FileInput) else "sound is"
            found.append(f"the computer was too slow {self.source.overruns} times; {lost} missing")
        if self.source.sample_rate < self.streamer.model.sample_rate:
            rates = f"{self.source.sample_rate} Hz, below the model's {self.streamer.model.sample_rate} Hz"
            found.append(f"at {rates}; it may do worse")
        if far:
            found.append(f"far from what {self.name} learned from: {'; '.join(far)}; confidences are lowered")
        named = [f"{self.source.name}: {warning}" for warning in found]
        return [*named, f"ends early: {self.failure}"] if self.failure else named


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Yield whether an end was asked for by a signal, which then interrupts nothing until another comes."""
    pressed = False

    def press(number: int, frame: object) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    if threading.current_thread() is not threading.main_thread():  # which alone receives signals
        yield lambda: False
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    hang_up = getattr(signal, "SIGHUP", None)  # Windows has none, and nohup ignores it
    if hang_up is not None and signal.getsignal(hang_up) is not signal.SIG_IGN:
        numbers.append(hang_up)
    before = {number: signal.signal(number, press) for number in numbers}
    try:
        yield lambda: pressed
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
