"""What `msdet separate` and `msdet localize` share: which system, which recordings, and how they fail."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msdet.arrays import MicrophoneArray, load_array
from msdet.arrays.recorded import ChannelCountError, list_channels, parse_channels
from msdet.errors import MsdetError, printable
from msdet.inference.blocks import FRAME_S
from msdet.inference.offline import RecordingSystem, SystemFactory
from msdet.inference.sources import RecordingSource
from msdet.inference.training_range import TrainingRange
from msdet.io.jobs import MAX_WORKERS
from msdet.models.packages import require_own_array

if TYPE_CHECKING:
    from msdet.inference.blocks import Beamformer, BlockOptions
    from msdet.inference.listing import Recording
    from msdet.inference.offline import OfflineSeparation
    from msdet.methods.base import Separation
    from msdet.models.joint import JointModel


def systems(
    model: Path | None,
    method: str | None,
    array: str | None,
    talkers: int | None,
    device: str = "cpu",
    beamform: Beamformer | None = None,
    channels: str | None = None,
) -> SystemFactory:
    """The model or method that options name; the shipped model for the recording's rate if they name none."""
    numbers = None if channels is None else parse_channels(channels)
    check_device(device, of_model=method is None)
    if model is not None and method is not None:
        raise MsdetError("give either --model (a checkpoint directory) or --method (for example srp_beam)")
    given = None if array is None else load_array(array)
    if model is not None:
        factory = _of_model(model, given, talkers, device)
    elif method is None:
        factory = _of_shipped(given, talkers, device)
    elif given is None:
        raise MsdetError("give --array (a shipped name or a TOML file): a method knows no geometry")
    else:
        factory = _of_method(method, given, 2 if talkers is None else talkers)
    factory = dataclasses.replace(factory, assumed=given is None, channels=numbers)
    if beamform is None:
        return factory

    def beamed(array: MicrophoneArray, sample_rate: int) -> RecordingSystem:
        from msdet.methods.masks import mvdr_separator

        system = factory.make(array, sample_rate)
        return dataclasses.replace(system, separator=mvdr_separator(system.separator, array, system.sample_rate))

    return dataclasses.replace(factory, make=beamed)


def _of_model(folder: Path, array: MicrophoneArray | None, talkers: int | None, device: str) -> SystemFactory:
    from msdet.methods.trained import model_separator
    from msdet.models.checkpoint import read_description

    loaded = load_on(device, folder, array)
    if array is None:
        require_own_array(loaded.config.front_end, folder)
    training = TrainingRange.of(read_description(folder))
    if talkers is not None and talkers != loaded.config.talkers and not loaded.may_be_told(talkers):
        raise MsdetError(f"{folder}: is for {loaded.config.talkers} talkers, --talkers is {talkers}")

    def make(array: MicrophoneArray, sample_rate: int) -> RecordingSystem:
        same = (array.positions_m, array.reference) == (loaded.array.positions_m, loaded.array.reference)
        joint = loaded if same else load_on(device, folder, array)
        if talkers is not None and joint.may_be_told(talkers):
            joint.tell(talkers)
        sizes = joint.sample_rate, joint.config.talkers
        counts = joint.config.variable_num_speakers and talkers is None
        return RecordingSystem(model_separator(joint), array, *sizes, str(folder), training, counts)

    return SystemFactory(loaded.array, make)


def _of_shipped(array: MicrophoneArray | None, talkers: int | None, device: str) -> SystemFactory:
    """The shipped models: which one, is decided by a recording's sample rate."""
    from msdet.models.checkpoint import read_description
    from msdet.models.packages import choose_shipped, shipped_models

    models = [m for m in shipped_models() if m.serves(talkers)]
    if not models:
        for_so_many = "" if talkers is None else f" for {talkers} talkers"
        raise MsdetError(
            f"no shipped model{for_so_many}: give either --model (a checkpoint directory) or --method (for "
            "example srp_beam)"
        )
    found: dict[str, SystemFactory] = {}

    def make(array: MicrophoneArray, sample_rate: int) -> RecordingSystem:
        name = choose_shipped(models, sample_rate, array.name).name
        if name not in found:
            found[name] = _of_model(Path(name), geometry, talkers, device)
        return found[name].make(array, sample_rate)

    if array is None and choose_shipped(models, 16_000).any_array:
        raise MsdetError("give --array (a shipped name or a TOML file): the model for so many talkers serves any array")
    default = read_description(choose_shipped(models, 16_000).name)["array"]
    geometry = array or MicrophoneArray.from_dict(default)
    make(geometry, 16_000)  # before any recording: an array that no model can serve
    return SystemFactory(geometry, make)


def _of_method(method: str, array: MicrophoneArray, talkers: int) -> SystemFactory:
    from msdet.methods import build_method, require_blind

    def make(array: MicrophoneArray, sample_rate: int) -> RecordingSystem:
        separator = require_blind(build_method(method, array, sample_rate, talkers), f"method '{method}'")
        return RecordingSystem(separator, array, sample_rate, talkers, method, counts=False)

    make(array, 16_000)  # before any recording: wrong options are wrong for all
    return SystemFactory(array, make)


def check_device(device: str, of_model: bool = True, hint: str = "") -> None:
    """Refuse what is no name of a device, or one that nothing would compute on: that is for models alone."""
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise MsdetError(f"device is '{device}', expected cpu, cuda or cuda:N{hint}")
    if device != "cpu" and not of_model:
        raise MsdetError(f"--device {device} is for models: methods compute on the CPU")


def load_on(device: str, model: Path, array: str | MicrophoneArray | None = None, hint: str = "") -> JointModel:
    """Load a model onto a device, for another array than its own if one is given."""
    from msdet.models.checkpoint import load_model, to_device

    check_device(device, hint=hint)
    return to_device(load_model(model, load_array(array) if isinstance(array, str) else array), device)


def each(recordings: Sequence[str], threads: int, work: Callable[[Recording, bool], None]) -> int:
    """Work on each recording, told whether it is the only one that was asked for; the exit code, 1 if some failed.

    One of several that fails is told, and the others go on.
    """
    from msdet.inference import listing

    listed = listing.recordings(recordings)
    alone = len(listed) == 1 and not recordings[0].endswith(listing.TABLE)
    failed = []
    with computing(threads):
        for recording in listed:
            try:
                work(recording, alone)
            except MsdetError as error:
                if len(listed) == 1:
                    raise
                print(f"error: {error}", file=sys.stderr)
                failed.append(recording.shown)
    if failed:
        names = printable(", ".join(failed[:5])) + (", ..." if len(failed) > 5 else "")
        print(f"{len(failed)} of {len(listed)} recordings failed: {names}", file=sys.stderr)
    return 1 if failed else 0


@contextmanager
def separating(
    recording: Recording, factory: SystemFactory, options: BlockOptions
) -> Iterator[tuple[OfflineSeparation, Iterator[Separation]]]:
    """A recording that was scanned, what a user should know of it being told, and its pieces, with a bar."""
    from msdet.commands._progress import progress_bar
    from msdet.inference.listing import opened
    from msdet.inference.offline import prepare

    with opened(recording, sys.stdin.buffer) as source:
        try:
            offline = prepare(factory, source, options)
        except ChannelCountError as error:
            raise MsdetError(f"{error}{_suggestion(source)}") from error
        odd = _odd(offline, factory.assumed)
        offline.scan = dataclasses.replace(offline.scan, warnings=(*offline.scan.warnings, *odd))
        _tell_array(offline, factory.assumed)
        for warning in offline.scan.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        seconds = round(offline.scan.seconds)
        with progress_bar(recording.name, lines=False) as progress:

            def pieces() -> Iterator[Separation]:
                done = 0.0
                for piece in offline.pieces():
                    yield piece
                    done += FRAME_S * (0 if piece.activity is None else piece.activity.shape[1])
                    progress(min(round(done), seconds), seconds)

            yield offline, pieces()


def _tell_array(offline: OfflineSeparation, assumed: bool) -> None:
    """Say which array a recording is taken to be of if nobody named it, and which of its channels if not all."""
    array = f"'{offline.system.array.name}'"
    if assumed:
        trained = (
            f"taken as of the array {array}, which {offline.system.name} was trained on; give --array if it is not"
        )
        print(f"{offline.source.name}: {trained}", file=sys.stderr)
    if offline.taken:
        print(f"{offline.source.name}: {offline.taken} are taken for the array {array}", file=sys.stderr)


def _odd(offline: OfflineSeparation, assumed: bool) -> list[str]:
    """Warnings of channels that are no microphones like the others; if nobody named the array, then it is another."""
    from msdet.diagnostics.odd import odd_channels

    source = offline.source
    found, keep = odd_channels(source)
    if not found:
        return []
    leave = f"--channels {list_channels(keep)}" if 2 <= len(keep) < source.channels else ""
    if assumed:
        reason = "; ".join(finding.text for finding in found)
        trained = f"'{offline.system.array.name}', which {offline.system.name} was trained on"
        give = f"give --array{f', and perhaps {leave}' if leave else ''}"
        raise MsdetError(f"{source.name}: is not taken as of the array {trained}: {reason}; {give}")
    told = [finding.text for finding in found] + [f"{leave} leaves out what is no microphone of its own"] * bool(leave)
    return [f"{source.name}: {text}" for text in told]


def _suggestion(source: RecordingSource) -> str:
    """Which channels to choose of a recording with too many: those that look like microphones."""
    from msdet.diagnostics.odd import odd_channels

    keep = odd_channels(source)[1]
    if not 2 <= len(keep) < source.channels:
        return ", for example 1-4"
    others = list_channels([n for n in source.numbers if n not in keep])
    return f", perhaps {list_channels(keep)} ({others} are no microphones like those)"


def tell_doubts(described: dict[str, Any], offline: OfflineSeparation) -> None:
    """Tell what is known of a recording only after it was separated."""
    for warning in described["warnings"][len(offline.scan.warnings) :]:
        print(f"warning: {warning}", file=sys.stderr)


@contextmanager
def computing(threads: int) -> Iterator[None]:
    """So many threads for torch inside the block."""
    import torch

    if not 1 <= threads <= MAX_WORKERS:
        raise MsdetError(f"threads is {threads}, expected 1 to {MAX_WORKERS}")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
