"""Bad material that is text: numbers, names, JSON, TOML, YAML and tables. As `_materials.py`, one function a kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

Rng = np.random.Generator

NUMBERS = [
    "-1",
    "0",
    "1",
    "2",
    "nan",
    "inf",
    "-inf",
    "1e308",
    "-1e-308",
    "1e9",
    "300000",
    "999999999",
    "0.5",
    "1" + "0" * 400,
    "9223372036854775808",
    "",
    "four",
    "0x10",
    "1_000",
    "٣",
    "[1, 2]",
    "null",
    "true",
    "{}",
]
"""What may stand where a command line has a number."""

NAMES = [
    "",
    ".",
    "..",
    "../canary",
    "../../canary/kept.txt",
    "/etc/passwd",
    "~",
    "~root",
    "-rf",
    "--help",
    "a/b",
    "a\\b",
    "a b",
    "x" * 201,
    "é" * 128,
    "ab",
    "tab\there",
    "line\nbreak",
    "\r",
    "\x1b[31mred",
    "\u202ereversed",
    "\u200b",
    "<img src=x onerror=alert(1)>",
    "\"'><script>alert(1)</script>",
    "{{ 7 * 7 }}",
    "${HOME}",
    "$(touch canary)",
    "con",
    "%s%n",
    "name.wav",
    "NaN",
    "0",
    "𝔘𝔫𝔦",
    "a\ud800b",
    "a\x00b",
]
"""What may stand where a file has a name."""

VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    1,
    2**31,
    2**63,
    10**300,
    1e308,
    -1e308,
    1e-320,
    float("nan"),
    float("inf"),
    0.5,
    [],
    {},
    [[]],
    "x",
    [None],
    {"a": 1},
    300000,
    10**6,
    200000,
    [0, 0, 0],
    [1e300] * 3,
    "1",
    *NAMES,
]
"""What may stand in place of any value."""


def pick(rng: Rng, values: list[Any]) -> Any:
    """One of some values."""
    return values[int(rng.integers(len(values)))]


def json_value(rng: Rng, path: Path) -> str:
    """A value somewhere in a JSON file, or in a line of several, is another one, gone, or there twice."""
    lines = path.read_text(encoding="utf-8").splitlines()
    whole = path.suffix == ".json"
    number = 0 if whole else int(rng.integers(max(len(lines), 1)))
    content = json.loads("\n".join(lines)) if whole else json.loads(lines[number])
    place, holder = _somewhere(rng, content)
    how = pick(rng, ["other", "other", "other", "gone", "key", "more"])
    if how == "gone" or holder is None:
        if holder is None:
            content, place = pick(rng, VALUES), "all"
        else:
            del holder[place]
    elif how == "key" and isinstance(holder, dict):
        holder[str(pick(rng, NAMES))] = holder.pop(place)
    elif how == "more" and isinstance(holder, list):
        holder.extend([holder[place]] * int(pick(rng, [1, 1000])))
    else:
        holder[place] = pick(rng, VALUES)
    text = json.dumps(content)
    path.write_text(text if whole else "\n".join([*lines[:number], text, *lines[number + 1 :]]) + "\n")
    return f"{path.name}: {place} {how}"


def _somewhere(rng: Rng, content: Any) -> tuple[Any, Any]:
    """A key or index and what holds it, anywhere in nested lists and objects."""
    places = []
    left = [content]
    while left:
        holder = left.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
        places += [(key, holder) for key in keys]
        left += [holder[key] for key in keys]
    return pick(rng, places) if places else (None, None)


def text_damage(rng: Rng, path: Path) -> str:
    """A text file that is cut, nested, of another encoding, huge in its numbers, or not text at all."""
    data = path.read_bytes()
    cut = int(rng.integers(len(data) + 1))
    digits = b"9" * int(pick(rng, [30, 500, 5000]))
    deep = int(pick(rng, [200, 3000, 100_000]))
    ways = {
        "empty": b"",
        "cut": data[:cut],
        "bytes": data[:cut] + bytes(rng.integers(0, 256, 8, dtype=np.uint8)) + data[cut:],
        "bom": b"\xef\xbb\xbf" + data,
        "crlf": data.replace(b"\n", b"\r\n"),
        "utf16": data.decode("utf-8", "replace").encode("utf-16"),
        "latin1": b"\xff\xfe\xe9" + data,
        "nul": data[:cut] + b"\x00" + data[cut:],
        "brackets": b"[" * deep + b"]" * deep,
        "braces": b'{"a":' * deep + b"1" + b"}" * deep,
        "digits": _first_number_replaced(data, digits),
        "twice": data + data,
        "control": data[:cut] + b"\x1b[2J\x07" + data[cut:],
        "random": bytes(rng.integers(0, 256, 300, dtype=np.uint8)),
    }
    how = pick(rng, list(ways))
    path.write_bytes(ways[how])
    return f"{path.name}: {how}"


def _first_number_replaced(data: bytes, digits: bytes) -> bytes:
    for start, byte in enumerate(data):
        if 48 <= byte <= 57:
            return data[:start] + digits + data[start + 1 :]
    return digits


def toml_value(rng: Rng, path: Path) -> str:
    """A line of a TOML file has another value, another key, or is there twice."""
    return _line_value(rng, path, " = ", ["[]", "nan", "-inf", "1979-05-27", "'''", "{a = 1}", "[" * 5000])


def yaml_value(rng: Rng, path: Path) -> str:
    """A line of a YAML file has another value, another key, a tag, an alias, or is there twice."""
    special = [
        "!!python/object/apply:os.system ['touch ../canary/new']",
        "&a [*a]",
        "*nobody",
        "!!binary x",
        "[" * 5000,
        "|",
        ">-",
        "&a {x: 1}",
        "1e999",
        "0o17",
        "2001-01-01",
        "{",
        "? y",
        "!custom z",
        "yes",
        "~",
    ]
    return _line_value(rng, path, ": ", special)


def _line_value(rng: Rng, path: Path, separator: str, special: list[str]) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    number = pick(rng, [n for n, line in enumerate(lines) if separator.strip() in line])
    key, _, _ = lines[number].partition(separator.strip())
    how = pick(rng, ["value", "value", "special", "key", "twice", "gone"])
    evil = str(pick(rng, NUMBERS + NAMES))
    changed = {
        "value": [f"{key.rstrip()}{separator}{evil}"],
        "special": [f"{key.rstrip()}{separator}{pick(rng, special)}"],
        "key": [lines[number].replace(key.strip(), evil.replace("\n", " ") or "x", 1)],
        "twice": [lines[number]] * 2,
        "gone": [],
    }[how]
    text = "\n".join([*lines[:number], *changed, *lines[number + 1 :]]) + "\n"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    return f"{path.name}: line {number + 1} {how}"


def table_cell(rng: Rng, path: Path) -> str:
    """A field of a table of columns is another one, too many, or missing."""
    lines = path.read_text(encoding="utf-8").splitlines()
    number = int(rng.integers(len(lines)))
    gap = "\t" if "\t" in lines[number] else "," if "," in lines[number] else " "
    fields = lines[number].split(gap)
    column = int(rng.integers(len(fields)))
    how = pick(rng, ["other", "other", "more", "gone", "twice"])
    if how == "other":
        fields[column] = str(pick(rng, NUMBERS + NAMES))
    elif how == "more":
        fields.insert(column, "more")
    elif how == "gone":
        del fields[column]
    changed = [gap.join(fields)] * (2 if how == "twice" else 1)
    text = "\n".join([*lines[:number], *changed, *lines[number + 1 :]]) + "\n"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    return f"{path.name}: line {number + 1}, field {column + 1} {how}"
