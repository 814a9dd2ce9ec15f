"""Of which data and estimates a scored system's scores are, and whether the system is an oracle.

It is written beside ``scores.jsonl`` as ``system.json``, which a folder of scores may lack.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from msdet.errors import MsdetError
from msdet.io.files import read_json, write_json

SYSTEM_FILE = "system.json"
SUMMARY_FILE = "summary.json"  # of an evaluation's folder; names the data set, for scores without `SYSTEM_FILE`
_KINDS = {"data": str, "estimates": str, "oracle": bool, "about": list}


class Provenance(NamedTuple):
    """Where a system's scores come from: hash of the data set, folder of the estimates, both None if not known.

    The mixture has no estimates; an oracle is given the truth. What it is `about` are facts on the system, for readers.
    """

    data: str | None
    estimates: Path | None
    is_oracle: bool
    about: tuple[str, ...] = ()


def write_provenance(
    folder: Path, data: str, estimates: Path | None, is_oracle: bool | None = None, about: Sequence[str] = ()
) -> None:
    """Write where the scores in a system's folder come from; `is_oracle` is None if not known.

    The estimates' folder is written relative to the system's, so that both may move together.
    """
    place = None if estimates is None else Path(os.path.relpath(estimates.resolve(), folder.resolve()))
    value = {"data": data, "estimates": place and place.as_posix(), "oracle": is_oracle}
    write_json(folder / SYSTEM_FILE, value | ({"about": list(about)} if about else {}))


def read_provenance(folder: Path) -> Provenance:
    """The provenance of the scores in a system's folder; without `SYSTEM_FILE`, by summary and names.

    A system whose name has the word "oracle" is one, unless the file says otherwise.
    """
    path = folder / SYSTEM_FILE
    content = read_json(path) if path.is_file() else {}
    if not isinstance(content, dict):
        raise MsdetError(f"{path}: holds a {type(content).__name__}, expected an object")
    for key, kind in _KINDS.items():
        if not isinstance(content.get(key), (kind, type(None))):
            raise MsdetError(f"{path}: {key} is {content[key]!r}, expected {kind.__name__} or null")
    data, place, is_oracle, about = (content.get(key) for key in _KINDS)
    folder = folder.resolve()
    if is_oracle is None:
        is_oracle = "oracle" in re.split(r"[^a-z0-9]+", folder.name.casefold())
    if data is None and (folder.parent / SUMMARY_FILE).is_file():
        summary = read_json(folder.parent / SUMMARY_FILE)
        named = summary.get("data") if isinstance(summary, dict) else None
        data = named if isinstance(named, str) else None
    estimates = None if place is None else Path(os.path.normpath(folder / place))
    return Provenance(data, estimates, is_oracle, tuple(str(fact) for fact in about or ()))
