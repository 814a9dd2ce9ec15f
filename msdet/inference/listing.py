"""Which recordings to work on: files, lines of a Kaldi ``wav.scp``, or standard input."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from msdet.errors import MsdetError
from msdet.inference.sources import FileSource
from msdet.io.files import plain_name
from msdet.io.reading import read_keyed

STANDARD_INPUT = "-"
TABLE = ".scp"  # end of the name of a table of recordings


@dataclass(frozen=True)
class Recording:
    """A recording to work on."""

    name: str  # of its folder among others, and in RTTM
    path: Path | None  # None for standard input

    @property
    def shown(self) -> str:
        """What it is called in messages."""
        return "standard input" if self.path is None else str(self.path)

    @property
    def file(self) -> str:
        """What ``doa.json`` calls it."""
        return self.shown if self.path is None else self.path.name


def recordings(arguments: Sequence[str], distinct: bool = True) -> list[Recording]:
    """The recordings that arguments name: audio files, ``.scp`` tables of them, and ``-`` once.

    A relative path in a table is looked for beside the table, then from the working directory. Names must be `distinct`
    where results are written by them. Refuses none at all, and a table that is malformed or holds commands.
    """
    found: list[Recording] = []
    for argument in arguments:
        if argument == STANDARD_INPUT:
            found.append(Recording("standard_input", None))
        elif argument.endswith(TABLE):
            found += _of_table(Path(argument))
        else:
            found.append(Recording(Path(argument).stem, Path(argument)))
    if not found:
        raise MsdetError("give at least one recording: audio files, a Kaldi wav.scp, or - for standard input")
    by_name: dict[str, Recording] = {}
    for recording in found if distinct and len(found) > 1 else ():
        plain_name(recording.name, "name of the folder for its results", recording.shown)
        other = by_name.setdefault(recording.name, recording)
        if other is not recording:
            raise MsdetError(
                f"{other.shown} and {recording.shown} would both be called '{recording.name}'; "
                "give other names in a wav.scp"
            )
    return found


@contextmanager
def opened(recording: Recording, stdin: IO[bytes]) -> Iterator[FileSource]:
    """The recording as a source that can be read twice; standard input is kept in a temporary file."""
    if recording.path is not None:
        yield FileSource(recording.path)
        return
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        try:
            shutil.copyfileobj(stdin, file)
            file.flush()
        except OSError as error:
            raise MsdetError(f"{recording.shown}: cannot be kept ({error.strerror})") from error
        if not file.tell():
            raise MsdetError(f"{recording.shown}: is empty, expected a WAV file")
        yield FileSource(Path(file.name), recording.shown)


def _of_table(table: Path) -> list[Recording]:
    found = []
    for origin, name, value in read_keyed(table):
        if not name:
            continue
        if not value:
            raise MsdetError(f"{origin}: is '{name[:60]}', expected an id and a file")
        if value.endswith("|") or value.startswith("|"):
            raise MsdetError(f"{origin}: is a command ('{value}'), expected a file; run it first")
        if re.search(r"\.ark:\d+$", value):
            raise MsdetError(f"{origin}: is in an archive ({value}), expected a file; extract it first")
        plain_name(name, "id", origin)
        beside = table.parent / value
        found.append(Recording(name, beside if beside.is_file() else Path(value)))
    if not found:
        raise MsdetError(f"{table}: lists no recordings")
    return found
