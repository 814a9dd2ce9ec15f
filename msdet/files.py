"""Writing files so that a kill at any moment leaves either the old content or the new, never half."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msdet.errors import MsdetError

_PART = ".part-"
_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
_PART_NAME = re.compile(rf"{re.escape(_PART)}(?P<host>[0-9a-f]{{8}})-(?P<process>\d+)-")
_FOREIGN_LEFTOVER_S = 86400


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder that replaces `path` when the block ends well.

    The temporary name keeps the suffix, so that writers that look at it see the right format.

    Raises:
        MsdetError: the folder cannot be written or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f"{_PART}{_HOST}-{os.getpid()}-", suffix=path.suffix
        )
        os.close(handle)
    except OSError as error:
        raise MsdetError(f"{path}: cannot be written ({error.strerror})") from error
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise MsdetError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        temporary.unlink(missing_ok=True)


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
    """Read a JSON file.

    Raises:
        MsdetError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MsdetError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise MsdetError(f"{path}: not readable as JSON ({error})") from error


def read_jsonl(path: Path) -> list[Any]:
    """Read one JSON value a line.

    Raises:
        MsdetError: the file is missing, or a line is not JSON; names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise MsdetError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise MsdetError(f"{path}: cannot be read ({error})") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise MsdetError(f"{path}, line {number}: not JSON ({error})") from error
    return rows


def settings_hash(settings: Any) -> str:
    """A short hash of settings that JSON can express: equal settings, equal hash.

    >>> settings_hash({"a": 1, "b": 2}) == settings_hash({"b": 2, "a": 1})
    True
    """
    text = json.dumps(settings, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def resolve_inside(root: Path, relative: str) -> Path:
    """The path of a file that a manifest names, which must stay inside the manifest's folder.

    Raises:
        MsdetError: the path is absolute or leaves the folder.
    """
    path = (root / relative).resolve()
    if Path(relative).is_absolute() or not path.is_relative_to(root.resolve()):
        raise MsdetError(f"{root}: path '{relative}' leaves the data set's folder")
    return path


def remove_leftovers(folder: Path) -> None:
    """Delete temporary files that killed runs left in `folder` or below it, but none of a run at work.

    A file's name holds host and process; what another host left is deleted once it is a day old.
    """
    for path in folder.rglob(f"{_PART}*"):
        found = _PART_NAME.match(path.name)
        if found is None:
            leftover = True
        elif found["host"] == _HOST and Path("/proc").is_dir():
            leftover = not Path(f"/proc/{found['process']}").exists()
        else:
            leftover = time.time() - path.stat().st_mtime > _FOREIGN_LEFTOVER_S
        if leftover:
            path.unlink(missing_ok=True)
