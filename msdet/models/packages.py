"""Where a model is: a checkpoint directory, a package in one ``.tar``, or a model that msdet ships.

A package holds weights, description, scores and card, under fixed names. A tar is read in memory, never unpacked.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any

from msdet.errors import MsdetError, did_you_mean
from msdet.io.files import atomic_path, plain_name, write_bytes
from msdet.io.reading import parse_json

MODEL_FILE, WEIGHTS_FILE = "model.json", "model.safetensors"

SCORES_FILE, CARD_FILE = "scores.json", "README.md"

TAR = ".tar"

MAX_BYTES = {MODEL_FILE: 16 * 2**20, WEIGHTS_FILE: 2 * 2**30, SCORES_FILE: 16 * 2**20, CARD_FILE: 4 * 2**20}
"""Files of a package, and how large each may be."""

_MAX_MEMBERS = 16

ANY_ARRAY = "srp_map"
"""Front end of models that were trained on many arrays."""


@dataclass(frozen=True)
class ModelFiles:
    """The files of a model, which messages call `origin`: in a directory, or the content of a tar by name."""

    origin: str
    folder: Path | None
    content: Mapping[str, bytes]

    def shown(self, name: str) -> str:
        """What a file is called in messages."""
        return f"{self.origin}/{name}"

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return name in self.content if self.folder is None else (self.folder / name).is_file()

    def read(self, name: str) -> bytes:
        """A file's content; an error if there is none."""
        if not self.has(name):
            raise MsdetError(f"{self.shown(name)}: no such file")
        if self.folder is None:
            return self.content[name]
        try:
            return (self.folder / name).read_bytes()
        except OSError as error:
            raise MsdetError(f"{self.shown(name)}: cannot be read ({error.strerror})") from error

    def read_json(self, name: str) -> Any:
        """A file's content as JSON."""
        try:
            text = self.read(name).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise MsdetError(f"{self.shown(name)}: not JSON (is not UTF-8 text)") from error
        return parse_json(text, self.shown(name))


def find_model(where: Path | str) -> ModelFiles:
    """The files of a checkpoint directory, a package (directory or ``.tar``, checked) or a shipped model by name."""
    path, shipped = Path(where), shipped_names()
    if path.is_dir():
        return ModelFiles(str(where), path, {})
    if path.is_file():
        if path.suffix != TAR:
            raise MsdetError(f"{where}: is a file, expected a checkpoint directory or a package (.tar)")
        return ModelFiles(str(where), None, _read_tar(path))
    if str(where) in shipped:
        return ModelFiles(str(where), Path(str(_shipped_folder() / str(where))), {})
    instead = f", and no shipped model{did_you_mean(str(where), shipped)}" if shipped else ""
    raise MsdetError(f"{where}: no such checkpoint directory{instead}")


def weights_hash(where: Path | str) -> str:
    """SHA-256 of a model's file of weights, in hexadecimal."""
    return hashlib.sha256(find_model(where).read(WEIGHTS_FILE)).hexdigest()


def is_model(where: Path | str) -> bool:
    """Whether `find_model` would find something by this name, though it may be damaged."""
    path = Path(where)
    if path.is_dir():
        return (path / MODEL_FILE).is_file()
    return (path.is_file() and path.suffix == TAR) or (not path.exists() and str(where) in shipped_names())


def write_package(out: Path, files: Mapping[str, bytes]) -> None:
    """Write the files of a package, as a ``.tar`` or else a directory; each is complete before it is there.

    The same files give the same tar, to the byte, whoever writes it and when.
    """
    if out.suffix != TAR:
        for name in sorted(files, key=[CARD_FILE, SCORES_FILE, WEIGHTS_FILE, MODEL_FILE].index):
            write_bytes(out / name, files[name])
        return
    with atomic_path(out) as temporary, tarfile.open(temporary, "w:", format=tarfile.GNU_FORMAT) as archive:
        for name in sorted(files):
            member = tarfile.TarInfo(f"{out.stem}/{name}")
            member.size, member.mode = len(files[name]), 0o644  # no time, no owner
            archive.addfile(member, io.BytesIO(files[name]))


def _read_tar(path: Path) -> dict[str, bytes]:
    content: dict[str, bytes] = {}
    folders: set[str] = set()
    try:
        with tarfile.open(path, "r:") as archive:
            for count, member in enumerate(archive):
                if count >= _MAX_MEMBERS:
                    raise MsdetError(f"{path}: holds too many files for a package")
                parts = PurePosixPath(member.name).parts
                folder = "/".join(parts if member.isdir() else parts[:-1])
                folders.add(folder)
                if member.isdir():
                    continue
                name = _expected_name(path, member)
                if len(folders) > 1 or len(parts) > 2 or ".." in parts or member.name.startswith("/"):
                    raise MsdetError(f"{path}: holds '{member.name}', expected files at the top or in one folder")
                for part in parts:
                    plain_name(part, "name of a member", path)
                if name in content:
                    raise MsdetError(f"{path}: holds {name} twice")
                file = archive.extractfile(member)
                assert file is not None  # a regular file
                content[name] = file.read()
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise MsdetError(f"{path}: not readable as a package ({error})") from error
    if MODEL_FILE not in content:
        raise MsdetError(f"{path}: holds no {MODEL_FILE}, expected a package of msdet package")
    return content


def _expected_name(path: Path, member: tarfile.TarInfo) -> str:
    """The name of a member that may be in a package."""
    name = PurePosixPath(member.name).name
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
        raise MsdetError(f"{path}: holds '{member.name}', which is not a plain file")
    if name not in MAX_BYTES:
        raise MsdetError(f"{path}: holds '{member.name}', expected only {', '.join(sorted(MAX_BYTES))}")
    if member.size > MAX_BYTES[name]:
        raise MsdetError(f"{path}: {name} has {member.size} bytes, expected at most {MAX_BYTES[name]}")
    if member.size > path.stat().st_size:
        raise MsdetError(f"{path}: not readable as a package ({name} is announced with {member.size} bytes)")
    return name


@dataclass(frozen=True)
class Shipped:
    """A model that msdet ships: its name, the array that it was made for, and the most talkers that it separates.

    `any_array` says that it was trained on many arrays and serves any, and fewer talkers too.
    """

    name: str
    array: str
    microphones: int
    sample_rate: int
    talkers: int
    any_array: bool = False

    def serves(self, talkers: int | None) -> bool:
        """Whether it was made for a number of talkers; None stands for any."""
        return talkers in (None, self.talkers) or (self.any_array and talkers is not None and talkers < self.talkers)


def require_own_array(front_end: str, where: Path | str) -> None:
    """Refuse a model that was trained on many arrays, and so knows none, where nobody says which one records."""
    if front_end == ANY_ARRAY:
        raise MsdetError(f"{where}: serves any array and knows none; give the array (a shipped name or a TOML file)")


def shipped_names() -> list[str]:
    """Names of the models that msdet ships."""
    folder = _shipped_folder()
    return sorted(p.name for p in folder.iterdir() if (p / MODEL_FILE).is_file()) if folder.is_dir() else []


def shipped_models() -> list[Shipped]:
    """The models that msdet ships."""
    models = []
    for name in shipped_names():
        d = find_model(name).read_json(MODEL_FILE)
        array, talkers = d["array"], d["model"]["talkers"]
        any_array = d["model"]["front_end"] == ANY_ARRAY
        sizes = len(array["positions_m"]), d["sample_rate"], talkers
        models.append(Shipped(name, array["name"], *sizes, any_array))
    return models


def choose_shipped(models: Sequence[Shipped], sample_rate: int, array: str | None = None) -> Shipped:
    """The model for a recording's array, by name, and sample rate in hertz.

    Of those made for this array or for any, or else of all: the highest rate not above the recording's, or the lowest;
    of one rate that for any array, which learned more and separates better (the cards say how well).
    """
    serving = [m for m in models if array is not None and (m.any_array or m.array == array)]
    serving = serving or [m for m in models if not m.any_array] or list(models)

    def worth(m: Shipped) -> tuple[int, bool]:
        return m.sample_rate if m.sample_rate <= sample_rate else -m.sample_rate, m.any_array

    return max(serving, key=worth)


def _shipped_folder() -> Any:
    return resources.files("msdet") / "pretrained"
