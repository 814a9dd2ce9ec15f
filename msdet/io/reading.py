"""Text and structures that others wrote: read so that nothing in them can do more than be refused.

Nesting that no parser survives, integers that no float holds, halves of surrogate pairs and bytes that are
not UTF-8 end in a `MsdetError` of one line. A byte-order mark and line ends of Windows, as editors there
write them, are taken as what they are.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from msdet.errors import MsdetError

# integers of more digits are refused: they are of no quantity that msdet knows, and overflow elsewhere
MAX_DIGITS = 20
MAX_TEXT_BYTES = 256_000_000  # text of more is refused: a device or a wrong file, not a table
_MAX_DEPTH = 50  # of nested lists and mappings in YAML, whose loader ends the process thousands deep
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")


def read_text(path: Path, errors: str = "strict") -> str:
    """A text file in UTF-8, without a byte-order mark, lines ending in line feeds."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TEXT_BYTES + 1)
        if len(data) > MAX_TEXT_BYTES:
            raise MsdetError(f"{path}: is more than {MAX_TEXT_BYTES // 1_000_000} MB of text")
        return data.decode("utf-8-sig", errors).replace("\r\n", "\n").replace("\r", "\n")
    except FileNotFoundError as error:
        raise MsdetError(f"{path}: no such file") from error
    except UnicodeDecodeError as error:
        raise MsdetError(f"{path}: cannot be read (is not UTF-8 text)") from error
    except OSError as error:
        raise MsdetError(f"{path}: cannot be read ({error.strerror})") from error


def read_lines(path: Path, errors: str = "strict") -> list[str]:
    """Lines of a text file, which end at line feeds alone: other separators of Unicode are part of them."""
    return read_text(path, errors).removesuffix("\n").split("\n")


def read_keyed(path: Path) -> list[tuple[str, str, str]]:
    """Lines of a table in Kaldi's style: where each is, its first word, the rest; split at spaces and tabs."""
    rows = []
    for number, line in enumerate(read_lines(path), start=1):
        key, _, rest = re.sub(r"[ \t]+", " ", line.strip(" \t"), count=1).partition(" ")
        rows.append((f"{path}, line {number}", key, rest))
    return rows


def read_tsv(path: Path) -> tuple[list[str], list[tuple[str, dict[str, str]]]]:
    """The header of a tab-separated table; and where each row is, with its cells by column; empty rows are left out."""
    lines = [[cell.strip() for cell in line.split("\t")] for line in read_lines(path)]
    header, rows = lines[0] if lines else [], []
    for number, cells in enumerate(lines[1:], start=2):
        place = f"{path}, line {number}"
        if any(cells) and len(cells) != len(header):
            raise MsdetError(f"{place}: {len(cells)} columns, expected {len(header)}")
        rows += [(place, dict(zip(header, cells, strict=True)))] if any(cells) else []
    return header, rows


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file; an `MsdetError` if it cannot be read or is none."""
    return parse_toml(read_text(path), path)


def parse_toml(text: str, origin: object) -> dict[str, Any]:
    """A TOML document; `origin` begins the message of the `MsdetError` if it is none."""
    try:
        value = tomllib.loads(text)
        _check_integers(value)
    except (ValueError, RecursionError) as error:
        raise MsdetError(f"{origin}: not valid TOML ({_reason(error)})") from error
    return value


def parse_json(text: str, origin: object) -> Any:
    """A JSON value; `origin` begins the message of the `MsdetError` if it is none."""
    try:
        value = json.loads(text, parse_int=_integer)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise MsdetError(f"{origin}: not JSON ({_reason(error)})") from error
    return value


def check_yaml(text: str, origin: object) -> list[str]:
    """Refuse YAML that a loader would not survive, or that unfolds to gigabytes; other mistakes are the loader's.

    That is nesting that is too deep, an alias inside of what an anchor names, and integers of hundreds of digits.
    Returns the names of YAML files in it, which may be loaded in their place.
    """
    import yaml

    opened: list[bool] = []  # for each collection around, whether it or one around it has an anchor
    files = []
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            place, depth = f"{origin}: line {event.start_mark.line + 1}", len(opened)
            if isinstance(event, yaml.CollectionStartEvent):
                opened.append(event.anchor is not None or any(opened))
            elif isinstance(event, yaml.CollectionEndEvent):
                opened.pop()
            elif isinstance(event, yaml.AliasEvent) and any(opened):
                raise MsdetError(f"{place}: an alias inside of what an anchor names")
            elif isinstance(event, yaml.ScalarEvent):
                if len(event.value) > MAX_DIGITS + 1 and event.value.lstrip("+-").isdigit():
                    raise MsdetError(f"{place}: an integer of {len(event.value)} digits")
                depth += event.value.count("[") + event.value.count("{")  # text is parsed again
                files += [event.value] if event.value.endswith((".yaml", ".yml")) else []
            if depth > _MAX_DEPTH:
                raise MsdetError(f"{place}: nested too deep")
    except (yaml.YAMLError, RecursionError):
        pass
    return files


def _integer(digits: str) -> int:
    if len(digits.lstrip("-")) > MAX_DIGITS:
        raise ValueError(f"an integer of {len(digits)} digits")
    return int(digits)


def _check_integers(value: Any) -> None:
    """Refuse long integers anywhere in lists and tables: `tomllib` has no hook for them."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _check_integers(item)
    elif type(value) is int:
        _integer(str(value))


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deep"
    return "half a surrogate pair" if isinstance(error, UnicodeEncodeError) else str(error)
