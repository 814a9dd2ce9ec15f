"""Any tree ``speaker/utterance.wav`` (or ``.flac``) of single-channel files, one folder a talker.

Utterances may lie deeper in the talker's folder, as in LibriSpeech's ``speaker/chapter/``.

An optional ``speakers.tsv`` (tab-separated, with a header) assigns talkers to splits; only its columns
``speaker`` and ``split`` are used, and talkers it does not list are left out. Without it, the hash of a
talker's name decides.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from msdet import audio
from msdet.corpora import SPLITS, Corpus, Utterance
from msdet.errors import MsdetError, did_you_mean

TABLE = "speakers.tsv"
"""Name of the table of talkers in a corpus' folder."""

MINIMUM_SPEAKERS = 6
"""Fewest talkers that can be split, two in each split."""


def read(root: Path) -> Corpus:
    """Read the utterances below `root`; opens headers only.

    Raises:
        MsdetError: no audio in `root`; a file that is unreadable, empty or multichannel; a faulty
            ``speakers.tsv``, or one that lists no talker on disk; without it, fewer than six talkers.
    """
    files = _audio_files(root)
    if not files:
        raise MsdetError(f"{root}: no audio found, expected files like speaker/utterance.wav or .flac")
    table = root / TABLE
    split_of = _read_splits(table) if table.is_file() else _split_by_name(root, sorted(files))
    utterances = tuple(
        Utterance(speaker, path.relative_to(root).as_posix(), _seconds(path), split_of[speaker])
        for speaker in sorted(files.keys() & split_of.keys())
        for path in files[speaker]
    )
    if not utterances:
        raise MsdetError(f"{table}: lists none of the {len(files)} speaker folders beside it")
    return Corpus(root, utterances)


def _split_by_name(root: Path, speakers: list[str]) -> dict[str, str]:
    """The split of each talker, about 80/10/10 and at least two talkers each.

    A talker's place depends on its own name alone, unless a split would get too few or too many.

    Raises:
        MsdetError: fewer than six talkers; `root` is named.
    """
    if len(speakers) < MINIMUM_SPEAKERS:
        raise MsdetError(
            f"{root}: has {len(speakers)} speaker(s), expected at least {MINIMUM_SPEAKERS} to split them "
            f"into {', '.join(SPLITS)}; a {TABLE} with columns 'speaker' and 'split' overrides this"
        )
    position = {name: _hash_fraction(name) for name in speakers}
    order = sorted(speakers, key=lambda name: (position[name], name))
    most = len(speakers) // 3
    tenth, fifth = (sum(p < edge for p in position.values()) for edge in (0.1, 0.2))
    test = min(max(tenth, 2), most)
    dev = min(max(fifth - tenth, 2), most)
    return {
        name: "test" if rank < test else "dev" if rank < test + dev else "train"
        for rank, name in enumerate(order)
    }


def _hash_fraction(name: str) -> float:
    """A number in [0, 1) that depends on `name` only."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64


def _audio_files(root: Path) -> dict[str, list[Path]]:
    """Audio files of each talker with any, sorted; hidden files and folders are left out."""
    files = {}
    for folder in sorted(root.iterdir()):
        if folder.name.startswith(".") or not folder.is_dir():
            continue
        paths = sorted(
            path
            for path in folder.rglob("*")
            if path.suffix.lower() in audio.AUDIO_SUFFIXES and not path.name.startswith(".")
        )
        if paths:
            files[folder.name] = paths
    return files


def _seconds(path: Path) -> float:
    header = audio.info(path)
    if header.channels != 1:
        raise MsdetError(f"{path}: has {header.channels} channels, expected 1 (clean speech)")
    if header.frames == 0:
        raise MsdetError(f"{path}: has no samples")
    return header.seconds


def _read_splits(table: Path) -> dict[str, str]:
    """The split of each talker in a ``speakers.tsv``."""
    try:
        lines = table.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise MsdetError(f"{table}: cannot be read ({error})") from error
    header = lines[0].split("\t") if lines else []
    for column in ("speaker", "split"):
        if column not in header:
            raise MsdetError(f"{table}: no column '{column}' in its header{did_you_mean(column, header)}")
    speaker_column, split_column = header.index("speaker"), header.index("split")
    split_of: dict[str, str] = {}
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        cells = line.split("\t")
        if len(cells) != len(header):
            raise MsdetError(f"{table}, line {number}: {len(cells)} columns, expected {len(header)}")
        speaker, split = cells[speaker_column], cells[split_column].strip()
        if split not in SPLITS:
            raise MsdetError(f"{table}, line {number}: unknown split '{split}'{did_you_mean(split, SPLITS)}")
        if split_of.setdefault(speaker, split) != split:
            raise MsdetError(
                f"{table}, line {number}: speaker '{speaker}' is in '{split_of[speaker]}' and in '{split}'"
            )
    return split_of
