"""Why a file is not readable as audio, and how to convert it."""

from __future__ import annotations

from pathlib import Path

from msdet.errors import MsdetError

_HEADERLESS = (".raw", ".pcm", ".bin")
_COMPRESSED = {
    b"ftyp": "MPEG-4 (M4A, 3GP, MP4)",
    b"#!AM": "AMR",
    b"\x1aE\xdf\xa3": "Matroska or WebM",
    b"0&\xb2u": "Windows Media",
    b"BW64": "BW64",
}


def unreadable(path: Path, error: Exception) -> MsdetError:
    """The error for a file that libsndfile refuses: missing, compressed in another way, or without a header."""
    if not path.exists():
        return MsdetError(f"{path}: no such file")
    if _is_shorten(path):
        return MsdetError(
            f"{path}: is compressed with shorten (NIST SPHERE), which cannot be read; convert such files to "
            "WAV, for example with 'sph2pipe -f wav in.wv1 out.wav' or ffmpeg, keeping folders and names"
        )
    return MsdetError(f"{path}: not readable as audio ({_hint(path) or str(error).rstrip('.')})")


def _hint(path: Path) -> str:
    """What a file is that cannot be read, and how to convert it; empty if that is not known."""
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError:
        return ""
    compressed = _COMPRESSED.get(head[:4], _COMPRESSED.get(head[4:], ""))
    if not compressed and head[:1] == b"\xff" and path.suffix.lower() == ".aac":
        compressed = "AAC"
    if compressed:
        return f"is {compressed}; convert it, for example with 'ffmpeg -i {path.name} out.wav'"
    if path.suffix.lower() in _HEADERLESS:
        return (
            "samples without a header, as ODAS writes them; convert them with their rate, channels and bits, fS, "
            f"nChannels and nBits there, as in 'sox -t raw -r 16000 -c 8 -e signed -b 32 {path.name} out.wav'"
        )
    return ""


def _is_shorten(path: Path) -> bool:
    """Whether the header of a NIST SPHERE file, 1024 ASCII characters, says that shorten compressed it."""
    try:
        with path.open("rb") as file:
            header = file.read(1024)
    except OSError:
        return False
    return header.startswith(b"NIST_1A") and b"shorten" in header
