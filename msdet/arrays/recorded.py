"""Which channels of a recording are the microphones of an array: those asked for, or those of its device's files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from msdet.arrays import MicrophoneArray, array_names, load_array
from msdet.errors import MsdetError

MAX_CHANNELS = 1024  # of a file, as libsndfile has it


class ChannelCountError(MsdetError):
    """A recording has more channels than an array, and none of them were chosen."""


@dataclass(frozen=True)
class Chosen:
    """Channels of a recording that are taken: their numbers in it, in the order of the array's microphones."""

    numbers: tuple[int, ...]
    array: MicrophoneArray  # of the channels taken: the array that was asked for, or some of its microphones
    words: str = ""  # of what is taken and left out, for people; empty if it is all of the recording


def parse_channels(text: str) -> tuple[int, ...]:
    """Numbers of channels, from 0, such as ``1-4`` or ``0,2,5``; each once.

    >>> parse_channels("0,2-4")
    (0, 2, 3, 4)
    """
    numbers: list[int] = []
    for part in text.strip("[] ").split(","):
        found = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", part.strip(), re.ASCII)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if not first <= last < MAX_CHANNELS:
            raise MsdetError(f"channels is '{text}', expected numbers from 0 on, for example 1-4 or 0,2,5")
        numbers += range(first, last + 1)
    if len(set(numbers)) < len(numbers):
        raise MsdetError(f"channels is '{text}', which names one twice")
    return tuple(numbers)


def list_channels(numbers: Sequence[int]) -> str:
    """The same the other way round.

    >>> list_channels([1, 2, 3, 4]), list_channels([0, 1, 5])
    ('1-4', '0,1,5')
    """
    runs: list[list[int]] = []
    for number in numbers:
        if not runs or number != runs[-1][-1] + 1:
            runs.append([])
        runs[-1].append(number)
    return ",".join(f"{r[0]}-{r[-1]}" if len(r) > 2 else ",".join(map(str, r)) for r in runs)


def choose(name: str, there: int, array: MicrophoneArray, wanted: Sequence[int] | None = None) -> Chosen:
    """The channels of a recording, which has so many and which messages call `name`, that are an array's microphones.

    As many as the array has microphones are they in that order. Fewer are those of a recording of the whole array, or
    of a file of its device (`MicrophoneArray.recorded_as`): then the array is that of their microphones. Raises
    `MsdetError` for channels that are not there or that no microphones are known of, `ChannelCountError` if there are
    too many and none are wanted.
    """
    layout = _layout(there, array)
    if wanted is None:
        if layout is None:
            raise _mismatch(name, there, array)
        wanted = sorted((c for c, part in enumerate(layout) if isinstance(part, int)), key=lambda c: int(layout[c]))
    if missing := [number for number in wanted if number >= there]:
        raise MsdetError(f"{name}: has no channel {missing[0]}: it has {there}, counted from 0")
    if len(wanted) == 1:
        raise MsdetError(f"{name}: one channel is chosen, and one microphone has no directions")
    chosen = array
    if len(wanted) != array.microphones:
        microphones = [part for n in wanted if layout is not None and isinstance(part := layout[n], int)]
        if len(microphones) < len(wanted):
            size = f"channels names {len(wanted)}, the array '{array.name}' has {array.microphones}"
            raise MsdetError(f"{name}: {size}")
        chosen = array.of(microphones)
    left_out = [n for n in range(there) if n not in wanted]
    words = f"channels {list_channels(wanted)} of {there}" if left_out or list(wanted) != sorted(wanted) else ""
    told = [f"{n} {layout[n]}" for n in left_out if layout is not None and isinstance(layout[n], str)]
    return Chosen(tuple(wanted), chosen, f"{words} ({', '.join(told)})" if told else words)


def _layout(there: int, array: MicrophoneArray) -> tuple[int | str, ...] | None:
    """What is known of the channels of a recording that has so many: of each the microphone, or what else it is."""
    if there == array.microphones:
        return tuple(range(there))
    known = array.recorded_as
    if not known and array.name in array_names() and (preset := load_array(array.name)) == array:
        known = preset.recorded_as  # of a preset that was stored with a model
    return next((layout for layout in known if len(layout) == there), None)


def _mismatch(name: str, there: int, array: MicrophoneArray) -> MsdetError:
    count = f"{there} channel{'s' * (there != 1)}"
    problem = f"{name}: has {count}, the array '{array.name}' has {array.microphones}"
    if there == 1:
        return MsdetError(f"{problem}: one microphone has no directions")
    presets = map(load_array, array_names())
    fitting = [p.name for p in presets if there in (p.microphones, *map(len, p.recorded_as))]
    own = f"give the recording's own by --array{': ' + ', '.join(fitting) + ', or' if fitting else ' as'} a TOML file"
    if there < array.microphones:
        return MsdetError(f"{problem}; {own}")
    return ChannelCountError(f"{problem}; {own}; or choose the array's channels by --channels")
