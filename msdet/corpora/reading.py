"""What corpus readers share: finding a corpus, reading headers, and saying what is wrong with a tree."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from msdet.corpora import CORPORA, SPLITS, Corpus, Utterance
from msdet.errors import MsdetError
from msdet.io import audio
from msdet.io.reading import read_lines

_THREADS, _BLOCK = 8, 64
_NAMES_SHOWN = 5


def tabulate(root: Path, files: Sequence[tuple[str, str, Path]], gender_of: Mapping[str, str]) -> Corpus:
    """A corpus of files with talker, split and path, and the gender of talkers of whom it is known."""
    seconds = seconds_of([path for _, _, path in files])
    utterances = (
        Utterance(speaker, path.relative_to(root).as_posix(), duration, split, gender_of.get(speaker, ""))
        for (speaker, split, path), duration in zip(files, seconds, strict=True)
    )
    return Corpus(root, tuple(utterances))


def seconds_of(paths: Sequence[Path]) -> list[float]:
    """Duration of each file of clean speech, from its header; the first one that is not is named.

    Threads hide the latency of cold or remote disks.
    """
    blocks = [paths[start : start + _BLOCK] for start in range(0, len(paths), _BLOCK)]
    with ThreadPoolExecutor(_THREADS) as pool:  # map() drops blocks not begun once one has failed
        headers = pool.map(lambda block: [mono_header(path, "clean speech") for path in block], blocks)
        seconds = [header.seconds for block in headers for header in block]
    if 0.0 in seconds:
        raise MsdetError(f"{paths[seconds.index(0.0)]}: has no samples")
    return seconds


def mono_header(path: Path, kind: str) -> audio.AudioInfo:
    """Header of a file of one channel; `kind` is what it is called if it has several."""
    header = audio.info(path)
    if header.channels != 1:
        raise MsdetError(f"{path}: has {header.channels} channels, expected 1 ({kind})")
    return header


def folders(folder: Path) -> list[Path]:
    """Folders in `folder`, sorted; hidden ones are left out, and one that cannot be listed has none."""
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:
        return []


def is_audio(path: Path) -> bool:
    """Whether the name is that of a WAV or FLAC file, and not hidden."""
    return path.suffix.lower() in audio.AUDIO_SUFFIXES and not path.name.startswith(".")


def lines_of(path: Path) -> list[str]:
    """Lines of a corpus' text file, whatever its encoding: only its ASCII part is used."""
    return read_lines(path, errors="replace")


def parse_gender(text: str) -> str:
    """A gender as `msdet.corpora.Utterance` holds it.

    >>> [parse_gender(text) for text in ("F", "male ", "unknown")]
    ['f', 'm', '']
    """
    return {"f": "f", "female": "f", "m": "m", "male": "m"}.get(text.strip().lower(), "")


def find_home(root: Path, parts_in: Callable[[Path], Collection[Any]], kind: str, layout: str) -> Path:
    """The corpus' own folder: `root`, or the one folder in it that has parts of the corpus.

    `kind` is the reader's name and `layout` what it expects, for the `MsdetError` for none or several.
    """
    homes = homes_in(root, parts_in)
    if not homes:
        raise layout_error(root, kind, layout, is_part=bool(parts_in(root.absolute().parent)))
    if len(homes) > 1:
        names = ", ".join(home.name for home in homes)
        raise MsdetError(f"{root}: holds several corpora of kind '{kind}' ({names}), give one of these folders")
    return homes[0]


def homes_in(root: Path, parts_in: Callable[[Path], Collection[Any]]) -> list[Path]:
    """`root`, or else the folders in it, that have parts of a corpus."""
    return [root] if parts_in(root) else [folder for folder in folders(root) if parts_in(folder)]


def layout_error(root: Path, kind: str, layout: str, is_part: bool) -> MsdetError:
    """Says what a reader expected in `root`, what is there, and which folder or kind would fit.

    `is_part` says that `root` is a part of such a corpus, which lies in the folder above.
    """
    try:
        names = sorted(path.name for path in root.iterdir() if not path.name.startswith("."))
    except OSError as error:
        return MsdetError(f"{root}: cannot be listed ({error.strerror})")
    content = ", ".join(names[:_NAMES_SHOWN]) or "an empty folder"
    if len(names) > _NAMES_SHOWN:
        content += f" and {len(names) - _NAMES_SHOWN} more"
    if is_part:
        hint = f"; did you mean the folder above, {root.absolute().parent}?"
    else:
        recognizers = {name: CORPORA.fact(name, "recognizes") for name in CORPORA.names()}
        fitting = [f"'{name}'" for name, recognizes in recognizers.items() if recognizes and recognizes(root)]
        hint = f"; it looks like a corpus of kind {' or '.join(fitting)}" if fitting else ""
    message = f"{root}: not laid out as corpus kind '{kind}': expected {layout}; found {content}{hint}"
    return MsdetError(message)


MIN_SPEAKERS = 6  # fewest talkers that can be split, two in each split


def split_by_name(root: Path, speakers: Collection[str], remedy: str = "") -> dict[str, str]:
    """The split of each of at least `MIN_SPEAKERS` talkers, about 80/10/10 and at least two talkers each.

    A talker's split depends on the hash of its own name alone, unless one would get too few or too many. The
    `remedy` ends the error message.
    """
    if len(speakers) < MIN_SPEAKERS:
        expected = f"expected at least {MIN_SPEAKERS} to split them into {', '.join(SPLITS)}"
        raise MsdetError(f"{root}: has {len(speakers)} speaker(s), {expected}{remedy}")
    position = {n: int.from_bytes(hashlib.sha256(n.encode()).digest()[:8]) / 2**64 for n in speakers}
    order = sorted(speakers, key=lambda name: (position[name], name))
    most = len(speakers) // 3
    tenth, fifth = (sum(p < edge for p in position.values()) for edge in (0.1, 0.2))
    test = min(max(tenth, 2), most)
    dev = min(max(fifth - tenth, 2), most)
    return {name: "test" if rank < test else "dev" if rank < test + dev else "train" for rank, name in enumerate(order)}
