"""Bad material that is not text: sound files, weights, packages. As `_materials.py`, one function a kind."""

from __future__ import annotations

import io
import json
import struct
import tarfile
from pathlib import Path

import numpy as np
from _materials_text import NAMES, Rng, pick


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
