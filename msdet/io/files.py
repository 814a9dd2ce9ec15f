"""Writing files so that a kill at any moment leaves either the old content or the new, never half."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msdet.errors import MsdetError, WriteError
from msdet.io.reading import parse_json, read_text

_PART = ".part-"
_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
_PART_NAME = re.compile(rf"{re.escape(_PART)}(?P<host>[0-9a-f]{{8}})-(?P<process>\d+)-")
_FOREIGN_LEFTOVER_S = 86400
MAX_NAME_BYTES = 200
_OUTSIDE = re.compile(r"/|(.*/)?\.\.(/|\Z)|.*[\x00-\x1f\x7f-\x9f\ud800-\udfff]", re.DOTALL)


@dataclass(frozen=True)
class FolderKind:
    """A kind of folder that msdet writes as a whole and may therefore delete."""

    name: str  # stands as ``kind`` in the marker
    markers: tuple[str, ...]  # JSON files, one of which is in every such folder
    key: str  # of a marker that was written before kinds were, and lacks ``kind``
    content: str  # pattern of all paths that msdet writes in it, those of folders with a ``/`` at the end


_SWEPT: set[Path] = set()  # folders that this process has looked through for what killed runs left


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder that replaces `path` when the block ends well.

    The temporary name keeps the suffix, so that writers that look at it see the right format. What killed runs
    left in the folder is deleted the first time that a process writes there. A `WriteError` if the folder cannot
    be written or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent not in _SWEPT:
            _SWEPT.add(path.parent)
            for part in path.parent.glob(f"{_PART}*"):
                if _PART_NAME.match(part.name) and _is_leftover(part):
                    part.unlink(missing_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{_PART}{_HOST}-{os.getpid()}-", suffix=path.suffix)
        os.close(handle)
    except OSError as error:
        raise WriteError(f"{path}: cannot be written ({error.strerror})") from error
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise WriteError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, indented, with a newline at the end."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Write one JSON value a line, atomically."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_json(path: Path) -> Any:
    """Read a JSON file; an `MsdetError` if it is missing or not JSON."""
    return parse_json(read_text(path), path)


def read_jsonl(path: Path) -> list[Any]:
    """Read one JSON value a line; an `MsdetError` names the file, and the line that is not JSON."""
    lines = read_text(path).split("\n")
    rows = enumerate(lines[:-1] if not lines[-1] else lines, start=1)
    return [parse_json(line, f"{path}, line {number}") for number, line in rows]


def settings_hash(settings: Any) -> str:
    """A short hash of settings that JSON can express: equal settings, equal hash.

    >>> settings_hash({"a": 1, "b": 2}) == settings_hash({"b": 2, "a": 1})
    True
    """
    text = json.dumps(settings, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def plain_name(name: Any, field: str, origin: object) -> str:
    """A name from outside that becomes part of a path, or of many: as it is, if it names but itself.

    An `MsdetError` unless it is printable text of 1 to 200 bytes, without a separator or a dot in front; `field` is
    what it is called in `origin`, a file and line.

    >>> plain_name("s1, take 2", "id", "scenes.jsonl")
    's1, take 2'
    """
    plain = isinstance(name, str) and name.isprintable() and not re.search(r"^\.|[/\\]", name)
    if not plain or not 0 < len(name.encode()) <= MAX_NAME_BYTES:
        raise MsdetError(
            f"{origin}: {field} is {_escaped(name)}, expected a plain name: 1 to {MAX_NAME_BYTES} bytes, "
            "printable, no slash, no dot in front"
        )
    return str(name)


def relative_path(path: str, field: str, origin: object) -> str:
    """A path from outside, of a file below a folder that the user gives: as it is, if it stays below.

    Links in that folder are the user's own and may lead anywhere. An `MsdetError` if it is absolute, climbs, or holds
    control characters or what UTF-8 cannot write.
    """
    if _OUTSIDE.match(path):
        raise MsdetError(f"{origin}: {field} is {_escaped(path)}, expected a path that stays in its folder")
    return path


def _escaped(value: Any) -> str:
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def resolve_inside(root: Path, relative: str) -> Path:
    """The path of a file in a manifest's folder; an `MsdetError` if it is absolute or leaves the folder."""
    try:
        path = (root / relative).resolve()
    except (OSError, RuntimeError) as error:  # a loop of symbolic links
        raise MsdetError(f"{root}: path '{relative}' leads nowhere ({error})") from error
    if Path(relative).is_absolute() or not path.is_relative_to(root.resolve()):
        raise MsdetError(f"{root}: path '{relative}' leaves the data set's folder")
    return path


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other processes from working in an existing folder until the block ends.

    A lock of the system on the folder itself, so that a killed process leaves none behind. File systems that have no
    locks are not protected. An `MsdetError` if another process holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # no locks here
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                message = f"{folder}: another process is working in it; wait for it, or use another folder"
                raise MsdetError(message) from error
        yield
    finally:
        os.close(descriptor)


def check_own_folder(folder: Path, kind: FolderKind) -> None:
    """Refuse to delete a folder unless it is missing, empty, or msdet's and of this kind.

    A link or a file is refused too; of what msdet does not write in such a folder, the error names the first.
    """
    if not (folder.is_symlink() or folder.exists()):
        return
    if folder.is_symlink() or not folder.is_dir():
        raise MsdetError(f"{folder}: is a link or a file, expected a folder of {kind.name}; not replaced")
    if next(folder.iterdir(), None) is None:
        return
    if not any(_marks(folder / marker, kind) for marker in kind.markers):
        raise MsdetError(
            f"{folder}: has no {' or '.join(kind.markers)} of msdet's {kind.name}, so it is not replaced; "
            "move it away or choose another folder"
        )
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            place = path.relative_to(folder).as_posix()
            own = re.fullmatch(kind.content, f"{place}/" if name in folders else place)
            if path.is_symlink() or not (own or name.startswith(_PART)):
                raise MsdetError(
                    f"{folder}: holds {_escaped(place)}, which is not of msdet's {kind.name}, so it is not "
                    "replaced; move that away or choose another folder"
                )


def _marks(marker: Path, kind: FolderKind) -> bool:
    if marker.is_symlink() or not marker.is_file():
        return False
    content = read_json(marker)
    return isinstance(content, dict) and content.get("kind", kind.name) == kind.name and kind.key in content


def remove_folder(folder: Path, kind: FolderKind) -> None:
    """Delete a folder that passes `check_own_folder`; nothing else in msdet deletes folders."""
    check_own_folder(folder, kind)
    try:
        if folder.exists():
            shutil.rmtree(folder)  # follows no links
    except OSError as error:
        raise MsdetError(f"{folder}: cannot be deleted ({error.strerror})") from error


def remove_leftovers(folder: Path) -> None:
    """Delete temporary files that killed runs left in `folder` or below it, but none of a run at work.

    A file's name holds host and process; what another host left is deleted once it is a day old.
    """
    for path in folder.rglob(f"{_PART}*"):
        if _is_leftover(path):
            path.unlink(missing_ok=True)


def _is_leftover(path: Path) -> bool:
    part = _PART_NAME.match(path.name)
    if part is None:
        return True
    if part["host"] == _HOST and Path("/proc").is_dir():
        return not Path(f"/proc/{part['process']}").exists()
    with suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime > _FOREIGN_LEFTOVER_S
    return False
