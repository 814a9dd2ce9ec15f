"""Bad material: what a stranger's files, numbers and names can be, one function a kind, each seeded.

A function takes a random generator and a good file, which it makes bad; it returns in a few words how.
"""

from __future__ import annotations

import io
import json
import os
import struct
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Rng = np.random.Generator
Spoil = Callable[[Rng, Path], str]

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


def wav_header(rng: Rng, path: Path) -> str:
    """A WAV whose header lies about its rate, channels, bits, format or length."""
    data = bytearray(path.read_bytes())
    field, offset, form, values = pick(
        rng,
        [
            ("format", 20, "<H", [0, 2, 3, 6, 0xFFFE, 0xFFFF]),
            ("channels", 22, "<H", [0, 1, 3, 255, 65535]),
            ("rate", 24, "<I", [0, 1, 7, 100, 999, 8001, 44101, 96000, 2**31, 2**32 - 1]),
            ("bits", 34, "<H", [0, 1, 7, 8, 24, 64, 65535]),
            ("length", 4, "<I", [0, 1, 2**31, 2**32 - 1]),
            ("data length", 40, "<I", [0, 1, 2**31, 2**32 - 1]),
            ("name", 8, "<I", [0]),
        ],
    )
    value = pick(rng, values)
    struct.pack_into(form, data, offset, value)
    path.write_bytes(data)
    return f"{path.name}: {field} {value}"


def wav_samples(rng: Rng, path: Path) -> str:
    """A WAV that is short, silent, constant, clipped, noise, not finite, or of another number of channels."""
    import soundfile

    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    how = pick(
        rng,
        [
            "none",
            "one",
            "few",
            "zero",
            "constant",
            "nan",
            "inf",
            "huge",
            "tiny",
            "mono",
            "many",
            "same",
            "dead",
            "noise",
        ],
    )
    channels = samples.shape[1]
    changed = {
        "none": samples[:0],
        "one": samples[:1],
        "few": samples[: int(rng.integers(2, 300))],
        "zero": 0 * samples,
        "constant": 0 * samples + 0.3,
        "nan": np.where(rng.random(samples.shape) < 1e-3, np.nan, samples),
        "inf": np.where(rng.random(samples.shape) < 1e-3, np.inf, samples),
        "huge": samples * 1e30,
        "tiny": samples * 1e-30,
        "mono": samples[:, :1],
        "many": np.tile(samples, (1, 64))[:2000],
        "same": np.repeat(samples[:, :1], channels, 1),
        "dead": samples * (np.arange(channels) > 0),
        "noise": rng.standard_normal(samples.shape) * 0.1,
    }[how]
    other_rate = pick(rng, [rate, rate, rate, 1000, 4000, 44100, 192000])
    soundfile.write(path, changed.astype(np.float32), other_rate, "FLOAT", format="WAV")
    return f"{path.name}: {how} at {other_rate} Hz"


def audio_bytes(rng: Rng, path: Path) -> str:
    """A sound file that is cut, empty, or something else."""
    data = path.read_bytes()
    how, content = pick(
        rng,
        [
            ("empty", b""),
            ("cut", data[: int(rng.integers(len(data)))]),
            ("random", rng.bytes(5000)),
            ("flac", b"fLaC" + rng.bytes(3000)),
            ("ogg", b"OggS" + rng.bytes(3000)),
            ("text", b"<html>not found</html>"),
            ("flipped", bytes(b ^ (0xFF if rng.random() < 0.01 else 0) for b in data[:4000]) + data[4000:]),
        ],
    )
    path.write_bytes(content)
    return f"{path.name}: {how}"


def tensors(rng: Rng, path: Path) -> str:
    """A safetensors file whose header or tensors are wrong."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    names = [name for name in header if name != "__metadata__"]
    name = pick(rng, names)
    how = pick(rng, ["length", "cut", "dtype", "shape", "offsets", "gone", "renamed", "nan", "random", "json"])
    if how == "dtype":
        header[name]["dtype"] = pick(rng, ["F64", "I8", "X", 3])
    elif how == "shape":
        header[name]["shape"] = pick(rng, [[], [-1], [10**9, 10**9], [1, *header[name]["shape"]], "x", None])
    elif how == "offsets":
        header[name]["data_offsets"] = pick(rng, [[0, 0], [0, 2**60], [-4, 0], [8, 4], []])
    elif how == "gone":
        del header[name]
    elif how == "renamed":
        header[str(pick(rng, NAMES)).encode("utf-8", "replace").decode()] = header.pop(name)
    elif how == "nan":
        body = np.full(len(body) // 4, np.nan, np.float32).tobytes()
    text = json.dumps(header).encode() if how != "json" else b"{" * 5000
    size = len(text) if how != "length" else int(pick(rng, [0, 2**40, 2**63]))
    changed = struct.pack("<Q", size) + text + body
    path.write_bytes(rng.bytes(500) if how == "random" else changed[: len(changed) // 2] if how == "cut" else changed)
    return f"{path.name}: {name} {how}"


def tar_members(rng: Rng, path: Path) -> str:
    """A package with members that climb, link, lie about their size, come twice, or are no files."""
    how = pick(
        rng, ["climb", "absolute", "link", "hard link", "sparse", "size", "twice", "device", "cut", "names", "folder"]
    )
    data = path.read_bytes()
    if how == "cut":
        path.write_bytes(data[: int(rng.integers(len(data)))])
        return f"{path.name}: cut"
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = [(member, archive.extractfile(member)) for member in archive.getmembers() if member.isfile()]
        content = [(member, file.read() if file else b"") for member, file in members]
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for number, (member, blob) in enumerate(content):
            if number == 0:
                _spoil_member(rng, member, how)
            archive.addfile(member, io.BytesIO(blob) if member.isreg() else None)
            if number == 0 and how == "twice":
                archive.addfile(member, io.BytesIO(blob))
    return f"{path.name}: {how}"


def _spoil_member(rng: Rng, member: tarfile.TarInfo, how: str) -> None:
    folder, _, name = member.name.rpartition("/")
    if how == "climb":
        member.name = f"{folder}/../../canary/{name}"
    elif how == "absolute":
        member.name = f"/tmp/{name}"
    elif how in ("link", "hard link"):
        member.type, member.linkname, member.size = (
            (tarfile.SYMTYPE if how == "link" else tarfile.LNKTYPE),
            "/etc/passwd",
            0,
        )
    elif how == "sparse":
        member.pax_headers = {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.realsize": str(5 << 30),
            "GNU.sparse.name": member.name,
        }
    elif how == "size":
        member.pax_headers = {"size": str(1 << 50)}
    elif how == "device":
        member.type, member.size = tarfile.CHRTYPE, 0
    elif how == "names":
        member.name = str(pick(rng, NAMES)).encode("utf-8", "replace").decode() or "x"
    elif how == "folder":
        member.type, member.size = tarfile.DIRTYPE, 0


def links(rng: Rng, path: Path) -> str:
    """A file that is a link to itself, to nowhere, to a folder, or to a device."""
    target = pick(rng, [path.name, "nowhere", ".", "..", os.devnull, "/dev/zero", "/proc/self/mem"])
    path.unlink()
    path.symlink_to(target)
    return f"{path.name}: a link to {target}"


def gone(rng: Rng, path: Path) -> str:
    """A file that is not there, or a folder in its place."""
    path.unlink()
    if rng.random() < 0.5:
        path.mkdir()
    return f"{path.name}: gone"


_ANY: list[Spoil] = [links, gone]
SPOILERS: Mapping[str, list[Spoil]] = {
    ".json": [json_value] * 4 + [text_damage, *_ANY],
    ".jsonl": [json_value] * 4 + [text_damage, *_ANY],
    ".toml": [toml_value, toml_value, text_damage, *_ANY],
    ".yaml": [yaml_value, yaml_value, yaml_value, text_damage, *_ANY],
    ".wav": [wav_header, wav_samples, wav_samples, audio_bytes, *_ANY],
    ".safetensors": [tensors, tensors, tensors, *_ANY],
    ".tar": [tar_members, tar_members, tar_members, *_ANY],
    "": [table_cell, table_cell, table_cell, text_damage, *_ANY],
}
"""What can be done to a file, by its suffix; the last, to any other table or text."""


def spoil(rng: Rng, path: Path) -> str:
    """Make a good file bad in one way that fits it."""
    ways = SPOILERS.get(path.suffix, SPOILERS[""])
    try:
        return str(pick(rng, list(ways))(rng, path))
    except (ValueError, IndexError, LookupError, OSError):  # too small or too odd for that way
        return text_damage(rng, path)
