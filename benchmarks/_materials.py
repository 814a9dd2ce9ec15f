"""Bad material: what a stranger's files, numbers and names can be, one function a kind, each seeded.

A function takes a random generator and a good file, which it makes bad; it returns in a few words how.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from _materials_binary import audio_bytes, tar_members, tensors, wav_header, wav_samples
from _materials_text import Rng, json_value, pick, table_cell, text_damage, toml_value, yaml_value

Spoil = Callable[[Rng, Path], str]


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
