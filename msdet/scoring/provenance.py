"""Of which data and estimates a scored system's scores are, and whether the system is an oracle.

It is written beside ``scores.jsonl`` as ``system.json``, which a folder of scores may lack.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from msdet.errors import MsdetError
from msdet.io.files import read_json, write_json

SYSTEM_FILE = "system.json"

SUMMARY_FILE = "summary.json"
"""Of an evaluation's folder; names the data set, for scores without `SYSTEM_FILE`."""

_KINDS = {"data": str, "estimates": str, "oracle": bool}


class Provenance(NamedTuple):
    """Where a system's scores come from.

    Attributes:
        data: hash of the data set, `SceneSet.identity`; None if not known.
        estimates: folder of the estimates; None if not known, or if the mixture was scored.
        is_oracle: whether the system is given the truth.
    """

    data: str | None
    estimates: Path | None
    is_oracle: bool


def write_provenance(folder: Path, data: str, estimates: Path | None, is_oracle: bool | None = None) -> None:
    """Write where the scores in a system's folder come from.

    The estimates' folder is written relative to the system's, so that both may move together.

    Args:
        folder: of the system.
        data: hash of the data set.
        estimates: folder of the estimates; None of the mixture.
        is_oracle: whether the system is given the truth; None if not known.
    """
    place = None if estimates is None else Path(os.path.relpath(estimates.resolve(), folder.resolve()))
    value = {"data": data, "estimates": place and place.as_posix(), "oracle": is_oracle}
    write_json(folder / SYSTEM_FILE, value)


def read_provenance(folder: Path) -> Provenance:
    """The provenance of the scores in a system's folder; without `SYSTEM_FILE`, by summary and names.

    A system whose name has the word "oracle" is one, unless the file says otherwise.

    Raises:
        MsdetError: a malformed file.
    """
    path = folder / SYSTEM_FILE
    content = read_json(path) if path.is_file() else {}
    if not isinstance(content, dict):
        raise MsdetError(f"{path}: holds a {type(content).__name__}, expected an object")
    for key, kind in _KINDS.items():
        if not isinstance(content.get(key), (kind, type(None))):
            raise MsdetError(f"{path}: {key} is {content[key]!r}, expected {kind.__name__} or null")
    data, place, is_oracle = (content.get(key) for key in _KINDS)
    if is_oracle is None:
        is_oracle = "oracle" in re.split(r"[^a-z0-9]+", folder.resolve().name.casefold().replace("_", " "))
    return Provenance(
        _data_of_summary(folder.resolve().parent / SUMMARY_FILE) if data is None else data,
        None if place is None else Path(os.path.normpath(folder.resolve() / place)),
        is_oracle,
    )


def _data_of_summary(path: Path) -> str | None:
    content: Any = read_json(path) if path.is_file() else None
    data = content.get("data") if isinstance(content, dict) else None
    return data if isinstance(data, str) else None
