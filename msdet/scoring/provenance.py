"""What is known of a scored system besides its scores: of which data and estimates they are, and if it knew.

It is written beside ``scores.jsonl`` as ``system.json``, which a folder of scores may lack.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from msdet.errors import MsdetError
from msdet.io.files import read_json, write_json
from msdet.methods.base import ORACLE

SYSTEM_FILE = "system.json"

SUMMARY_FILE = "summary.json"
"""Of an evaluation's folder; names the data set, for scores without `SYSTEM_FILE`."""

_KINDS = {"data": str, "estimates": str, "oracle": bool}


class Provenance(NamedTuple):
    """Where a system's scores come from.

    Attributes:
        data: hash of the data set, `SceneSet.identity`; None where nobody wrote it down.
        estimates: folder of the estimates; None where it was not written down, or the mixture was scored.
        is_oracle: whether the system was told the truth.
    """

    data: str | None
    estimates: Path | None
    is_oracle: bool


def write_provenance(folder: Path, data: str, estimates: Path | None, is_oracle: bool | None = None) -> None:
    """Write down where the scores in a system's folder come from.

    The estimates' folder is written relative to the system's, so that both may move together.

    Args:
        folder: of the system.
        data: hash of the data set.
        estimates: folder of the estimates; None of the mixture.
        is_oracle: whether the system was told the truth; None if not known.
    """
    place = None if estimates is None else Path(os.path.relpath(estimates.resolve(), folder.resolve()))
    value = {"data": data, "estimates": place and place.as_posix(), "oracle": is_oracle}
    write_json(folder / SYSTEM_FILE, value)


def read_provenance(folder: Path) -> Provenance:
    """What is written down of a system, by its folder; of older scores, what can be told without.

    Raises:
        MsdetError: a file that is not such a one.
    """
    path = folder / SYSTEM_FILE
    found = _read(path) if path.is_file() else {}
    data, place, is_oracle = (found.get(key) for key in _KINDS)
    return Provenance(
        _data_of_summary(folder.resolve().parent / SUMMARY_FILE) if data is None else data,
        None if place is None else Path(os.path.normpath(folder.resolve() / place)),
        sounds_like_an_oracle(folder.resolve().name) if is_oracle is None else is_oracle,
    )


def sounds_like_an_oracle(name: str) -> bool:
    """Whether a system's name says that it was told the truth.

    >>> [sounds_like_an_oracle(name) for name in ("oracle_irm", "lcmv,doa=oracle", "srp_beam")]
    [True, True, False]
    """
    return ORACLE in re.split(r"[^a-z0-9]+", name.casefold().replace("_", " "))


def _read(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise MsdetError(f"{path}: holds a {type(content).__name__}, expected an object")
    for key, kind in _KINDS.items():
        if not isinstance(content.get(key), (kind, type(None))):
            raise MsdetError(f"{path}: {key} is {content[key]!r}, expected {kind.__name__} or null")
    return content


def _data_of_summary(path: Path) -> str | None:
    content = read_json(path) if path.is_file() else None
    data = content.get("data") if isinstance(content, dict) else None
    return data if isinstance(data, str) else None
